"""What must hold in a row, each with a code of its own. Pure: a row in, faults out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from mnemon.tasks.rows.data import DIMENSIONS, KINDS, LEVELS, ROLES, SCORERS, SPLITS, UNANSWERED, Fault, Question, Row

_ARTICLES = re.compile(r"\b(?:a|an|the)\b|[^\w\s]|_")


def check_row(row: Row, file: str = "", where: str = "") -> list[Fault]:
    """Everything wrong with a row, in order of its fields. A fault of a question begins with ``probes[``.

    E_ID ids unique and not empty · E_FIELD known kinds, splits, roles · E_BODY one of text and turns, not blank ·
    E_TIME times parse and never decrease · E_EVID evidence exists, and is read before the question · E_ANS answers are
    there and not blank · E_NORM (kept) an answer that normalises to nothing matches everything · E_AFTER 1 to the
    number of segments · E_SCORER known and fit for the answer type · E_OPT options hold an answer · E_CHUNK every
    segment in a chunk, in order, none above the limit.
    """
    checks = (_names(row), _segments(row), _times(row), _chunks(row), _probes(row))
    return [
        Fault(file, where or row.id, field, what, "" if bad else "kept", code, bad)
        for found in checks
        for code, field, what, bad in found
    ]


Found = Iterator[tuple[str, str, str, bool]]


def _names(row: Row) -> Found:
    if not row.id.strip():
        yield "E_ID", "id", "is blank", True
    for field, value, known in (("split", row.split, SPLITS), ("dimension", row.dimension, DIMENSIONS)):
        if value not in known:
            yield "E_FIELD", field, f"{value!r} is not one of {', '.join(known)}", True
    if not row.source or row.source != row.source.lower():
        yield "E_FIELD", "source", f"{row.source!r} is not a lower-case name", True
    if not row.segments:
        yield "E_BODY", "segments", "is empty", True
    if not row.probes:
        yield "E_BODY", "probes", "is empty", True
    turns = [turn.id for segment in row.segments for turn in segment.turns]
    for field, ids in (
        ("segments", [segment.id for segment in row.segments]),
        ("turns", turns),
        ("chunks", [chunk.id for chunk in row.chunks]),
    ):
        yield from (("E_ID", field, what, True) for what in _repeated(ids))


def _repeated(ids: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in ids:
        if not name.strip():
            yield "an id is blank"
        elif name in seen:
            yield f"id {name!r} is used twice"
        seen.add(name)


def _segments(row: Row) -> Found:
    for i, segment in enumerate(row.segments):
        field = f"segments[{i}]"
        if segment.kind not in KINDS:
            yield "E_FIELD", f"{field}.kind", f"{segment.kind!r} is not one of {', '.join(KINDS)}", True
        if bool(segment.text.strip()) == bool(segment.turns):
            what = "has both text and turns" if segment.turns else "has neither text nor turns"
            yield "E_BODY", field, what, True
        for j, turn in enumerate(segment.turns):
            if not turn.text.strip():
                yield "E_BODY", f"{field}.turns[{j}].text", "is blank", True
            if turn.role not in ROLES:
                yield "E_FIELD", f"{field}.turns[{j}].role", f"{turn.role!r} is not one of {', '.join(ROLES)}", True


def _times(row: Row) -> Found:
    before = ""
    for i, segment in enumerate(row.segments):
        if segment.time:
            if not is_time(segment.time):
                yield "E_TIME", f"segments[{i}].time", f"{segment.time!r} is not like 2023-05-08T13:56", True
            elif segment.time < before:
                yield (
                    "E_TIME",
                    f"segments[{i}].time",
                    f"{segment.time} is before the segment before it ({before})",
                    True,
                )
            before = max(before, segment.time)
    for i, probe in enumerate(row.probes):
        if probe.asked_at and not is_time(probe.asked_at):
            yield "E_TIME", f"probes[{i}].asked_at", f"{probe.asked_at!r} is not like 2023-05-08T13:56", True


def is_time(text: str) -> bool:
    """True for ISO 8601 to the minute, as ``2023-05-08T13:56``."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M").strftime("%Y-%m-%dT%H:%M") == text
    except ValueError:
        return False


def _chunks(row: Row) -> Found:
    if not row.chunks:
        return
    place = {segment.id: i for i, segment in enumerate(row.segments)}
    turns = {turn.id for segment in row.segments for turn in segment.turns}
    most = row.chunker.max if row.chunker is not None else 0
    if row.chunker is None:
        yield "E_CHUNK", "chunker", "is missing, though there are chunks", True
    covered: set[str] = set()
    last = 0
    for i, chunk in enumerate(row.chunks):
        field = f"chunks[{i}]"
        if not chunk.text.strip():
            yield "E_CHUNK", f"{field}.text", "is blank", True
        strange = [s for s in chunk.segments if s not in place] + [t for t in chunk.turns if t not in turns]
        if strange or not chunk.segments:
            what = f"names {strange[0]!r}, which is not there" if strange else "names no segment"
            yield "E_CHUNK", f"{field}.segments", what, True
            continue
        at = [place[s] for s in chunk.segments]
        if at != sorted(at) or at[0] < last:
            yield "E_CHUNK", f"{field}.segments", "are out of order", True
        if len({row.segments[p].stage for p in at}) > 1:
            yield "E_CHUNK", f"{field}.segments", "are of different stages", True
        last = at[-1]
        covered.update(chunk.segments)
        if most and chunk.tokens > most:
            yield "E_CHUNK", f"{field}.tokens", f"{chunk.tokens} are more than the limit of {most}", True
    if missing := [name for name in place if name not in covered]:
        yield "E_CHUNK", "chunks", f"{len(missing)} segment(s) are in no chunk, the first is {missing[0]!r}", True


def _probes(row: Row) -> Found:
    place = {segment.id: i for i, segment in enumerate(row.segments)}
    units = {"segment": place, "turn": {turn.id: i for i, s in enumerate(row.segments) for turn in s.turns}, "none": {}}
    seen: set[str] = set()
    for i, probe in enumerate(row.probes):
        field = f"probes[{i}]"
        yield from (("E_ID", f"{field}.id", what, True) for what in _repeated([probe.id]))
        if probe.id in seen:
            yield "E_ID", f"{field}.id", f"{probe.id!r} is used twice", True
        seen.add(probe.id)
        if not probe.question.strip():
            yield "E_BODY", f"{field}.question", "is blank", True
        yield from ((code, f"{field}.{name}", what, bad) for code, name, what, bad in _answers(probe))
        after = len(row.segments) if probe.after is None else probe.after
        if not 1 <= after <= max(1, len(row.segments)):
            yield "E_AFTER", f"{field}.after", f"{after} is not from 1 to {len(row.segments)} segments", True
        if probe.evidence_level not in LEVELS:
            what = f"{probe.evidence_level!r} is not one of {', '.join(LEVELS)}"
            yield "E_EVID", f"{field}.evidence_level", what, True
            continue
        known = units[probe.evidence_level]
        for name in probe.evidence:
            if name not in known:
                yield "E_EVID", f"{field}.evidence", f"there is no {probe.evidence_level} {name!r}", True
            elif known[name] >= after:
                yield "E_EVID", f"{field}.evidence", f"{name!r} is read after the question", True


def _answers(probe: Question) -> Found:
    if probe.answer_type not in SCORERS:
        yield "E_ANS", "answer_type", f"{probe.answer_type!r} is not one of {', '.join(SCORERS)}", True
        return
    if probe.answer_type in UNANSWERED:
        if probe.answers:
            yield "E_ANS", "answers", f"must be empty for {probe.answer_type}", True
        if probe.answer_type == "rubric" and not probe.rubric.strip():
            yield "E_ANS", "rubric", "is blank", True
    elif not probe.answers:
        yield "E_ANS", "answers", "is empty", True
    if not all(answer.strip() for answer in probe.answers):
        yield "E_ANS", "answers", "holds a blank answer", True
    for answer in probe.answers:
        if answer.strip() and not _ARTICLES.sub("", answer.lower()).strip():
            yield "E_NORM", "answers", f"{answer!r} normalises to nothing, which every reply contains", False
    yield from _scoring(probe)


def _scoring(probe: Question) -> Found:
    legal = SCORERS[probe.answer_type]
    if not probe.scorers:
        yield "E_SCORER", "scorers", "is empty", True
    for name in probe.scorers:
        if name not in legal:
            what = f"{name!r} cannot score {probe.answer_type} answers; use one of {', '.join(sorted(legal))}"
            yield "E_SCORER", "scorers", what, True
    if probe.answer_type == "options" and not set(probe.answers) & set(probe.options):
        yield "E_OPT", "options", "hold no accepted answer" if probe.options else "are missing", True
