"""Rows from the original files of datasets: one small module each, one table of them here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnemon.tasks.rows.build import (
    books,
    conflict,
    hotpotqa,
    intents,
    lme_train,
    locomo,
    longmemeval,
    memalpha,
    memoryagentbench,
    msc,
    perltqa,
    pubmed_rct,
    squad,
)
from mnemon.tasks.rows.build.common import Builder, Options, Source
from mnemon.tasks.rows.check import check_row
from mnemon.tasks.rows.data import SPLITS, Fault, Row
from mnemon.tasks.rows.fields import complain
from mnemon.types import MnemonError

__all__ = ["DATASETS", "Built", "Dataset", "Options", "build", "found_in"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """How a dataset is built, what its files are, and where they lie in a folder of datasets (glob patterns).

    Each pattern is a build of its own, all files that it finds together; ``a|b`` finds what either does.
    """

    build: Builder
    files: str
    patterns: tuple[str, ...] = ()


DATASETS: dict[str, Dataset] = {
    "banking77": Dataset(intents.banking77, "train.csv, test.csv", ("banking77/t*.csv",)),
    "booksum": Dataset(
        books.booksum,
        "train, validation and test records (JSON Lines or parquet)",
        ("booksum/**/*.jsonl|booksum/**/*.parquet",),
    ),
    "clinc150": Dataset(intents.clinc150, "data_full.json", ("clinc150/data_full.json",)),
    "conflict": Dataset(conflict.build, "facts of your own", ("conflict/*.json*",)),
    "hotpotqa": Dataset(
        hotpotqa.build,
        "hotpot_train_v1.1.json, hotpot_dev_distractor_v1.json, or the hub's JSON or parquet",
        ("hotpotqa/hotpot*train.json", "hotpotqa/hotpot_*_v1*.json", "hotpotqa/*distractor_sample*.json"),
    ),
    "infbench_sum": Dataset(books.infbench_sum, "longbook_sum_eng.jsonl", ("infbench*/longbook_sum_eng.jsonl",)),
    "lme_train": Dataset(lme_train.build, "sessions and questions of your own", ("lme_train/*.json*",)),
    "locomo": Dataset(locomo.build, "locomo10.json", ("locomo/locomo10.json",)),
    "longmemeval": Dataset(
        longmemeval.build, "longmemeval_s_cleaned.json, longmemeval_oracle.json …", ("longmemeval/*.json",)
    ),
    "memalpha": Dataset(memalpha.build, "train.parquet, test.parquet", ("memalpha*/**/*.parquet",)),
    "memoryagentbench": Dataset(
        memoryagentbench.build,
        "Accurate_Retrieval*.parquet, Test_Time_Learning*, …; entity2id.json for the film titles",
        ("memoryagentbench/**/*.parquet|memoryagentbench/**/entity2id.json",),
    ),
    "msc": Dataset(msc.build, "msc_self_instruct.jsonl", ("msc/*.jsonl",)),
    "nlu": Dataset(intents.nlu, "a fold's folder with trainset and testset", ("nlu*/KFold_*",)),
    "perltqa": Dataset(perltqa.build, "perltmem_en.json, perltqa_en.json", ("perltqa/**/perlt*_en*.json",)),
    "pubmed_rct": Dataset(
        pubmed_rct.build,
        "train.txt, dev.txt, test.txt, or the hub's JSON Lines or parquet",
        ("pubmed*/train.txt|pubmed*/dev.txt|pubmed*/test.txt|pubmed*/**/*.jsonl|pubmed*/**/*.parquet",),
    ),
    "squad": Dataset(
        squad.build,
        "train-v1.1.json, dev-v1.1.json, or the hub's JSON Lines or parquet",
        ("squad*/*-v[12].?.json|squad/**/*.parquet",),
    ),
    "trec_coarse": Dataset(intents.trec_coarse, "TREC.train, TREC.test", ("trec/*TREC.t[re]*[nt]",)),
    "trec_fine": Dataset(intents.trec_fine, "TREC.train, TREC.test", ("trec/*TREC.t[re]*[nt]",)),
    "xquad": Dataset(squad.build, "xquad.LANGUAGE.json", ("*xquad/xquad.*.json",)),
}
"""Name -> how it is built."""


DEALT = ("squad", "xquad")
"""Datasets whose rows can be dealt to the splits by article (`Options.deal`)."""


@dataclass(frozen=True, slots=True)
class Built:
    """The rows of a build, and everything that was wrong with its files."""

    rows: tuple[Row, ...]
    faults: tuple[Fault, ...]

    @property
    def left_out(self) -> int:
        """How many malformed parts were left out (only with ``skip_bad=True``)."""
        return sum(fault.bad for fault in self.faults)


def build(
    dataset: str,
    files: Sequence[str | Path],
    options: Options | None = None,
    *,
    split: str | None = None,
    skip_bad: bool = False,
    max_rows: int | None = None,
    progress: Callable[[str], None] = lambda what: None,
    may_be_empty: bool = False,
) -> Built:
    """Rows of a dataset (a name in `DATASETS`) from its original files.

    split: only the rows of this split; it is an error where there is none, unless it `may_be_empty`, though there are
    others. max_rows: only the first so many. Every row is checked (`check_row`). Malformed parts raise MnemonError that
    lists file, row, field and what is wrong; with `skip_bad` the rest is used.
    """
    if dataset not in DATASETS:
        raise MnemonError(f"unknown dataset {dataset!r}; use one of {', '.join(sorted(DATASETS))}")
    if split not in (None, *SPLITS):
        raise MnemonError(f"unknown split {split!r}; use {', '.join(SPLITS)}")
    if options is not None and options.deal and dataset not in DEALT:
        raise MnemonError(
            f"{dataset}: --deal is for {' and '.join(DEALT)}; the splits of others are those of their files"
        )
    paths = tuple(Path(file) for file in files)
    for path in paths:
        if not path.exists():
            raise MnemonError(f"{dataset}: there is no file {path}; expected {DATASETS[dataset].files}")
    source = Source(paths, options or Options(), progress=progress)
    every: set[str] = set()
    rows: list[Row] = []
    faults: list[Fault] = []
    for row in DATASETS[dataset].build(source):
        progress(row.id)
        if split is not None and row.split != split:
            every.add(row.split)
            continue
        found = check_row(row)
        if any(fault.bad for fault in found):
            found = [replace(fault, done="row left out") if fault.bad else fault for fault in found]
        else:
            rows.append(row)
        faults += found
        if max_rows is not None and len(rows) >= max_rows:
            break
    faults = [*source.faults, *faults]
    where = ", ".join(path.name for path in paths[:3]) + (" …" if len(paths) > 3 else "")
    if not skip_bad:
        complain(dataset, where, faults)
    if not rows and not (may_be_empty and every):
        what = f"; there are rows of {', '.join(sorted(every))}" if every else ""
        of = f" of split {split}" if split is not None else ""
        raise MnemonError(f"{dataset}: {where} gives no row{of}{what}")
    return Built(tuple(rows), tuple(faults))


def found_in(folder: str | Path) -> list[tuple[str, tuple[Path, ...]]]:
    """(dataset, files) for everything known in a folder laid out with one sub-folder per dataset."""
    root = Path(folder)
    if not root.is_dir():
        raise MnemonError(f"{root} is not a folder; give the one that holds locomo, squad, hotpotqa …")
    found = []
    for name, dataset in DATASETS.items():
        for pattern in dataset.patterns:
            if files := tuple(sorted({path for part in pattern.split("|") for path in root.glob(part)})):
                found.append((name, files))
    if not found:
        names = ", ".join(sorted(p for d in DATASETS.values() for p in d.patterns))
        raise MnemonError(f"{root} holds no dataset that is known; looked for {names}")
    return found
