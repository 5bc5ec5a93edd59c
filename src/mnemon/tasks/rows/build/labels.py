"""Test-time learning: a stream of labelled sentences whose labels are mere numbers, then new sentences to label.

As in Mem-α (arXiv 2509.25911) and MemoryAgentBench (arXiv 2507.05257), with four rules of ours. Every label of a row is
shown at least once. No sentence is both shown and asked. A label belongs to one split only, and its number is drawn
anew for each row, so that nothing but the stream says what a number means. The dataset's own test sentences are asked
in test rows only: the questions of the others are held out of its training sentences.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Options, Source, draw, shuffled
from mnemon.tasks.rows.data import Question, Row, Said, Segment, Split
from mnemon.tasks.rows.split import split_labels
from mnemon.tasks.rows.wrap import dialogue
from mnemon.types import MnemonError

QUESTIONS = 100
SCORERS = ("label", "boxed", "em_squad")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Item:
    """A sentence and the name of its label; `document`: what it was taken from, where that matters."""

    text: str
    label: str
    document: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A dataset of labelled sentences: `shown` may be examples, `asked` are held out; `per_row`: most labels."""

    name: str
    license: str
    shown: Sequence[Item]
    asked: Sequence[Item]
    per_row: int = 15
    kin: Callable[[str], str] = str
    """Label -> what it is a kind of: labels of one kind are in one split."""


def label_rows(source: Source, data: Labelled) -> Iterator[Row]:
    """Rows of train, validation and test labels, each label in one row per round (`options.label_rounds`).

    With ``options.all_labels`` one test row with every label and all examples, as in MemoryAgentBench.
    """
    options = source.options
    shown, asked = _apart(source, data)
    if options.all_labels:
        labels = sorted({item.label for item in shown})
        if not asked:
            shown, asked = hold_out(shown)
        yield label_row(data, f"{data.name}/all", "test", labels, shown, asked, options, budget=None)
        return
    budget = options.row_chunks * options.chunk_tokens // 4
    kinds = split_labels(data.kin(item.label) for item in shown)
    for split, kept in kinds.items():
        names = sorted({item.label for item in shown if data.kin(item.label) in kept})
        for r in range(options.label_rounds):
            order = shuffled(names, options.seed, data.name, split, r)
            for n, group in enumerate(chunk.even(len(order), -(-len(order) // data.per_row)) if order else ()):
                held = {order[i] for i in group}
                examples = [item for item in shown if item.label in held]
                inside = [item for item in asked if item.label in held]
                if split != "test" or not asked:
                    examples, inside = hold_out(examples)
                if not inside:
                    source.note("", f"no held-out sentence of {', '.join(sorted(held)[:3])}", "row left aside")
                    continue
                name = f"{data.name}/{split}#{n}" + (f".{r}" if r else "")
                yield label_row(data, name, split, sorted(held), examples, inside, options, budget)


def hold_out(items: Sequence[Item], seed: int = 42) -> tuple[list[Item], list[Item]]:
    """(shown, asked): a fifth of each label's sentences, at least one of two, is asked. The same for every run."""
    by_label: dict[str, list[Item]] = defaultdict(list)
    for item in shuffled(sorted(items, key=lambda item: item.text), seed, "held out"):
        by_label[item.label].append(item)
    sizes = {label: max(int(len(held) > 1), len(held) // 5) for label, held in by_label.items()}
    return (
        [item for label, held in by_label.items() for item in held[sizes[label] :]],
        [item for label, held in by_label.items() for item in held[: sizes[label]]],
    )


def _apart(source: Source, data: Labelled) -> tuple[list[Item], list[Item]]:
    """Shown and asked without sentences that are in both, or twice, or under two labels, or asked but never shown."""
    everything = [*data.shown, *data.asked]
    labels: dict[str, set[str]] = defaultdict(set)
    for item in everything:
        labels[_key(item.text)].add(item.label)
    mixed = {key for key, names in labels.items() if len(names) > 1}
    asked = _once([item for item in data.asked if _key(item.text) not in mixed], set())
    taken = {_key(item.text) for item in asked}
    shown = _once([item for item in data.shown if _key(item.text) not in mixed], taken)
    known = {item.label for item in shown}
    asked = [item for item in asked if item.label in known]
    if lost := len(everything) - len(asked) - len(shown):
        source.row = ""
        source.note("", f"{lost} sentence(s) repeated, asked and shown, under two labels, or never shown", "left aside")
    return shown, asked


def _once(items: Sequence[Item], seen: set[str]) -> list[Item]:
    kept = []
    for item in items:
        if (key := _key(item.text)) not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def _key(text: str) -> str:
    return " ".join(_WORD.findall(text.lower())) or text


def label_row(
    data: Labelled,
    name: str,
    split: Split,
    labels: Sequence[str],
    shown: Sequence[Item],
    asked: Sequence[Item],
    options: Options,
    budget: int | None,
    **metadata: Any,
) -> Row:
    """One row. budget: tokens of examples (None: all of them); one example of every label goes first, whatever it
    costs.

    The examples are shuffled and dealt evenly to `options.row_chunks` chunks, or to as many as they need. MnemonError
    where one example fills more than a chunk.
    """
    numbers = {label: str(i) for i, label in enumerate(shuffled(labels, options.seed, name, "numbers"))}
    wrap = dialogue(options.seed, labels=True, key=name)
    room = chunk.room(options.chunk_tokens, options.counter, wrap)
    chosen = _chosen(shown, numbers, options, name, budget)
    sizes = [options.counter(_told(item, numbers)) + options.counter("\n") for item in chosen]
    if max(sizes) > room:
        raise MnemonError(
            f"{data.name}: an example has {max(sizes)} {options.counter.name} tokens, and a chunk of "
            f"{options.chunk_tokens} holds {room}: allow more tokens per chunk (--chunk-tokens)"
        )
    groups = chunk.even(len(chosen), max(1, options.row_chunks))
    if any(sum(sizes[i] for i in group) > room for group in groups):
        groups = chunk.greedy(sizes, lambda: room)
    segments = tuple(
        Segment(
            f"b{k}",
            "examples",
            turns=tuple(Said(f"e{i}", "example", "other", _told(chosen[i], numbers), _meta(chosen[i])) for i in group),
        )
        for k, group in enumerate(groups)
    )
    chunks, rule = chunk.each(segments, options.counter, options.chunk_tokens, wrap)
    places: dict[str, list[str]] = defaultdict(list)
    for segment in segments:
        for label in dict.fromkeys(str(turn.meta["label"]) for turn in segment.turns):
            places[label].append(segment.id)
    questions = draw(asked, options.questions or QUESTIONS, options.seed, name, "asked")
    return Row(
        id=name,
        source=data.name,
        dimension="test_time_learning",
        split=split,
        license=data.license,
        segments=segments,
        probes=tuple(
            Question(
                id=f"q{i}",
                question=item.text,
                answers=(numbers[item.label],),
                answer_type="label",
                category=data.name,
                evidence=tuple(places[item.label]),
                evidence_level="segment",
                scorers=SCORERS,
            )
            for i, item in enumerate(questions)
        ),
        chunks=chunks,
        chunker=rule,
        metadata={"labels": {number: label for label, number in numbers.items()}, **metadata},
    )


def _told(item: Item, numbers: dict[str, str]) -> str:
    return f"Sentence: {item.text}\nLabel: {numbers[item.label]}"


def _meta(item: Item) -> dict[str, str]:
    return {"text": item.text, "label": item.label}


def _chosen(
    shown: Sequence[Item], numbers: dict[str, str], options: Options, name: str, budget: int | None
) -> list[Item]:
    """One example of every label, then others while they fit the budget; shuffled."""
    order = shuffled(shown, options.seed, name, "shown")
    first: dict[str, Item] = {}
    for item in order:
        first.setdefault(item.label, item)
    if missing := set(numbers) - set(first):
        raise MnemonError(f"{name}: no example of label {min(missing)!r}")
    if budget is None:
        return order
    chosen = list(first.values())
    left = budget - sum(options.counter(_told(item, numbers)) for item in chosen)
    taken = set(map(id, chosen))
    for item in order:
        if id(item) not in taken and (cost := options.counter(_told(item, numbers))) <= left:
            chosen.append(item)
            left -= cost
    return shuffled(chosen, options.seed, name, "order")
