"""The rule judge of the tiny stream: whether an edit of the memory follows from the chunk that was read.

An edit turns the triples (subject, attribute, value) that an entry states from B into A. It is valid when it changes
something and

    A − B ⊆ said(chunk)            nothing is invented (an example says a rule about its topic)
    B − A ⊆ ended(chunk)           nothing is lost but what the chunk withdraws, or replaces by a value of its own
    section(a) = section, a ∈ A    core: the user; episodic: trips; semantic: others, and what belongs into boxes
    no other entry has a key of A  no duplicates
"""

from __future__ import annotations

from collections.abc import Iterable

from mnemon.tasks.tiny_stream import words
from mnemon.tasks.tiny_stream.reading import Reading, read_core, read_line, read_sentence

Triple = tuple[str, str, tuple[str, ...]]
"""(subject, attribute, values): one value, or (place, day)."""


def triples(section: str, text: str) -> set[Triple]:
    """What an entry states; nothing where its text has not the form of its section."""
    if section == "core":
        return {(words.USER, a, (value,)) for a, held in read_core(text).items() for value in held}
    line = read_line("", "semantic", text)
    if line.attribute == words.TRIPS:
        pairs = zip(line.values[0::2], line.values[1::2], strict=False)
        return {(line.subject, line.attribute, pair) for pair in pairs}
    return {(line.subject, line.attribute, (value,)) for value in line.values}


def readings(chunk: str, day: str) -> list[Reading]:
    """What the numbered sentences of a chunk say."""
    return [read_sentence(row.partition(" ")[2], day) for row in chunk.splitlines()]


def valid_edit(section: str, before: str, after: str, others: Iterable[str], chunk: str, day: str) -> bool:
    """Whether an edit of an entry's text from `before` ("" for an insert) to `after` ("" for a delete) follows from the
    chunk; `others` are the texts that the section holds beside it.
    """
    old, new = triples(section, before), triples(section, after)
    said = [r for r in readings(chunk, day) if r.sense != "noise"]
    stated = {(r.subject, r.attribute, r.values) for r in said if r.sense == "state"}
    ended = {(r.subject, r.attribute, r.values) for r in said if r.sense == "remove"}
    replaced = {(s, a) for s, a, _ in (new - old) & stated if a != words.TRIPS}
    keys = {(s, a) for s, a, _ in new}
    kept = all(triple in ended or triple[:2] in replaced for triple in old - new)
    placed = all(Reading("state", s, a).section == section for s, a in keys)
    doubled = any(keys & {(s, a) for s, a, _ in triples(section, other)} for other in others)
    well_formed = bool(new) or not after
    return old != new and new - old <= stated and kept and placed and well_formed and not doubled
