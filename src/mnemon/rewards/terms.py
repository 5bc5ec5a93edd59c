"""What a reward is, and the terms that every recipe may use.

    R(trajectory) = Σ_terms weight · score

A term scores a finished trajectory with one number, or with one number per policy call of the trained role. A term that
cannot be scored after retries raises `Unscorable`: the trajectory then leaves statistics and loss, and is counted.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnemon.metrics import is_judged, judge_answer, scorer
from mnemon.policy.base import run_lockstep
from mnemon.types import Answer, Policy, Trajectory, Unscorable

Score = Callable[[Trajectory], "float | Sequence[float] | Awaitable[float | Sequence[float]]"]


@dataclass(frozen=True, slots=True)
class Reward:
    """One term of a recipe's reward."""

    name: str
    weight: float
    score: Score


@dataclass(slots=True)
class Scored:
    """The rewards of one trajectory: each term's value (its sum when per step), the weighted total (None when a term
    was unscorable), and the weighted per-step sums where a term gave them."""

    terms: dict[str, float] = field(default_factory=dict)
    total: float | None = 0.0
    steps: list[float] | None = None
    error: str = ""


async def score(trajectory: Trajectory, rewards: Sequence[Reward]) -> Scored:
    """Score one trajectory by every term. A value that is not finite is unscorable, whoever computed it."""
    scored = Scored()
    if trajectory.error:
        return Scored(total=None, error=trajectory.error)
    total = 0.0
    for reward in rewards:
        try:
            value: Any = reward.score(trajectory)
            if inspect.isawaitable(value):
                value = await value
        except Unscorable as error:
            return Scored(scored.terms, None, None, f"{reward.name}: {error}")
        single = isinstance(value, int | float)
        parts = [float(v) for v in ((value,) if single else value)]
        if not all(map(math.isfinite, parts)):
            return Scored(scored.terms, None, None, f"{reward.name}: the value {value} is not finite")
        if single:
            scored.terms[reward.name] = parts[0]
            total += reward.weight * parts[0]
            continue
        scored.terms[reward.name] = sum(parts)
        scored.steps = scored.steps or [0.0] * len(parts)
        scored.steps = [a + reward.weight * b for a, b in zip(scored.steps, parts, strict=True)]
    scored.total = total
    return scored


# ── terms ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def answer_score(answer: Answer, metric: str | None = None) -> float:
    """One answer by a metric; by default the probe's headline scorer."""
    probe = answer.probe
    return scorer(metric or probe.scorers[0])(answer.text, probe.answers, probe.category)


def mean_score(answers: Sequence[Answer], metric: str | None = None) -> float:
    """Mean over answers. Raises `Unscorable` when there is no answer: nothing was asked, nothing can pay."""
    _some(answers)
    return sum(answer_score(answer, metric) for answer in answers) / len(answers)


def _some(answers: Sequence[Answer]) -> None:
    if not answers:
        raise Unscorable("the task has no probes, so no answer can pay for it")


async def answer_scores(
    answers: Sequence[Answer], metric: str | None = None, judge: Policy | None = None
) -> list[float]:
    """One score per answer, as `answer_score`; a probe whose headline scorer is a judge is graded by `judge`.

    Raises `Unscorable` when there is no answer, or where a judge's reply cannot be read.
    """

    async def one(answer: Answer) -> float:
        name = metric or answer.probe.scorers[0]
        if judge is None or not is_judged(name):
            return answer_score(answer, name)
        verdict = await judge_answer(judge, name, answer.probe, answer.text)
        if verdict.score is None:
            raise Unscorable(f"{name} of {answer.probe.id}: {verdict.error}")
        return verdict.score

    _some(answers)
    return await run_lockstep([one(answer) for answer in answers])


def answers(metric: str | None = None, weight: float = 1.0, judge: Policy | None = None) -> Reward:
    """r = mean over probes of metric(answer, gold): the reward of Memory-R1 (exact match: arXiv 2508.19828 eq. 4), and
    r1 of Mem-alpha with each probe's own metric. judge: grades the probes whose headline scorer is a judge.
    """

    async def mean(trajectory: Trajectory) -> float:
        found = await answer_scores(trajectory.answers, metric, judge)
        return sum(found) / len(found)

    if judge is None:
        return Reward("answers", weight, lambda trajectory: mean_score(trajectory.answers, metric))
    return Reward("answers", weight, mean)


def gain(metric: str | None = None, weight: float = 1.0) -> Reward:
    """r = mean metric after the episode − mean metric before it, on the same probes: what the operations changed.

    Needs a rollout with ``before=True``. NOOP gives 0, a harmful delete −1.
    """

    def difference(trajectory: Trajectory) -> float:
        return mean_score(trajectory.answers, metric) - mean_score(trajectory.before, metric)

    return Reward("gain", weight, difference)


HARMLESS = frozenset({"full"})
"""Refusals that no form could have avoided: the answers pay for them. An update that changes nothing is none."""


def invalid_calls(trajectory: Trajectory, idle: bool = False) -> int:
    """Inputs answered without any call (no mistake where `idle`), and calls refused for their form (unparsable, unknown
    id or tool, bad arguments …)."""
    refused = sum(
        n for event, n in trajectory.events.items() if event.startswith("refused:") and event[8:] not in HARMLESS
    )
    return refused + (0 if idle else trajectory.events.get("no_call", 0))


def invalid(weight: float = -0.1, idle: bool = False) -> Reward:
    """weight · (number of invalid calls): a gate on form that cannot be farmed. idle: doing nothing is allowed."""
    return Reward("invalid", weight, lambda trajectory: float(invalid_calls(trajectory, idle)))


# ── terms per step ───────────────────────────────────────────────────────────────────────────────────────────────────


def linked_answers(metric: str | None = None, role: str = "writer", weight: float = 1.0) -> Reward:
    """Per policy call: the mean score of the probes whose evidence names the call's input, else of all probes.

        r_s = mean { metric(p) : evidence(p) ∩ source(s) ≠ ∅ },   all probes where that set is empty

    A question is paid to the decisions that could have changed its answer. Memory-R1 links its training questions to
    turns by the same evidence ids (arXiv 2508.19828, Algorithm 1).
    """

    def per_step(trajectory: Trajectory) -> list[float]:
        everything = mean_score(trajectory.answers, metric)
        scores = [(set(a.probe.evidence), answer_score(a, metric)) for a in trajectory.answers]
        values = []
        for step in trajectory.steps:
            if step.role == role:
                linked = [value for evidence, value in scores if evidence.intersection(step.source)]
                values.append(sum(linked) / len(linked) if linked else everything)
        return values

    return Reward("linked_answers", weight, per_step)


def invalid_steps(role: str = "writer", weight: float = -0.1, idle: bool = False) -> Reward:
    """Per policy call: 1 for a reply without a call or with a call refused for its form, paid by that reply alone.

    A text that ends an input after earlier calls is no mistake, nor is, where `idle`, an input answered without any.
    """

    def per_step(trajectory: Trajectory) -> list[float]:
        values, called = [], set()
        for step in trajectory.steps:
            if step.role != role:
                continue
            place = (step.stage, step.turn)
            silent = not step.results and not idle and place not in called
            if step.results:
                called.add(place)
            values.append(float(silent or any(not r.ok and r.code not in HARMLESS for r in step.results)))
        return values

    return Reward("invalid", weight, per_step)
