"""Small files of our own in the shapes of the published ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnemon.tasks.rows import Row, check_row, read_rows, to_task, write_rows
from mnemon.tasks.rows.build import Built, Options, build


def built(dataset: str, *files: Path, skip_bad: bool = False, split: str | None = None, **options: Any) -> Built:
    """A build whose rows are valid, survive a file, and make tasks."""
    done = build(dataset, files, Options(**options), skip_bad=skip_bad, split=split)
    assert not [fault for row in done.rows for fault in check_row(row) if fault.bad]
    out = files[0].parent / "rows.out"
    write_rows(out, done.rows)
    assert read_rows(out).rows == done.rows
    out.unlink()
    for row in done.rows:
        task = to_task(row, judged=True)
        assert len(task.probes) == len(row.probes)
        named = {chunk.id for chunk in row.chunks}
        assert all(set(probe.evidence) <= named for probe in task.probes)
        assert all(probe.evidence for probe, q in zip(task.probes, row.probes, strict=True) if q.evidence)
    return done


def dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def lines(path: Path, records: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def parquet(path: Path, records: Sequence[Any]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
    return path


def remarks(done: Built) -> list[str]:
    return [f"{fault.what}: {fault.done}" for fault in done.faults]


def by_split(rows: Iterable[Row], split: str) -> list[Row]:
    return [row for row in rows if row.split == split]
