"""PerLTQA (Du et al., arXiv 2402.16288): the life of a made-up person in events and dialogues, and questions about it.

Two files: perltmem_en*.json {person: {social_relationship, events {id: {content, summary, Creation Time, …}},
dialogues {event id#n: {contents: {time: [messages]}}}}} and perltqa_en*.json [{person: {profile, social_relationship,
events, dialogues: [{id: [{Question, Answer, Reference Memory, Memory Anchors}]}]}}]. CC BY-NC 4.0. One row per person:
who is who, then a chunk for each event with its dialogues. Questions about the profile are left aside, for it is not
in the stream. Split by person, 27 to train and 4 to validation.

Mem-α has a language model shorten the answers to lists; here the memory anchors that stand in the answer are the list,
and an answer without one is scored by its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Source, distinct, draw, read_json
from mnemon.tasks.rows.data import Question, Row, Said, Segment
from mnemon.tasks.rows.fields import Bad, cast, have, need
from mnemon.tasks.rows.split import split_documents
from mnemon.tasks.rows.wrap import named_line, session_header
from mnemon.types import MnemonError

KINDS = ("social_relationship", "events", "dialogues")
_ID = re.compile(r"\d+(?:_\d+)+(?:#\d+)?")


def build(source: Source) -> Iterator[Row]:
    """A row per person of whom both files tell."""
    people: dict[str, Any] = {}
    asked: dict[str, list[Any]] = {}
    places: dict[str, str] = {}
    for path in source.each():
        raw = read_json(path)
        for entry in raw if isinstance(raw, list) else [raw]:
            for name, held in cast(entry, dict, path.name).items():
                if isinstance(held, dict) and isinstance(held.get("events"), list):
                    asked.setdefault(name, []).append(held)
                    places[name] = path.name
                else:
                    people[name] = held
    if not people or not asked:
        raise MnemonError("perltqa: give both files, perltmem_en.json (memories) and perltqa_en.json (questions)")
    splits = split_documents(people)
    for name in people:
        if name not in asked:
            source.row = name
            source.note("", "has no questions", "left aside")
            continue
        with source.part("person", name):
            source.file = places[name]
            yield _row(source, name, people[name], asked[name], splits[name])


def _row(source: Source, name: str, memory: Any, asked: list[Any], split: str) -> Row:
    options = source.options
    segments = _segments(source, name, memory)
    questions = [question for held in asked for question in _questions(source, held, segments)]
    if not questions:
        raise Bad("", "has no usable question")
    chunks, rule = chunk.each(segments, options.counter, options.chunk_tokens, line=named_line, header=session_header)
    return Row(
        id=f"perltqa/{name}",
        source="perltqa",
        dimension="accurate_retrieval",
        split=split,
        license="CC-BY-NC-4.0",
        segments=segments,
        probes=tuple(draw(questions, options.questions, options.seed, name)),
        chunks=chunks,
        chunker=rule,
        metadata={"documents": [name], "noncommercial": True},
    )


def _segments(source: Source, name: str, memory: Any) -> tuple[Segment, ...]:
    relations = have(memory, "social_relationship", dict, {})
    lines = [
        f"{who.get('Supporting Characters', '')} ({who.get('Relationship', '')}): {who.get('Description', '')}"
        for who in relations.values()
        if isinstance(who, dict)
    ]
    found = [Segment("relations", "facts", f"People that {name} knows:\n" + "\n".join(lines))] if lines else []
    dialogues = have(memory, "dialogues", dict, {})
    for key, event in need(memory, "events", dict).items():
        with source.part("event"):
            content = need(event, "content", str, f"events.{key}")
            when, title = str(event.get("Creation Time") or ""), str(event.get("summary") or "").strip(". ")
            head = f"[Event of {name}, {when or 'no date'}]" + (f" {title}." if title else "")
            group = {"group": key}
            found.append(Segment(key, "event", f"{head}\n{content.strip()}", time_text=when, meta=group))
        for other, dialogue in dialogues.items():
            if other.partition("#")[0] == key:
                with source.part("dialogue"):
                    found.append(_dialogue(other, dialogue, key))
    return tuple(found)


def _dialogue(name: str, raw: Any, group: str) -> Segment:
    """Messages ``Name: text``, cut at the first colon; one without a name goes on with the speaker before."""
    turns: list[Said] = []
    contents = need(raw, "contents", dict, f"dialogues.{name}")
    for i, messages in enumerate(contents.values()):
        for message in cast(messages, list, f"dialogues.{name}.contents[{i}]"):
            speaker, colon, text = cast(message, str, f"dialogues.{name}").partition(":")
            if not colon or len(speaker) > 40:
                speaker, text = turns[-1].speaker if turns else "unknown", message
            if text.strip():
                turns.append(Said(f"{name}:{len(turns)}", speaker.strip() or "unknown", "other", text.strip()))
    if not turns:
        raise Bad(f"dialogues.{name}.contents", "has no message")
    times = ", ".join(map(str, contents))
    speakers = distinct(turn.speaker for turn in turns)
    return Segment(name, "dialogue", turns=tuple(turns), time_text=times, speakers=speakers, meta={"group": group})


def _questions(source: Source, held: Any, segments: tuple[Segment, ...]) -> Iterator[Question]:
    known = {segment.id for segment in segments}
    if profile := have(held, "profile", list, []):
        source.note("profile", f"{len(profile)} question(s) about the profile", "left aside")
    for kind in KINDS:
        for i, item in enumerate(_flat(have(held, kind, list, []))):
            place = f"{kind}[{i}]"
            with source.part("question"):
                text, answer = need(item, "Question", str, place), need(item, "Answer", str, place)
                cited = _ID.findall(str(item.get("Reference Memory", "")))
                names = [*cited, *(["relations"] if kind == KINDS[0] else [])]
                evidence = tuple(name for name in distinct(names) if name in known)
                anchors = [str(key) for anchor in have(item, "Memory Anchors", list, [], place) for key in anchor]
                parts = distinct(a.strip() for a in anchors if a.strip() and a.lower().strip() in answer.lower())
                yield Question(
                    id=f"{kind}-{i}",
                    question=text.strip(),
                    answers=("; ".join(parts),) if parts else (answer.strip(),),
                    answer_type="list" if parts else "short",
                    category=kind,
                    evidence=evidence,
                    evidence_level="segment" if evidence else "none",
                    scorers=("list_hit", "f1_squad") if parts else ("f1_squad", "rouge_l"),
                    meta={"answer": answer.strip()},
                )


def _flat(items: list[Any]) -> Iterator[Any]:
    """Questions, also those that lie one level deeper under the id of their memory."""
    for item in items:
        if isinstance(item, dict) and "Question" not in item and all(isinstance(v, list) for v in item.values()):
            for inner in item.values():
                yield from inner
        else:
            yield item
