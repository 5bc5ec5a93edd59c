"""LongMemEval (Wu et al., arXiv 2410.10813): one row per item, its haystack of dated chat sessions and its question.

Three layouts are read. The official one (longmemeval_s_cleaned.json, …_m_…, …_oracle.json): question_id, question_type,
question, answer, question_date, haystack_session_ids, haystack_dates, haystack_sessions, answer_session_ids. The
evidence turns alone, without ids. And several questions over one haystack: questions, answers, answer_session_ids as
lists. MIT. Sessions are sorted by date. All of it is test data: `lme_train` makes training rows in this form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Source, date, distinct, draw, read_records, text_of
from mnemon.tasks.rows.data import Question, Row, Said, Segment
from mnemon.tasks.rows.fields import Bad, cast, have, need, texts, texts_in
from mnemon.tasks.rows.wrap import chat_line, session_header

TIME = "%Y/%m/%d (%a) %H:%M"
SCORERS = ("judge_lme", "f1_mem0", "em_squad", "sub_squad")
ROLES = ("user", "assistant", "system")


def build(source: Source) -> Iterator[Row]:
    """A row per item that has a history."""
    options = source.options
    for path in source.each():
        empty = 0
        for i, item in read_records(source, path, "LongMemEval items"):
            with source.part("item", f"row {i}"):
                name = need(item, "question_id", str)
                source.row = f"row {i} ({name})"
                segments = _haystack(source, item)
                if not segments:
                    empty += 1
                    continue
                asked = _questions(source, item, name, segments)
                chunks, rule = chunk.sessions(
                    segments, options.counter, options.chunk_tokens, session_header, chat_line
                )
                yield Row(
                    id=f"longmemeval/{path.stem}/{name}",
                    source="longmemeval",
                    dimension="accurate_retrieval",
                    split="test",
                    license="MIT",
                    segments=segments,
                    probes=tuple(draw(asked, options.questions, options.seed, name)),
                    chunks=chunks,
                    chunker=rule,
                    metadata={
                        "documents": [s.id if "haystack_session_ids" in item else f"{name}/{s.id}" for s in segments]
                    },
                )
        if empty:
            source.row = ""
            source.note("haystack_sessions", f"{empty} item(s) without any history", "left aside")


def session(name: str, when: str, turns: Any, place: str) -> Segment:
    """A chat session: turns {role, content, has_answer?}; `when` as LongMemEval prints it. Blank turns are dropped."""
    said = []
    for i, turn in enumerate(cast(turns, list, place)):
        spot = f"{place}[{i}]"
        role, text = need(turn, "role", str, spot), have(turn, "content", str, "", spot)
        if role not in ROLES:
            raise Bad(f"{spot}.role", f"{role!r} is not one of {', '.join(ROLES)}")
        if text.strip():
            meta = {"has_answer": True} if have(turn, "has_answer", bool, False, spot) else {}
            said.append(Said(f"{name}:{i}", role, role, text, meta))
    if not said:
        raise Bad(place, "has no turn with a text")
    when = when.removeprefix("Chat Time:").strip()
    speakers = distinct(turn.speaker for turn in said)
    return Segment(name, "dialogue", turns=tuple(said), time=date(when, TIME, place), time_text=when, speakers=speakers)


def _haystack(source: Source, item: Any) -> tuple[Segment, ...]:
    """The sessions, oldest first. Their ids are the item's, or s0, s1, … in the order of the file."""
    held = need(item, "haystack_sessions", list)
    dates = texts_in(item, "haystack_dates")
    names = texts_in(item, "haystack_session_ids") or tuple(f"s{i}" for i in range(len(held)))
    if not len(held) == len(dates) == len(names):
        what = f"{len(held)} sessions, {len(dates)} dates, {len(names)} ids"
        raise Bad("haystack_sessions", f"do not fit together: {what}")
    seen: set[str] = set()
    segments = []
    for i, (name, when, turns) in enumerate(zip(names, dates, held, strict=True)):
        with source.part("session"):
            if name in seen:
                source.note(f"haystack_session_ids[{i}]", f"{name!r} is used twice", "renamed")
                name = f"{name}@{i}"
            seen.add(name)
            segments.append(session(name, when, turns, f"haystack_sessions[{i}]"))
    ordered = sorted(segments, key=lambda segment: segment.time)
    if ordered != segments:
        source.note("haystack_dates", "are not in order", "sorted by date")
    return tuple(ordered)


def _questions(source: Source, item: Any, name: str, segments: Sequence[Segment]) -> list[Question]:
    kind = need(item, "question_type", str)
    when = date(need(item, "question_date", str), TIME, "question_date")
    if "questions" not in item:
        marked = [turn.id for s in segments for turn in s.turns if turn.meta.get("has_answer")]
        said = marked or texts_in(item, "answer_session_ids")
        level = "turn" if marked else "segment"
        return [question(name, item.get("question"), item.get("answer"), kind, when, said, level, segments)]
    wanted, given = texts_in(item, "questions"), have(item, "answers", list, [])
    cited = have(item, "answer_session_ids", list, [])
    if not len(wanted) == len(given) == len(cited):
        raise Bad("questions", f"{len(wanted)} questions, {len(given)} answers, {len(cited)} lists of evidence")
    asked = []
    for i, (text, answer) in enumerate(zip(wanted, given, strict=True)):
        with source.part("question"):
            said = texts(cited[i], f"answer_session_ids[{i}]")
            asked.append(question(f"{name}.{i}", text, answer, kind, when, said, "segment", segments, f"[{i}]"))
    return asked


def question(
    name: str,
    text: Any,
    answer: Any,
    kind: str,
    when: str,
    evidence: Sequence[str],
    level: str,
    segments: Sequence[Segment],
    place: str = "",
) -> Question:
    """A question of LongMemEval. A preference's answer is a rubric, an ``_abs`` question's an explanation."""
    if not isinstance(text, str) or not text.strip():
        raise Bad(f"question{place}", f"is {text!r}, not a question")
    told = text_of(answer, f"answer{place}")
    known = {s.id for s in segments} if level == "segment" else {turn.id for s in segments for turn in s.turns}
    kept = tuple(item for item in distinct(evidence) if item in known)
    answer_type = "abstain" if "_abs" in name else "rubric" if kind == "single-session-preference" else "short"
    return Question(
        id=name,
        question=text.strip(),
        answers=(told,) if answer_type == "short" else (),
        answer_type=answer_type,
        category=kind,
        evidence=kept,
        evidence_level=level if kept else "none",
        asked_at=when,
        rubric="" if answer_type == "short" else told,
        scorers=SCORERS if answer_type == "short" else ("judge_lme",),
    )
