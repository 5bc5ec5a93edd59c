"""Answers inside outputs and verdicts of judges."""

import pytest

from mnemon.metrics import SCORERS, extract, find_answer, last_object, official_yes, read_label, read_yes_no
from mnemon.types import MnemonError


def test_memory_r1() -> None:
    assert extract("**Answer:** pool\n**Answer:** beach \n", "memory_r1") == "beach"
    assert find_answer("no marker", "memory_r1") is None  # a format failure, for the reward to see
    assert extract(" no marker ", "memory_r1") == "no marker"
    assert find_answer("**Answer:**", "memory_r1") == ""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("The answer is clear.\nAnswer: Paris\nmore", "Paris"),
        ("Paris\nbecause", "Paris"),
        ("**Answer:** Paris", "** Paris"),
        ("Answer:\nParis", ""),
        ("Answer: Answer: Paris", "Paris"),
        ("", ""),
    ],
)
def test_mab(output: str, expected: str) -> None:
    assert extract(output, "mab") == expected


def test_mab_stars_do_not_hurt() -> None:
    assert SCORERS["em_squad"](extract("**Answer:** Paris", "mab"), ["Paris"], "") == 1


def test_memalpha_and_boxed() -> None:
    assert extract("<think>a</think> Rome ", "memalpha") == "Rome"
    assert extract("<think>never closed", "memalpha") == "Empty"
    assert extract(" plain ", "memalpha") == "plain"
    assert extract(r"so \boxed{3} or \boxed{4}", "boxed") == "3"
    assert extract(r"\boxed{\text{3}}", "boxed") == r"\boxed{\text{3}}"


def test_unknown_profile() -> None:
    with pytest.raises(MnemonError, match="memory_r1"):
        extract("x", "r1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "lme", "rubric"),
    [
        ("yes", 1, 1),
        ("Yes.", 1, 1),
        ("No", 0, 0),
        ("Yes, I know this", 1, 0),
        ("Yes, as far as I know", 1, 0),
        ("yes, nothing is missing", 1, 0),
        ("Not yes", 1, 0),
        ("no, yesterday is wrong", 1, 0),
        ("I cannot say", 0, 0),
    ],
)
def test_yes_as_the_original_code_reads_it(reply: str, lme: int, rubric: int) -> None:
    assert (official_yes(reply, "judge_lme"), official_yes(reply, "judge_rubric")) == (lme, rubric)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Yes, as far as I know", 1),
        ("yes", 1),
        ("Yes.", 1),
        ("No", 0),
        ("Yes, I know this", 1),
        ("yes, nothing is missing", 1),
        ("Not yes", None),
        ("no, yesterday is wrong", 0),
        ("I cannot say", None),
        ("**Yes**", 1),
        ("", None),
    ],
)
def test_yes_no(reply: str, score: float | None) -> None:
    verdict = read_yes_no(reply)
    assert verdict.score == score
    assert bool(verdict.error) == (score is None)


@pytest.mark.parametrize(
    ("reply", "score", "error"),
    [
        ('The same date. {"label": "CORRECT"}', 1, ""),
        ('```json\n{"label": " wrong "}\n```', 0, ""),
        ('{"label": "WRONG"} then {"label": "CORRECT"}', 1, ""),
        ('{"label": "PARTIALLY CORRECT"}', 0, "neither CORRECT nor WRONG"),
        ("CORRECT", None, "no JSON object"),
        ('{"score": 1}', None, "no JSON object"),
        ('{"label": CORRECT}', None, "no JSON object"),
    ],
)
def test_label(reply: str, score: float | None, error: str) -> None:
    verdict = read_label(reply)
    assert verdict.score == score
    assert error in verdict.error
    assert bool(verdict.error) == bool(error)


def test_last_object_skips_what_does_not_parse() -> None:
    assert last_object('{"recall": 3} {oops}') == {"recall": 3}
    assert last_object("none") is None
