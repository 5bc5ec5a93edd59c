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
    """One supervised update per batch, in order; resumes from the run's last checkpoint and cuts its log to it."""
    folder = run.path / "checkpoints"
    found = checkpoint.load_latest(folder)
    first = 0
    if found is not None:
        found.restore(trainer)
        first = found.step
    leader = world()[0] == 0
    if leader:
        run.truncate_to(first if first else -1)
    losses: list[float] = []
    started = time.process_time()
    with Progress(title, len(batches), first, quiet=not leader) as progress:
        for index in range(first, len(batches)):
            metrics = trainer.sft(batches[index])
            losses.append(metrics["loss"])
            done = index + 1
            if leader and (done % log_every == 0 or done == len(batches)):
                mean = sum(losses) / len(losses)
                run.log(
                    {
                        "update": done,
                        "phase": "sft",
                        "loss": mean,
                        "lr": metrics["lr"],
                        "grad_norm": metrics["grad_norm"],
                        "time": {"cpu_s": time.process_time() - started},
                    }
                )
                losses, started = [], time.process_time()
            if done % checkpoint_every == 0 or done == len(batches):
                checkpoint.save(folder, done, trainer, tokenizer, {"update": done, **(extra or {})}, keep_last=1)
            progress.advance({"loss": metrics["loss"]})
