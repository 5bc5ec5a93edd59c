"""Rollouts: stages, probes, start cursors, lock-step reproducibility, tolerated failures, a golden episode."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mnemon.agent import Agent, Ctx, Limits, State, ask_probes, due_probes, rollout, rollouts
from mnemon.memory.memory import Memory
from mnemon.memory.retrieve import Lexical, LexicalIndex
from mnemon.policy.base import EPISODE, LOCKSTEP, EpisodeKey, Request, Scripted, request_seed, run_sync
from mnemon.tasks.script import Script
from mnemon.tools import tool
from mnemon.types import Completion, Input, Message, MnemonError, Probe, Stage, Task, ToolCall, ToolSchema, Trajectory


def add(ctx: Ctx, text: str) -> str:
    """Store a text."""
    return ctx.memory.add(text, time=ctx.input.time, source=ctx.input.source).label


def delete(ctx: Ctx, id: str) -> str:
    """Remove an entry."""
    return ctx.memory.delete(ctx.resolve(id)).label


def writing(ctx: Ctx, given: Input) -> list[Message]:
    return [Message("user", given.text)]


def reading(ctx: Ctx, given: Input) -> list[Message]:
    shown = ctx.show([hit.entry for hit in ctx.retrieve(given.text, 2)])
    return [Message("user", "\n".join([*(entry.text for _, entry in shown), given.text]))]


WRITER = Agent("writer", writing, (tool(add), tool(delete)), limits=Limits(calls=1))
READER = Agent("reader", reading)


def keep(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
    """Stores every input; "forget m1" deletes that entry."""
    verb, _, rest = messages[-1].content.partition(" ")
    call = ToolCall("delete", {"id": rest}) if verb == "forget" else ToolCall("add", {"text": messages[-1].content})
    return Message("assistant", "", (call,))


def answer(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
    """The last word of the first memory shown."""
    lines = messages[-1].content.split("\n")
    return lines[0].split()[-1] if len(lines) > 1 else "nothing"


def stage(*texts: str, first: int = 1, fresh: bool = True) -> Stage:
    return Stage(partial(Script, [Input(text, f"day {i}", (f"s{i}",)) for i, text in enumerate(texts, first)]), fresh)


TASK = Task(
    "t1",
    (stage("Rex is a dog", "Mia is a cat"), stage("forget m1", "Leo is a fox", first=3)),
    (
        Probe("q0", "Rex ?", ("dog",), after=0),
        Probe("q1", "Rex ?", ("dog",), after=1),
        Probe("q2", "Rex ?", ("dog",)),
        Probe("q3", "Leo ?", ("fox",), after=2),
    ),
)


def play(task: Task = TASK, writer: Agent = WRITER, policy: Any = None, **more: Any) -> Trajectory:
    more.setdefault("reader", (READER, Scripted(answer)))
    return run_sync(rollout(writer, task, policy or Scripted(keep), **more))


# ── one episode ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_golden_episode() -> None:
    """Everything that one episode leaves behind, by hand."""
    found = play(before=True)
    assert [(e.id, e.text, e.times, e.source) for e in found.state.memory.entries()] == [
        (2, "Mia is a cat", ("day 2",), ("s2",)),
        (3, "Leo is a fox", ("day 4",), ("s4",)),
    ]
    steps = [
        (s.role, s.stage, s.turn, s.probe, s.source, s.messages[-1].content, s.results[0].content) for s in found.steps
    ]
    assert steps == [
        ("writer", 0, 0, "", ("s1",), "Rex is a dog", "m1"),
        ("writer", 0, 1, "", ("s2",), "Mia is a cat", "m2"),
        ("writer", 1, 0, "", ("s3",), "forget m1", "m1"),
        ("writer", 1, 1, "", ("s4",), "Leo is a fox", "m3"),
    ]
    assert [(a.probe.id, a.text) for a in found.before] == [(f"q{i}", "nothing") for i in range(4)]
    assert [(a.probe.id, a.text) for a in found.answers] == [
        ("q0", "nothing"),
        ("q1", "dog"),
        ("q2", "nothing"),
        ("q3", "fox"),
    ]
    assert [(s.role, s.stage, s.probe) for a in found.answers for s in a.turn.steps] == [
        ("reader", 0, "q0"),
        ("reader", 0, "q1"),
        ("reader", 1, "q2"),
        ("reader", 1, "q3"),
    ]
    assert [[op.kind for op in turn.operations] for turn in found.turns] == [["add"], ["add"], ["delete"], ["add"]]
    assert found.events == {"calls": 4}
    assert (found.id, found.task_id, found.scores, found.error) == ("t1#0", "t1", [], "")
    assert [entry.text for entry in found.answers[3].turn.view] == ["Leo is a fox"]


@pytest.mark.parametrize(("fresh", "seen"), [(True, [1, 4, 1]), (False, [1, 4, 7])])  # input, reply, result
def test_fresh_clears_the_context_but_never_the_memory(fresh: bool, seen: list[int]) -> None:
    task = Task("t", (stage("a", "b"), stage("c", first=3, fresh=fresh)))
    found = play(task, replace(WRITER, context="stage"))
    assert [len(step.messages) for step in found.steps] == seen
    assert len(found.state.memory) == 3


def test_a_reader_never_changes_the_state() -> None:
    def forget(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
        return Message("assistant", "", (ToolCall("delete", {"id": "m1"}), ToolCall("add", {"text": "rubbish"})))

    reader = Agent("reader", writing, WRITER.tools)
    plain, meddled = play(), play(reader=(reader, Scripted(forget)))
    assert meddled.state.memory.entries() == plain.state.memory.entries()
    assert len(meddled.answers[1].turn.operations) == 2


def test_a_probes_prefix_is_a_note_apart_from_the_question() -> None:
    def noted(ctx: Ctx, given: Input) -> list[Message]:
        return [Message("user", f"{given.text} | {given.note}")]

    probes = (Probe("a", "Rex ?", ("",), meta={"prefix": "one word"}), Probe("b", "Mia ?", ("",)))
    found = play(replace(TASK, probes=probes), reader=(Agent("reader", noted), Scripted(lambda m, t: m[-1].content)))
    assert [a.text for a in found.answers] == ["Rex ? | one word", "Mia ? | "]


def test_without_a_reader_nothing_is_asked_and_without_stages_all_at_once() -> None:
    found = play(reader=None, before=True)
    assert (found.answers, found.before) == ([], [])
    assert len(found.steps) == 4
    memory = Memory()
    memory.add("Rex is a dog")
    found = play(replace(TASK, stages=()), state=State(memory))
    assert [(a.probe.id, a.text) for a in found.answers] == [(f"q{i}", "dog" if i < 3 else "nothing") for i in range(4)]


def test_due_places_probes_and_refuses_the_impossible() -> None:
    placed = {n: [p.id for p in probes] for n, probes in due_probes(TASK).items()}
    assert placed == {0: ["q0"], 1: ["q1"], 2: ["q2", "q3"]}
    assert list(due_probes(replace(TASK, stages=()))) == [0]
    for after in (3, -1):
        task = replace(TASK, probes=(Probe("q", "?", ("a",), after=after),))
        with pytest.raises(MnemonError, match=f"probe q is asked after {after} stages, but there are 2"):
            play(task)


def test_a_rollout_can_start_anywhere() -> None:
    """From the state that the first k inputs left, the rest is the same as in one go."""
    stagewise = replace(WRITER, context="stage")
    whole = play(writer=stagewise)
    begun = [replace(TASK, stages=stages, probes=()) for stages in ((stage("Rex is a dog"),), TASK.stages[:1])]
    for task, start, texts in (
        (begun[0], (0, 1), ["Mia is a cat", "forget m1", "Leo is a fox"]),
        (begun[1], (1, 0), ["forget m1", "Leo is a fox"]),
    ):
        state = play(task, stagewise).state
        length = len(state.memory)
        rest = play(writer=stagewise, state=state, start=start, before=True)
        assert [step.messages[-1].content for step in rest.steps] == texts
        assert rest.steps == whole.steps[-len(texts) :]  # contexts and places too
        assert rest.state.memory.entries() == whole.state.memory.entries()
        assert rest.state.context == whole.state.context
        asked = ["q1", "q2", "q3"] if start == (0, 1) else ["q2", "q3"]
        assert [a.probe.id for a in rest.before] == [a.probe.id for a in rest.answers] == asked
        assert len(state.memory) == length  # it was forked
    with pytest.raises(MnemonError, match="starts at stage 2, but the task has 2"):
        play(start=(2, 0))


def test_environments_give_scores() -> None:
    class Game:
        """Three moves; the score says how many were right."""

        async def reset(self) -> Input | None:
            self.right, self.move = 0, 0
            return Input("go")

        async def step(self, reply: str) -> tuple[Input | None, bool, float | None]:
            self.move += 1
            self.right += reply == f"move {self.move}"
            done = self.move == 3
            return None if done else Input("on"), done, float(self.right) if done else None

    moves = iter(["move 1", "stay", "move 3"])
    player = Agent("writer", writing)
    found = play(Task("g", (Stage(Game), stage("thanks"))), player, Scripted(lambda m, t: next(moves, "bye")))
    assert found.scores == [2.0]
    assert [turn.reply for turn in found.turns] == ["move 1", "stay", "move 3", "bye"]


def test_an_empty_stage_is_passed_over() -> None:
    found = play(Task("t", (stage(), stage("a")), (Probe("q", "a ?", ("a",), after=1),)))
    assert len(found.turns) == 1
    assert found.answers[0].text == "nothing"


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_index_is_built_once_for_all_questions() -> None:
    made: list[LexicalIndex] = []

    class Counting(Lexical):
        def index(self) -> LexicalIndex:
            made.append(super().index())
            return made[-1]

    memory = Memory()
    for i in range(5):
        memory.add(f"fact {i}")
    probes = [Probe(f"q{i}", f"fact {i} ?", (str(i),)) for i in range(5)]
    reader = (replace(READER, retriever=Counting()), Scripted(answer))
    found = run_sync(ask_probes(reader, State(memory), probes))
    assert [a.text for a in found] == list("01234")
    assert len(made) == 1


# ── many episodes ────────────────────────────────────────────────────────────────────────────────────────────────────


class Noisy:
    """A batching policy as a local model is: each reply depends on its own request's seed and prompt alone."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        episode, lockstep = EPISODE.get(), LOCKSTEP.get()
        assert episode is not None
        assert lockstep is not None
        return await lockstep.submit(self, Request(episode.next(), tuple(messages), tuple(tools)))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append(list(requests))
        replies = []
        for request in requests:
            text = f"{request.messages[-1].content} {random.Random(request_seed(request.key)).randrange(1000)}"
            message = Message("assistant", text, (ToolCall("add", {"text": text}),) if request.tools else ())
            replies.append(Completion(message))
        return replies


def tasks() -> list[Task]:
    """Episodes of different lengths, with different numbers of questions."""
    made = []
    for n in (3, 1, 2):
        probes = tuple(Probe(f"q{i}", f"x{i} ?", ("x",), after=1 if i else None) for i in range(n))
        stages = (stage(*(f"x{i}" for i in range(n))), stage("y", first=n + 1))
        made.append(Task(f"t{n}", stages, probes))
    return made


def outline(trajectory: Trajectory) -> Any:
    return (
        trajectory.id,
        [(s.role, s.completion.message.content) for s in trajectory.steps],
        [(a.probe.id, a.text) for a in trajectory.answers],
        [entry.text for entry in trajectory.state.memory.entries()],
    )


def many(policy: Any, chosen: Sequence[Task], **more: Any) -> list[list[Trajectory]]:
    return run_sync(rollouts(WRITER, chosen, policy, reader=(READER, policy), **more))


def test_rollouts_are_reproducible_and_independent_of_each_other() -> None:
    one, two = Noisy(), Noisy()
    groups = many(one, tasks(), members=2, seed=5, update=3)
    again = many(two, tasks(), members=2, seed=5, update=3)
    assert [[t.id for t in group] for group in groups] == [[f"t{n}#{m}" for m in (0, 1)] for n in (3, 1, 2)]
    assert [[outline(t) for t in group] for group in groups] == [[outline(t) for t in group] for group in again]
    assert one.batches == two.batches
    alone = [many(Noisy(), [task], members=2, seed=5, update=3)[0] for task in reversed(tasks())]
    assert [[outline(t) for t in group] for group in reversed(alone)] == [
        [outline(t) for t in group] for group in groups
    ]
    assert outline(groups[0][0])[1] != outline(groups[0][1])[1]  # members differ
    assert outline(many(Noisy(), tasks(), seed=6)[0][0])[1] != outline(groups[0][0])[1]
    assert outline(many(Noisy(), tasks(), seed=5, update=4)[0][0])[1] != outline(groups[0][0])[1]


def test_rollouts_go_in_lock_step() -> None:
    policy = Noisy()
    many(policy, tasks(), members=2)
    assert [request.key for request in policy.batches[0]] == [
        (0, 0, f"t{n}", m, 1) for n in (1, 2, 3) for m in (0, 1)
    ]  # all at once, sorted
    assert all([r.key for r in batch] == sorted(r.key for r in batch) for batch in policy.batches)
    # the longest episode: 3 inputs, 2 questions at once, 1 input, 1 question
    assert len(policy.batches) == 6
    questions = [r.key[2] for batch in policy.batches for r in batch if "/" in r.key[2]]
    assert sorted(set(questions)) == sorted({f"t{n}/q{i}" for n in (1, 2, 3) for i in range(n)})


def test_members_start_from_the_state_given() -> None:
    starts: list[str] = []

    def start(task: Task) -> State:
        starts.append(task.id)
        state = WRITER.start()
        state.memory.add("Rex is a dog")
        return state

    groups = run_sync(
        rollouts(WRITER, [TASK], Scripted(keep), members=2, start=start, before=True, reader=(READER, Scripted(answer)))
    )
    assert starts == ["t1", "t1"]
    assert [a.text for a in groups[0][1].before] == ["dog", "dog", "dog", "nothing"]


class Down(Noisy):
    """Fails for one member in the middle of its questions."""

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        episode = EPISODE.get()
        assert episode is not None
        if episode.task == "t3/q1" and episode.member == 1:
            raise ConnectionError("the server is down")
        return await super().__call__(messages, tools)


def test_a_tolerated_failure_costs_its_trajectory_only() -> None:
    groups = many(Down(), tasks(), members=3, tolerate=(ConnectionError,))
    healthy = many(Noisy(), tasks(), members=3)
    failed = groups[0][1]
    assert (failed.error, failed.member, failed.steps, failed.state) == ("the server is down", 1, [], None)
    for group, expected in zip(groups, healthy, strict=True):
        for one, other in zip(group, expected, strict=True):
            assert one is failed or outline(one) == outline(other)
    with pytest.raises(ConnectionError, match="down"):
        many(Down(), tasks(), members=3)
    with pytest.raises(ConnectionError):
        many(Down(), tasks(), members=3, tolerate=(ValueError,))


def test_the_episode_key_counts_the_policys_calls() -> None:
    key = EpisodeKey(seed=1, update=2, task="t1", member=3)
    policy = Noisy()
    groups = run_sync(rollouts(WRITER, [TASK], policy))
    assert len(groups[0][0].steps) == 4
    assert [batch[0].key for batch in policy.batches] == [(0, 0, "t1", 0, n) for n in (1, 2, 3, 4)]
    found = run_sync(rollout(WRITER, TASK, Scripted(keep), key=key))
    assert (found.member, found.id) == (3, "t1#3")
    assert EPISODE.get() is None


async def _inside() -> None:
    run_sync(asyncio.sleep(0))


def test_a_running_loop_is_said() -> None:
    with pytest.raises(MnemonError, match="await"):
        run_sync(_inside())
