"""Reading LoCoMo (Maharana et al., arXiv 2402.17753): the released file, its known mistakes repaired and reported.

The file is `data/locomo10.json` of the repository snap-research/LoCoMo (CC BY-NC 4.0: non-commercial use; nothing of
it is part of mnemon). What is repaired is listed with its place in `Locomo.problems`; anything else that is malformed
is an error, or is left out and counted with ``skip_bad=True``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemon.tasks.locomo.data import LICENSE, Conversation, Fact, Locomo, Problem, Question, Session, Turn
from mnemon.types import MnemonError

_MONTHS = "January February March April May June July August September October November December".split(" ")
_TIME = re.compile(rf"(\d{{1,2}}):(\d\d) ([ap])m on (\d{{1,2}}) ({'|'.join(_MONTHS)}), (\d{{4}})")
_EVIDENCE = re.compile(r"D:?(\d+):0*(\d+)")


def load(path: str | Path, skip_bad: bool = False) -> Locomo:
    """Read a LoCoMo file, or the one named locomo10.json in a folder.

    Known mistakes of the release are repaired and reported. Any other malformed field raises MnemonError with row,
    field and fault; `skip_bad` leaves out the smallest part that holds it (turn, question, session, conversation).
    """
    file = Path(path)
    if file.is_dir():
        file = next((f for f in (file / "locomo10.json", file / "locomo" / "locomo10.json") if f.exists()), file)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise MnemonError(
            f"LoCoMo: cannot read {file} ({error.strerror}). Give the path of locomo10.json: it is "
            f"data/locomo10.json in the repository snap-research/LoCoMo ({LICENSE}: non-commercial use)."
        ) from error
    try:
        rows = json.loads(raw)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MnemonError(f"LoCoMo: {file} is not a JSON file ({error}). Is the download complete?") from error
    _check_shape(rows, file)
    reader = _Reader()
    conversations = [c for i, row in enumerate(rows) if (c := reader.conversation(i, row)) is not None]
    bad = [problem for problem in reader.problems if not problem.repaired]
    if bad and not skip_bad:
        shown = "\n".join(f"  {p.row}, {p.field}: {p.what}" for p in bad[:20])
        more = f"\n  … and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise MnemonError(
            f"LoCoMo: {file} has {len(bad)} malformed part(s):\n{shown}{more}\n"
            "Mend the file, or leave these parts out with skip_bad=True (--skip-bad)."
        )
    if not conversations:
        raise MnemonError(f"LoCoMo: {file} holds no usable conversation; {len(bad)} part(s) are malformed.")
    return Locomo(file, hashlib.sha256(raw).hexdigest(), tuple(conversations), tuple(reader.problems))


def _check_shape(rows: Any, file: Path) -> None:
    """MnemonError unless `rows` looks like LoCoMo, saying what it looks like instead."""
    expected = "expected a list of conversations, each with sample_id, conversation and qa"
    if isinstance(rows, dict):
        if "conversation" in rows and "qa" in rows:
            raise MnemonError(f"LoCoMo: {file} holds one conversation, not a list; put it in [ ].")
        raise MnemonError(f"LoCoMo: {file} is a JSON object with keys {_keys(rows)}; {expected}.")
    if not isinstance(rows, list) or not rows:
        what = "an empty list" if rows == [] else f"a JSON {type(rows).__name__}"
        raise MnemonError(f"LoCoMo: {file} is {what}; {expected}.")
    first = rows[0]
    if isinstance(first, dict) and not {"conversation", "qa"} <= set(first):
        for name, mark in (("LongMemEval", "haystack_sessions"), ("HotpotQA", "supporting_facts")):
            if mark in first:
                raise MnemonError(f"LoCoMo: {file} is a {name} file (its rows have {mark!r}); {expected}.")
        if "session_1" in first:
            raise MnemonError(f"LoCoMo: {file} has the older layout with session_1 in the row itself; {expected}.")
        raise MnemonError(f"LoCoMo: the first row of {file} has keys {_keys(first)}; {expected}.")


def _keys(row: dict[str, Any]) -> str:
    return ", ".join(list(row)[:6]) + (" …" if len(row) > 6 else "")


class _Bad(Exception):
    """A part that cannot be used: field and fault. Caught where the part can be left out."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field
        self.what = what


def _need(row: Any, key: str, kind: type, field: str) -> Any:
    """row[key], which must be of `kind` (a string: not blank); else _Bad."""
    if not isinstance(row, dict):
        raise _Bad(field, f"is {_short(row)}, not an object")
    place = f"{field}.{key}" if field else key
    if key not in row:
        raise _Bad(place, "is missing")
    value = row[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Bad(place, f"is {_short(value)}, not a {kind.__name__}")
    if isinstance(value, str) and not value.strip():
        raise _Bad(place, "is blank")
    return value


def _text(row: dict[str, Any], key: str, field: str) -> str:
    """row[key] as a string, "" where it is absent."""
    value = row.get(key, "")
    if not isinstance(value, str):
        raise _Bad(f"{field}.{key}", f"is {_short(value)}, not a str")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def parse_time(text: str) -> str | None:
    """``1:56 pm on 8 May, 2023`` as 2023-05-08T13:56; None where it does not parse."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hour, minute, half, day, month, year = match.groups()
    if not (1 <= int(hour) <= 12 and int(minute) < 60 and 1 <= int(day) <= 31):
        return None
    hours = int(hour) % 12 + (12 if half == "p" else 0)
    return f"{year}-{_MONTHS.index(month) + 1:02d}-{int(day):02d}T{hours:02d}:{minute}"


class _Reader:
    """Reads rows and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.row = ""
        self.ids: set[str] = set()

    def repaired(self, field: str, what: str, done: str) -> None:
        self.problems.append(Problem(self.row, field, what, done))

    def bad(self, error: _Bad, part: str) -> None:
        self.problems.append(Problem(self.row, error.field, error.what, f"{part} left out", repaired=False))

    def conversation(self, index: int, row: Any) -> Conversation | None:
        self.row = f"row {index}"
        try:
            name = _need(row, "sample_id", str, "")
            self.row = f"row {index} ({name})"
            if name in self.ids:
                raise _Bad("sample_id", f"{name!r} is used twice")
            body = _need(row, "conversation", dict, "")
            speakers = tuple(_need(body, key, str, "conversation") for key in ("speaker_a", "speaker_b"))
            questions = _need(row, "qa", list, "")
            sessions = tuple(self.sessions(row, body, speakers))
            if not sessions:
                raise _Bad("conversation", "has no usable session")
        except _Bad as error:
            self.bad(error, "conversation")
            return None
        self.ids.add(name)
        return Conversation(name, (speakers[0], speakers[1]), sessions, tuple(self.questions(questions, sessions)))

    # ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def sessions(self, row: dict[str, Any], body: dict[str, Any], speakers: tuple[str, ...]) -> Iterator[Session]:
        numbers = sorted(int(match.group(1)) for key in body if (match := re.fullmatch(r"session_(\d+)", key)))
        dates = [int(match.group(1)) for key in body if (match := re.fullmatch(r"session_(\d+)_date_time", key))]
        if unused := sorted(set(dates) - set(numbers)):
            what = f"{len(dates)} dates for {len(numbers)} sessions"
            first, last = f"session_{unused[0]}_date_time", f"session_{unused[-1]}_date_time"
            self.repaired("conversation", what, f"{len(unused)} without a session ignored ({first} to {last})")
        before = ""
        for number in numbers:
            try:
                session = self.session(row, body, number, speakers, before)
            except _Bad as error:
                self.bad(error, "session")
                continue
            before = session.time
            yield session

    def session(
        self, row: dict[str, Any], body: dict[str, Any], number: int, speakers: tuple[str, ...], before: str
    ) -> Session:
        field = f"session_{number}"
        time_text = _need(body, f"{field}_date_time", str, "conversation")
        time = parse_time(time_text)
        if time is None:
            raise _Bad(f"conversation.{field}_date_time", f"{_short(time_text)} is not like '1:56 pm on 8 May, 2023'")
        if time < before:
            raise _Bad(f"conversation.{field}_date_time", f"{time} is earlier than the session before ({before})")
        turns: dict[str, Turn] = {}
        for i, raw in enumerate(_need(body, field, list, "conversation")):
            try:
                turn = self.turn(raw, number, speakers, f"conversation.{field}[{i}]")
                if turn.id in turns:
                    raise _Bad(f"conversation.{field}[{i}].dia_id", f"{turn.id!r} is used twice")
            except _Bad as error:
                self.bad(error, "turn")
                continue
            turns[turn.id] = turn
        if not turns:
            raise _Bad(f"conversation.{field}", "has no usable turn")
        summaries = row.get("session_summary", {})
        summary = _text(summaries, f"{field}_summary", "session_summary") if isinstance(summaries, dict) else ""
        return Session(number, time_text, time, tuple(turns.values()), tuple(self.facts(row, number)), summary)

    def turn(self, raw: Any, session: int, speakers: tuple[str, ...], field: str) -> Turn:
        speaker, name = _need(raw, "speaker", str, field), _need(raw, "dia_id", str, field)
        text = _need(raw, "text", str, field)
        if speaker not in speakers:
            raise _Bad(f"{field}.speaker", f"{speaker!r} is neither {speakers[0]!r} nor {speakers[1]!r}")
        if not re.fullmatch(rf"D{session}:[1-9]\d*", name):
            raise _Bad(f"{field}.dia_id", f"{name!r} is not like 'D{session}:1'")
        caption, query = _text(raw, "blip_caption", field), _text(raw, "query", field)
        return Turn(name, speaker, text, caption, query, bool(raw.get("img_url")))

    def facts(self, row: dict[str, Any], session: int) -> Iterator[Fact]:
        """The release's observations of one session: {speaker: [[text, id or ids], …]}."""
        key = f"session_{session}_observation"
        observation = row.get("observation", {})
        by_speaker = observation.get(key, {}) if isinstance(observation, dict) else None
        if not isinstance(by_speaker, dict):
            self.bad(_Bad(f"observation.{key}", f"is {_short(by_speaker)}, not an object"), "observations")
            return
        for speaker, facts in by_speaker.items():
            for i, fact in enumerate(facts if isinstance(facts, list) else [facts]):
                field = f"observation.{key}.{speaker}[{i}]"
                match fact:
                    case [str(text), str(source)]:
                        yield Fact(speaker, text, (source,))
                    case [str(text), [*sources]] if all(isinstance(source, str) for source in sources):
                        self.repaired(field, f"cites {len(sources)} turns in a list", "all of them kept")
                        yield Fact(speaker, text, tuple(str(source) for source in sources))
                    case _:
                        self.bad(_Bad(field, f"is {_short(fact)}, not [text, turn id]"), "observation")

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def questions(self, rows: list[Any], sessions: tuple[Session, ...]) -> Iterator[Question]:
        turns = {turn.id for session in sessions for turn in session.turns}
        lengths = {session.number: len(session.turns) for session in sessions}
        unanswered = 0
        for index, raw in enumerate(rows):
            try:
                question = self.question(raw, index, turns, lengths)
            except _Bad as error:
                self.bad(error, "question")
                continue
            unanswered += question.category == 5 and "answer" not in raw
            yield question
        if unanswered:
            what = f"{unanswered} adversarial question(s) without an answer"
            self.repaired("qa", what, "adversarial_answer kept as the wrong answer")

    def question(self, raw: Any, index: int, turns: set[str], lengths: dict[int, int]) -> Question:
        field = f"qa[{index}]"
        text, category = _need(raw, "question", str, field), _need(raw, "category", int, field)
        if category not in range(1, 6):
            raise _Bad(f"{field}.category", f"is {category}, not 1 to 5")
        answer, wrong = "", ""
        if category == 5:
            wrong = _need(raw, "adversarial_answer", str, field)
        if category != 5 or "answer" in raw:
            given = raw.get("answer")
            if isinstance(given, int) and not isinstance(given, bool):
                self.repaired(f"{field}.answer", f"is the number {given}", "read as text")
                answer = str(given)
            else:
                answer = _need(raw, "answer", str, field)
        cited = _need(raw, "evidence", list, field)
        if not all(isinstance(item, str) for item in cited):
            raise _Bad(f"{field}.evidence", f"is {_short(cited)}, not a list of str")
        evidence = self.evidence(cited, f"{field}.evidence", turns, lengths)
        return Question(index, text, answer, category, evidence, tuple(cited), wrong)

    def evidence(self, cited: list[str], field: str, turns: set[str], lengths: dict[int, int]) -> tuple[str, ...]:
        """Existing turn ids, each once: D, an optional colon, digits, a colon, zeros, digits, wherever they stand."""
        if not cited:
            self.repaired(field, "is empty", "question kept without evidence")
        found: list[str] = []
        for i, text in enumerate(cited):
            place = f"{field}[{i}]"
            names = [f"D{session}:{turn}" for session, turn in _EVIDENCE.findall(text)]
            kept = [name for name in names if name in turns]
            if not names:
                self.repaired(place, f"{_short(text)} names no turn", "dropped")
            elif len(kept) < len(names):
                gone = [name for name in names if name not in turns]
                sizes = ", ".join(f"session {n} has {lengths.get(n, 0)} turns" for n in _sessions(gone))
                self.repaired(place, f"{_short(text)} names no existing turn ({sizes})", f"{', '.join(gone)} dropped")
            elif names != [text]:
                self.repaired(place, f"{_short(text)} is not one turn id", f"read as {', '.join(names)}")
            for name in kept:
                if name in found:
                    self.repaired(place, f"{name} is named twice", "kept once")
                else:
                    found.append(name)
        return tuple(found)


def _sessions(names: list[str]) -> list[int]:
    return sorted({int(name[1:].split(":")[0]) for name in names})
