"""Training rows in LongMemEval's form, from chat sessions and questions of your own.

Mem-α (arXiv 2509.25911) trains on 10 to 30 thousand tokens of dated sessions with 4 to 5 questions each, made from
LongMemEval's own questions, which cannot then be a test; here you bring yours. Files (JSON lists or JSON Lines) hold,
in any order,

    sessions   {"session_id": …, "date": "2023/05/30 (Tue) 23:40", "turns": [{"role": "user", "content": …}, …]}
    questions  {"question_id": …, "question": …, "answer": …, "question_type": …, "evidence": [session ids],
                "question_date": … (optional)}

or items in LongMemEval's official layout, which give both. A row has a few questions, the sessions that answer them and
others that do not, all in order of time. No session is in train and validation; no question is asked twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build import longmemeval
from mnemon.tasks.rows.build.common import Source, date, distinct, divide, read_records, shuffled
from mnemon.tasks.rows.data import Row, Segment
from mnemon.tasks.rows.fields import Bad, need, texts_in
from mnemon.tasks.rows.wrap import chat_line, session_header
from mnemon.types import MnemonError

QUESTIONS = 4
"""Questions of a row, unless the options say otherwise."""


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    text: str
    answer: Any
    kind: str
    when: str
    evidence: tuple[str, ...]


def build(source: Source) -> Iterator[Row]:
    """Rows of about `options.row_chunks` full chunks, train and validation."""
    sessions: dict[str, Segment] = {}
    questions: dict[str, _Asked] = {}
    for path in source.each():
        for i, record in read_records(source, path, "sessions and questions"):
            with source.part("record", f"record {i}"):
                _read(record, sessions, questions)
    for name, asked in list(questions.items()):
        if missing := [item for item in asked.evidence if item not in sessions]:
            source.row = name
            source.left_out(Bad("evidence", f"there is no session {missing[0]!r}"), "question")
            del questions[name]
    if not questions:
        raise MnemonError("lme_train: no question; give questions with the ids of the sessions that answer them")
    used = {item for asked in questions.values() for item in asked.evidence}
    kept, owners = divide({name: asked.evidence for name, asked in questions.items()}, set(sessions) - used)
    source.file, source.row = "", ""
    if lost := len(questions) - len(kept):
        source.note("", f"{lost} question(s) share a session with the validation set", "left aside")
    for split in ("train", "validation"):
        run = [questions[name] for name in shuffled(sorted(kept), source.options.seed) if kept[name] == split]
        fillers = [sessions[name] for name in sorted(owners) if owners[name] == split and name not in used]
        yield from _rows(source, split, run, sessions, fillers)


def _read(record: Any, sessions: dict[str, Segment], questions: dict[str, _Asked]) -> None:
    if isinstance(record, dict) and "haystack_sessions" in record:
        names = texts_in(record, "haystack_session_ids")
        dates = texts_in(record, "haystack_dates")
        held = need(record, "haystack_sessions", list)
        if not len(names) == len(dates) == len(held):
            raise Bad("haystack_session_ids", f"{len(names)} ids and {len(dates)} dates for {len(held)} sessions")
        for name, when, turns in zip(names, dates, held, strict=True):
            sessions.setdefault(name, longmemeval.session(name, when, turns, f"session {name}"))
        evidence = texts_in(record, "answer_session_ids")
    elif isinstance(record, dict) and "turns" in record:
        name = need(record, "session_id", str)
        if name in sessions:
            raise Bad("session_id", f"{name!r} is used twice")
        sessions[name] = longmemeval.session(name, need(record, "date", str), record["turns"], "turns")
        return
    else:
        evidence = texts_in(record, "evidence")
    name = need(record, "question_id", str)
    if name in questions:
        raise Bad("question_id", f"{name!r} is used twice")
    when = date(record["question_date"], longmemeval.TIME, "question_date") if record.get("question_date") else ""
    longmemeval.question(name, record.get("question"), record.get("answer"), "", when, (), "segment", ())
    if not evidence and not name.endswith("_abs"):
        raise Bad("evidence", "is empty")
    kind = need(record, "question_type", str)
    questions[name] = _Asked(name, record["question"], record["answer"], kind, when, distinct(evidence))


def _rows(
    source: Source, split: str, asked: Sequence[_Asked], sessions: Mapping[str, Segment], fillers: Sequence[Segment]
) -> Iterator[Row]:
    """Questions in runs; each row filled up with sessions that answer nothing."""
    options = source.options
    size = options.questions or QUESTIONS
    room = options.chunk_tokens * options.row_chunks
    length = {s.id: sum(options.counter(chat_line(s, i)) for i in range(len(s.turns))) for s in sessions.values()}
    for n, start in enumerate(range(0, len(asked), size)):
        run = asked[start : start + size]
        names = distinct(name for one in run for name in one.evidence)
        held = {name: sessions[name] for name in names}
        total = sum(length[name] for name in held)
        for filler in shuffled(fillers, options.seed, split, n):
            if total + length[filler.id] <= room:
                held[filler.id] = filler
                total += length[filler.id]
        segments = tuple(sorted(held.values(), key=lambda s: (s.time, s.id)))
        if not segments:
            continue
        chunks, rule = chunk.sessions(segments, options.counter, options.chunk_tokens, session_header, chat_line)
        last = segments[-1].time
        yield Row(
            id=f"lme_train/{split}#{n}",
            source="lme_train",
            dimension="accurate_retrieval",
            split=split,
            license="yours",
            segments=segments,
            probes=tuple(
                longmemeval.question(
                    one.name, one.text, one.answer, one.kind, max(one.when, last), one.evidence, "segment", segments
                )
                for one in run
            ),
            chunks=chunks,
            chunker=rule,
            metadata={"documents": [segment.id for segment in segments]},
        )
