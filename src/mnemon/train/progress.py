"""Progress of long work: a bar with the time left on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SHOWN = ("loss", "reward", "accuracy", "informative", "validation", "exact")


class Progress:
    """A context manager: `advance(metrics)` after each unit of work. Writes to standard error."""

    def __init__(self, title: str, total: int, done: int = 0, *, quiet: bool = False, every_s: float = 15.0) -> None:
        self.title, self.total, self.done, self.quiet, self.every = title, total, done, quiet, every_s
        self.bar: Bar | None = None
        self.first, self.started = done, time.monotonic()
        self.last = self.started
        if not quiet and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def note(self, metrics: Mapping[str, Any]) -> None:
        """Show figures without advancing."""
        self._show(metrics, force=True)

    def advance(self, metrics: Mapping[str, Any]) -> None:
        """One unit is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.advance(self.task)
        self._show(metrics, force=self.done == self.total)

    def _show(self, metrics: Mapping[str, Any], force: bool) -> None:
        text = "  ".join(f"{name} {metrics[name]:.3g}" for name in SHOWN if isinstance(metrics.get(name), int | float))
        if self.bar is not None:
            self.bar.update(self.task, note=text)
        elif not self.quiet and (force or time.monotonic() - self.last > self.every):
            self.last = time.monotonic()
            print(f"{self.title} {self.done}/{self.total}  {text}{self._left()}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        """How long the rest will take at the speed so far; nothing at the start and at the end."""
        done = self.done - self.first
        if not done or self.done >= self.total:
            return ""
        seconds = (self.last - self.started) / done * (self.total - self.done)
        return f"  about {seconds / 60:.0f} min left" if seconds >= 90 else f"  about {seconds:.0f} s left"
