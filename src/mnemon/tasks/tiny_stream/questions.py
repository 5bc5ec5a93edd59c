"""Questions about a tiny stream, one kind per dimension that Mem-α is measured on (arXiv 2509.25911 §4).

==============  ============================================================================
dimension       asked
==============  ============================================================================
one hop         a fact that was said and never changed; the day of a trip
two hops        a fact about the owner of a pet: "city of the owner of Rex ?"
test-time       the box of a thing that was never shown, by the rule its topic's examples give
long-range      how many trips somebody made, and where to
conflict        a fact that was changed or withdrawn ("none" where nothing is true any more)
==============  ============================================================================
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnemon.tasks.tiny_stream import words
from mnemon.types import MnemonError, Probe

if TYPE_CHECKING:
    from mnemon.tasks.tiny_stream.world import Stream

Ask = Literal["value", "owner", "box", "count", "places", "day"]
DIMENSIONS = ("one hop", "two hops", "test-time", "long-range", "conflict")
Known = Mapping[tuple[str, str], Sequence[str]]
"""(subject, attribute) → values: the truth, or what a memory says."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: "owner" has a pet as its subject, "box" a thing, "day" a place as its attribute."""

    ask: Ask
    subject: str
    attribute: str = ""

    @property
    def text(self) -> str:
        """The question as it is asked."""
        s, a = self.subject, self.attribute
        return words.QUESTION_CORES[self.ask].format(p=s, v=s, i=s, a=a, c=a)


def read_question(text: str) -> Question:
    """The inverse of `Question.text`. MnemonError where the text is no question of this world."""
    parts = text.split()
    if len(parts) == 4 and parts[1] == "of":
        return Question("places", parts[2]) if parts[0] == words.TRIPS else Question("value", parts[2], parts[0])
    if len(parts) == 7 and parts[3] == "owner":
        return Question("owner", parts[5], parts[0])
    if len(parts) == 5 and parts[:2] == [words.BOX, "of"]:
        return Question("box", parts[3])
    if len(parts) == 6 and parts[0] == "how":
        return Question("count", parts[4])
    if len(parts) == 6 and parts[0] == "day":
        return Question("day", parts[2], parts[4])
    raise MnemonError(f"{text!r} is no question of the tiny stream: ask with words.QUESTION_CORES.")


def answer(known: Known, question: Question) -> str:
    """The answer that follows from what is known; "none" where nothing does."""
    ask, subject, attribute = question.ask, question.subject, question.attribute
    if ask == "owner":
        subject = next((s for (s, a), held in known.items() if a == "pet" and subject in held), "")
    if ask in ("value", "owner"):
        return " ".join(known.get((subject, attribute), ())) or "none"
    if ask == "box":
        return " ".join(known.get((words.BOX, words.TOPIC_OF.get(subject, "")), ())) or "none"
    trips = known.get((subject, words.TRIPS), ())
    places, days = trips[0::2], trips[1::2]
    if ask == "count":
        return str(len(places))
    if ask == "places":
        return " ".join(places) or "none"
    return " ".join(day for day, place in zip(days, places, strict=False) if place == attribute) or "none"


def probes_of(rng: random.Random, stream: Stream, most: int, since: int = 0) -> list[Probe]:
    """At most `most` questions, as evenly over the dimensions as the stream allows; about a third of those about
    changed facts are about withdrawn ones. since: only facts that the chunks from this one on touch.
    """
    chosen: list[tuple[str, Question, list[int]]] = []
    for dimension, found in _asked(rng, stream).items():
        found = [pair for pair in found if max(pair[1]) >= since]
        rng.shuffle(found)
        empty = [pair for pair in found if answer(stream.facts, pair[0]) == "none"]
        quota = -(-most // len(DIMENSIONS))
        full = [pair for pair in found if pair not in empty]
        none = quota // 3 + (rng.random() < 0.3) if dimension == "conflict" else 0
        full = full[: quota - min(none, len(empty))] + empty[:none]
        chosen += [(dimension, question, evidence) for question, evidence in full]
    return [
        Probe(
            f"q{number}",
            question.text,
            (answer(stream.facts, question),),
            category=dimension,
            evidence=tuple(str(i) for i in sorted(set(evidence))),
            scorers=("list_exact",),
            meta={"source": "tiny_stream", "dimension": dimension},
        )
        for number, (dimension, question, evidence) in enumerate(chosen)
    ]


def _asked(rng: random.Random, stream: Stream) -> dict[str, list[tuple[Question, list[int]]]]:
    """Every question that the stream answers, with the chunks that touch its entry, by dimension. The user's facts
    share one entry: whoever rewrites the core may lose any of them.
    """
    core = [i for (s, a), chunks in stream.touched.items() if s == words.USER and a != words.TRIPS for i in chunks]
    found: dict[str, list[tuple[Question, list[int]]]] = {dimension: [] for dimension in DIMENSIONS}
    owners = {held[0]: person for (person, a), held in stream.facts.items() if a == "pet" and held}
    for (subject, attribute), chunks in stream.touched.items():
        held = stream.facts[subject, attribute]
        if attribute == words.TRIPS:
            ask: Ask = "count" if rng.random() < 0.4 else "places"
            if len(chunks) > 1 or rng.random() < 0.2:
                found["long-range"].append((Question(ask, subject), chunks))
            if rng.random() < 0.5:
                trip = rng.randrange(len(chunks) > 1, len(chunks))
                place = held[2 * (len(chunks) - 1 - trip)]  # the newest is first
                found["one hop"].append((Question("day", subject, place), [chunks[trip]]))
        elif subject == words.BOX:
            if len(chunks) == 1 and rng.random() < 0.7:
                continue
            things = [thing for thing in words.TOPICS[attribute] if thing not in stream.shown]
            for thing in rng.sample(things or words.TOPICS[attribute], 2 if len(things) > 1 else 1):
                found["test-time"].append((Question("box", thing), chunks))
        else:
            changed = (subject, attribute) in stream.changed
            entry = core if subject == words.USER else chunks
            found["conflict" if changed else "one hop"].append((Question("value", subject, attribute), entry))
    for pet, person in owners.items():
        about = [a for (p, a), held in stream.facts.items() if p == person and held and a not in ("pet", words.TRIPS)]
        if about:
            attribute = rng.choice(about)
            chunks = stream.touched[person, "pet"] + stream.touched[person, attribute]
            found["two hops"].append((Question("owner", pet, attribute), chunks))
    return found
