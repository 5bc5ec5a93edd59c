"""Evaluation on task rows in one call: a writer reads the streams of row files, a reader answers."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnemon.agent import Reader
from mnemon.eval.banks import no_policy, raw_turns
from mnemon.eval.evaluate import evaluate
from mnemon.eval.plots import length_plot, memory_plot
from mnemon.eval.report import Report
from mnemon.memory.count import WORDS, TokenCounter
from mnemon.tasks.rows import SPLITS, Row, read_splits, scorable_tasks, unjudged
from mnemon.types import MnemonError, Policy, Task


def row_tasks(
    files: Sequence[str | Path], split: str = "test", skip_bad: bool = False, judged: bool = False
) -> tuple[list[Task], dict[str, int]]:
    """The tasks of a split ("all": of every split), and what of it only a judge can score (`unjudged`).

    judged: there is a judge, so nothing is left out. MnemonError where no task is left.
    """
    rows = read_splits(files, skip_bad)
    chosen: list[Row] = [row for name in SPLITS if split in ("all", name) for row in rows[name]]
    tasks = scorable_tasks(chosen, judged)
    if not tasks:
        counts = ", ".join(f"{len(rows[name])} {name}" for name in SPLITS)
        why = "only a judge can score them: give --judge" if chosen else "choose another --split, or 'all'"
        raise MnemonError(f"no row of the split {split!r} can be scored ({counts} rows): {why}")
    return tasks, unjudged(chosen, tasks)


async def evaluate_rows(
    files: Sequence[str | Path],
    reader: Reader,
    writer: Reader | None = None,
    *,
    split: str = "test",
    skip_bad: bool = False,
    counter: TokenCounter = WORDS,
    judge: Policy | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Report:
    """`evaluate` on row files; `options` are its own (`seed`, `start`, `metrics` …).

    Without a writer every chunk is stored as it stands, counted by `counter`: retrieval over chunks. With a judge the
    questions that only a judge can score are asked too. Where matplotlib is installed, `out` also gets length.png and
    memory.png.
    """
    tasks, left = row_tasks(files, split, skip_bad, judge is not None)
    settings = {
        "files": {Path(file).name: _sha256(file) for file in files},
        "split": split,
        "unjudged": left,
        **(options.pop("settings", None) or {}),
    }
    if writer is None and options.get("start") is None:
        writer = (replace(raw_turns(), counter=counter), no_policy)
    report = await evaluate(tasks, reader, writer, settings=settings, judge=judge, out=out, **options)
    if out is not None and report.streams and importlib.util.find_spec("matplotlib"):
        length_plot(report.streams, Path(out) / "length.png")
        memory_plot(report.streams, Path(out) / "memory.png", report.counter)
    return report


def _sha256(file: str | Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
