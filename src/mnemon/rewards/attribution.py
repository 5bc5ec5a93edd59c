"""Who earned the answers: credit for the inputs from which the reader's entries came (Fine-Mem, arXiv 2601.08435)."""

from __future__ import annotations

from collections.abc import Sequence

from mnemon.rewards.terms import Reward, answer_scores
from mnemon.types import Policy, Trajectory


def attribute(total: float, evidence_T: Sequence[float], share: float = 0.5) -> list[float]:
    """r_t = (1 − b) · R / T + b · N_t: a part is shared out evenly, the rest goes by evidence.

    total R; evidence N_t [T], which sums to R; share b in [0, 1]. The sum over t is R.
    Example: R .75, N (.75, 0, 0), b .5 gives .5, .125, .125.
    """
    return [(1 - share) * total / len(evidence_T) + share * part for part in evidence_T]


def attributed_answers(
    metric: str | None = None,
    share: float = 0.5,
    role: str = "writer",
    weight: float = 1.0,
    judge: Policy | None = None,
) -> Reward:
    """Per policy call: `attribute` of R = mean answer score, with

        N_t = 1/m Σ_p score_p · (share of the entries that the reader saw for p which came from t's input)

    An entry of several inputs is shared among them, an input among its policy calls; a score whose entries came from no
    input of this episode is shared out evenly. judge: as in `answers`. `Unscorable` without questions.
    """

    async def per_step(trajectory: Trajectory) -> list[float]:
        scores = await answer_scores(trajectory.answers, metric, judge)
        sources = [set(step.source) for step in trajectory.steps if step.role == role]
        evidence = [0.0] * len(sources)
        for answer, score in zip(trajectory.answers, scores, strict=True):
            for t, part in enumerate(_origins(answer.turn.view or (), sources)):
                evidence[t] += score / len(scores) * part
        return attribute(sum(scores) / len(scores), evidence, share) if sources else []

    return Reward("attributed_answers", weight, per_step)


def _origins(entries: Sequence[object], sources: Sequence[set[str]]) -> list[float]:
    """Share of the entries that came from each step's input [T]; sums to 1."""
    parts = [0.0] * len(sources)
    known = 0
    for entry in entries:
        names = set(getattr(entry, "source", ()))
        steps = [t for t, source in enumerate(sources) if source & names]
        known += bool(steps)
        for t in steps:
            parts[t] += 1 / len(steps)
    return [part / known for part in parts] if known else [1 / len(sources)] * len(sources)
