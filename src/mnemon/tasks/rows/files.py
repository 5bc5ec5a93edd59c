"""Rows in files: one JSON object per line, read with full validation, written so that reading gives the same row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, overload

from mnemon.tasks.rows.check import check_row
from mnemon.tasks.rows.data import SCHEMA, Chunk, Chunker, Fault, Question, Row, Said, Segment
from mnemon.tasks.rows.fields import Bad, cast, complain, have, need, short, texts_in
from mnemon.types import JSON, MnemonError


@dataclass(frozen=True, slots=True)
class RowFile(Sequence[Row]):
    """The rows of a file, and what was wrong with it. It is itself the sequence of its rows."""

    path: Path
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def left_out(self) -> tuple[Fault, ...]:
        """The faults that cost a question or a row (only with ``skip_bad=True``)."""
        return tuple(fault for fault in self.faults if fault.bad)


def read_rows(path: str | Path, skip_bad: bool = False) -> RowFile:
    """The rows of a JSONL file, all of them checked (`check_row`), in memory.

    A fault raises MnemonError that names file, line, row, field and what is wrong. `skip_bad` leaves out the smallest
    part that holds it (a question, else the row) and lists it in `faults`; a file without any usable row is an error.
    """
    file = Path(path)
    rows: list[Row] = []
    faults: list[Fault] = []
    seen: set[str] = set()
    for number, line in _lines(file):
        row, found = _read(line, file.name, f"line {number}", seen)
        faults += found
        if row is not None:
            seen.add(row.id)
            rows.append(row)
    if not skip_bad:
        complain("rows", str(file), faults)
    if not rows:
        what = f"; {len(faults)} part(s) are malformed, the first: {faults[0]}" if faults else ": it is empty"
        raise MnemonError(f"rows: {file} holds no usable row{what}")
    return RowFile(file, tuple(rows), tuple(faults))


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank."""
    try:
        with file.open(encoding="utf-8") as lines:
            yield from ((n, line) for n, line in enumerate(lines, 1) if line.strip())
    except OSError as error:
        raise MnemonError(f"rows: cannot read {file} ({error.strerror}); make it with mnemon data build") from error
    except UnicodeDecodeError as error:
        raise MnemonError(f"rows: {file} is not UTF-8 text ({error})") from error


def _read(line: str, file: str, where: str, seen: set[str]) -> tuple[Row | None, list[Fault]]:
    """The row of a line without its malformed questions, None where it cannot be used; and the faults."""
    try:
        raw = json.loads(line)
    except json.JSONDecodeError as error:
        return None, [Fault(file, where, "", f"is not JSON ({error})", "row left out", "E_JSON")]
    faults: list[Fault] = []
    if isinstance(raw, dict) and isinstance(raw.get("id"), str):
        where = f"{where} ({raw['id']})"
    try:
        row = parse_row(raw, file, where, faults)
        if row.id in seen:
            raise Bad("id", f"{row.id!r} is used by an earlier line", "E_ID")
    except Bad as error:
        return None, [*faults, Fault(file, where, error.field, error.what, "row left out", error.code)]
    found = check_row(row, file, where)
    broken = {int(f.field[7:].partition("]")[0]) for f in found if f.bad and f.field.startswith("probes[")}
    usable = not any(fault.bad and not fault.field.startswith("probes[") for fault in found)
    kept = replace(row, probes=tuple(probe for i, probe in enumerate(row.probes) if i not in broken))
    usable = usable and bool(kept.probes)
    done = "question left out" if usable else "row left out"
    faults += [replace(fault, done=done) if fault.bad else fault for fault in found]
    return kept if usable else None, faults


def parse_row(raw: Any, file: str = "", where: str = "", faults: list[Fault] | None = None) -> Row:
    """A JSON object as a row; shapes are checked, what they mean is not (`check_row`).

    Raises Bad. Given `faults`, a malformed question is put there and left out instead.
    """
    cast(raw, dict, "row")
    schema = raw.get("schema")
    if schema != SCHEMA:
        raise Bad("schema", f"is {short(schema)}, not {SCHEMA!r}: is this a file of rows?")
    _known(raw, Row, "", extra=("schema",))
    probes = []
    for i, probe in enumerate(need(raw, "probes", list)):
        try:
            probes.append(_question(probe, f"probes[{i}]"))
        except Bad as error:
            if faults is None:
                raise
            faults.append(Fault(file, where, error.field, error.what, "question left out", error.code))
    return Row(
        id=need(raw, "id", str),
        source=need(raw, "source", str),
        dimension=need(raw, "dimension", str),
        split=need(raw, "split", str),
        license=need(raw, "license", str),
        segments=tuple(_segment(s, f"segments[{i}]") for i, s in enumerate(need(raw, "segments", list))),
        probes=tuple(probes),
        chunks=tuple(_chunk(c, f"chunks[{i}]") for i, c in enumerate(have(raw, "chunks", list, []))),
        chunker=_chunker(raw["chunker"]) if raw.get("chunker") is not None else None,
        metadata=have(raw, "metadata", dict, {}),
    )


def _known(raw: Any, kind: type, place: str, extra: tuple[str, ...] = ()) -> None:
    """Bad where an object has a field that its kind has not: most often a misspelt one."""
    names = [f.name for f in fields(kind)]
    if strange := [key for key in cast(raw, dict, place) if key not in names and key not in extra]:
        raise Bad(f"{place}.{strange[0]}".lstrip("."), f"is not a field; known: {', '.join(names)}")


def _segment(raw: Any, place: str) -> Segment:
    _known(raw, Segment, place)
    turns = have(raw, "turns", list, [], place)
    return Segment(
        id=need(raw, "id", str, place),
        kind=need(raw, "kind", str, place),
        text=have(raw, "text", str, "", place),
        turns=tuple(_turn(turn, f"{place}.turns[{i}]") for i, turn in enumerate(turns)),
        time=have(raw, "time", str, "", place),
        time_text=have(raw, "time_text", str, "", place),
        speakers=texts_in(raw, "speakers", place),
        stage=have(raw, "stage", str, "stream", place),
        meta=have(raw, "meta", dict, {}, place),
    )


def _turn(raw: Any, place: str) -> Said:
    _known(raw, Said, place)
    strings = {key: need(raw, key, str, place) for key in ("id", "speaker", "role", "text")}
    return Said(**strings, meta=have(raw, "meta", dict, {}, place))


def _chunk(raw: Any, place: str) -> Chunk:
    _known(raw, Chunk, place)
    return Chunk(
        id=need(raw, "id", str, place),
        text=need(raw, "text", str, place),
        segments=texts_in(raw, "segments", place),
        turns=texts_in(raw, "turns", place),
        time=have(raw, "time", str, "", place),
        tokens=have(raw, "tokens", int, 0, place),
    )


def _chunker(raw: Any) -> Chunker:
    _known(raw, Chunker, "chunker")
    return Chunker(
        name=need(raw, "name", str, "chunker"),
        counter=need(raw, "counter", str, "chunker"),
        max=have(raw, "max", int, 0, "chunker"),
        min=have(raw, "min", int, 0, "chunker"),
        wrap=have(raw, "wrap", str, "none", "chunker"),
        seed=have(raw, "seed", int, 0, "chunker"),
    )


def _question(raw: Any, place: str) -> Question:
    _known(raw, Question, place)
    after = raw.get("after")
    return Question(
        id=need(raw, "id", str, place),
        question=need(raw, "question", str, place),
        answers=texts_in(raw, "answers", place),
        answer_type=have(raw, "answer_type", str, "short", place),
        category=have(raw, "category", str, "", place),
        evidence=texts_in(raw, "evidence", place),
        evidence_level=have(raw, "evidence_level", str, "none", place),
        after=None if after is None else cast(after, int, f"{place}.after"),
        asked_at=have(raw, "asked_at", str, "", place),
        rubric=have(raw, "rubric", str, "", place),
        options=texts_in(raw, "options", place),
        scorers=texts_in(raw, "scorers", place) or ("em_squad",),
        meta=have(raw, "meta", dict, {}, place),
    )


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def row_json(row: Row) -> JSON:
    """A row as a JSON object: fields at their default are left out."""
    return {"schema": SCHEMA, **_json(row)}


def _line(raw: JSON) -> str:
    """One line; a text that UTF-8 cannot hold (half a surrogate pair) is escaped."""
    line = json.dumps(raw, ensure_ascii=False)
    return line if line.isascii() or line.encode("utf-8", "replace").decode() == line else json.dumps(raw)


def _json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        given = ((f, getattr(value, f.name)) for f in fields(value))
        return {f.name: _json(v) for f, v in given if v not in ("", (), None, {}) and v != f.default}
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return value


def write_rows(path: str | Path, rows: Iterable[Row]) -> int:
    """Write the rows, one per line, replacing the file at the end only. Returns how many. A fault is an error."""
    file = Path(path)
    if not file.parent.is_dir():
        raise MnemonError(f"rows: there is no folder {file.parent}; make it first")
    partial = file.with_name(file.name + ".partial")
    n = 0
    seen: set[str] = set()
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as out:
            for n, row in enumerate(rows, 1):
                if row.id in seen:
                    raise MnemonError(f"rows: id {row.id!r} is given to two rows")
                seen.add(row.id)
                complain("rows", f"row {n} for {file.name}", check_row(row, file.name))
                out.write(_line(row_json(row)) + "\n")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return n
