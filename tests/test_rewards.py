"""Rewards by hand: answers, gain, invalid calls, per-step terms linked by evidence, what cannot be scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from mnemon.agent import Agent, Ctx, State, rollout
from mnemon.memory.memory import Memory
from mnemon.policy.base import Scripted, run_sync
from mnemon.rewards import (
    Reward,
    Scored,
    answer_score,
    answers,
    gain,
    invalid,
    invalid_calls,
    invalid_steps,
    linked_answers,
    mean_score,
    score,
)
from mnemon.tasks.script import Script
from mnemon.tools import tool
from mnemon.types import (
    Answer,
    Completion,
    Input,
    Message,
    MnemonError,
    Probe,
    Stage,
    Step,
    Task,
    ToolCall,
    ToolResult,
    ToolSchema,
    Trajectory,
    Turn,
    Unscorable,
)


def answered(
    text: str, gold: str = "dog", *, evidence: tuple[str, ...] = (), scorers: tuple[str, ...] = ("em",)
) -> Answer:
    return Answer(Probe("q", "?", (gold,), evidence=evidence, scorers=scorers), text, Turn(text, ()))


def step(*codes: str, role: str = "writer", source: tuple[str, ...] = (), turn: int = 0) -> Step:
    results = tuple(ToolResult(ToolCall("add"), not code, "", code) for code in codes)
    return Step(role, (), (), Completion(Message("assistant", "")), results, turn=turn, source=source)


def trajectory(**fields: Any) -> Trajectory:
    return Trajectory(Task("t", ()), 0, **fields)


def scored(found: Trajectory, *rewards: Reward) -> Scored:
    return run_sync(score(found, rewards))


def test_an_answer_is_scored_by_its_probes_headline_scorer() -> None:
    assert answer_score(answered("The dog")) == 1.0  # normalised exact match
    assert answer_score(answered("a red dog")) == 0.0
    assert answer_score(answered("red dog", scorers=("f1_squad", "em"))) == pytest.approx(2 / 3)
    assert answer_score(answered("red dog"), "f1_squad") == pytest.approx(2 / 3)
    with pytest.raises(MnemonError):
        answer_score(answered("dog"), "no such metric")


def test_answers_is_the_mean() -> None:
    found = trajectory(answers=[answered("dog"), answered("cat"), answered("dog"), answered("")])
    assert scored(found, answers()) == Scored({"answers": 0.5}, 0.5)
    assert scored(found, answers(weight=3.0)) == Scored({"answers": 0.5}, 1.5)


def test_terms_are_logged_unweighted_and_summed_weighted() -> None:
    async def waits(found: Trajectory) -> float:
        return 4.0

    found = trajectory(answers=[answered("dog")], events={"refused:unknown_id": 2})
    total = scored(found, answers(), invalid(-0.25), Reward("judge", 0.5, waits))
    assert total.terms == {"answers": 1.0, "invalid": 2.0, "judge": 4.0}
    assert total.total == 1.0 - 0.5 + 2.0
    assert total.steps is None
    assert scored(found) == Scored({}, 0.0)


# ── gain ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def add(ctx: Ctx, text: str) -> str:
    """Store a text."""
    return ctx.memory.add(text).label


def delete(ctx: Ctx, id: str) -> str:
    """Remove an entry."""
    return ctx.memory.delete(ctx.resolve(id)).label


def noop(ctx: Ctx) -> str:
    """Change nothing."""
    return ""


def asked(ctx: Ctx, given: Input) -> list[Message]:
    return [Message("user", " ".join([given.text, *(hit.entry.text for hit in ctx.retrieve(given.text, 1))]))]


def last_word(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
    return messages[-1].content.split()[-1]


@pytest.mark.parametrize(
    ("held", "call", "paid"),
    [
        ([], ToolCall("add", {"text": "Rex dog"}), 1.0),
        (["Rex dog"], ToolCall("noop"), 0.0),
        ([], ToolCall("noop"), 0.0),
        (["Rex dog"], ToolCall("delete", {"id": "m1"}), -1.0),
        (["Rex dog"], ToolCall("delete", {"id": "m2"}), 0.0),  # refused: changed nothing
        (["Rex cat"], ToolCall("delete", {"id": "m1"}), 0.0),  # wrong before and after
    ],
)
def test_gain_pays_what_the_operation_changed(held: list[str], call: ToolCall, paid: float) -> None:
    memory = Memory()
    for text in held:
        memory.add(text)
    writer = Agent("writer", asked, (tool(add), tool(delete), tool(noop)))
    task = Task("t", (Stage(partial(Script, [Input("go")])),), (Probe("q", "Rex", ("dog",)),))
    policy = Scripted(lambda messages, tools: Message("assistant", "", (call,)))
    reader = (Agent("reader", asked), Scripted(last_word))
    found = run_sync(rollout(writer, task, policy, reader=reader, state=State(memory), before=True))
    assert scored(found, gain()).total == paid


def test_gain_is_a_difference_of_means() -> None:
    found = trajectory(
        before=[answered("dog"), answered("cat"), answered("cat"), answered("cat")],
        answers=[answered("dog"), answered("dog"), answered("dog"), answered("cat")],
    )
    assert scored(found, gain()).total == 0.5
    assert scored(found, gain(weight=-2.0)).total == -1.0


# ── form ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_invalid_counts_refusals_for_form_and_replies_without_a_call() -> None:
    events = {
        "calls": 9,
        "refused:unknown_id": 2,
        "refused:unchanged": 1,
        "refused:full": 5,
        "no_call": 3,
        "truncated": 4,
    }
    found = trajectory(events=events)
    assert invalid_calls(found) == 6
    assert scored(found, invalid()).total == pytest.approx(-0.6)
    assert invalid_calls(trajectory()) == 0


def test_invalid_steps_are_paid_alone() -> None:
    replies = [("",), ("full",), ("unknown_id", ""), (), ("", "full")]
    steps = [step(*codes, turn=turn) for turn, codes in enumerate(replies)]
    steps.insert(4, step(role="extractor", turn=4))
    found = scored(trajectory(steps=steps), invalid_steps(weight=-0.5))
    assert found == Scored({"invalid": 2.0}, 0.0, [0.0, 0.0, -0.5, -0.5, 0.0])


def test_a_text_that_ends_an_input_is_no_mistake_and_idling_may_be_none() -> None:
    steps = [step(""), step(), step(turn=1), step("bad_arguments", turn=2), step(turn=2)]
    found = trajectory(steps=steps, events={"no_call": 1, "refused:bad_arguments": 1})
    assert scored(found, invalid_steps()).steps == pytest.approx([0, 0, -0.1, -0.1, 0])
    assert scored(found, invalid_steps(idle=True)).steps == pytest.approx([0, 0, 0, -0.1, 0])
    assert (invalid_calls(found), invalid_calls(found, idle=True)) == (2, 1)
    assert scored(found, invalid(idle=True)).total == pytest.approx(-0.1)


# ── per step ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_linked_answers_pay_the_steps_that_read_the_evidence() -> None:
    steps = [
        step("", source=("s1",)),
        step("", source=("s1",), role="extractor"),
        step("", source=("s2", "s3")),
        step("", source=("s9",)),
        step(""),
    ]
    told = [
        answered("dog", evidence=("s1",)),
        answered("cat", evidence=("s1", "s2")),
        answered("dog", evidence=("s3",)),
        answered("cat", evidence=()),
        answered("cat", evidence=("s8",)),
    ]
    found = trajectory(steps=steps, answers=told)
    # s1: (1 + 0) / 2; s2, s3: (0 + 1) / 2; nothing linked: the mean of all five
    assert scored(found, linked_answers()).steps == [0.5, 0.5, 0.4, 0.4]
    assert scored(found, linked_answers(role="extractor")).steps == [0.5]
    told[0] = answered("dogs and cats", evidence=("s1",))
    assert scored(found, linked_answers("f1_squad")).steps == pytest.approx([0.0, 0.5, 0.2, 0.2])


def test_per_step_terms_add_up_beside_the_total() -> None:
    found = trajectory(
        steps=[step("", source=("s1",)), step("unparsable", source=("s2",))],
        answers=[answered("dog", evidence=("s1",)), answered("cat", evidence=("s2",))],
    )
    total = scored(found, linked_answers(weight=2.0), invalid_steps(weight=-0.5), answers())
    assert total.terms == {"linked_answers": 1.0, "invalid": 1.0, "answers": 0.5}
    assert total.steps == [2.0, -0.5]
    assert total.total == 0.5


def test_a_trajectory_without_steps_has_no_per_step_numbers() -> None:
    assert scored(trajectory(answers=[answered("dog")]), linked_answers(), invalid_steps()).steps == []


def test_terms_of_different_lengths_are_a_mistake() -> None:
    found = trajectory(steps=[step("")])
    with pytest.raises(ValueError, match="zip"):
        scored(found, invalid_steps(), Reward("odd", 1.0, lambda t: [1.0, 2.0]))


# ── what cannot be scored ────────────────────────────────────────────────────────────────────────────────────────────


def test_without_answers_nothing_can_pay() -> None:
    with pytest.raises(Unscorable, match="no probes"):
        mean_score([])
    for reward in (answers(), gain(), linked_answers()):
        found = scored(trajectory(events={"no_call": 1}, steps=[step("")]), invalid(), reward)
        assert (found.total, found.steps) == (None, None)
        assert found.terms == {"invalid": 1.0}  # what was known stays in the log
        assert found.error.startswith(f"{reward.name}: the task has no probes")


def test_gain_needs_answers_from_before() -> None:
    assert scored(trajectory(answers=[answered("dog")]), gain()).total is None


def test_a_judge_that_fails_is_no_zero() -> None:
    async def judge(found: Trajectory) -> float:
        raise Unscorable("the judge is down")

    found = scored(trajectory(answers=[answered("dog")]), answers(), Reward("judge", 1.0, judge))
    assert (found.total, found.error) == (None, "judge: the judge is down")


def test_a_failed_trajectory_is_not_scored() -> None:
    found = trajectory(error="the server is down", answers=[answered("dog")])
    assert scored(found, answers()) == Scored({}, None, None, "the server is down")


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.5, math.nan]])
def test_a_value_that_is_not_finite_is_unscorable(value: Any) -> None:
    found = run_sync(score(Trajectory(Task("t", ()), 0), (Reward("odd", 1.0, lambda trajectory: value),)))
    assert found.total is None
    assert "odd" in found.error
    assert "not finite" in found.error
