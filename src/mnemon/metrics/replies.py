"""Reading replies: the answer inside an output, and the verdict of a judge."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mnemon.types import MnemonError

ANSWER_MARKER = "**Answer:**"

# ── the answer inside an output ──────────────────────────────────────────────────────────────────────────────────────


def _memory_r1(output: str) -> str | None:
    _, marker, answer = output.rpartition(ANSWER_MARKER)
    return answer.strip() if marker else None


def _mab(output: str) -> str | None:
    match = re.search(r"answer:[^\S\n]*([^\n]*)", output, re.IGNORECASE)
    if match is None:
        return None
    return re.sub(r"^answer:", "", match.group(1), count=1, flags=re.IGNORECASE).strip()


def _memalpha(output: str) -> str | None:
    _, end, answer = output.rpartition("</think>")
    if end:
        return answer.strip()
    return "Empty" if "<think>" in output else None


def _boxed(output: str) -> str | None:
    match = re.search(r"\\boxed\{([^{}]*)\}", output)
    return match.group(1) if match else None


Profile = Literal["memory_r1", "mab", "memalpha", "boxed"]
_PROFILES: dict[str, Callable[[str], str | None]] = {
    "memory_r1": _memory_r1,
    "mab": _mab,
    "memalpha": _memalpha,
    "boxed": _boxed,
}


def find_answer(output: str, profile: Profile) -> str | None:
    """The marked answer in `output`, or None where its marker is missing (a format failure).

    ``memory_r1``: text after the last ``**Answer:**``. ``mab`` (MemoryAgentBench): the line after the first "Answer:".
    ``memalpha`` (Mem-alpha): text after ``</think>``; "Empty" where a ``<think>`` stays open. ``boxed``: content of the
    first ``\\boxed{…}`` without inner braces.
    """
    if profile not in _PROFILES:
        raise MnemonError(f"unknown extraction profile {profile!r}; use one of {', '.join(_PROFILES)}.")
    return _PROFILES[profile](output)


def extract(output: str, profile: Profile) -> str:
    """The text to score: `find_answer`, else the first line (``mab``) or the whole output (others), trimmed."""
    answer = find_answer(output, profile)
    if answer is not None:
        return answer
    lines = output.strip().splitlines()
    return lines[0].strip() if profile == "mab" and lines else output.strip()


# ── verdicts of judges ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge's reply says. `score` is None where it could not be read: count it, never score it 0.

    `error` says what was wrong; a score with an error is one to report beside the result.
    """

    score: float | None
    error: str = ""


def official_yes(reply: str, judge: Literal["judge_lme", "judge_rubric"]) -> float:
    """A reply as the original code reads it, for comparison with its figures: 1 or 0, never an error.

    judge_lme (LongMemEval): "yes" anywhere. judge_rubric (Mem-alpha): "yes" anywhere and nowhere the letters "no", so
    "Yes, I know" is 0.
    """
    said = reply.lower()
    return float("yes" in said and (judge == "judge_lme" or "no" not in said))


def read_yes_no(reply: str) -> Verdict:
    """The first alphabetic word must be yes or no."""
    match = re.search(r"[^\W\d_]+", reply)
    word = match.group().lower() if match else ""
    if word in ("yes", "no"):
        return Verdict(float(word == "yes"))
    return Verdict(None, f"the reply begins with {word!r}, neither yes nor no" if word else "the reply has no word")


def last_object(reply: str) -> dict[str, Any] | None:
    """The last JSON object without inner braces in `reply`, code fences or not; None where none parses."""
    for text in reversed(re.findall(r"\{[^{}]*\}", reply)):
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            return value
    return None


def read_label(reply: str) -> Verdict:
    """JSON ``{"label": "CORRECT"}`` = 1, ``"WRONG"`` = 0, in any case; any other label is 0 with an error."""
    found = last_object(reply)
    if found is None or "label" not in found:
        return Verdict(None, 'the reply holds no JSON object with a "label"')
    label = str(found["label"]).strip().upper()
    if label in ("CORRECT", "WRONG"):
        return Verdict(float(label == "CORRECT"))
    return Verdict(0.0, f"label {found['label']!r} is neither CORRECT nor WRONG; counted as WRONG")
