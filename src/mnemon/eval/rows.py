"""Evaluation on task rows in one call: a writer reads the streams of row files, a reader answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemon.agent import Reader
from mnemon.eval.evaluate import evaluate
from mnemon.eval.report import Report
from mnemon.tasks.rows import SPLITS, read_splits, scorable_tasks
from mnemon.types import MnemonError, Task


def row_tasks(files: Sequence[str | Path], split: str = "test", skip_bad: bool = False) -> list[Task]:
    """The tasks of a split ("all": of every split). MnemonError where there is none."""
    rows = read_splits(files, skip_bad)
    chosen = [row for name in SPLITS if split in ("all", name) for row in rows[name]]
    tasks = scorable_tasks(chosen)
    if not tasks:
        counts = ", ".join(f"{len(rows[name])} {name}" for name in SPLITS)
        why = "only a judge can score them" if chosen else "choose another --split, or 'all'"
        raise MnemonError(f"no row of the split {split!r} can be scored ({counts} rows): {why}")
    return tasks


async def evaluate_rows(
    files: Sequence[str | Path],
    reader: Reader,
    writer: Reader | None = None,
    *,
    split: str = "test",
    skip_bad: bool = False,
    **options: Any,
) -> Report:
    """`evaluate` on row files; `options` are its own (`out`, `seed`, `judge`, `start` …).

    Without a writer every chunk is stored as it stands: retrieval over chunks.
    """
    tasks = row_tasks(files, split, skip_bad)
    settings = {
        "files": {Path(file).name: _sha256(file) for file in files},
        "split": split,
        **(options.pop("settings", None) or {}),
    }
    return await evaluate(tasks, reader, writer, settings=settings, **options)


def _sha256(file: str | Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
