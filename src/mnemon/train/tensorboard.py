"""TensorBoard beside the JSONL log: every number of every record, under its phase and name. Optional."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mnemon.runs import RunFolder, flat
from mnemon.types import MnemonError


@contextmanager
def mirror(run: RunFolder, wanted: bool = True) -> Iterator[None]:
    """While open, what `run.log` writes also goes to ``RUN/tensorboard``. Does nothing when not wanted."""
    if not wanted:
        yield
        return
    if importlib.util.find_spec("tensorboard") is None:
        raise MnemonError("--tensorboard needs tensorboard: pip install 'mnemon[tensorboard]'")
    from torch.utils.tensorboard.writer import SummaryWriter

    writer = SummaryWriter(str(run.path / "tensorboard"))  # type: ignore[no-untyped-call]
    plain_log = run.log

    def log(record: Mapping[str, Any]) -> None:
        plain_log(record)
        phase, update = record.get("phase", "run"), record["update"]
        for name, value in flat({k: v for k, v in record.items() if k not in ("update", "phase")}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                writer.add_scalar(f"{phase}/{name}", value, update)  # type: ignore[no-untyped-call]

    run.log = log  # type: ignore[method-assign]
    try:
        yield
    finally:
        run.log = plain_log  # type: ignore[method-assign]
        writer.close()  # type: ignore[no-untyped-call]
