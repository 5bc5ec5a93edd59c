"""The tiny world: events in people's lives, and questions about what is true at the end.

An episode is a list of sentences. Each states, changes, extends, ends or repeats a fact about a person, or is noise.
The right memory operation follows from the sentence *and* the memory, never from the sentence alone. Questions ask
mostly for facts that changed at least twice, so storing everything does not pay.

Splits: a third of all (person, attribute, value) combinations is held out of training; of these, half the people
belong to validation and half to test. Templates are split as well (`templates="unseen"`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal

from mnemon.tasks.script import Script
from mnemon.tasks.tiny import words
from mnemon.types import Input, MnemonError, Probe, Stage, Task

Split = Literal["train", "validation", "test", "unseen_people"]
Kind = Literal["new", "change", "more", "drop", "end", "restate", "distract", "chat"]
Facts = dict[tuple[str, str], list[str]]
"""(person, attribute) → values, in the order in which they became true."""

KNOWN = words.PEOPLE[: -words.UNSEEN_PEOPLE]


@dataclass(frozen=True, slots=True)
class Event:
    """One sentence and what it means. `kind` depends on the facts before it; chat has no person, attribute, value."""

    kind: Kind
    text: str
    person: str = ""
    attribute: str = ""
    value: str = ""


@dataclass(slots=True)
class Episode:
    """A sampled episode: events, the facts at its end, how often each fact was changed, the most facts held at once."""

    events: list[Event] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)
    touched: dict[tuple[str, str], int] = field(default_factory=dict)
    peak: int = 0


def _rank(person: str, attribute: str, value: str) -> bytes:
    return hashlib.blake2b(f"{person} {attribute} {value}".encode(), digest_size=8).digest()


@lru_cache(maxsize=2048)
def _divided(person: str, attribute: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(trained, held-out) values of a person's attribute: the third with the lowest hashes is held out."""
    every = sorted(words.values(attribute), key=lambda value: _rank(person, attribute, value))
    cut = len(every) // 3
    return tuple(every[cut:]), tuple(every[:cut])


def held_out(person: str, attribute: str, value: str) -> bool:
    """Whether the combination never occurs in training."""
    return value in _divided(person, attribute)[1]


def people_of(split: Split) -> list[str]:
    """Who lives in a split: all known people train; validation and test divide them; the last 16 names are never
    seen.
    """
    if split == "train":
        return list(KNOWN)
    if split == "unseen_people":
        return list(words.PEOPLE[-words.UNSEEN_PEOPLE :])
    return list(KNOWN[0::2] if split == "validation" else KNOWN[1::2])


def values_of(split: Split, person: str, attribute: str) -> tuple[str, ...]:
    """The values that a person may have in a split: trained combinations only, or held-out ones only."""
    return _divided(person, attribute)[0 if split == "train" else 1]


def sentence(rng: random.Random, core: str, person: str = "", value: str = "") -> str:
    """Fill a core; a lead or a tail is put around it four times in ten."""
    text = core.format(p=person, v=value)
    if rng.random() < 0.25:
        text = f"{rng.choice(words.LEADS)} {text}"
    if rng.random() < 0.2:
        text = f"{text} {rng.choice(words.TAILS)}"
    return text


def blurred(rng: random.Random, text: str, fillers: Sequence[str]) -> str:
    """The sentence with a filler word dropped, put in or exchanged, one to three times: training sees more than
    its templates.
    """
    parts = text.split()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts))
        free = parts[at] in fillers
        draw = rng.random()
        if draw < 0.35 and free and len(parts) > 3:
            del parts[at]
        elif draw < 0.6 and free:
            parts[at] = rng.choice(fillers)
        else:
            parts.insert(at, rng.choice(fillers))
    return " ".join(parts)


def _touch(rng: random.Random, facts: Facts, split: Split, fact: tuple[str, str]) -> tuple[Kind, str] | None:
    """A kind and value for an event that touches this fact, or None when its values are used up."""
    person, attribute = fact
    held = facts.get(fact, [])
    fresh = [v for v in values_of(split, person, attribute) if v not in held]
    if not held:
        return ("new", rng.choice(fresh))
    if rng.random() < 0.12:
        return ("restate", rng.choice(held))
    if attribute in words.SINGLE:
        return ("change", rng.choice(fresh)) if rng.random() < 0.85 else ("end", held[0])
    if fresh and len(held) < 4 and rng.random() < (0.85 if len(held) == 1 else 0.45):
        return ("more", rng.choice(fresh))
    return ("end" if len(held) == 1 else "drop", rng.choice(held))


def apply(facts: Facts, event: Event) -> None:
    """Make an event true."""
    fact = (event.person, event.attribute)
    if event.kind in ("new", "change"):
        facts[fact] = [event.value]
    elif event.kind == "more":
        facts[fact] = [*facts[fact], event.value]
    elif event.kind in ("drop", "end"):
        facts[fact] = [v for v in facts[fact] if v != event.value]


def _focus(rng: random.Random, count: int) -> list[str]:
    """The attributes of a person that an episode is about; list attributes come first six times in ten."""
    singles, lists = list(words.SINGLE), list(words.LISTS)
    rng.shuffle(singles)
    rng.shuffle(lists)
    chosen: list[str] = []
    while len(chosen) < count:
        chosen.append((lists if lists and (not singles or rng.random() < 0.6) else singles).pop())
    return chosen


def sample_episode(
    rng: random.Random, length: int, split: Split = "train", templates: Literal["seen", "unseen"] = "seen"
) -> Episode:
    """`length` events about roughly one person per five events; each person has a few facts that keep changing."""
    if length < 1:
        raise MnemonError(f"an episode needs at least one event, not {length}")
    everyone = people_of(split)
    count = min(len(everyone), max(1, round(length / 5) + (rng.random() < 0.5)))
    people = rng.sample(everyone, count)
    per_person = max(2, min(len(words.ATTRIBUTES), round(length / count / 2.8)))
    focus = {person: _focus(rng, per_person) for person in people}
    episode = Episode()
    while len(episode.events) < length:
        draw = rng.random()
        person = rng.choice(people)
        if draw < 0.06:
            episode.events.append(Event("chat", sentence(rng, rng.choice(words.cores("chat", "", templates)))))
            continue
        attribute = rng.choice(focus[person])
        if draw < 0.16:
            value = rng.choice(values_of(split, person, attribute))
            text = sentence(rng, rng.choice(words.cores("distract", "", templates)), person, value)
            episode.events.append(Event("distract", text, person, attribute, value))
            continue
        fact = (person, attribute)
        touch = _touch(rng, episode.facts, split, fact)
        if touch is None:
            continue
        kind, value = touch
        which = "remove" if kind in ("drop", "end") else "state"
        text = sentence(rng, rng.choice(words.cores(which, attribute, templates)), person, value)
        event = Event(kind, text, person, attribute, value)
        episode.events.append(event)
        apply(episode.facts, event)
        episode.touched[fact] = episode.touched.get(fact, 0) + (kind != "restate")
        episode.peak = max(episode.peak, sum(1 for held in episode.facts.values() if held))
    return episode


def probes_of(rng: random.Random, episode: Episode, most: int) -> list[Probe]:
    """Questions: facts changed at least twice, a fifth of the others; at most a quarter about emptied facts."""
    twice = [fact for fact, n in episode.touched.items() if n > 1]
    once = [fact for fact, n in episode.touched.items() if n == 1 and rng.random() < 0.2]
    asked = twice + once or list(episode.touched)
    rng.shuffle(asked)
    full = [fact for fact in asked if episode.facts[fact]]
    empty = [fact for fact in asked if not episode.facts[fact]]
    chosen = full[:most]
    chosen += empty[: 1 if not chosen else len(chosen) // 3]
    probes = []
    for number, (person, attribute) in enumerate(chosen[:most]):
        held = episode.facts[person, attribute]
        probes.append(
            Probe(
                f"q{number}",
                words.QUESTION_CORES["value"].format(a=attribute, p=person),
                (" ".join(held) or "none",),
                category="list" if attribute in words.LISTS else "single",
                evidence=tuple(
                    str(i)
                    for i, event in enumerate(episode.events)
                    if (event.person, event.attribute) == (person, attribute)
                ),
                scorers=("list_exact",),
            )
        )
    return probes


def make_task(
    seed: int,
    length: int,
    split: Split = "train",
    templates: Literal["seen", "unseen"] = "seen",
    slack: int = 0,
    questions: int | None = None,
) -> Task:
    """One task row, the same for the same arguments on every machine.

    meta: `capacity` (entries that the memory may hold: the oracle's peak + slack), `kinds` (the hidden event kinds, for
    counters only), `events`.
    """
    rng = random.Random(f"{split}/{templates}/{length}/{seed}")
    most = questions or max(4, min(16, length // 2))
    episode = sample_episode(rng, length, split, templates)
    while not episode.touched:
        episode = sample_episode(rng, length, split, templates)
    inputs = [Input(event.text, source=(str(i),)) for i, event in enumerate(episode.events)]
    return Task(
        f"tiny/{split}/{templates}/{length}/{seed}",
        (Stage(partial(Script, inputs), name="events"),),
        tuple(probes_of(rng, episode, most)),
        {
            "capacity": episode.peak + slack,
            "kinds": tuple(event.kind for event in episode.events),
            "events": tuple(episode.events),
        },
    )


def make_tasks(
    count: int,
    length: int,
    split: Split = "train",
    templates: Literal["seen", "unseen"] = "seen",
    slack: int = 1,
    first: int = 0,
) -> list[Task]:
    """`count` tasks with seeds first, first + 1, …"""
    return [make_task(first + i, length, split, templates, slack) for i in range(count)]


def kinds_in(tasks: Sequence[Task]) -> dict[str, int]:
    """How often each event kind occurs in tasks."""
    counts: dict[str, int] = {}
    for task in tasks:
        for kind in task.meta["kinds"]:
            counts[kind] = counts.get(kind, 0) + 1
    return counts
