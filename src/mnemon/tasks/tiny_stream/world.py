"""The tiny stream: chunks of timestamped sentences, and questions of five kinds about what they said.

A chunk is one day: two to four numbered sentences about the user, other people, trips, and things that go into boxes.
What a sentence means for a memory follows from the sentence *and* the memory: "Ben moved to Rome" is new or a change.

==================  =====================================================================  =============
sentence            example                                                                section
==================  =====================================================================  =============
the user's fact     "User moved to Rome", withdrawn by "User left Rome"                    core
another's fact      "Ben has a pet called Rex", withdrawn by "Rex ran away from Ben"       semantic
labelled example    "the owl goes into the red box": a rule about birds, never said        semantic
dated event         "Ben flew to Peru"                                                     episodic
noise               "Ben dreams of a trip to Peru", "how are you"                          none
==================  =====================================================================  =============

Splits: a third of the (subject, attribute, value) combinations is held out of training, colours of boxes by topic too;
validation and test divide the held-out ones and the people. Only the user, who is in every stream, may have any value
in each split. Templates are split as well (`templates="unseen"`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal

from mnemon.tasks.script import Script
from mnemon.tasks.tiny_stream import words
from mnemon.tasks.tiny_stream.questions import probes_of
from mnemon.types import Input, MnemonError, Stage, Task

Split = Literal["train", "validation", "test"]
Templates = Literal["seen", "unseen"]
Kind = Literal["new", "change", "end", "restate", "trip", "example", "distract", "chat"]
Key = tuple[str, str]
"""(subject, attribute): ("Ben", "city"), ("User", "job"), ("box", "birds"), ("Ben", "trips")."""
Facts = dict[Key, list[str]]
"""Key → values; of trips: place, day, place, day …, the newest first."""

SHARES: dict[str, float] = {"user": 0.2, "other": 0.34, "trip": 0.2, "example": 0.15, "distract": 0.07, "chat": 0.04}
"""How often a sentence is about what."""
MOST_TRIPS = 4
SECTIONS = ("core", "episodic", "semantic")


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence and what it means. `kind` depends on what was true before it."""

    kind: Kind
    text: str
    subject: str = ""
    attribute: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The sentences of one day."""

    day: str
    said: tuple[Said, ...]

    @property
    def text(self) -> str:
        """As it is read: one numbered sentence per line."""
        return "\n".join(f"{m} {said.text}" for m, said in zip(words.MARKERS, self.said, strict=False))


@dataclass(slots=True)
class Stream:
    """A sampled stream: its chunks, what is true at the end, which chunks touched a key, what a memory must hold."""

    chunks: list[Chunk] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)
    touched: dict[Key, list[int]] = field(default_factory=dict)
    changed: set[Key] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    held: set[tuple[str, str]] = field(default_factory=set)
    peaks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SECTIONS, 0))


def section_of(subject: str, attribute: str) -> str:
    """Where a fact belongs."""
    if attribute == words.TRIPS:
        return "episodic"
    return "core" if subject == words.USER else "semantic"


def entry_of(said: Said) -> Key:
    """The memory entry that a sentence is about: a fact's own, or the one text of the core."""
    section = section_of(said.subject, said.attribute)
    return ("core", "") if said.subject and section == "core" else (said.subject, said.attribute)


def size_of(values: Sequence[str]) -> int:
    """Tokens of a stored fact: its values and two words more, whatever the section; 0 when empty."""
    return len(values) + 2 if values else 0


# ── splits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=4096)
def values_of(split: Split, subject: str, attribute: str) -> tuple[str, ...]:
    """The values that a subject may have in a split: of the third with the lowest hashes half are validation's and
    half are test's (all of them where the subject itself belongs to one split), the others train. The user is the same
    in all splits, and may have any value in each.
    """
    if subject == words.BOX:
        subject = ""

    def rank(value: str) -> bytes:
        return hashlib.blake2b(f"{subject} {attribute} {value}".encode(), digest_size=8).digest()

    every = sorted(words.values(attribute), key=rank)
    cut = len(every) // 3
    if subject == words.USER:
        return tuple(every)
    if split == "train":
        return tuple(every[cut:])
    if subject in people_of(split):
        return tuple(every[:cut])
    return tuple(every[0:cut:2] if split == "validation" else every[1:cut:2])


@lru_cache(maxsize=4)
def people_of(split: Split) -> tuple[str, ...]:
    """Who lives in a split: everybody trains; validation and test divide them."""
    if split == "train":
        return words.PEOPLE
    return words.PEOPLE[0::2] if split == "validation" else words.PEOPLE[1::2]


def held_out(subject: str, attribute: str, value: str) -> bool:
    """Whether the combination never occurs in training."""
    return value not in values_of("train", subject, attribute)


# ── sampling ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def sentence(rng: random.Random, core: str, **slots: str) -> str:
    """Fill a core; a lead or a tail is put around it three times in ten."""
    text = core.format(**slots)
    if rng.random() < 0.18:
        text = f"{rng.choice(words.LEADS)} {text}"
    if rng.random() < 0.14:
        text = f"{text} {rng.choice(words.TAILS)}"
    return text


@dataclass(frozen=True, slots=True)
class _Cast:
    """Who and what a stream is about: facts of the user and of others, travellers, topics of the boxes."""

    facts: dict[str, tuple[str, ...]]
    travellers: tuple[str, ...]
    topics: tuple[str, ...]

    @staticmethod
    def sample(rng: random.Random, length: int, split: Split) -> _Cast:
        everyone = people_of(split)
        others = rng.sample(everyone, min(len(everyone), max(2, round(length / 3))))
        single = list(words.SINGLE)
        facts = {words.USER: tuple(rng.sample(single, 2 if length < 20 else 4))}
        for person in others:
            owner = rng.random() < 0.6
            facts[person] = (*(["pet"] if owner else []), *rng.sample(single, rng.choice((1, 2)) if owner else 2))
        share = max(1, round(len(others) * 0.5))
        travellers = (words.USER, *rng.sample(others, share)) if length < 20 else tuple(others)
        return _Cast(facts, travellers, tuple(rng.sample(list(words.TOPICS), 2 if length < 20 else 4)))


def sample_stream(
    rng: random.Random, length: int, split: Split = "train", templates: Templates = "seen", restate: float = 0.1
) -> Stream:
    """`length` chunks about roughly one person per three chunks; each is about the user and at most two others.

    restate: how often a fact that holds is only said again when it is touched.
    """
    if not 1 <= length < words.LAST_DAY:
        raise MnemonError(f"a stream has 1 to {words.LAST_DAY - 1} chunks (one per day), not {length}")
    stream, cast = Stream(), _Cast.sample(rng, length, split)
    first = rng.randrange(words.LAST_DAY - length)
    others = [person for person in cast.facts if person != words.USER]
    for number in range(length):
        around = rng.sample(others, 2)
        maker = _Maker(rng, stream, cast, around, split, templates, words.DAYS[first + number], restate)
        wanted = rng.choice((2, 3, 3, 4))
        said: list[Said] = []
        while len(said) < wanted:
            made = maker.draw()
            if made is None or any(made.subject and entry_of(made) == entry_of(other) for other in said):
                continue  # one chunk touches an entry once
            said.append(made)
            _happen(stream, made, number, maker.day)
        stream.chunks.append(Chunk(maker.day, tuple(said)))
    return stream


@dataclass(slots=True)
class _Maker:
    """Draws sentences of one chunk."""

    rng: random.Random
    stream: Stream
    cast: _Cast
    around: list[str]
    split: Split
    templates: Templates
    day: str
    restate: float

    def draw(self) -> Said | None:
        """A sentence, or None where what was drawn has nothing left to say."""
        what = self.rng.choices(list(SHARES), list(SHARES.values()))[0]
        if what == "chat":
            return Said("chat", self._text("chat", ""))
        if what == "distract":
            return self._distract()
        if what == "trip":
            return self._trip()
        if what == "example":
            return self._example()
        person = words.USER if what == "user" else self.rng.choice(self.around)
        return self._fact(person, self.rng.choice(self.cast.facts[person]))

    def _text(self, kind: str, attribute: str, **slots: str) -> str:
        return sentence(self.rng, self.rng.choice(words.cores(kind, attribute, self.templates)), **slots)

    def _values(self, subject: str, attribute: str) -> tuple[str, ...]:
        return values_of(self.split, subject, attribute)

    def _fact(self, person: str, attribute: str) -> Said | None:
        rng, held = self.rng, self.stream.facts.get((person, attribute), [])
        fresh = [v for v in self._values(person, attribute) if v not in held]
        if attribute == "pet":  # nobody takes over a pet: its owner stays one person
            fresh = [v for v in fresh if not any(pet == v and p != person for p, pet in self.stream.held)]
        if held and rng.random() < self.restate:
            return Said("restate", self._text("state", attribute, p=person, v=held[0]), person, attribute, held[0])
        if held and rng.random() < 0.3:
            return Said("end", self._text("remove", attribute, p=person, v=held[0]), person, attribute, held[0])
        if not fresh:
            return None
        value = rng.choice(fresh)
        kind: Kind = "change" if held else "new"
        return Said(kind, self._text("state", attribute, p=person, v=value), person, attribute, value)

    def _trip(self) -> Said | None:
        near = [p for p in (words.USER, *self.around) if p in self.cast.travellers]
        if not near:
            return None
        person = self.rng.choice(near)
        held = self.stream.facts.get((person, words.TRIPS), [])
        fresh = [c for c in self._values(person, words.TRIPS) if c not in held]
        if not fresh or len(held) >= 2 * MOST_TRIPS:
            return None
        place = self.rng.choice(fresh)
        return Said("trip", self._text("trip", "", p=person, c=place), person, words.TRIPS, place)

    def _example(self) -> Said | None:
        topic = self.rng.choice(self.cast.topics)
        held = self.stream.facts.get((words.BOX, topic), [])
        fresh = [v for v in self._values(words.BOX, topic) if v not in held]
        label = held[0] if held and self.rng.random() < 0.5 else self.rng.choice(fresh)
        things = [thing for thing in words.TOPICS[topic] if thing not in self.stream.shown]
        if len(things) < 3:
            things = [thing for thing in words.TOPICS[topic] if thing in self.stream.shown]
        thing = self.rng.choice(things)
        self.stream.shown.add(thing)
        return Said("example", self._text("example", "", i=thing, l=label), words.BOX, topic, label)

    def _distract(self) -> Said:
        rng = self.rng
        person = rng.choice([words.USER, *self.around])
        attribute = rng.choice(words.ATTRIBUTES)
        topic = rng.choice(self.cast.topics)
        slots = {
            "p": person,
            "v": rng.choice(self._values(person, attribute)),
            "c": rng.choice(self._values(person, words.TRIPS)),
            "i": rng.choice(words.TOPICS[topic]),
            "l": rng.choice(self._values(words.BOX, topic)),
        }
        return Said("distract", self._text("distract", "", **slots))


def _happen(stream: Stream, said: Said, number: int, day: str) -> None:
    """Make a sentence true."""
    key = (said.subject, said.attribute)
    before = list(stream.facts.get(key, []))
    apply(stream.facts, said, day)
    if not said.subject:
        return
    if said.kind == "end" or (before and said.kind in ("change", "example") and stream.facts[key] != before):
        stream.changed.add(key)
    if said.attribute == "pet":
        stream.held.add((said.subject, said.value))
    stream.touched.setdefault(key, []).append(number)
    for section in SECTIONS:
        used = sum(size_of(v) for (s, a), v in stream.facts.items() if section_of(s, a) == section)
        stream.peaks[section] = max(stream.peaks[section], used)


def apply(facts: Facts, said: Said, day: str) -> None:
    """What is true after a sentence of this day."""
    key = (said.subject, said.attribute)
    if said.kind == "trip":
        facts[key] = [said.value, day, *facts.get(key, [])]
    elif said.kind == "end":
        facts[key] = []
    elif said.subject:
        facts[key] = [said.value]


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_task(
    seed: int,
    length: int,
    split: Split = "train",
    templates: Templates = "seen",
    slack: int = 0,
    most: int | None = None,
    restate: float = 0.1,
    before: int = 0,
) -> Task:
    """One task row, the same for the same arguments on every machine.

    meta: `caps` (tokens that each section may hold: what a memory needs that keeps exactly what is true, + `slack`
    facts), `stream`, `held`, `source`. At most `most` questions (default: up to 2 per kind, for long streams half the
    chunks). before: chunks that were read earlier: they are no inputs, what is true after them is `held`, and questions
    are about facts that the other chunks touch.
    """
    rng = random.Random(f"stream/{split}/{templates}/{before}+{length}/{seed}")
    stream = sample_stream(rng, before + length, split, templates, restate)
    while len({section_of(*key) for key in stream.touched}) < 3:
        stream = sample_stream(rng, before + length, split, templates, restate)
    probes = probes_of(rng, stream, most or max(10, length // 2), before)
    inputs = [Input(chunk.text, chunk.day, (str(i),)) for i, chunk in enumerate(stream.chunks)][before:]
    held: Facts = {}
    for chunk in stream.chunks[:before]:
        for said in chunk.said:
            apply(held, said, chunk.day)
    extra = {"core": 3, "episodic": 4, "semantic": 3}
    return Task(
        f"tiny_stream/{split}/{templates}/{before}+{length}/{seed}",
        (Stage(partial(Script, inputs), name="stream"),),
        tuple(probes),
        {
            "source": "tiny_stream",
            "caps": {name: peak + slack * extra[name] for name, peak in stream.peaks.items()},
            "stream": stream,
            "held": {key: values for key, values in held.items() if values},
        },
    )


def make_tasks(
    count: int, length: int, split: Split = "train", templates: Templates = "seen", slack: int = 1, first: int = 0
) -> list[Task]:
    """`count` tasks with seeds first, first + 1, …"""
    return [make_task(first + i, length, split, templates, slack) for i in range(count)]
