"""Rewards: each term beside its definition. A recipe is a tuple of `Reward`s; every term is logged under its name."""

from mnemon.rewards.attribution import attribute, attributed_answers
from mnemon.rewards.memory import compression, content, valid_calls
from mnemon.rewards.terms import (
    HARMLESS,
    Reward,
    Score,
    Scored,
    answer_score,
    answer_scores,
    answers,
    gain,
    invalid,
    invalid_calls,
    invalid_steps,
    linked_answers,
    mean_score,
    score,
)

__all__ = [
    "HARMLESS",
    "Reward",
    "Score",
    "Scored",
    "answer_score",
    "answer_scores",
    "answers",
    "attribute",
    "attributed_answers",
    "compression",
    "content",
    "gain",
    "invalid",
    "invalid_calls",
    "invalid_steps",
    "linked_answers",
    "mean_score",
    "score",
    "valid_calls",
]
