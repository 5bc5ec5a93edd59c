"""HotpotQA (Yang et al., arXiv 1809.09600) in its two layouts: questions over paragraphs, distractors kept.

The release: _id, question, answer, type, level, supporting_facts [[title, sentence]], context [[title, [sentences]]].
The hub: id, …, supporting_facts {title, sent_id}, context {title, sentences}; JSON, JSON Lines or parquet. CC BY-SA
4.0. A file named *train* is split into train and validation so that they share no paragraph; any other is test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Source, distinct, divide, draw, read_records
from mnemon.tasks.rows.data import SPLITS, Question, Row, Segment, Split
from mnemon.tasks.rows.fields import Bad, cast, need, texts
from mnemon.tasks.rows.wrap import dialogue

SCORERS = ("em_squad", "f1_hotpot", "sub_squad", "sub_raw")


@dataclass(frozen=True, slots=True)
class _Item:
    name: str
    question: str
    answer: str
    kind: str
    level: str
    context: Mapping[str, str]
    facts: tuple[tuple[str, int], ...]

    @property
    def titles(self) -> tuple[str, ...]:
        return distinct(title for title, _ in self.facts)


def build(source: Source) -> Iterator[Row]:
    """Rows of questions in the order of the file, about `options.row_chunks` chunks each."""
    for path in source.each():
        items: dict[str, _Item] = {}
        for i, record in read_records(source, path, "HotpotQA questions"):
            with source.part("question", f"row {i}"):
                item = _item(record)
                if item.name in items:
                    raise Bad("id", f"{item.name!r} is used twice")
                items[item.name] = item
        splits: dict[str, Split] = dict.fromkeys(items, "test")
        owners: dict[str, Split] = {}
        if "train" in path.name.lower():
            splits, owners = divide({name: item.titles for name, item in items.items()}, ())
            for split in reversed(SPLITS[:2]):  # distractors go where they are read; validation comes first
                for name in (name for name, given in splits.items() if given == split):
                    owners.update({title: split for title in items[name].context if title not in owners})
            if lost := len(items) - len(splits):
                source.row = ""
                source.note("", f"{lost} question(s) need a paragraph of the validation set", "left aside")
        for split in SPLITS:
            run = [item for name, item in items.items() if splits.get(name) == split]
            yield from _rows(source, path.stem, split, run, owners)


def _item(record: Any) -> _Item:
    name = need(record, "_id" if isinstance(record, dict) and "_id" in record else "id", str)
    pairs = _pairs(record, "context", "sentences")
    context: dict[str, str] = {}
    for i, (title, parts) in enumerate(pairs):
        text = " ".join("".join(texts(parts, f"context[{i}]")).split())
        if text:
            context.setdefault(title, text)
    facts = []
    for i, (title, number) in enumerate(_pairs(record, "supporting_facts", "sent_id")):
        if title not in context:
            raise Bad(f"supporting_facts[{i}]", f"there is no paragraph {title!r}")
        facts.append((title, cast(number, int, f"supporting_facts[{i}]")))
    strings = {key: need(record, key, str) for key in ("question", "answer", "type")}
    return _Item(
        name,
        strings["question"].strip(),
        strings["answer"].strip(),
        strings["type"],
        str(record.get("level", "")),
        context,
        tuple(facts),
    )


def _pairs(record: Any, key: str, second: str) -> list[tuple[str, Any]]:
    """[[title, x], …] of the release, or the hub's {title: […], x: […]}."""
    value = record.get(key)
    if isinstance(value, dict):
        titles, others = need(value, "title", list, key), need(value, second, list, key)
        if len(titles) != len(others):
            raise Bad(key, f"has {len(titles)} titles and {len(others)} {second}")
        value = [list(pair) for pair in zip(titles, others, strict=True)]
    found = []
    for i, pair in enumerate(need(record, key, list) if value is None else cast(value, list, key)):
        match pair:
            case [str(title), other]:
                found.append((title, other))
            case _:
                raise Bad(f"{key}[{i}]", "is not a pair that begins with a title")
    return found


def _rows(source: Source, stem: str, split: str, items: Sequence[_Item], owners: Mapping[str, Split]) -> Iterator[Row]:
    """A row closes when the paragraphs that its questions bring fill its chunks to their mean target."""
    options = source.options
    least = min(100, options.chunk_tokens // 4)
    full = options.row_chunks * (least + options.chunk_tokens) // 2
    size = {title: options.counter(text) for item in items for title, text in item.context.items()}
    held: dict[str, str] = {}
    run: list[_Item] = []
    n = 0
    for item in items:
        own = {title: text for title, text in item.context.items() if owners.get(title, split) == split}
        new = sum(size[title] for title in own if title not in held)
        if run and sum(size[title] for title in held) + new > full:
            yield _row(source, f"{stem}/{split}#{n}", split, run, held)
            held, run, n = {}, [], n + 1
        run.append(item)
        held |= {title: text for title, text in own.items() if title not in held}
    if run:
        yield _row(source, f"{stem}/{split}#{n}", split, run, held)


def _row(source: Source, name: str, split: str, items: Sequence[_Item], held: Mapping[str, str]) -> Row:
    options = source.options
    ids = {title: f"p{i}" for i, title in enumerate(held)}
    segments = tuple(Segment(ids[title], "document", text, meta={"title": title}) for title, text in held.items())
    titled = tuple(Segment(s.id, s.kind, f"{s.meta['title']}\n{s.text}", meta=s.meta) for s in segments)
    least, seed = min(100, options.chunk_tokens // 4), options.seed
    chunks, rule = chunk.pack(titled, options.counter, options.chunk_tokens, least, dialogue(seed, key=name), seed)
    asked = [
        Question(
            id=item.name,
            question=item.question,
            answers=(item.answer,),
            category=item.kind,
            evidence=tuple(ids[title] for title in item.titles),
            evidence_level="segment",
            scorers=SCORERS,
            meta={"level": item.level, "sentences": [[ids[title], number] for title, number in item.facts]},
        )
        for item in items
    ]
    return Row(
        id=f"hotpotqa/{name}",
        source="hotpotqa",
        dimension="accurate_retrieval",
        split=split,
        license="CC-BY-SA-4.0",
        segments=segments,
        probes=tuple(draw(asked, options.questions, options.seed, name)),
        chunks=chunks,
        chunker=rule,
        metadata={"documents": list(held)},
    )
