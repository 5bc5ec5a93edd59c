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


def scorable_tasks(rows: Iterable[Row], judged: bool = False) -> list[Task]:
    """A task per row, with the questions that a metric (or, where `judged`, a judge) can score; rows without any are
    left out (`unjudged` counts both).
    """
    return [
        to_task(row, judged=judged)
        for row in rows
        if judged or any(not scorer.startswith("judge_") for probe in row.probes for scorer in probe.scorers)
    ]


def unjudged(rows: Sequence[Row], tasks: Sequence[Task]) -> dict[str, int]:
    """What `scorable_tasks` left out of the rows, because only a judge can score it: {questions, rows}, {} for nothing.

    `rows` are those without any other question; their questions are counted too.
    """
    questions = sum(len(row.probes) for row in rows) - sum(len(task.probes) for task in tasks)
    return {"questions": questions, "rows": len(rows) - len(tasks)} if questions else {}
