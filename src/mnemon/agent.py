"""The agent loop. `Agent.respond` is what training rolls out, what evaluation scores and what a service calls.

An agent meets inputs one after another. Before each it sees a prompt made from its state; it answers with tool calls
that change the state, or with text. `rollout` plays one task with a writer and lets a reader answer the questions.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnemon.memory.memory import Entry, Hit, Memory, Section, count_words
from mnemon.memory.retrieve import Lexical, Retriever
from mnemon.policy.base import EPISODE, EpisodeKey, Scripted, run_lockstep, run_sync
from mnemon.tools import Tool, call_tool
from mnemon.types import (
    Answer,
    Completion,
    Input,
    Message,
    MnemonError,
    Policy,
    Probe,
    Step,
    Task,
    ToolCall,
    ToolError,
    ToolResult,
    ToolSchema,
    Trajectory,
    Turn,
)


@dataclass(slots=True)
class State:
    """All that an agent carries: its memory and its short-term context."""

    memory: Memory
    context: list[Message] = field(default_factory=list)

    def fork(self) -> State:
        """An independent copy; the memory is shared until one side writes."""
        return State(self.memory.fork(), list(self.context))


@dataclass(frozen=True, slots=True)
class Limits:
    """window: most prompt tokens (None: unlimited); when exceeded the oldest unpinned message is dropped, counted as
    ``truncated`` (a reply goes with the results of its calls, each counted). rounds: most policy calls per input.
    calls: most tool calls run per reply; the rest are refused (``too_many_calls``).
    """

    window: int | None = None
    rounds: int = 1
    calls: int | None = None


@dataclass(slots=True)
class Ctx:
    """What prompts and tools see of one turn.

    `ids` maps what the agent was shown (list positions) to entry ids within this one prompt; when it is None, ids are
    written as shown by `Entry.label`.
    """

    agent: Agent
    state: State
    input: Input
    policy: Policy
    helpers: Mapping[str, Policy] = field(default_factory=dict)
    stage: int = 0
    turn: int = 0
    probe: str = ""
    ids: dict[str, int] | None = None
    view: Any = None
    steps: list[Step] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        return self.state.memory

    def count(self, event: str, n: int = 1) -> None:
        self.events[event] = self.events.get(event, 0) + n

    def retrieve(self, query: str, k: int, **where: Any) -> list[Hit]:
        """The agent's own retriever over its memory."""
        return self.state.memory.search(query, k, self.agent.retriever, **where)

    def show(self, entries: Sequence[Entry], first: int = 0) -> list[tuple[str, Entry]]:
        """Give entries local ids "first", "first+1" … for this prompt; calls are mapped back by `resolve`."""
        self.ids = {str(first + i): entry.id for i, entry in enumerate(entries)}
        self.view = list(entries)
        return [(str(first + i), entry) for i, entry in enumerate(entries)]

    def resolve(self, shown: str) -> int:
        """The entry id behind an id that the agent wrote. Raises ToolError("unknown_id")."""
        shown = shown.strip()
        if self.ids is not None:
            if shown in self.ids:
                return self.ids[shown]
            known = ", ".join(self.ids) or "none were shown"
            raise ToolError("unknown_id", f"There is no memory {shown!r} in this prompt (ids: {known}).")
        digits = shown.removeprefix("m")
        if not digits.isdecimal() or len(digits) > 18:
            raise ToolError("unknown_id", f"{shown!r} is not an id; ids look like m12.")
        return int(digits)

    async def ask(
        self, role: str, messages: Sequence[Message], tools: Sequence[ToolSchema] = (), policy: Policy | None = None
    ) -> Completion:
        """One policy call, recorded as a step of `role`: by `policy`, else that name's helper, else the agent's."""
        policy = self.helpers.get(role, self.policy) if policy is None else policy
        asked, schemas = tuple(messages), tuple(tools)  # what a live context holds later was not asked
        completion = await policy(asked, schemas)
        where = (self.stage, self.turn, self.probe, self.input.source)
        self.steps.append(Step(role, asked, schemas, completion, (), *where))
        return completion


Prompt = Callable[[Ctx, Input], "Sequence[Message] | Awaitable[Sequence[Message] | None] | None"]


@dataclass(frozen=True)
class Agent:
    """An agent is its prompt, its tools and its limits; the policy is passed in.

    role: the name its steps carry (``"writer"``, ``"reader"``).
    prompt(ctx, input): the messages to put before the policy for this input: appended to the context, which is empty
        at every input (context="input") or at every fresh stage (context="stage"). None skips the policy (no facts).
    show_tools: whether the policy is given the tools' schemas; off where prompt or training have taught the calls.
    parse: reads calls from a reply's text where the form is not the chat template's own (JSON lists …).
    final(text, ctx): what of the last reply's text is the answer.
    """

    role: str
    prompt: Prompt
    tools: tuple[Tool, ...] = ()
    sections: tuple[Section, ...] = (Section("facts"),)
    limits: Limits = Limits()
    context: Literal["input", "stage"] = "input"
    retriever: Retriever = field(default_factory=Lexical)
    show_tools: bool = True
    parse: Callable[[str], Sequence[ToolCall]] | None = None
    final: Callable[[str, Ctx], str] | None = None
    counter: Callable[[str], int] = count_words

    def start(self) -> State:
        """An empty state."""
        return State(Memory(self.sections, self.counter))

    @property
    def schemas(self) -> tuple[ToolSchema, ...]:
        """What the policy is shown of the tools."""
        return tuple(tool.schema for tool in self.tools) if self.show_tools else ()

    async def respond(
        self,
        state: State,
        text: Input | str,
        policy: Policy,
        *,
        helpers: Mapping[str, Policy] | None = None,
        stage: int = 0,
        turn: int = 0,
        probe: str = "",
    ) -> Turn:
        """Read one input, act on the state, return what was said and done. Mutates `state`."""
        given = text if isinstance(text, Input) else Input(text)
        ctx = Ctx(self, state, given, policy, helpers or {}, stage, turn, probe)
        if self.context == "input":
            state.context.clear()
        done = len(state.memory.log)
        prompt = self.prompt(ctx, given)
        messages = await prompt if inspect.isawaitable(prompt) else prompt
        reply = ""
        if messages is None:
            ctx.count("skipped")
        else:
            state.context.extend(messages)
            reply = await self._rounds(ctx)
        if self.final is not None:
            reply = self.final(reply, ctx)
        return Turn(reply, tuple(ctx.steps), tuple(state.memory.log[done:]), ctx.events, ctx.view)

    async def _rounds(self, ctx: Ctx) -> str:
        """Policy calls until a reply without tool calls, or until the rounds are used up.

        A turn without any call is counted as ``no_call``, a reply cut at the policy's token limit as ``cut_reply``.
        """
        tools = {tool.name: tool for tool in self.tools}
        reply = ""
        for number in range(self.limits.rounds):
            self._fit_window(ctx)
            completion = await ctx.ask(self.role, ctx.state.context, self.schemas, ctx.policy)
            at = len(ctx.steps) - 1
            message = completion.message
            calls = message.tool_calls or (tuple(self.parse(message.content)) if self.parse else ())
            reply = message.content
            ctx.state.context.append(replace(message, turn=ctx.turn, kind="reply"))
            if completion.finish == "length":
                ctx.count("cut_reply")
            if not calls:
                if self.tools and not number:
                    ctx.count("no_call")
                break
            results = []
            for i, call in enumerate(calls):
                if self.limits.calls is not None and i >= self.limits.calls:
                    hint = f"At most {self.limits.calls} calls are run per reply; this one was not."
                    result = ToolResult(call, False, hint, "too_many_calls")
                else:
                    result = await call_tool(tools, call, ctx)
                ctx.count("calls" if result.ok else f"refused:{result.code}")
                results.append(result)
                ctx.state.context.append(
                    Message("tool", result.content, turn=ctx.turn, kind="result", call_id=call.id, name=call.name)
                )
            ctx.steps[at] = replace(ctx.steps[at], results=tuple(results))
        return reply

    def _fit_window(self, ctx: Ctx) -> None:
        """Drop the oldest unpinned message until the prompt fits the window; each drop is counted.

        A reply's calls and their results leave together (no endpoint takes a result without its call). System messages
        and the input that was just read never leave: MnemonError when the rest alone is too long.
        """
        if self.limits.window is None:
            return
        count = getattr(ctx.policy, "count_tokens", None)
        context = ctx.state.context

        def size() -> int:
            if count is not None:
                return int(count(context, self.schemas))
            return sum(self.counter(message.content) for message in context)

        while size() > self.limits.window:
            newest = max((i for i, message in enumerate(context) if message.role == "user"), default=-1)
            for i, message in enumerate(context):
                if not message.pinned and message.role != "system" and i != newest:
                    break
            else:
                raise MnemonError(
                    f"{self.role}: the pinned messages and the newest input alone need {size()} tokens, the window is "
                    f"{self.limits.window}: raise limits.window or shorten the prompt"
                )
            end = i + 1
            while end < len(context) and context[end].role == "tool" and not context[end].pinned:
                end += 1
            ctx.count("truncated", end - i)
            del context[i:end]


Reader = tuple[Agent, Policy]


async def ask_probe(
    reader: Reader, state: State, probe: Probe, helpers: Mapping[str, Policy] | None = None, stage: int = 0
) -> Answer:
    """Let the reader answer one question on a fork of the state: the state itself never changes."""
    agent, policy = reader
    outer = EPISODE.get()
    token = EPISODE.set(outer.child(probe.id) if outer else None)
    try:
        turn = await agent.respond(
            state.fork(), Input(probe.question, probe.time), policy, helpers=helpers, stage=stage, probe=probe.id
        )
    finally:
        EPISODE.reset(token)
    return Answer(probe, turn.reply, turn)


async def ask_probes(
    reader: Reader,
    state: State,
    probes: Sequence[Probe],
    helpers: Mapping[str, Policy] | None = None,
    stage: int = 0,
) -> list[Answer]:
    """All questions at once, each on its own fork; answers in the order of the probes.

    The memory's index for the reader is built once, before forking, so that the forks share it.
    """
    if len(probes) > 1:
        state.memory.prepare(reader[0].retriever)
    return await run_lockstep([ask_probe(reader, state, probe, helpers, stage) for probe in probes])


async def rollout(
    writer: Agent,
    task: Task,
    policy: Policy,
    *,
    reader: Reader | None = None,
    helpers: Mapping[str, Policy] | None = None,
    key: EpisodeKey | None = None,
    state: State | None = None,
    start: tuple[int, int] = (0, 0),
    before: bool = False,
) -> Trajectory:
    """Play one task: the writer reads its stages, the reader answers its probes.

    state, start: begin from this state (forked) at the cursor (stage, turn) of a scripted task; the inputs before it
        are not read and probes due by then are not asked. In the middle of a stage the state's context is kept.
    before: let the reader answer the probes on the starting state too (for rewards that pay the difference).
    Raises MnemonError for a probe or a start behind the last stage.
    """
    due, (first, turn) = due_probes(task), start
    if first and first >= len(task.stages):
        raise MnemonError(f"{task.id}: the rollout starts at stage {first}, but the task has {len(task.stages)} from 0")
    if start != (0, 0):
        due = {after: probes for after, probes in due.items() if after > first}
    key = key or EpisodeKey(task=task.id)
    token = EPISODE.set(key)
    try:
        state = state.fork() if state is not None else writer.start()
        trajectory = Trajectory(task, key.member, state=state)
        if before and reader is not None:
            asked = {probe.id for probes in due.values() for probe in probes}
            trajectory.before = await ask_probes(reader, state, [p for p in task.probes if p.id in asked], helpers)
        if reader is not None and 0 in due:
            trajectory.answers += await ask_probes(reader, state, due[0], helpers)
        for number in range(first, len(task.stages)):
            await _play(writer, policy, trajectory, number, turn if number == first else 0, helpers)
            if reader is not None:
                trajectory.answers += await ask_probes(reader, state, due.get(number + 1, ()), helpers, number)
        return trajectory
    finally:
        EPISODE.reset(token)


def due_probes(task: Task) -> dict[int, list[Probe]]:
    """Number of stages -> the probes asked after so many. MnemonError for a probe after more stages than there are."""
    last = len(task.stages)
    found: dict[int, list[Probe]] = {}
    for probe in task.probes:
        after = last if probe.after is None or not last else probe.after
        if not 0 <= after <= last:
            raise MnemonError(f"{task.id}: probe {probe.id} is asked after {after} stages, but there are {last}")
        found.setdefault(after, []).append(probe)
    return found


async def _play(
    writer: Agent,
    policy: Policy,
    trajectory: Trajectory,
    number: int,
    skip: int,
    helpers: Mapping[str, Policy] | None,
) -> None:
    """One stage: inputs from its environment until it is done, the first `skip` of them unread."""
    stage = trajectory.task.stages[number]
    state: State = trajectory.state
    if stage.fresh and not skip:
        state.context.clear()
    environment = stage.environment()
    given, done, score, turn = await environment.reset(), False, None, 0
    while given is not None and not done:
        if turn < skip:
            given, done, _ = await environment.step("")
        else:
            result = await writer.respond(state, given, policy, helpers=helpers, stage=number, turn=turn)
            trajectory.turns.append(result)
            trajectory.steps.extend(result.steps)
            for event, n in result.events.items():
                trajectory.count(event, n)
            given, done, score = await environment.step(result.reply)
        turn += 1
    if score is not None:
        trajectory.scores.append(score)


async def rollouts(
    writer: Agent,
    tasks: Sequence[Task],
    policy: Policy,
    *,
    reader: Reader | None = None,
    helpers: Mapping[str, Policy] | None = None,
    members: int = 1,
    seed: int = 0,
    update: int = 0,
    start: Callable[[Task], State] | None = None,
    before: bool = False,
    tolerate: tuple[type[Exception], ...] = (),
) -> list[list[Trajectory]]:
    """Groups of trajectories, [len(tasks)][members], played concurrently in lock-step and reproducible for a seed.

    start(task) is the state that each member of a group begins from (default: the writer's empty one). An exception of
    a type in `tolerate` (an endpoint that failed after its retries) costs its trajectory only: its `error` says why.
    """

    async def one(task: Task, member: int) -> Trajectory:
        key = EpisodeKey(seed, update, task.id, member)
        state = start(task) if start else None
        try:
            return await rollout(
                writer, task, policy, reader=reader, helpers=helpers, key=key, state=state, before=before
            )
        except tolerate as error:
            return Trajectory(task, member, error=str(error) or type(error).__name__)

    flat = await run_lockstep([one(task, member) for task in tasks for member in range(members)])
    return [flat[i : i + members] for i in range(0, len(flat), members)]


_RENDERED = 128  # entries of a fingerprint's memory: more than any agent here retrieves, so that its k shows


def agent_fingerprint(agent: Agent) -> str:
    """A hash of all that shapes an agent's prompts: wording, tools, retrieval settings, sections, limits.

    The prompt is rendered for two inputs on a fixed memory of 128 entries of two owners (in every section of kind
    "list") and hashed with the tools' schemas, so a change of any word shows, and of how many memories are retrieved
    (up to 128). A checkpoint keeps it; serving with another one is said loudly.
    """
    seen: list[str] = []

    def record(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        seen.append(repr([(m.role, m.content) for m in messages]) + repr(tools))
        return '{"facts": ["Ana moved to Oslo", "Ben knows Ana"]}'

    entries: list[Entry] = []
    for section in agent.sections:
        for i in range(_RENDERED if section.kind == "list" else 1):
            owner = ("Ana", "Ben")[i % 2]
            text = f"Ana told Ben of place {i}"
            entries.append(Entry(len(entries) + 1, section.name, text, owner, (f"{i} May 2023",), (f"D1:{i}",)))

    async def render() -> None:
        state = State(Memory.restore(agent.sections, entries, len(entries) + 1, agent.counter))
        unlimited = replace(agent, limits=replace(agent.limits, window=None))
        for given in (Input("Ana moved to Oslo", "9 May 2023", ("D2:1",), "Ana"), Input("Where is Ana")):
            await unlimited.respond(state, given, Scripted(record))

    run_sync(render())
    schemas = [tool.schema for tool in agent.tools]
    parts = [seen, schemas, agent.retriever.id, agent.sections, agent.limits, agent.context, agent.role]
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()
