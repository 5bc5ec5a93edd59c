"""Row files as material: their rows by split, and the tasks that metrics can score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from mnemon.tasks.rows.data import SPLITS, Row, Split
from mnemon.tasks.rows.files import read_rows
from mnemon.tasks.rows.task import to_task
from mnemon.types import MnemonError, Task


def read_splits(files: Sequence[str | Path], skip_bad: bool = False) -> dict[Split, list[Row]]:
    """Split -> the rows of all files. MnemonError for an id that stands in two files."""
    found: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    seen: dict[str, str | Path] = {}
    for file in files:
        for row in read_rows(file, skip_bad):
            if row.id in seen:
                raise MnemonError(f"{file}: row {row.id} is in {seen[row.id]} too: give each row once")
            seen[row.id] = file
            found[cast(Split, row.split)].append(row)
    return found


def scorable_tasks(rows: Iterable[Row]) -> list[Task]:
    """A task per row, with its questions that a metric can score; rows that only a judge can score are left out."""
    return [
        to_task(row)
        for row in rows
        if any(not scorer.startswith("judge_") for probe in row.probes for scorer in probe.scorers)
    ]
