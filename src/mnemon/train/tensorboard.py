"""TensorBoard beside the JSONL log: every number of every record, under its phase and name. Optional."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mnemon.runs import RunFolder, flat, writing
from mnemon.types import MnemonError


@contextmanager
def mirror(run: RunFolder, wanted: bool = True) -> Iterator[None]:
    """While open, what `run.log` writes also goes to ``RUN/tensorboard``. Does nothing when not wanted.

    The first record rewrites the events from metrics.jsonl, so that a resumed run has one curve, without the updates
    that its checkpoint went back over.
    """
    if not wanted:
        yield
        return
    if importlib.util.find_spec("tensorboard") is None:
        raise MnemonError("--tensorboard needs tensorboard: pip install 'mnemon[tensorboard]'")
    from torch.utils.tensorboard.writer import SummaryWriter

    folder = run.path / "tensorboard"
    writer: Any = None
    plain_log = run.log

    def add(record: Mapping[str, Any]) -> None:
        phase, update = record.get("phase", "run"), record["update"]
        for name, value in flat({k: v for k, v in record.items() if k not in ("update", "phase")}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                writer.add_scalar(f"{phase}/{name}", value, update)

    def log(record: Mapping[str, Any]) -> None:
        nonlocal writer
        plain_log(record)
        with writing(folder):
            if writer is None:
                shutil.rmtree(folder, ignore_errors=True)
                writer = SummaryWriter(str(folder))
                for old in run.metrics()[:-1]:
                    add(old)
            add(record)

    run.log = log  # type: ignore[method-assign]
    try:
        yield
    finally:
        del run.log
        if writer is not None:
            writer.close()
