"""The first half of an evaluation: a writer reads each task's inputs, and what it remembers is kept as JSON.

    banks/<task>.json    the states that questions are asked on, the stages read so far, what reading cost

A bank is saved after every stage, so that a run which was killed, or whose endpoint failed, goes on from there.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mnemon.agent import Agent, Ctx, Reader, State, due_probes, rollout
from mnemon.memory.memory import Counter, Entry, Memory, Section, count_words
from mnemon.policy.base import EpisodeKey
from mnemon.runs import atomic_write_json, plain, settings_hash
from mnemon.tools import call_mix
from mnemon.types import (
    JSON,
    Completion,
    Environment,
    Input,
    Message,
    MnemonError,
    Policy,
    Stage,
    Step,
    Task,
    ToolCall,
    ToolSchema,
)

Start = Callable[[Task], "State | Awaitable[State]"]
"""The state that a task begins from: an empty one of some capacity, or a bank made before."""

# ── banks without a policy ───────────────────────────────────────────────────────────────────────────────────────────


def raw_turns() -> Agent:
    """A writer that stores every input as it is (time, speaker as owner, source) and asks no policy: plain RAG."""

    def store(ctx: Ctx, given: Input) -> None:
        if given.text.strip():
            ctx.memory.add(given.text, owner=given.speaker, time=given.time, source=given.source)

    return Agent("writer", store, sections=(Section("turns"),))


async def no_policy(messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
    """The policy of a writer that needs none. Raises MnemonError when it is asked after all."""
    raise MnemonError("this agent asks a policy: give one, (agent, policy), instead of no_policy")


async def raw_turns_bank(task: Task) -> State:
    """The bank of all inputs of a task, each an entry as it is."""
    trajectory = await rollout(raw_turns(), replace(task, probes=()), no_policy)
    state: State = trajectory.state
    return state


def saved_banks(folder: str | Path) -> Start:
    """The banks of an earlier evaluation in `folder`, for another reader. MnemonError where one is not finished."""

    def start(task: Task) -> State:
        file = bank_file(Path(folder), task)
        saved = _load(file)
        if saved is None or saved["stages"] < len(task.stages):
            raise MnemonError(f"{file} holds no finished bank of {task.id}: finish that evaluation first")
        return state_from_json(saved["states"][str(len(task.stages))])

    return start


# ── one task ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Work:
    """What was done: policy calls by role, tool calls by name, prompt and sampled tokens where they are known, seconds,
    events."""

    inputs: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    seconds: float = 0.0
    events: dict[str, int] = field(default_factory=dict)
    tools: dict[str, int] = field(default_factory=dict)

    def add(self, steps: Iterable[Step], events: Mapping[str, int], seconds: float, inputs: int = 0) -> None:
        """Count some steps and events in."""
        self.inputs += inputs
        self.seconds += seconds
        steps = list(steps)
        _count(self.tools, call_mix(result for step in steps for result in step.results))
        for step in steps:
            self.calls[step.role] = self.calls.get(step.role, 0) + 1
            self.prompt_tokens += len(step.completion.prompt_ids) or step.completion.prompt_tokens
            self.sampled_tokens += len(step.completion.token_ids)
            if step.completion.finish == "aborted":
                self.events["aborted"] = self.events.get("aborted", 0) + 1
        _count(self.events, events)

    def merge(self, other: Work) -> None:
        """Count other work in."""
        self.inputs += other.inputs
        self.prompt_tokens += other.prompt_tokens
        self.sampled_tokens += other.sampled_tokens
        self.seconds += other.seconds
        for name in ("calls", "events", "tools"):
            _count(getattr(self, name), getattr(other, name))


def _count(mine: dict[str, int], theirs: Mapping[str, int]) -> None:
    for name, n in theirs.items():
        mine[name] = mine.get(name, 0) + n


@dataclass(slots=True)
class Bank:
    """A task's states after so many stages, as far as it was read; `step` counts the episode's policy calls."""

    task: Task
    states: dict[int, State]
    stages: int = 0
    step: int = 0
    work: Work = field(default_factory=Work)
    error: str = ""

    @property
    def state(self) -> State:
        """The newest state."""
        return self.states[max(self.states)]

    @property
    def finished(self) -> bool:
        """Whether every stage was read."""
        return self.stages == len(self.task.stages)


def bank_file(folder: Path, task: Task) -> Path:
    """Where a task's bank is saved."""
    return folder / "banks" / f"{quote(task.id, safe='')}.json"


async def open_bank(task: Task, writer: Agent | None, start: Start | None, folder: Path | None) -> Bank:
    """The saved bank of a task, else a fresh one; without a writer the starting state is the bank."""
    if start is not None:
        begun = start(task)
        state = await begun if inspect.isawaitable(begun) else begun
    elif writer is not None:
        state = writer.start()
    else:
        raise MnemonError(f"{task.id}: give a writer, or the finished banks (start)")
    last = len(task.stages)
    if writer is None:
        return Bank(task, dict.fromkeys(sorted({*due_probes(task), last}), state), last)
    saved = _load(bank_file(folder, task)) if folder is not None else None
    if saved is None:
        return Bank(task, {0: state})
    states = {int(n): state_from_json(s, state.memory.counter) for n, s in saved["states"].items()}
    return Bank(task, states, saved["stages"], saved["step"], Work(**saved["work"]))


async def read_task(
    bank: Bank,
    writer: Reader,
    *,
    folder: Path | None = None,
    helpers: Mapping[str, Policy] | None = None,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Let the writer read what is left of the task; `tick` is called after every input, the bank saved after a stage.

    The decisions are those of one `rollout` without interruption: the episode's key counts on.
    """
    agent, policy = writer
    task, wanted = bank.task, due_probes(bank.task)
    key = EpisodeKey(seed, task=task.id, step=bank.step)
    for number in range(bank.stages, len(task.stages)):
        started = time.perf_counter()
        stage = _ticking(task.stages[number], tick)
        part = replace(task, stages=(*task.stages[:number], stage), probes=())
        trajectory = await rollout(agent, part, policy, helpers=helpers, key=key, state=bank.state, start=(number, 0))
        seconds = time.perf_counter() - started
        bank.work.add(trajectory.steps, trajectory.events, seconds, len(trajectory.turns))
        bank.stages, bank.step = number + 1, key.step
        bank.states = {n: state for n, state in bank.states.items() if n in wanted} | {number + 1: trajectory.state}
        if folder is not None:
            _save(bank, bank_file(folder, task))


def inputs_of(stage: Stage) -> int:
    """How many inputs a script holds; 1 for an environment that does not know."""
    return len(getattr(stage.environment(), "inputs", " "))


class _Ticking:
    """An environment that says when an input was answered."""

    def __init__(self, environment: Environment, tick: Callable[[], None]) -> None:
        self.environment = environment
        self.tick = tick

    async def reset(self) -> Input | None:
        return await self.environment.reset()

    async def step(self, reply: str) -> tuple[Input | None, bool, float | None]:
        self.tick()
        return await self.environment.step(reply)


def _ticking(stage: Stage, tick: Callable[[], None]) -> Stage:
    return replace(stage, environment=lambda: _Ticking(stage.environment(), tick))


# ── as JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def state_json(state: State) -> JSON:
    """A state as plain data: sections, entries with all fields, the next id, the context."""
    memory = state.memory
    return {
        "sections": [asdict(section) for section in memory.sections.values()],
        "entries": [plain(entry) for entry in memory.entries()],
        "next_id": memory.next_id,
        "context": [plain(message) for message in state.context],
    }


def state_from_json(data: JSON, counter: Counter = count_words) -> State:
    """The inverse of `state_json`; `counter` counts tokens (default: words)."""
    sections = [Section(**section) for section in data["sections"]]
    entries = [Entry(**{**e, "times": tuple(e["times"]), "source": tuple(e["source"])}) for e in data["entries"]]
    memory = Memory.restore(sections, entries, data["next_id"], counter)
    return State(memory, [_message(m) for m in data["context"]])


def _message(data: JSON) -> Message:
    calls = tuple(ToolCall(**call) for call in data["tool_calls"])
    ids = None if data["token_ids"] is None else tuple(data["token_ids"])
    return Message(**{**data, "tool_calls": calls, "token_ids": ids})


def memory_hash(state: State) -> str:
    """16 hex digits of all that a memory holds."""
    return settings_hash({"entries": state.memory.entries()})


def _save(bank: Bank, file: Path) -> None:
    record: JSON = {"task": bank.task.id, "stages": bank.stages, "step": bank.step, "work": plain(bank.work)}
    atomic_write_json(file, record | {"states": {n: state_json(state) for n, state in bank.states.items()}})


def _load(file: Path) -> Any:
    """A saved bank, None where there is none. MnemonError where it cannot be read."""
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_bytes())
        complete = {"task", "stages", "step", "work", "states"} <= data.keys()
    except (ValueError, AttributeError) as error:
        raise MnemonError(f"{file} is damaged ({error}): remove it, and the bank is built anew") from error
    if not complete:
        raise MnemonError(f"{file} is not a saved bank: remove it, and the bank is built anew")
    return data
