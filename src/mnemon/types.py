"""The nouns of mnemon, as plain frozen data. Standard library only.

Everything else (memory, agents, rollouts, credit, training, serving) speaks in these types, so this page is the
vocabulary: what an agent reads and writes (`Input`, `Message`, `ToolCall`, `ToolResult`), what a policy returns
(`Completion`), what a dataset row is (`Task`, `Stage`, `Probe`) and what an episode leaves behind (`Step`, `Answer`,
`Trajectory`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool", "aborted"]
JSON = dict[str, Any]


class MnemonError(Exception):
    """A mistake that a user can mend: the message says what is wrong, where, and what to do."""


class TooLong(MnemonError):
    """A prompt that cannot be made to fit its window. In training it costs its own trajectory only, counted."""


class ToolError(Exception):
    """Raised inside a tool: the call had no effect, and the agent is told why.

    `code` is a short machine-readable name that is counted (``"unknown_id"``), `hint` is the sentence that the agent
    reads (what to do instead).
    """

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(hint)
        self.code = code
        self.hint = hint


class Unscorable(Exception):
    """A reward term, judge or endpoint failed after its retries: the trajectory leaves statistics and loss, counted."""


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that an agent made. `error` is set when the text could not be read as a call (then `raw` holds it)."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    error: str | None = None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call did. `ok` is set by the code that ran the tool, never inferred from `content`.

    `code` is ``""`` when ok, else the `ToolError` code (``"unknown_tool"``, ``"bad_arguments"``, ``"unparsable"`` …).
    """

    call: ToolCall
    ok: bool
    content: str
    code: str = ""
    operations: tuple[Any, ...] = ()
    """What the call changed in the memory (`mnemon.memory.memory.Operation`); empty where it changed nothing."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a context.

    `kind` says what it is to the agent loop (``"system"``, ``"input"``, ``"reply"``, ``"result"``, ``"summary"`` …);
    `pinned` messages are never truncated; `turn` counts inputs within the stage; `token_ids` are the exact sampled
    ids when a policy wrote the message (end-of-turn token included when it was sampled).
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    turn: int = 0
    kind: str = ""
    pinned: bool = False
    token_ids: tuple[int, ...] | None = None
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing an agent is given: a dialogue turn, a chunk, an observation of a game, a question.

    `time` is the source's own time text or ISO 8601; `source` names the turns or documents it came from (provenance of
    what is stored while reading it); `speaker` is who said it, where somebody did. `note` says how to take the text
    (the form in which a question is to be answered): the agent reads it, retrieval never sees it.
    """

    text: str
    time: str = ""
    source: tuple[str, ...] = ()
    speaker: str = ""
    note: str = ""


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as the model is shown it: OpenAI function form, `parameters` being a JSON schema object."""

    name: str
    description: str
    parameters: JSON

    def as_openai(self) -> JSON:
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """What a policy returned for one call: the message, and the exact tokens where they are known.

    `prompt_ids` [P] and `token_ids` [T] are what was fed and sampled (never re-tokenised; the end-of-turn token is
    included when sampled), `logprobs` [T] are natural logs after temperature. All three are empty for endpoints that
    return text only: such a completion can be evaluated and served, never trained on.
    """

    message: Message
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish = "stop"
    policy_version: int = 0
    prompt_tokens: int = 0
    """Prompt length in tokens where the endpoint reports it (equals len(prompt_ids) when ids are known)."""


@runtime_checkable
class Policy(Protocol):
    """Anything that writes: ``await policy(messages, tools)``."""

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion: ...


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@runtime_checkable
class Environment(Protocol):
    """Where inputs come from: a script, a game, a person at a terminal. The same to the agent."""

    async def reset(self) -> Input | None:
        """Start; the first input, or None when there is none."""

    async def step(self, reply: str) -> tuple[Input | None, bool, float | None]:
        """Take the agent's reply; return (next input or None, done, score or None)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of inputs from one environment. `environment()` makes a fresh one per rollout.

    `fresh=True` clears the context before the stage, never the memory.
    """

    environment: Callable[[], Environment]
    fresh: bool = True
    name: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question asked after `after` stages (None: after all), answered by the reader on a fork of the state.

    `answers` are accepted answers; `evidence` names inputs' sources; `scorers` are metric names, the first being the
    headline score.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    category: str = ""
    evidence: tuple[str, ...] = ()
    after: int | None = None
    scorers: tuple[str, ...] = ("em",)
    time: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """One dataset row: stages of inputs, then (or between them) probes. `id` is the group key of training."""

    id: str
    stages: tuple[Stage, ...]
    probes: tuple[Probe, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


# ── what happened ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Step:
    """One policy call inside an episode, trainable on its own.

    `role` is who was asked (``"writer"``, ``"reader"``, ``"extractor"``, ``"judge"`` …); `stage` and `turn` place it in
    the task, `source` names its input's sources; `results` are the outcomes of the calls it made; `probe` is the
    probe's id for a reader's step.
    """

    role: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...]
    completion: Completion
    results: tuple[ToolResult, ...] = ()
    stage: int = 0
    turn: int = 0
    probe: str = ""
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """What `Agent.respond` returns: the reply, the policy calls made, the memory operations, and events counted.

    `view` are the entries that the prompt showed, `given` is the input that was read.
    """

    reply: str
    steps: tuple[Step, ...]
    operations: tuple[Any, ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)
    view: Any = None
    given: Input | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A reader's answer to a probe: `text` is what is scored; `turn` holds its steps; `view` what it was shown."""

    probe: Probe
    text: str
    turn: Turn


@dataclass(slots=True)
class Trajectory:
    """One finished episode of one member of a group.

    `steps` are the writer's (and its helpers') policy calls in order; readers' steps live in `answers`. `before` holds
    answers to the same probes on the starting state when the rollout was asked for them. `scores` are native scores of
    environments, one per finished stage that gave one. `events` counts what happened (truncations, refused calls …).
    """

    task: Task
    member: int
    steps: list[Step] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    before: list[Answer] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    state: Any = None
    error: str = ""

    @property
    def task_id(self) -> str:
        return self.task.id

    @property
    def id(self) -> str:
        return f"{self.task.id}#{self.member}"

    def count(self, event: str, n: int = 1) -> None:
        self.events[event] = self.events.get(event, 0) + n


Embed = Callable[[Sequence[str]], Any]
AsyncText = Callable[[str], Awaitable[str]]
