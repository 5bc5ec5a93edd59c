"""What a Memory-R1 run is asked for: the options of `mnemon train memory-r1`, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One field per option; None means the profile's value. See `mnemon train memory-r1 --help`."""

    role: Literal["writer", "reader"] = "writer"
    algo: Literal["grpo", "ppo"] = "grpo"
    policy: str = "tiny"
    data: Path | None = None
    run: Path = Path("runs/memory-r1")
    writer: str | None = None
    reader: str | None = None
    extractor: str | None = None
    profile: str = "default"
    construction: Literal["bandit", "replay"] = "bandit"
    facts: Literal["policy", "raw"] | None = None
    k: int | None = None
    distill: bool = True
    constant: Literal["skip", "resample"] | None = None
    updates: int | None = None
    groups: int | None = None
    members: int | None = None
    lr: float | None = None
    kl: float | None = None
    lora: int | None = None
    train_questions: int | None = None
    cold_updates: int | None = None
    max_prompt: int | None = None
    max_reply: int | None = None
    seed: int = 0
    tensorboard: bool = False
    resume: bool = False
    dry_run: bool = False
    skip_bad: bool = False
