"""PubMed-RCT (Dernoncourt and Lee, arXiv 1710.06071): sentences of abstracts with one of five roles, as numbers.

The repository's text files: "###id", then lines LABEL, tab, sentence. The hub's records (pietrolesci/pubmed-200k-rct):
labels 0 to 4 (BACKGROUND, CONCLUSIONS, METHODS, OBJECTIVE, RESULTS), text, uid. The split is the file's (train, dev or
validation, test). The five labels are the same in all splits; their numbers are drawn anew for each row, and no
abstract is in two rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mnemon.tasks.rows.build.common import Source, read_records, read_text, shuffled
from mnemon.tasks.rows.build.labels import QUESTIONS, Item, Labelled, label_row
from mnemon.tasks.rows.data import Row, Split
from mnemon.tasks.rows.fields import Bad, need

LABELS = ("BACKGROUND", "CONCLUSIONS", "METHODS", "OBJECTIVE", "RESULTS")


def build(source: Source) -> Iterator[Row]:
    """Rows of `options.row_chunks` well-filled chunks; the questions are of abstracts that are not shown."""
    options = source.options
    data = Labelled("pubmed_rct", "unstated", (), ())
    budget = options.row_chunks * options.chunk_tokens * 3 // 4
    for path in source.each():
        name = path.name.lower()
        split: Split = "train" if "train" in name else "validation" if "dev" in name or "valid" in name else "test"
        abstracts: dict[str, list[Item]] = {}
        for item in _items(source, path):
            abstracts.setdefault(item.document, []).append(item)
        order = shuffled(sorted(abstracts), options.seed, path.stem)
        n = at = 0
        while at < len(order):
            shown, at = _take(abstracts, order, at, budget, source)
            asked: list[Item] = []
            first = at
            while at < len(order) and len(asked) < (options.questions or QUESTIONS):
                asked += abstracts[order[at]]
                at += 1
            labels = sorted({item.label for item in shown})
            asked = [item for item in asked if item.label in labels]
            if not asked:
                break
            documents = [item.document for item in shown if item.document] + order[first:at]
            yield label_row(
                data,
                f"pubmed_rct/{path.stem}#{n}",
                split,
                labels,
                shown,
                asked,
                options,
                budget,
                documents=list(dict.fromkeys(documents)),
                labels_shared=True,
            )
            n += 1


def _take(
    abstracts: dict[str, list[Item]], order: list[str], at: int, budget: int, source: Source
) -> tuple[list[Item], int]:
    """Abstracts from `at` on, while they fit; at most four of five that are left, so that some can be asked."""
    last = at + max(1, (len(order) - at) * 4 // 5)
    shown: list[Item] = []
    total = 0
    while at < last and (not shown or total < budget):
        shown += abstracts[order[at]]
        total += sum(source.options.counter(item.text) + 4 for item in abstracts[order[at]])
        at += 1
    return shown, at


def _items(source: Source, path: Path) -> Iterator[Item]:
    if path.suffix in (".jsonl", ".json", ".parquet"):
        for i, record in read_records(source, path, "PubMed-RCT sentences"):
            with source.part("sentence", f"row {i}"):
                number = need(record, "labels", int)
                if not 0 <= number < len(LABELS):
                    raise Bad("labels", f"{number} is not 0 to 4")
                yield Item(need(record, "text", str).strip(), LABELS[number], str(record.get("uid", "")))
        return
    document = ""
    for i, line in enumerate(read_text(path).splitlines(), 1):
        if line.startswith("###"):
            document = line[3:].strip()
        elif line.strip():
            with source.part("sentence", f"line {i}"):
                label, tab, text = line.partition("\t")
                if label not in LABELS or not tab or not text.strip():
                    raise Bad("", f"{line[:40]!r} is not a label of {', '.join(LABELS)}, a tab and a sentence")
                yield Item(text.strip(), label, document)
