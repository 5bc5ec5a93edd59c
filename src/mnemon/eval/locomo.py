"""Evaluation on LoCoMo in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemon.agent import Reader
from mnemon.eval.evaluate import evaluate
from mnemon.eval.report import Report
from mnemon.tasks import locomo as locomo_tasks

NAMES = ("LoCoMo", "mem0, Memory-R1")
"""Whose names of the categories `CATEGORIES` gives."""


async def evaluate_locomo(
    path: str | Path,
    reader: Reader,
    writer: Reader | None = None,
    *,
    split: locomo_tasks.SplitName = "test",
    conversations: Sequence[str] | None = None,
    turns: int | None = None,
    captions: bool = True,
    adversarial: bool = False,
    skip_bad: bool = False,
    **options: Any,
) -> Report:
    """`evaluate` on a LoCoMo file; `options` are its own (`out`, `seed`, `metrics`, `start` …).

    turns per input: 2 for a writer, 1 where turns are stored as they are (neither `writer` nor `start` given).
    `conversations` (ids) replaces the split; the adversarial questions are asked only when wanted.
    """
    locomo = locomo_tasks.load(path, skip_bad)
    raw = writer is None and options.get("start") is None
    turns = turns if turns is not None else 1 if raw else 2
    tasks = locomo_tasks.tasks(
        locomo, split, conversations=conversations, turns=turns, captions=captions, adversarial=adversarial
    )
    settings = {
        "file": {"name": locomo.file.name, "sha256": locomo.sha256, "official": locomo.official},
        "split": split if conversations is None else list(conversations),
        "turns": turns,
        "captions": captions,
        "adversarial": adversarial,
        "left_out": len(locomo.skipped),
        **(options.pop("settings", None) or {}),
    }
    names = {heading: {c: both[i] for c, both in locomo_tasks.CATEGORIES.items()} for i, heading in enumerate(NAMES)}
    return await evaluate(tasks, reader, writer, settings=settings, categories=names, **options)
