"""What a Mem-α run is asked for: the options of `mnemon train mem-alpha`, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One field per option; None means the profile's value. See `mnemon train mem-alpha --help`."""

    policy: str = "tiny"
    data: tuple[Path, ...] = ()
    run: Path = Path("runs/mem-alpha")
    reader: str | None = None
    judge: str | None = None
    profile: str = "default"
    beta: float | None = None
    gamma: float | None = None
    validity: float | None = None
    credit: Literal["episode", "evidence"] | None = None
    flat: Literal["list", "text"] | None = None
    shown: Literal["related", "newest"] | None = None
    rounds: int | None = None
    search: bool = False
    core_tokens: int | None = None
    counter: str = "words"
    k: int | None = None
    questions: int | None = None
    cold_updates: int | None = None
    updates: int | None = None
    groups: int | None = None
    members: int | None = None
    lr: float | None = None
    kl: float | None = None
    lora: int | None = None
    max_prompt: int | None = None
    max_reply: int | None = None
    seed: int = 0
    tensorboard: bool = False
    resume: bool = False
    dry_run: bool = False
    skip_bad: bool = False
