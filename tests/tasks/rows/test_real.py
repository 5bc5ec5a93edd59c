"""The published files themselves (MNEMON_DATA), by their counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from row_shapes import built, remarks

from mnemon.memory.count import BYTES
from mnemon.tasks.rows import leaks
from mnemon.tasks.rows.build import Built, found_in

SIZES = {  # rows of train, validation, test; segments; turns; probes
    "locomo/locomo10.json": ((1, 1, 8), 272, 5882, 1986),
    "squad_xquad/xquad.en.json": ((0, 0, 4), 240, 0, 1190),
    "hotpotqa/hotpotqa_train.json": ((8, 1, 0), 994, 0, 100),
    "hotpotqa/reflexion_distractor_sample_100.json": ((0, 0, 10), None, 0, 100),
    "longmemeval/longmemeval_oracle_evidence_turns_500.json": ((0, 0, 479), 854, 896, 479),
    "longmemeval/modified_s_multiquestion_sample.json": ((0, 0, 3), 120, 1218, 26),
    "msc/msc.jsonl": ((0, 0, 5), 25, None, 5),
}
NAMES = {"squad_xquad": "xquad"}


def counts(done: Built) -> tuple[tuple[int, ...], int, int, int]:
    splits = Counter(row.split for row in done.rows)
    segments = [segment for row in done.rows for segment in row.segments]
    turns = sum(len(segment.turns) for segment in segments)
    probes = sum(len(row.probes) for row in done.rows)
    return tuple(splits[name] for name in ("train", "validation", "test")), len(segments), turns, probes


def make(data: Path, name: str, tmp_path: Path, **options: object) -> Built:
    """A build of a copied name, so that nothing is written beside the data."""
    link = tmp_path / Path(name).name
    link.symlink_to(data / name)
    folder = name.partition("/")[0]
    return built(NAMES.get(folder, folder), link, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SIZES)
def test_counts(data_dir: Path, tmp_path: Path, name: str) -> None:
    done = make(data_dir, name, tmp_path)
    found = counts(done)
    assert [a for a, b in zip(found, SIZES[name], strict=True) if b is not None] == [
        b for b in SIZES[name] if b is not None
    ]
    assert done.left_out == 0
    assert leaks(done.rows) == []
    assert all(chunk.tokens <= 2048 for row in done.rows for chunk in row.chunks)


def test_locomo_in_bytes(data_dir: Path, tmp_path: Path) -> None:
    done = make(data_dir, "locomo/locomo10.json", tmp_path, counter=BYTES, chunk_tokens=1024)
    assert all(len(chunk.text.encode()) == chunk.tokens <= 1024 for row in done.rows for chunk in row.chunks)
    kinds = Counter(probe.category for row in done.rows for probe in row.probes)
    assert kinds == {"1": 282, "2": 321, "3": 96, "4": 841, "5": 446}
    cited = sum(len(probe.evidence) for row in done.rows for probe in row.probes)
    assert cited == 2822 - 2  # D10:19 and D4:36 name no turn
    assert len(done.faults) == 41


def test_longmemeval_by_type(data_dir: Path, tmp_path: Path) -> None:
    done = make(data_dir, "longmemeval/longmemeval_oracle_evidence_turns_500.json", tmp_path)
    kinds = Counter(probe.answer_type for row in done.rows for probe in row.probes)
    assert kinds == {"short": 440, "rubric": 30, "abstain": 9}
    assert remarks(done) == ["21 item(s) without any history: left aside"]


@pytest.mark.parametrize(
    ("dataset", "labels", "rows"),
    [("clinc150", 150, 10), ("banking77", 77, 7), ("trec_coarse", 6, 2), ("trec_fine", 50, 4), ("nlu", 64, 6)],
)
def test_labels(data_dir: Path, dataset: str, labels: int, rows: int) -> None:
    from mnemon.tasks.rows.build import build

    files = next(files for name, files in found_in(data_dir) if name == dataset)
    done = build(dataset, files)
    names = [label for row in done.rows for label in row.metadata["labels"].values()]
    assert (len(names), len(set(names)), len(done.rows)) == (labels, labels, rows)
    assert done.left_out == 0
    assert leaks(done.rows) == []
    for row in done.rows:
        shown = {turn.meta["text"] for segment in row.segments for turn in segment.turns}
        assert {turn.meta["label"] for s in row.segments for turn in s.turns} == set(row.metadata["labels"].values())
        assert not shown & {probe.question for probe in row.probes}
