"""Reading the tiny world by rule: sentences, stored lines, prompts. From it come the oracle, the baselines and the
reader.

Every scripted policy sees what the model sees, the text of the prompt, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mnemon.tasks.tiny import words
from mnemon.types import Message, ToolCall, ToolSchema

Sense = str
"""What a sentence does: "state", "remove", "distract", "chat"."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a sentence says."""

    sense: Sense
    person: str = ""
    attribute: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One numbered memory of a prompt: its shown id and what it says. Noise and raw sentences have no values."""

    id: str
    person: str
    attribute: str
    values: tuple[str, ...]


_PEOPLE = frozenset(words.PEOPLE)


@lru_cache(maxsize=1)
def _core_senses() -> dict[tuple[str, str], Sense]:
    table: dict[tuple[str, str], Sense] = {}
    for attribute in words.ATTRIBUTES:
        for core in words.STATE[attribute]:
            table[core, attribute] = "state"
        for core in words.REMOVE[attribute]:
            table[core, attribute] = "remove"
        for core in words.DISTRACT:
            table[core, attribute] = "distract"
    return table


@lru_cache(maxsize=4096)
def read_sentence(text: str) -> Reading:
    """The meaning of a sentence by its template; a sentence of no template is chat."""
    slots: dict[str, str] = {}
    core = []
    for word in text.split():
        if word in _PEOPLE:
            slots["{p}"] = word
            core.append("{p}")
        elif word in words.ATTRIBUTE_OF:
            slots["{v}"] = word
            core.append("{v}")
        else:
            core.append(word)
    if len(slots) < 2:
        return Reading("chat")
    person, value = slots["{p}"], slots["{v}"]
    attribute = words.ATTRIBUTE_OF[value]
    plain = " ".join(core)
    for lead in ("", *words.LEADS):
        if lead and not plain.startswith(lead + " "):
            continue
        body = plain[len(lead) + 1 :] if lead else plain
        for tail in ("", *words.TAILS):
            if tail and not body.endswith(" " + tail):
                continue
            sense = _core_senses().get((body[: -len(tail) - 1] if tail else body, attribute))
            if sense is not None:
                return Reading(sense, person, attribute, value)
    return Reading("chat")


def read_line(shown: str, text: str) -> Line:
    """A stored line "person attribute value …"; anything else gives a line without values."""
    parts = text.split()
    if len(parts) >= 2 and parts[0] in _PEOPLE and parts[1] in words.ATTRIBUTES:
        return Line(shown, parts[0], parts[1], tuple(parts[2:]))
    return Line(shown, "", "", ())


def split_prompt(messages: Sequence[Message]) -> tuple[list[tuple[str, str]], str]:
    """The (shown id, text) of each memory and the sentence or question of a tiny prompt."""
    text = next(m.content for m in reversed(messages) if m.role == "user")
    view, _, given = text.rpartition("\n")
    given = given.partition(": ")[2]
    pairs = []
    for line in view.removeprefix("memories:").strip().splitlines():
        shown, _, stored = line.strip().partition(" ")
        pairs.append((shown, stored))
    return pairs, given


def match(lines: Sequence[Line], reading: Reading) -> Line | None:
    """The first line about the same person and attribute."""
    for line in lines:
        if line.person == reading.person and line.attribute == reading.attribute:
            return line
    return None


def content(person: str, attribute: str, held: Sequence[str]) -> str:
    """The stored form of a fact."""
    return " ".join((person, attribute, *held))


def add(reading: Reading) -> ToolCall:
    """Store what the sentence says as a new line."""
    return ToolCall("add", {"text": content(reading.person, reading.attribute, [reading.value])})


def right_call(lines: Sequence[Line], reading: Reading, merge: bool = True, delete: bool = True) -> ToolCall:
    """The right operation for a reading in view of the memory; `merge` and `delete` off give the crippled baselines."""
    noop = ToolCall("noop")
    if reading.sense in ("chat", "distract"):
        return noop
    found = match(lines, reading)
    if found is None:
        return add(reading) if reading.sense == "state" else noop
    known = reading.value in found.values
    if reading.sense == "state":
        if known:
            return noop
        kept = found.values if merge and reading.attribute in words.LISTS else ()
        held: tuple[str, ...] = (*kept, reading.value)
    else:
        if not known or not delete:
            return noop
        held = tuple(v for v in found.values if v != reading.value)
        if not held:
            return ToolCall("delete", {"id": found.id})
    return ToolCall("update", {"id": found.id, "text": content(reading.person, reading.attribute, held)})


def think(lines: Sequence[Line], reading: Reading) -> str:
    """The scan: person and attribute ("ends" when the sentence ends a fact), then line after line until the match,
    whose values are recited; a value that the sentence mentions is marked. Behind the person of a line stands the
    person looked for: whether two neighbours are equal is what an induction head sees. The last word says how sentence
    and memory relate: none (no such fact), fresh or known (its value), and for a known value that ends: alone, or the
    rest remains. "Anna pets ends 1 Faye Anna 2 Anna Anna pets Scout match Rex rest". What to do is not in it.
    """
    if reading.sense == "chat":
        return "nothing"
    removal = reading.sense == "remove"
    parts = [reading.person, reading.attribute, *(["ends"] if removal else [])]
    for line in lines:
        parts += [line.id, line.person, reading.person] if line.person else [line.id]
        if line.person != reading.person:
            continue
        parts.append(line.attribute)
        if line.attribute == reading.attribute:
            for value in line.values:
                parts += [value, "match"] if value == reading.value else [value]
            if reading.value not in line.values:
                return " ".join([*parts, "fresh"])
            return " ".join([*parts, "known" if not removal else "alone" if len(line.values) == 1 else "rest"])
    return " ".join([*parts, "none"])


Decide = Callable[[Sequence[Line], Reading, random.Random], ToolCall]


def never(lines: Sequence[Line], reading: Reading, rng: random.Random) -> ToolCall:
    """Never write."""
    return ToolCall("noop")


def always_add(lines: Sequence[Line], reading: Reading, rng: random.Random) -> ToolCall:
    """Add whatever names a person and a value."""
    return ToolCall("noop") if reading.sense == "chat" else add(reading)


def random_operation(lines: Sequence[Line], reading: Reading, rng: random.Random) -> ToolCall:
    """One of the operations that can be carried out, with sensible content, at random."""
    if reading.sense == "chat":
        return ToolCall("noop")
    found = match(lines, reading)
    options = [ToolCall("noop"), add(reading)]
    if found is not None:
        known = reading.value in found.values
        held = [v for v in found.values if v != reading.value] if known else [*found.values, reading.value]
        options.append(ToolCall("delete", {"id": found.id}))
        if held and tuple(held) != found.values:
            options.append(
                ToolCall("update", {"id": found.id, "text": content(reading.person, reading.attribute, held)})
            )
    return rng.choice(options)


def oracle(lines: Sequence[Line], reading: Reading, rng: random.Random) -> ToolCall:
    """The right operation."""
    return right_call(lines, reading)


def update_never_merge(lines: Sequence[Line], reading: Reading, rng: random.Random) -> ToolCall:
    """Right, except that an update of a list forgets what the list held."""
    return right_call(lines, reading, merge=False)


def upsert_never_delete(lines: Sequence[Line], reading: Reading, rng: random.Random) -> ToolCall:
    """Right, except that nothing is ever removed."""
    return right_call(lines, reading, delete=False)


def demonstrator(lines: Sequence[Line], reading: Reading, rng: random.Random) -> ToolCall:
    """The imperfect teacher of the cold start: adds most of the time, is right a fifth of the time, else does
    anything.
    """
    draw = rng.random()
    if reading.sense == "chat" or draw < 0.2:
        return right_call(lines, reading)
    return add(reading) if draw < 0.8 else random_operation(lines, reading, rng)


POLICIES: dict[str, Decide] = {
    "never write": never,
    "random operations": random_operation,
    "always add": always_add,
    "demonstrator": demonstrator,
    "update, never merge": update_never_merge,
    "upsert, never delete": upsert_never_delete,
    "oracle": oracle,
}


def writer_reply(decide: Decide, seed: int = 0) -> Callable[[Sequence[Message], Sequence[ToolSchema]], Message]:
    """A scripted writer for `Scripted`: reads the prompt, decides, calls the tool."""

    def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
        pairs, given = split_prompt(messages)
        lines = [read_line(shown, text) for shown, text in pairs]
        rng = random.Random(f"{seed}/{messages[-1].content}")
        return Message("assistant", "", (decide(lines, read_sentence(given), rng),))

    return reply


def read_log(texts: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """The facts that follow from lines in order: stored lines are taken as they stand, sentences as events."""
    facts: dict[tuple[str, str], list[str]] = {}
    for text in texts:
        line = read_line("", text)
        if line.person:
            facts[line.person, line.attribute] = list(line.values)
            continue
        reading = read_sentence(text)
        if reading.sense not in ("state", "remove"):
            continue
        fact = (reading.person, reading.attribute)
        held = facts.get(fact, [])
        if reading.sense == "remove":
            facts[fact] = [v for v in held if v != reading.value]
        elif reading.attribute in words.SINGLE:
            facts[fact] = [reading.value]
        elif reading.value not in held:
            facts[fact] = [*held, reading.value]
    return facts


def answer_question(texts: Sequence[str], question: str) -> str:
    """Answer any question of the world from the lines, oldest first, by rule. "unknown" when nothing supports it."""
    parts = question.split()
    facts = read_log(texts)
    if len(parts) == 4 and parts[1] == "of":  # pets of Anna ?
        held = facts.get((parts[2], parts[0]))
        return "none" if not held else " ".join(held)
    if parts[0] == "how":  # how many pets has Anna ?
        held = facts.get((parts[4], parts[2]))
        return str(len(held)) if held else "unknown"
    if parts[0] == "who":  # who has pets Rex ?
        owners = [person for (person, attribute), held in facts.items() if attribute == parts[2] and parts[3] in held]
        return " ".join(owners) if owners else "unknown"
    if parts[0] == "has":  # has Anna pets Rex ?
        known = facts.get((parts[1], parts[2]))
        return "unknown" if known is None else "yes" if parts[3] in known else "no"
    return "unknown"


def read_answer(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
    """The deterministic reader for `Scripted`: answers by rule from the memories in the prompt."""
    pairs, question = split_prompt(messages)
    return answer_question([text for _, text in pairs], question)
