"""Supervised cold start: a fixed list of batches, logged, checkpointed and resumable like any other run."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from mnemon.runs import RunFolder
from mnemon.train import checkpoint
from mnemon.train.batch import Row
from mnemon.train.progress import Progress
from mnemon.train.ranks import world
from mnemon.train.trainer import Trainer


def length_buckets(rows: Sequence[Row], batch: int, seed: int, window: int = 16) -> list[list[Row]]:
    """Shuffled batches of rows of similar length: rows are shuffled, sorted within `window` batches, cut, shuffled."""
    rng = random.Random(f"buckets/{seed}")
    order = list(rows)
    rng.shuffle(order)
    batches: list[list[Row]] = []
    for at in range(0, len(order), batch * window):
        chunk = sorted(order[at : at + batch * window], key=len)
        parts = [chunk[i : i + batch] for i in range(0, len(chunk), batch)]
        rng.shuffle(parts)
        batches += parts
    return batches


def fit(
    trainer: Trainer,
    batches: Sequence[Sequence[Row]],
    run: RunFolder,
    tokenizer: Any,
    *,
    title: str = "cold start",
    log_every: int = 20,
    checkpoint_every: int = 250,
    extra: dict[str, Any] | None = None,
) -> None:
    """One supervised update per batch, in order; resumes from the run's last checkpoint and cuts its log to it.

    A record holds the mean loss since the one before. What was not yet logged at a checkpoint lies in it
    (``extra["losses"]``), so that the log of a resumed run is that of an uninterrupted one.
    """
    folder = run.path / "checkpoints"
    found = checkpoint.resume(folder, trainer)
    first = found.step if found is not None else 0
    leader = world()[0] == 0
    if leader:
        run.truncate_to(first if found is not None else -1)
    losses: list[float] = list(found.extra.get("losses", [])) if found is not None else []
    started = time.process_time()
    with Progress(title, len(batches), first, quiet=not leader) as progress:
        for index in range(first, len(batches)):
            metrics = trainer.sft(batches[index])
            losses.append(metrics["loss"])
            done = index + 1
            if done % log_every == 0 or done == len(batches):
                record = {
                    "update": done,
                    "phase": "sft",
                    "loss": sum(losses) / len(losses),
                    "lr": metrics["lr"],
                    "grad_norm": metrics["grad_norm"],
                    "time": {"cpu_s": time.process_time() - started},
                }
                if leader:
                    run.log(record)
                losses, started = [], time.process_time()
            if done % checkpoint_every == 0 or done == len(batches):
                kept = {"update": done, "losses": losses, **(extra or {})}
                checkpoint.save(folder, done, trainer, tokenizer, kept, keep_last=1)
            progress.advance({"loss": metrics["loss"]})
