"""Building steps with a model: what is asked, what is dropped, what the cache saves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mnemon.policy.base import Scripted
from mnemon.policy.cache import CachedPolicy
from mnemon.tasks.rows import Question, Row, Segment
from mnemon.tasks.rows.assist import closed_book, keywords_in, with_keywords
from mnemon.types import Completion, Message, MnemonError, ToolSchema

SUMMARY = "Mary goes to London and meets Mr Grey."


def row(name: str, *probes: Question) -> Row:
    segment = Segment("s", "text", "A text.")
    return Row(name, "ours", "accurate_retrieval", "train", "ours", (segment,), probes)


def asked(name: str, *answers: str, kind: str = "short") -> Question:
    scorer = "label" if kind == "label" else "em_squad"
    return Question(name, f"What is {name}?", answers, kind, scorers=(scorer,))


def knows(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
    return "<think>Oslo</think>It is  PARIS, I think." if "capital" in messages[-1].content else "I do not know."


def test_what_is_known_without_the_text_is_dropped() -> None:
    rows = [
        row("a", asked("the capital", "Lyon", "Paris"), asked("her dog", "Rex"), asked("the capital", "Oslo")),
        row("b", asked("the capital", "Paris")),
        row("c", asked("why", "because it was raining hard"), asked("number", "3", kind="label")),
    ]
    policy = Scripted(knows)
    done = asyncio.run(closed_book(rows, policy))
    assert [(r.id, [q.answers[0] for q in r.probes]) for r in done.rows] == [("a", ["Rex", "Oslo"]), ("c", ["3"])]
    assert (done.asked, done.changed, done.rows_dropped) == (5, 3, 1)
    assert policy.calls == 2  # three questions are the same request, and the long answer is not asked for
    kept = asyncio.run(closed_book(rows, policy, most_tokens=None, least=2))
    assert [(r.id, len(r.probes)) for r in kept.rows] == [("a", 2), ("c", 2)]
    assert (kept.changed, kept.rows_dropped) == (2, 1)


def test_the_second_time_nothing_is_asked(tmp_path: Path) -> None:
    rows = [row("a", asked("the capital", "Paris"), asked("her dog", "Rex"))]
    file = tmp_path / "cache.jsonl"
    first = asyncio.run(closed_book(rows, CachedPolicy(Scripted(knows), file, key="knows")))
    silent = Scripted(lambda messages, tools: pytest.fail("asked again"))
    assert asyncio.run(closed_book(rows, CachedPolicy(silent, file, key="knows"))) == first
    with pytest.raises(MnemonError, match="no fingerprint"):
        asyncio.run(closed_book(rows, Scripted(knows), cache=file))


def test_a_failed_call_decides_nothing() -> None:
    async def fails(messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        asyncio.run(closed_book([row("a", asked("x", "y"))], fails))


def test_keywords_by_a_model() -> None:
    book = replace(asked("q", "rule", kind="keywords"), scorers=("keyword_hit",), meta={"summary": SUMMARY})
    plain = replace(book, answers=(SUMMARY,), answer_type="summary", scorers=("rouge_l",))
    policy = Scripted(lambda messages, tools: "1. Mary, London,\n- Mr Grey; Paris, mary")
    done = asyncio.run(with_keywords([row("a", book, asked("other", "x")), row("b", plain)], policy))
    for made in done.rows:
        first = made.probes[0]
        assert (first.answers, first.answer_type) == (("mary", "London", "Mr Grey"), "keywords")
        assert first.scorers == ("keyword_hit", "rouge_l")
    assert done.rows[0].probes[1] == asked("other", "x")
    assert (done.asked, done.changed) == (2, 2)
    nothing = asyncio.run(with_keywords([row("b", plain)], Scripted(lambda messages, tools: "I cannot.")))
    assert (nothing.rows[0].probes[0], nothing.changed) == (plain, 0)


def test_keywords_in_a_reply() -> None:
    assert keywords_in("Mary, London, Mr Grey", SUMMARY, 2) == ("Mary", "London")
    assert keywords_in('"Mary".\n2) london', SUMMARY, 9) == ("Mary", "london")
