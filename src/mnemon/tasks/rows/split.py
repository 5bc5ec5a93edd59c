"""Splits by document, and a check that nothing of one split is in another."""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mnemon.tasks.rows.data import SPLITS, Row, Split
from mnemon.types import MnemonError

_WORD = re.compile(r"\w+")
COMMON = 50


def split_documents(names: Iterable[str], share: float = 0.9, seed: int = 42) -> dict[str, Split]:
    """Each document's split: ``int(share * n)`` of the n distinct names are train, the rest validation.

    Names are sorted, then shuffled with `seed`: their order in the file changes nothing. One document alone is train.
    """
    order = sorted(set(names))
    random.Random(seed).shuffle(order)
    first = max(1, int(share * len(order)))
    return {name: "train" if i < first else "validation" for i, name in enumerate(order)}


def deal_documents(names: Iterable[str], share: float = 0.9, seed: int = 42) -> dict[str, Split]:
    """Each document's split where one file has to serve for all three: ``int(share * n)`` of the n are train (but two
    at least are left), half of the rest validation, the other half test. MnemonError for fewer than three.
    """
    order = sorted(set(names))
    random.Random(seed).shuffle(order)
    first = min(int(share * len(order)), len(order) - 2)
    if first < 1:
        raise MnemonError(f"{len(order)} documents cannot be dealt to train, validation and test: 3 are the fewest")
    held = first + (len(order) - first) // 2
    return {n: "train" if i < first else "validation" if i < held else "test" for i, n in enumerate(order)}


def split_labels(labels: Iterable[str], seed: int = 42, share: float = 0.1) -> dict[Split, tuple[str, ...]]:
    """Labels dealt to the splits, none to two: a tenth each to test and validation, at least two; the rest to train.

    Under eight labels there is no validation set; under four everything is test.
    """
    order = sorted(set(labels))
    random.Random(seed).shuffle(order)
    n = len(order)
    held = max(2, int(share * n))
    sizes = (n, 0) if n < 4 else (held, 0) if n < 8 else (held, held)
    test, validation = order[: sizes[0]], order[sizes[0] : sum(sizes)]
    return {"train": tuple(order[sum(sizes) :]), "validation": tuple(validation), "test": tuple(test)}


# ── leaks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Leak:
    """Something of one split that another split holds too. `what`: document, question, labels, chunk."""

    what: str
    name: str
    first: str
    second: str
    rows: tuple[str, str]

    def __str__(self) -> str:
        return (
            f"{self.what} {self.name!r} is in {self.first} (row {self.rows[0]}) and {self.second} (row {self.rows[1]})"
        )


def leaks(rows: Sequence[Row], near: float = 0.8) -> list[Leak]:
    """What two splits share; each shared thing once per pair of splits.

    document: a name of ``metadata["documents"]``, within a source. question: the same words with the same answer,
    whatever the source; of labelled sentences, the sentence, asked in one of them. labels: a class of
    ``metadata["labels"]`` within a source, unless the row says ``labels_shared``. chunk: texts that share at least
    `near` of their runs of eight words (Jaccard).
    """
    found = _shared("document", rows, _documents)
    asked = {key for row in rows for key, _ in _asked(row)}
    found += _shared("question", rows, lambda row: [*_asked(row), *((k, n) for k, n in _shown(row) if k in asked)])
    found += _shared("labels", rows, _labels)
    return found + _near_chunks(rows, near)


def _documents(row: Row) -> Iterable[tuple[str, str]]:
    return ((f"{row.source}/{name}", name) for name in row.documents)


def _asked(row: Row) -> Iterable[tuple[str, str]]:
    """Questions with their answers; of labelled sentences the sentence.

    A request for a summary names dates only, so it is not compared.
    """
    for probe in row.probes:
        if probe.answer_type == "label":
            yield _key(probe.question), probe.question
        elif probe.answer_type not in ("keywords", "summary"):
            yield _key(f"{probe.question} = {' '.join(sorted(probe.answers))}"), probe.question


def _shown(row: Row) -> Iterable[tuple[str, str]]:
    """Labelled sentences of the stream; they count where another row asks for them."""
    for segment in row.segments:
        if segment.kind == "examples":
            said = (str(turn.meta.get("text", turn.text)) for turn in segment.turns)
            yield from ((_key(text), text) for text in said)


def _key(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def _labels(row: Row) -> Iterable[tuple[str, str]]:
    if row.metadata.get("labels_shared"):
        return ()
    return ((f"{row.source}/{name}", str(name)) for name in dict(row.metadata.get("labels", {})).values())


def _shared(what: str, rows: Sequence[Row], keys: Callable[[Row], Iterable[tuple[str, str]]]) -> list[Leak]:
    places: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for row in rows:
        for key, name in keys(row):
            places[key].setdefault(row.split, (row.id, name))
    return [
        Leak(what, at[a][1], a, b, (at[a][0], at[b][0]))
        for at in places.values()
        for i, a in enumerate(SPLITS)
        for b in SPLITS[i + 1 :]
        if a in at and b in at
    ]


def _near_chunks(rows: Sequence[Row], near: float) -> list[Leak]:
    """Candidates share one of the 16 smallest hashes of their word runs; then the Jaccard index is computed exactly.

    A run that more than `COMMON` chunks have is part of a frame, and tells nothing.
    """
    held: list[tuple[Row, str, frozenset[int]]] = []
    sketches: dict[int, list[int]] = defaultdict(list)
    found: list[Leak] = []
    for row in rows:
        for chunk in row.chunks:
            runs = _runs(chunk.text)
            keys = sorted(runs)[:16]
            candidates = {i for key in keys if len(sketches[key]) <= COMMON for i in sketches[key]}
            for i in sorted(candidates):
                other, name, theirs = held[i]
                if other.split != row.split and len(runs & theirs) >= near * len(runs | theirs):
                    first, second = sorted((other, row), key=lambda r: SPLITS.index(r.split))
                    found.append(Leak("chunk", name, first.split, second.split, (first.id, second.id)))
                    break
            for key in keys:
                sketches[key].append(len(held))
            held.append((row, f"{row.id}/{chunk.id}", runs))
    return found


def _runs(text: str, length: int = 8) -> frozenset[int]:
    """Hashes of all runs of `length` words, the frame's first line left out; of all words where there are fewer."""
    body = text.partition("\n")[2] if text.startswith("[") else text
    words = _WORD.findall(body.lower())
    runs = (" ".join(words[i : i + length]) for i in range(max(1, len(words) - length + 1)))
    return frozenset(int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big") for run in runs)
