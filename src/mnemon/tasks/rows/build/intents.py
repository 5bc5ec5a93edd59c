"""Sentences with labels from their original files: CLINC150, Banking77, TREC question types, NLU (HWU64).

    clinc150   data_full.json of clinc/oos-eval: {train, val, test, oos_…: [[text, intent], …]}; CC BY 3.0
    banking77  train.csv, test.csv of PolyAI-LDN/task-specific-datasets: text,category; CC BY 4.0
    trec       TREC.train, TREC.test with lines "COARSE:fine question", not UTF-8; no licence stated
    nlu        folders trainset and testset of CSV files per intent, of xliuhw/NLU-Evaluation-Data; CC BY 4.0

Out-of-scope sentences of CLINC150 are no label and are left aside. Rows: `mnemon.tasks.rows.build.labels`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnemon.tasks.rows.build.common import Source, read_csv, read_json, read_text
from mnemon.tasks.rows.build.labels import Item, Labelled, label_rows
from mnemon.tasks.rows.data import Row
from mnemon.tasks.rows.fields import Bad, short
from mnemon.types import MnemonError

NLU_COLUMNS = ("scenario", "intent", "answer_from_anno")


def clinc150(source: Source) -> Iterator[Row]:
    """CLINC150: 150 intents; train and val are shown, test is asked."""
    pools: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for path in source.each():
        raw = read_json(path)
        if not isinstance(raw, dict) or not {"train", "test"} <= set(raw):
            raise MnemonError(f"{path} is not a CLINC150 file: expected an object with train, val, test")
        for name, pairs in raw.items():
            if name not in pools:
                if not name.startswith("oos"):
                    source.note(name, "is no part of CLINC150", "left aside")
                continue
            for i, pair in enumerate(pairs if isinstance(pairs, list) else [pairs]):
                with source.part("sentence"):
                    pools[name].append(_pair(pair, f"{name}[{i}]"))
    yield from label_rows(source, Labelled("clinc150", "CC-BY-3.0", pools["train"] + pools["val"], pools["test"]))


def _pair(pair: Any, place: str) -> Item:
    match pair:
        case [str(text), str(label)] if text.strip() and label.strip():
            return Item(text.strip(), label)
    raise Bad(place, f"is {short(pair)}, not [text, intent]")


def banking77(source: Source) -> Iterator[Row]:
    """Banking77: 77 intents."""
    shown: list[Item] = []
    asked: list[Item] = []
    for path in source.each():
        pool = asked if _held_out(path) else shown
        for line, row in read_csv(path, ("text", "category")):
            with source.part("sentence", f"line {line}"):
                pool.append(_item(row["text"], row["category"]))
    yield from label_rows(source, Labelled("banking77", "CC-BY-4.0", shown, asked))


def trec_coarse(source: Source) -> Iterator[Row]:
    """TREC, the six coarse types."""
    yield from _trec(source, "trec_coarse", fine=False)


def trec_fine(source: Source) -> Iterator[Row]:
    """TREC, the fifty fine types, in the splits of their coarse ones: a question is in one split, coarse or fine."""
    yield from _trec(source, "trec_fine", fine=True)


def _trec(source: Source, name: str, fine: bool) -> Iterator[Row]:
    shown: list[Item] = []
    asked: list[Item] = []
    for path in source.each():
        pool = asked if _held_out(path) else shown
        for i, line in enumerate(read_text(path, "latin-1").splitlines(), 1):
            with source.part("question", f"line {i}"):
                label, _, text = line.strip().partition(" ")
                coarse, colon, _ = label.partition(":")
                if not colon:
                    raise Bad("label", f"{label!r} is not like 'DESC:manner'")
                pool.append(_item(text, label if fine else coarse))
    yield from label_rows(source, Labelled(name, "unstated", shown, asked, kin=lambda label: label.partition(":")[0]))


def nlu(source: Source) -> Iterator[Row]:
    """NLU: 64 intents ``scenario_intent``; the files may be the fold's folder or its CSV files."""
    shown: list[Item] = []
    asked: list[Item] = []
    for path in _csv_files(source.files):
        source.file = path.name
        source.progress(path.name)
        pool = asked if _held_out(path) else shown
        for line, row in read_csv(path, NLU_COLUMNS, ";"):
            with source.part("sentence", f"line {line}"):
                pool.append(_item(row["answer_from_anno"], f"{row['scenario']}_{row['intent']}"))
    yield from label_rows(source, Labelled("nlu", "CC-BY-4.0", shown, asked))


def _csv_files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (sorted(path.rglob("*.csv")) if path.is_dir() else [path])]
    if not files:
        raise MnemonError(f"nlu: there is no CSV file in {', '.join(map(str, paths))}")
    return files


def _held_out(path: Path) -> bool:
    """True for a file of the test part: by its own name, or that of its folders (testset)."""
    return "test" in path.name.lower() or any(part.lower() in ("test", "testset") for part in path.parts[-3:-1])


def _item(text: str, label: str) -> Item:
    if not text.strip() or not label.strip("_ "):
        raise Bad("", f"has no {'label' if text.strip() else 'text'}")
    return Item(" ".join(text.split()), label.strip())
