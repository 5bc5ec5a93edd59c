"""The parts of the memory, and when their events happened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from mnemon.memory.memory import Entry, Section
from mnemon.types import MnemonError

CORE, EPISODIC, SEMANTIC, FLAT = "core", "episodic", "semantic", "memory"
NAMES = (CORE, EPISODIC, SEMANTIC)


def layout(
    *,
    core: int | None = 512,
    episodic: int | None = None,
    semantic: int | None = None,
    without: Sequence[str] = (),
    flat: Literal["list", "text"] | None = None,
    cut: bool = False,
) -> tuple[Section, ...]:
    """The memory's sections: core (one text), episodic and semantic (lists), with their caps in tokens (None: no cap).

    without: sections left out. flat: an ablation, one section "memory" (a list or one text) under the sum of the caps.
    cut: a text over its cap is cut and marked (arXiv 2509.25911's code); by default it is refused.
    MnemonError where nothing is left, or a name in `without` is unknown.
    """
    unknown = [name for name in without if name not in NAMES]
    caps = {name: cap for name, cap in zip(NAMES, (core, episodic, semantic), strict=True) if name not in without}
    if unknown or not caps:
        raise MnemonError(f"memory layout: without={list(without)} must be some of {list(NAMES)}, and not all of them")
    if flat is not None:
        known = [cap for cap in caps.values() if cap is not None]
        total = sum(known) if len(known) == len(caps) else None
        return (Section(FLAT, flat, max_tokens=total, overflow="mark" if cut else "refuse"),)
    return tuple(
        Section(
            name,
            "text" if name == CORE else "list",
            max_tokens=cap,
            overflow="mark" if cut and name == CORE else "refuse",
        )
        for name, cap in caps.items()
    )


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATES = [
    re.compile(form, re.IGNORECASE)
    for form in (
        r"\b(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})(?!\d)",
        rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH},? (?P<year>\d{{4}})\b",
        rf"\b{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})\b",
        r"\bday (?P<day>\d+)\b",
    )
]
_CLOCK = re.compile(r"\b(\d{1,2}):(\d{2})(?::\d{2})?(?:\s*(am|pm)\b)?", re.IGNORECASE)
_NEAR = 14  # characters between a date and its time of day

Moment = tuple[int, int, int, int, int]


def moment(text: str) -> Moment | None:
    """The first date written in a text as (year, month, day, hour, minute); "day 12" has year 0. None without one.

    >>> moment("1:56 pm on 8 May, 2023")
    (2023, 5, 8, 13, 56)
    """
    found = min((m for form in _DATES if (m := form.search(text))), key=lambda m: m.start(), default=None)
    if found is None:
        return None
    parts = found.groupdict()
    month = _MONTHS.index(parts["name"][:3].lower()) + 1 if parts.get("name") else int(parts.get("month") or 0)
    hour = minute = 0
    clock = _CLOCK.search(text, max(0, found.start() - _NEAR), found.end() + _NEAR)
    if clock:
        hour, minute = int(clock[1]), int(clock[2])
        if clock[3]:
            hour = hour % 12 + (12 if clock[3].lower() == "pm" else 0)
    return (int(parts.get("year") or 0), month, int(parts["day"]), hour, minute)


def chronological(entries: Sequence[Entry]) -> list[Entry]:
    """Events in the order of their time: that written in the text, else the time of the input that they came from.

    An event without any time stands where it was written down; ties keep that order.
    """
    keyed: list[tuple[Moment, Entry]] = []
    last: Moment = (0, 0, 0, 0, 0)
    for entry in sorted(entries, key=lambda entry: entry.id):
        last = moment(entry.text) or (moment(entry.times[0]) if entry.times else None) or last
        keyed.append((last, entry))
    return [entry for _, entry in sorted(keyed, key=lambda pair: pair[0])]
