"""Judges of answers: what they are asked, how they are read, how they pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mnemon.metrics import judge_answer, scorer, verdict_prompt
from mnemon.policy.base import Scripted, run_sync
from mnemon.rewards import Scored, answers, attributed_answers, score
from mnemon.types import Answer, Completion, Message, MnemonError, Probe, Step, Task, ToolSchema, Trajectory, Turn


def probe(category: str = "multi-session", scorers: tuple[str, ...] = ("judge_lme",), **meta: Any) -> Probe:
    return Probe("q", "How long?", ("8 days",), category, scorers=scorers, meta=meta)


@pytest.mark.parametrize(
    ("name", "asked", "words", "title"),
    [
        ("judge_lme", probe(), "a part of it only", "Accepted answers: 8 days"),
        ("judge_lme", probe("temporal-reasoning"), "off by one", "Accepted answers: 8 days"),
        ("judge_lme", probe("knowledge-update"), "older value", "Accepted answers: 8 days"),
        (
            "judge_lme",
            probe(answer_type="rubric", rubric="likes short trips"),
            "fits the rubric",
            "Rubric: likes short",
        ),
        ("judge_lme", probe(answer_type="abstain", rubric="never said"), "cannot be answered", "Reason: never said"),
        ("judge_rubric", probe("temporal-reasoning"), "fits the rubric", "Rubric: 8 days"),
    ],
)
def test_what_is_right_depends_on_the_question(name: str, asked: Probe, words: str, title: str) -> None:
    system, user = verdict_prompt(name, asked, "about a week")
    assert words in system.content
    assert title in user.content
    assert user.content.endswith("Answer to grade: about a week")


def test_unknown_judges() -> None:
    with pytest.raises(MnemonError, match="judge_best"):
        verdict_prompt("judge_best", probe(), "x")
    with pytest.raises(MnemonError, match="needs a judge's policy"):
        scorer("judge_lme")


def says(*replies: str) -> tuple[Scripted, list[int]]:
    left, sizes = iter(replies), list[int]()

    def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        sizes.append(len(messages))
        return next(left)

    return Scripted(reply), sizes


@pytest.mark.parametrize(
    ("replies", "value", "sizes"),
    [
        (("Yes, as far as I know",), 1, [2]),
        (("no",), 0, [2]),
        (("hm", "yes"), 1, [2, 4]),
        (("hm", "well"), None, [2, 4]),
    ],
)
def test_a_reply_that_cannot_be_read_is_complained_about_once(
    replies: tuple[str, ...], value: float | None, sizes: list[int]
) -> None:
    policy, seen = says(*replies)
    verdict = run_sync(judge_answer(policy, "judge_lme", probe(), "a week"))
    assert (verdict.score, seen) == (value, sizes)


def answered(*probes: Probe) -> Trajectory:
    found = Trajectory(Task("t", ()), 0, answers=[Answer(p, "8 days", Turn("8 days", ())) for p in probes])
    steps = [Step("writer", (), (), Completion(Message("assistant", "")), source=(name,)) for name in "ab"]
    found.steps += steps
    return found


def test_judged_and_scored_answers_pay_together() -> None:
    """A judge for the first (no), exact match for the second (right): 1/2."""
    found = answered(probe(), probe(scorers=("em", "judge_lme")))
    policy, seen = says("no")
    assert run_sync(score(found, [answers(judge=policy)])) == Scored({"answers": 0.5}, 0.5)
    assert seen == [2]
    parts = run_sync(score(found, [attributed_answers(judge=says("no")[0])]))
    assert parts.steps == [0.25, 0.25]


def test_an_unreadable_verdict_is_unscorable_and_no_judge_is_an_error() -> None:
    marks = run_sync(score(answered(probe()), [answers(judge=says("hm", "hm")[0])]))
    assert marks.total is None
    assert "judge_lme of q" in marks.error
    with pytest.raises(MnemonError, match="needs a judge"):
        run_sync(score(answered(probe()), [answers()]))
