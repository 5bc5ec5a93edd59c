"""Scripted writers of the tiny stream: the oracle, the imperfect teacher of the cold start, and the baselines.

A policy decides sentence by sentence: one call, or none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mnemon.tasks.tiny_stream import words
from mnemon.tasks.tiny_stream.reading import (
    Reading,
    View,
    content,
    core_text,
    match,
    read_core,
    read_sentence,
    split_prompt,
    think,
)
from mnemon.types import Message, ToolCall, ToolSchema

Decide = Callable[[View, Reading, random.Random], ToolCall | None]


def insert(reading: Reading, section: str) -> ToolCall:
    """Store what a sentence says as a new entry of a section; in the core without its subject."""
    text = content(reading.subject, reading.attribute, reading.values)
    if section == "core":
        text = core_text({reading.attribute: reading.values})
    return ToolCall("insert", {"section": section, "text": text})


def update(section: str, text: str, shown: str = "") -> ToolCall:
    """Replace an entry (the core's text has no id)."""
    return ToolCall("update", {"section": section, **({"id": shown} if shown else {}), "text": text})


def delete(section: str, shown: str = "") -> ToolCall:
    """Remove an entry, or empty the core."""
    return ToolCall("delete", {"section": section, **({"id": shown} if shown else {})})


def right_call(view: View, reading: Reading, merge: bool = True, remove: bool = True) -> ToolCall | None:
    """The right call for a sentence in view of the memory, None for nothing to do; `merge` and `remove` off give the
    crippled baselines.
    """
    if reading.sense == "noise" or (reading.sense == "remove" and not remove):
        return None
    if reading.section == "core":
        return _core_call(view, reading)
    found = match(view, reading)
    value = reading.value
    if found is None:
        return insert(reading, reading.section) if reading.sense == "state" else None
    if reading.sense == "remove":
        return delete(found.section, found.id) if value in found.values else None
    if value in found.values:
        return None
    kept = found.values if reading.attribute == words.TRIPS and merge else ()
    return update(found.section, content(reading.subject, reading.attribute, (*reading.values, *kept)), found.id)


def _core_call(view: View, reading: Reading) -> ToolCall | None:
    facts, attribute, value = read_core(view.core), reading.attribute, reading.value
    known = value in facts.get(attribute, ())
    if known == (reading.sense == "state"):
        return None
    if reading.sense == "remove":
        del facts[attribute]
        return update("core", core_text(facts)) if facts else delete("core")
    if not view.core.split():
        return insert(reading, "core")
    return update("core", core_text(facts | {attribute: reading.values}))


def options(view: View, reading: Reading) -> list[ToolCall]:
    """Every call that can be carried out and has something to do with the sentence."""
    found: list[ToolCall] = [insert(reading, "semantic"), insert(reading, "episodic")]
    line = match(view, reading)
    value = reading.value
    if line is not None:
        found.append(delete(line.section, line.id))
        if value not in line.values:
            kept = line.values if line.attribute == words.TRIPS else ()
            text = content(reading.subject, reading.attribute, (*reading.values, *kept))
            found.append(update(line.section, text, line.id))
    if reading.subject == words.USER and reading.section == "core":
        facts = read_core(view.core)
        if not facts:
            return [*found, insert(reading, "core")]
        found.append(delete("core"))
        rest = {a: held for a, held in facts.items() if a != reading.attribute}
        changed = facts | {reading.attribute: reading.values}
        found += [update("core", core_text(f)) for f in (rest, changed) if f and f != facts]
    return found


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def never(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """Never write."""
    return None


def always_insert(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """Insert whatever is said of somebody or something, in its section (in semantic where the core is taken)."""
    if reading.sense == "noise":
        return None
    taken = reading.section == "core" and view.core.split()
    return insert(reading, "semantic" if taken else reading.section)


def random_call(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """One of the calls that can be carried out, with sensible content, or none."""
    return None if reading.sense == "noise" else rng.choice([None, *options(view, reading)])


def oracle(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """The right call."""
    return right_call(view, reading)


def never_merge(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """Right, except that a new trip replaces the earlier ones."""
    return right_call(view, reading, merge=False)


def never_delete(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """Right, except that what is withdrawn stays."""
    return right_call(view, reading, remove=False)


def one_section(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """Right, except that everything new goes into the semantic section: core and episodic stay empty."""
    if reading.section == "semantic":
        return right_call(view, reading)
    found = match(view, reading)
    if found is None:
        return insert(reading, "semantic") if reading.sense == "state" else None
    known = reading.value in found.values
    if known == (reading.sense == "state"):
        return None
    if reading.sense == "remove":
        return delete("semantic", found.id)
    kept = found.values if reading.attribute == words.TRIPS else ()
    return update("semantic", content(reading.subject, reading.attribute, (*reading.values, *kept)), found.id)


def demonstrator(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """The imperfect teacher of the cold start: mostly inserts, a tenth of the time right, else does anything."""
    draw = rng.random()
    if reading.sense == "noise" or draw < 0.1:
        return right_call(view, reading)
    if draw < 0.7:
        return always_insert(view, reading, rng)
    return random_call(view, reading, rng)


POLICIES: dict[str, Decide] = {
    "never write": never,
    "random calls": random_call,
    "always insert": always_insert,
    "demonstrator": demonstrator,
    "all in one section": one_section,
    "update, never merge": never_merge,
    "update, never delete": never_delete,
    "oracle": oracle,
}


def decisions(view: View, decide: Decide, rng: random.Random) -> list[tuple[str, Reading, ToolCall | None]]:
    """(thought, reading, call) for each sentence of a prompt."""
    found = []
    for sentence in view.sentences:
        reading = read_sentence(sentence, view.day)
        found.append((think(view, reading), reading, decide(view, reading, rng)))
    return found


def writer_reply(decide: Decide, seed: int = 0) -> Callable[[Sequence[Message], Sequence[ToolSchema]], Message]:
    """A scripted writer for `Scripted`: reads the prompt, decides on every sentence, calls the tools."""

    def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
        view = split_prompt(messages)
        rng = random.Random(f"{seed}/{messages[-1].content}")
        calls = tuple(call for _, _, call in decisions(view, decide, rng) if call is not None)
        return Message("assistant", "" if calls else "ok", calls)

    return reply
