"""Reading the tiny stream by rule: sentences, stored texts, prompts; and what a writer may think about a sentence.

Every scripted policy sees what the model sees, the text of the prompt, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from mnemon.tasks.tiny_stream import words
from mnemon.types import Message

Sense = Literal["state", "remove", "noise"]
Section = Literal["core", "episodic", "semantic"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a sentence says: a fact that holds from now on, a fact that ended, or nothing.

    `values` is what a new entry would hold: one value, or (place, day) of a trip.
    """

    sense: Sense
    subject: str = ""
    attribute: str = ""
    values: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        """The value or place that the sentence names."""
        return self.values[0]

    @property
    def section(self) -> Section:
        """Where the fact belongs."""
        if self.attribute == words.TRIPS:
            return "episodic"
        return "core" if self.subject == words.USER else "semantic"


NOISE = Reading("noise")


@dataclass(frozen=True, slots=True)
class Line:
    """An entry: its shown id and what it says. Noise and raw sentences have no values."""

    id: str
    section: Section
    subject: str
    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A prompt: the core's text, the other lines, the day, and the numbered sentences or the question."""

    core: str
    lines: tuple[Line, ...]
    day: str
    sentences: tuple[str, ...]


# ── sentences ────────────────────────────────────────────────────────────────────────────────────────────────────────

_PEOPLE = frozenset((words.USER, *words.PEOPLE))
_KEPT = frozenset((*words.ATTRIBUTES, words.TRIPS))
_PLACES, _LABELS = frozenset(words.PLACES), frozenset(words.LABELS)


@lru_cache(maxsize=1)
def _senses() -> dict[tuple[str, str], str]:
    table: dict[tuple[str, str], str] = {(core, ""): "noise" for core in (*words.DISTRACT, *words.CHAT)}
    table |= {(core, ""): "trip" for core in words.TRIP} | {(core, ""): "example" for core in words.EXAMPLE}
    for attribute in words.ATTRIBUTES:
        table |= {(core, attribute): "state" for core in words.STATE[attribute]}
        table |= {(core, attribute): "remove" for core in words.REMOVE[attribute]}
    return table


def _slot(word: str) -> str:
    if word in _PEOPLE:
        return "{p}"
    if word in words.ATTRIBUTE_OF:
        return "{v}"
    if word in _PLACES:
        return "{c}"
    if word in words.TOPIC_OF:
        return "{i}"
    return "{l}" if word in _LABELS else ""


@lru_cache(maxsize=8192)
def read_sentence(text: str, day: str = "") -> Reading:
    """The meaning of a sentence by its template; a sentence of no template is noise."""
    slots: dict[str, str] = {}
    core = []
    for word in text.split():
        slot = _slot(word)
        core.append(slot or word)
        if slot:
            slots[slot] = word
    plain = " ".join(core)
    attribute = words.ATTRIBUTE_OF.get(slots.get("{v}", ""), "")
    for lead in ("", *words.LEADS):
        if lead and not plain.startswith(lead + " "):
            continue
        body = plain[len(lead) + 1 :] if lead else plain
        for tail in ("", *words.TAILS):
            if tail and not body.endswith(" " + tail):
                continue
            kept = body[: -len(tail) - 1] if tail else body
            sense = _senses().get((kept, attribute)) or _senses().get((kept, ""))
            if sense is not None:
                return _reading(sense, slots, attribute, day)
    return NOISE


def _reading(sense: str, slots: dict[str, str], attribute: str, day: str) -> Reading:
    if sense == "trip":
        return Reading("state", slots["{p}"], words.TRIPS, (slots["{c}"], day))
    if sense == "example":
        return Reading("state", words.BOX, words.TOPIC_OF[slots["{i}"]], (slots["{l}"],))
    if sense == "noise":
        return NOISE
    return Reading("remove" if sense == "remove" else "state", slots["{p}"], attribute, (slots["{v}"],))


# ── stored texts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def read_line(shown: str, section: Section, text: str) -> Line:
    """A stored "attribute subject value …" or "box topic colour"; anything else gives a line without values."""
    parts = text.split()
    if len(parts) >= 2 and parts[0] == words.BOX and parts[1] in words.TOPICS:
        return Line(shown, section, parts[0], parts[1], tuple(parts[2:]))
    if len(parts) >= 2 and parts[0] in _KEPT and parts[1] in _PEOPLE:
        return Line(shown, section, parts[1], parts[0], tuple(parts[2:]))
    return Line(shown, section, "", "", ())


def read_core(text: str) -> dict[str, tuple[str, ...]]:
    """The user's facts in a core: "city Rome . job nurse ."; words before the first attribute are no facts."""
    facts: dict[str, tuple[str, ...]] = {}
    attribute = ""
    for word in text.split():
        if word in words.ATTRIBUTES:
            attribute = word
            facts[attribute] = ()
        elif attribute and word != words.STOP:
            facts[attribute] += (word,)
    return facts


def core_text(facts: dict[str, tuple[str, ...]]) -> str:
    """The inverse of `read_core`; facts without values are left out."""
    return " ".join(word for attribute, held in facts.items() if held for word in (attribute, *held, words.STOP))


def content(subject: str, attribute: str, held: Sequence[str]) -> str:
    """The stored form of a fact outside the core: "city Ben Oslo", "box birds red", "trips Ben Peru d3 Chile d7".

    The newest trip comes first: who adds one writes it and then copies the rest. Two neighbouring words hardly ever
    occur together in another entry, so that whoever recites an entry stays in it.
    """
    if subject == words.BOX:
        return " ".join((subject, attribute, *held))
    return " ".join((attribute, subject, *held))


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def split_prompt(messages: Sequence[Message]) -> View:
    """What a tiny prompt shows."""
    text = next(m.content for m in reversed(messages) if m.role == "user")
    state, _, chunk = text.partition("chunk: ")
    core, day, section = "", "", ""
    lines: list[Line] = []
    for row in state.splitlines():
        head, _, rest = row.partition(" ")
        if head == "time:":
            day = rest
        elif head in ("core:", "semantic:", "episodic:"):
            section = head[:-1]
        elif section == "core":
            core = row
        elif row.strip():
            stored, _, shown = row.rpartition(" ")
            lines.append(read_line(shown, "semantic" if section == "semantic" else "episodic", stored))
    return View(core, tuple(lines), day, tuple(row.partition(" ")[2] for row in chunk.splitlines()))


def match(view: View, reading: Reading) -> Line | None:
    """The first line about the same subject and attribute, outside the core."""
    found = (line for line in view.lines if (line.subject, line.attribute) == (reading.subject, reading.attribute))
    return next(found, None)


def think(view: View, reading: Reading) -> str:
    """What is known of a sentence's fact: its entry recited, its number, then what the sentence says, compared.

        "city Ben Oslo 3 Ben Rome fresh"       "box birds red 4 birds red 4 known"
        "job User core: city Rome . User job pilot none"   "ends city Ben Oslo 3 Ben Oslo 3 alone"   "nothing"

    Whoever repeats two words that stand together in the entry arrives again at its number (in the core at its full
    stop): then the value is known.
    The last word says how sentence and memory relate: none (no such fact; for the core empty when there is no core),
    fresh or known (its value), and for a value that ends alone (nothing else is left) or rest. What to do is not in it.
    """
    if reading.sense == "noise":
        return "nothing"
    value = reading.value
    parts = ["ends"] if reading.sense == "remove" else []
    parts += content(reading.subject, reading.attribute, ()).split()
    if reading.section == "core":
        facts = read_core(view.core)
        held = facts.get(reading.attribute, ())
        others = len(facts) > 1
        if not facts:
            return " ".join([*parts, "core:", "empty"])
        parts += ["core:", *view.core.split(), words.USER, reading.attribute, value]
        parts += [words.STOP] if value in held else []
    else:
        found = match(view, reading)
        if found is None:
            return " ".join([*parts, "none"])
        held, others = found.values, len(found.values) > 2
        near = parts[-1]
        parts += [*held, found.id]
        if reading.attribute != words.TRIPS:
            parts += [near, value]
            parts += [found.id] if value in held else []
    if reading.sense == "remove" and value in held:
        return " ".join([*parts, "rest" if others else "alone"])
    return " ".join([*parts, "none" if not held else "known" if value in held else "fresh"])
