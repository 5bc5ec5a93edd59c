"""Building steps that a language model helps with, as Mem-α does (arXiv 2509.25911, data construction). Off by default.

Each takes rows and a `Policy`, asks it through a cache so that a second run costs nothing, and says what it changed. A
policy that fails stops the step: nothing is decided by a failed call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnemon.memory.count import WORDS, TokenCounter
from mnemon.policy.cache import CachedPolicy
from mnemon.tasks.rows.data import Question, Row
from mnemon.types import Message, MnemonError, Policy

CLOSED_BOOK = "Answer the question from what you know. Give a short answer, or say that you do not know."
KEYWORDS = (
    "Read the summary of a text. List the names, places, things and events that a retelling of the text must mention: "
    "at most {most}, each of one to three words as they stand in the summary, separated by commas. Nothing else."
)
_TYPES = ("short", "list")


@dataclass(frozen=True, slots=True)
class Assisted:
    """The rows after a step, how many questions it looked at, changed or dropped, and how many rows it dropped."""

    rows: tuple[Row, ...]
    asked: int
    changed: int
    rows_dropped: int = 0


async def closed_book(
    rows: Sequence[Row],
    policy: Policy,
    *,
    cache: str | Path | None = None,
    least: int = 1,
    most_tokens: int | None = 4,
    counter: TokenCounter = WORDS,
    concurrency: int = 16,
) -> Assisted:
    """Drop the questions that need no memory: an accepted answer stands in the policy's reply to the bare question.

    Questions whose first answer has more than `most_tokens` tokens are dropped too (None: kept), for a long answer is
    rarely matched. Only short and list answers are looked at. A row with fewer than `least` questions left is dropped.
    """
    cached = _cached(policy, cache)
    every = [(row, probe) for row in rows for probe in row.probes if probe.answer_type in _TYPES]
    short = [p for p in every if most_tokens is None or counter(p[1].answers[0]) <= most_tokens]
    asked = [_messages(CLOSED_BOOK, probe.question) for _, probe in short]
    replies = await _ask_all(cached, asked, concurrency)
    known = {id(probe) for (_, probe), said in zip(short, replies, strict=True) if _holds(said, probe)}
    known |= {id(probe) for _, probe in every} - {id(probe) for _, probe in short}
    kept = [replace(row, probes=tuple(probe for probe in row.probes if id(probe) not in known)) for row in rows]
    left = tuple(row for row in kept if len(row.probes) >= max(1, least))
    return Assisted(left, len(every), len(known), len(rows) - len(left))


def _holds(reply: str, probe: Question) -> bool:
    said = " ".join(reply.lower().split())
    return any(" ".join(answer.lower().split()) in said for answer in probe.answers)


async def with_keywords(
    rows: Sequence[Row],
    policy: Policy,
    *,
    cache: str | Path | None = None,
    most: int = 20,
    concurrency: int = 16,
) -> Assisted:
    """Replace the keywords of summary questions by those that the policy draws from the reference summary.

    Keywords that the summary does not hold are left out. A question whose reply has no usable keyword is kept as it
    was.
    """
    cached = _cached(policy, cache)
    asked = [probe for row in rows for probe in row.probes if isinstance(probe.meta.get("summary"), str)]
    system = KEYWORDS.format(most=most)
    replies = await _ask_all(cached, [_messages(system, str(p.meta["summary"])) for p in asked], concurrency)
    words = {
        id(probe): keywords_in(reply, str(probe.meta["summary"]), most)
        for probe, reply in zip(asked, replies, strict=True)
    }
    changed = sum(bool(found) for found in words.values())
    return Assisted(
        tuple(
            replace(row, probes=tuple(_keyed(probe, words.get(id(probe), ())) for probe in row.probes)) for row in rows
        ),
        len(asked),
        changed,
    )


def keywords_in(reply: str, summary: str, most: int) -> tuple[str, ...]:
    """The comma- or line-separated parts of a reply that stand in the summary, each once, at most `most`."""
    parts = (re.sub(r"^\s*(?:[-*•]|\d+[.)])\s*", "", part).strip(" .\"'") for part in re.split(r"[,\n;]", reply))
    held = summary.lower()
    kept = {part.lower(): part for part in parts if part and part.lower() in held}
    return tuple(kept.values())[:most]


def _keyed(probe: Question, words: tuple[str, ...]) -> Question:
    if not words:
        return probe
    return replace(probe, answers=words, answer_type="keywords", scorers=("keyword_hit", "rouge_l"))


def _cached(policy: Policy, cache: str | Path | None) -> CachedPolicy:
    return policy if isinstance(policy, CachedPolicy) else CachedPolicy(policy, cache)


def _messages(system: str, text: str) -> tuple[Message, ...]:
    return (Message("system", system), Message("user", text))


async def _ask_all(policy: Policy, requests: Sequence[tuple[Message, ...]], concurrency: int) -> list[str]:
    """The replies, in order; at most `concurrency` requests at a time."""
    if concurrency < 1:
        raise MnemonError(f"concurrency={concurrency}: at least one request at a time")
    gate = asyncio.Semaphore(concurrency)

    async def ask(messages: tuple[Message, ...]) -> str:
        async with gate:
            return (await policy(messages)).message.content.rpartition("</think>")[2].strip()

    return list(await asyncio.gather(*(ask(messages) for messages in requests)))
