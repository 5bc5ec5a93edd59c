"""MemoryAgentBench (arXiv 2507.05257), its four dimensions: ai-hyz/MemoryAgentBench on the hub, MIT.

Records: context, questions, answers (a list of accepted answers per question) and metadata with source, question_ids,
question_types, question_dates, keypoints …; one parquet file per dimension (JSON Lines are read too). What a context is
depends on its source:

    Accurate_Retrieval        ruler_qa1 and ruler_qa2 (numbered documents), eventqa (a novel), longmemeval_s* (sessions)
    Test_Time_Learning        icl_* (sentences with label numbers), recsys_redial (dialogues; titles by entity2id.json)
    Long_Range_Understanding  infbench_sum (a book to tell), detective_qa (a novel and a question)
    Conflict_Resolution       factconsolidation (numbered facts, later ones correct earlier ones), one and more hops

All of it is test. Nothing is cut apart that belongs together: a fact, a labelled sentence, a session's turn.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build import longmemeval
from mnemon.tasks.rows.build.books import book_row
from mnemon.tasks.rows.build.common import Source, date, distinct, draw, read_json, read_records
from mnemon.tasks.rows.data import Chunk, Chunker, Question, Row, Said, Segment
from mnemon.tasks.rows.fields import Bad, cast, have, need, texts, texts_in
from mnemon.tasks.rows.wrap import book, chat_line, dialogue, session_header

Cut = tuple[tuple[Segment, ...], tuple[Chunk, ...], Chunker]

_DOCUMENT = re.compile(r"(?m)^Document \d+:?")
_FACT = re.compile(r"(?m)^\s*(\d+)\.\s+(\S.*)$")
_LABELLED = re.compile(r"(?m)^[Ll]abel:\s*(\d+)\s*$")
SHORTEST = 2000
"""Characters below which MemoryAgentBench itself leaves a context out."""


def build(source: Source) -> Iterator[Row]:
    """A row per context. A file entity2id.json among the files gives the titles of recommended films."""
    titles: dict[str, str] = {}
    for path in source.files:
        if path.name == "entity2id.json":
            titles = {str(number): _title(name) for name, number in cast(read_json(path), dict, path.name).items()}
    counts: Counter[str] = Counter()
    for path in source.each():
        if path.name == "entity2id.json":
            continue
        for i, record in read_records(source, path, "MemoryAgentBench contexts"):
            with source.part("context", f"row {i}"):
                about = need(record, "metadata", dict)
                name = need(about, "source", str, "metadata")
                source.row = f"row {i} ({name})"
                row = _row(source, record, about, name, f"{name}#{counts[name]}", titles)
                counts[name] += 1
                yield row


def _row(source: Source, record: Any, about: Mapping[str, Any], name: str, key: str, titles: Mapping[str, str]) -> Row:
    context = need(record, "context", str)
    if len(context) < SHORTEST:
        source.note("context", f"has {len(context)} characters; the benchmark leaves out fewer than {SHORTEST}", "kept")
    asked, golds = texts_in(record, "questions"), have(record, "answers", list, [])
    if not asked or len(asked) != len(golds):
        raise Bad("questions", f"{len(asked)} questions and {len(golds)} answers")
    answers = [distinct(a.strip() for a in texts(gold, f"answers[{i}]") if a.strip()) for i, gold in enumerate(golds)]
    if name.startswith("infbench"):
        facts = {"source": name.lower(), "license": "MIT"}
        if not answers[0]:
            raise Bad("answers[0]", "has no summary")
        points = texts_in(about, "keypoints", "metadata")
        return book_row(source, f"mab/{key}", "test", context, answers[0][0], facts, {"documents": [key]}, points)
    family = next((start for start in FAMILIES if name.startswith(start)), None)
    if family is None:
        raise Bad("metadata.source", f"{name!r} is unknown; known: infbench, {', '.join(FAMILIES)}")
    dimension, cut, ask = FAMILIES[family]
    segments, chunks, rule = cut(source, context, key)
    questions: list[Question] = []
    for i, (question, gold) in enumerate(zip(asked, answers, strict=True)):
        with source.part("question"):
            if not gold:
                raise Bad(f"answers[{i}]", "is empty")
            questions.append(ask(_Item(i, question.strip(), gold, name, about, segments, titles)))
    if not questions:
        raise Bad("questions", "none can be used")
    return Row(
        id=f"mab/{key}",
        source=name.lower(),
        dimension=dimension,
        split="test",
        license="MIT",
        segments=segments,
        probes=tuple(draw(questions, source.options.questions, source.options.seed, key)),
        chunks=chunks,
        chunker=rule,
        metadata={"documents": [key]},
    )


# ── contexts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _documents(source: Source, context: str, key: str) -> Cut:
    """``Document n:`` blocks, packed."""
    options = source.options
    cuts = [match.start() for match in _DOCUMENT.finditer(context)]
    if not cuts:
        raise Bad("context", "has no line 'Document 1:'")
    blocks = [context[a:b].strip() for a, b in zip(cuts, [*cuts[1:], len(context)], strict=True)]
    segments = tuple(Segment(f"d{i}", "document", block) for i, block in enumerate(blocks))
    size = options.chunk_tokens
    wrap = dialogue(options.seed, key=key)
    return segments, *chunk.pack(segments, options.counter, size, size, wrap, options.seed)


def _novel(source: Source, context: str, key: str) -> Cut:
    """Sentences, packed."""
    options = source.options
    wrap = book(options.seed)
    left = chunk.room(options.chunk_tokens, options.counter, wrap)
    parts = chunk.pack_sentences(context, left, options.counter)
    segments = tuple(Segment(f"b{i}", "text", part) for i, part in enumerate(parts))
    return segments, *chunk.each(segments, options.counter, options.chunk_tokens, wrap)


def _blocks(source: Source, items: Sequence[str], wrap: chunk.Wrap, make: Callable[[int, list[int]], Segment]) -> Cut:
    """Whole items in as few blocks as fit, a segment and a chunk each."""
    options = source.options
    left = chunk.room(options.chunk_tokens, options.counter, wrap)
    sizes = [options.counter(item) + options.counter("\n") for item in items]
    if max(sizes) > left:
        raise Bad("context", f"has an item of {max(sizes)} tokens, and a chunk holds {left}: allow more")
    groups = chunk.greedy(sizes, lambda: left)
    segments = tuple(make(k, group) for k, group in enumerate(groups))
    return segments, *chunk.each(segments, options.counter, options.chunk_tokens, wrap)


def _facts(source: Source, context: str, key: str) -> Cut:
    """Lines ``12. fact``, their numbers kept: the newest one holds."""
    facts = [(int(n), text.strip()) for n, text in _FACT.findall(context)]
    if not facts:
        raise Bad("context", "has no line like '0. fact'")
    lines = [f"{n}. {text}" for n, text in facts]

    def make(k: int, group: list[int]) -> Segment:
        serials = [facts[group[0]][0], facts[group[-1]][0]]
        return Segment(f"f{k}", "facts", "\n".join(lines[i] for i in group), meta={"serials": serials})

    return _blocks(source, lines, dialogue(source.options.seed, key=key), make)


def _examples(source: Source, context: str, key: str) -> Cut:
    """A sentence, then a line ``label: n``."""
    items: list[tuple[str, str]] = []
    at = 0
    for match in _LABELLED.finditer(context):
        text = " ".join(context[at : match.start()].split())
        at = match.end()
        if not text:
            raise Bad("context", f"label {match.group(1)} number {len(items)} has no sentence")
        items.append((text, match.group(1)))
    if not items:
        raise Bad("context", "has no line like 'label: 3'")
    told = [f"Sentence: {text}\nLabel: {label}" for text, label in items]

    def make(k: int, group: list[int]) -> Segment:
        turns = (Said(f"e{i}", "example", "other", told[i], {"text": items[i][0], "label": items[i][1]}) for i in group)
        return Segment(f"b{k}", "examples", turns=tuple(turns))

    return _blocks(source, told, dialogue(source.options.seed, labels=True, key=key), make)


def _sessions(source: Source, context: str, key: str) -> Cut:
    """The printed Python list [date, [turns], date, [turns], …], read as a literal."""
    options = source.options
    try:
        held = ast.literal_eval(context)
    except (ValueError, SyntaxError, RecursionError) as error:
        raise Bad("context", f"is not a printed list of dates and sessions ({error})") from error
    if not isinstance(held, list) or len(held) % 2:
        raise Bad("context", "is not a list of dates and sessions in turn")
    segments = []
    for k in range(0, len(held), 2):
        with source.part("session"):
            when = cast(held[k], str, f"context[{k}]")
            segments.append(longmemeval.session(f"s{k // 2}", when, held[k + 1], f"context[{k + 1}]"))
    ordered = tuple(sorted(segments, key=lambda segment: segment.time))
    return ordered, *chunk.sessions(ordered, options.counter, options.chunk_tokens, session_header, chat_line)


def _dialogues(source: Source, context: str, key: str) -> Cut:
    """Paragraphs, packed: one dialogue each."""
    options = source.options
    parts = [part.strip() for part in re.split(r"\n\s*\n", context) if part.strip()]
    segments = tuple(Segment(f"d{i}", "text", part) for i, part in enumerate(parts))
    size, wrap = options.chunk_tokens, dialogue(options.seed, key=key)
    return segments, *chunk.pack(segments, options.counter, size, size, wrap, options.seed)


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Item:
    """One question with all that it may need."""

    def __init__(
        self,
        i: int,
        text: str,
        answers: tuple[str, ...],
        name: str,
        about: Mapping[str, Any],
        segments: Sequence[Segment],
        titles: Mapping[str, str],
    ) -> None:
        self.i, self.text, self.answers, self.name, self.about = i, text, answers, name, about
        self.segments, self.titles = segments, titles

    def ask(self, category: str, answer_type: str, *scorers: str, **changes: Any) -> Question:
        """The question, with fields of `Question` changed."""
        given = {"answers": self.answers, "answer_type": answer_type, "category": category, "scorers": scorers}
        return Question(f"q{self.i}", self.text, **{**given, **changes})

    def of(self, key: str) -> str:
        """The question's own entry of a list in the record's metadata, "" where there is none."""
        held = self.about.get(key)
        return str(held[self.i]) if isinstance(held, list) and self.i < len(held) and held[self.i] else ""


def _ask_ruler(item: _Item) -> Question:
    category = "single_doc" if item.name.startswith("ruler_qa1") else "multi_doc"
    return item.ask(category, "short", "sub_squad", "em_squad", "f1_hotpot")


def _ask_event(item: _Item) -> Question:
    return item.ask("next_event", "list", "event_recall", "sub_squad")


def _ask_detective(item: _Item) -> Question:
    return item.ask("detective", "short", "em_squad", "sub_squad")


def _ask_fact(item: _Item) -> Question:
    """The category says how many facts must be joined; the size of the context is in its name."""
    hops = "multi_hop" if "_mh" in item.name else "single_hop"
    return item.ask(hops, "short", "sub_squad", "em_squad", meta={"size": item.name.rpartition("_")[2]})


def _ask_label(item: _Item) -> Question:
    number = item.answers[0].lower().removeprefix("label:").strip()
    if not number.isdigit():
        raise Bad(f"answers[{item.i}]", f"{item.answers[0]!r} is not the number of a label")
    shown = tuple(s.id for s in item.segments if any(turn.meta.get("label") == number for turn in s.turns))
    level = "segment" if shown else "none"
    return item.ask("label", "label", "label", "boxed", answers=(number,), evidence=shown, evidence_level=level)


def _ask_session(item: _Item) -> Question:
    name = item.of("question_ids") or f"q{item.i}"
    kind, when = item.of("question_types") or "unknown", item.of("question_dates")
    time = date(when, longmemeval.TIME, f"metadata.question_dates[{item.i}]") if when else ""
    return longmemeval.question(name, item.text, item.answers[0], kind, time, (), "segment", ())


def _ask_film(item: _Item) -> Question:
    known = distinct(item.titles.get(answer, "" if answer.isdigit() else answer) for answer in item.answers)
    answers = tuple(title for title in known if title)
    if not answers:
        raise Bad(f"answers[{item.i}]", "are numbers of films; give entity2id.json among the files")
    return item.ask("recommendation", "ranking", "rank_recall@5", "rank_recall@1", "rank_recall@10", answers=answers)


def _title(entity: str) -> str:
    """``<http://dbpedia.org/resource/Heat_(1995_film)>`` as ``Heat``."""
    name = entity.strip("<>").rpartition("/")[2].replace("_", " ")
    return re.sub(r"\s*\([^)]*\)\s*$", "", name).strip()


FAMILIES: dict[str, tuple[str, Callable[[Source, str, str], Cut], Callable[[_Item], Question]]] = {
    "ruler_qa": ("accurate_retrieval", _documents, _ask_ruler),
    "eventqa": ("accurate_retrieval", _novel, _ask_event),
    "longmemeval": ("accurate_retrieval", _sessions, _ask_session),
    "icl_": ("test_time_learning", _examples, _ask_label),
    "recsys_redial": ("test_time_learning", _dialogues, _ask_film),
    "detective_qa": ("long_range_understanding", _novel, _ask_detective),
    "factconsolidation": ("conflict_resolution", _facts, _ask_fact),
}
"""Beginning of a source's name -> dimension, how its context is cut, how its questions are asked."""
