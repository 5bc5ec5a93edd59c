"""What every training command does before its loop: processes, seeds, the run's folder, frozen partners, task order."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnemon.policy.cache import CachedPolicy
from mnemon.policy.local import LocalPolicy, load_model
from mnemon.policy.open import Opened, is_url, model_source, open_policy
from mnemon.runs import RunFolder, writing
from mnemon.train.config import LoopConfig, Lora, TrainConfig
from mnemon.train.ranks import barrier, world
from mnemon.train.trainer import Trainer
from mnemon.types import MnemonError, Policy, Task

MAY_CHANGE = ("loop.updates", "loop.eval_every", "loop.checkpoint_every", "loop.sample_every", "loop.keep_last")
"""Settings that a resumed run may change."""
PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: the first one evaluates and writes checkpoints alone, and uneven rollouts
take uneven time. A process that dies ends the others at once, by torchrun.
"""


def prepare(policy: str, seed: int, partners: str) -> None:
    """Join the processes of torchrun, check that the policy can be trained, and seed what libraries draw."""
    join_processes()
    if is_url(policy):
        raise MnemonError(
            f"--policy {policy} is an endpoint: it can evaluate and serve, never train. Give a model directory or hub "
            f"id; frozen partners ({partners}) may be endpoints"
        )
    random.seed(seed)  # what libraries draw (the start of adapters) is the same for the same seed, too
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def join_processes() -> None:
    """Under torchrun: join the group (gloo on CPU, nccl on GPU)."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)


@contextmanager
def opened(folder: Path, described: Mapping[str, Any], *, seed: int, resume: bool) -> Iterator[RunFolder]:
    """The run's folder, open for writing in the first process; the others only know where it is."""
    run = RunFolder(folder)
    if world()[0] == 0:
        with run.start(described, seed=seed, resume=resume, may_change=MAY_CHANGE):
            barrier()
            try:
                yield run
            except MnemonError:
                if not resume and {p.name for p in run.path.iterdir()} <= {".lock", "cache", run.config_file.name}:
                    run.config_file.unlink()  # a mistake before anything was done: the folder is free for another try
                raise
    else:
        barrier()
        yield run


def open_model(source: str) -> tuple[Any, Any]:
    """The tiny model and tokenizer of a run, a checkpoint or a model directory (float32, CPU, one thread: its matrices
    are too small to share, and the number of threads would change the last bits).
    """
    torch.set_num_threads(1)
    model, tokenizer = load_model(model_source(source)[0], torch.float32)
    return model, tokenizer


def trained_model(
    source: str, train: TrainConfig, *, reply_tokens: int, critic: bool, seed: int
) -> tuple[Trainer, LocalPolicy, Any]:
    """(trainer, its sampling policy, tokenizer) of a model: bf16 on a GPU, else float32 on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model, tokenizer = load_model(model_source(source)[0], dtype)
    trainer = Trainer(model.to(device), train, critic="copy" if critic else None)
    policy = LocalPolicy(
        trainer.model,
        tokenizer,
        temperature=train.temperature,
        max_tokens=reply_tokens,
        autocast=torch.bfloat16 if trainer.autocast else None,
        seed=seed,
    )
    return trainer, policy, tokenizer


class Frozen:
    """The frozen partners of a run: by their names, or second copies of the starting policy; greedy. A model that is
    asked in two roles is loaded once. Answers are cached in the run's folder, one file per role and process.
    """

    def __init__(self, run: Path, policy: str, max_tokens: int) -> None:
        self.run, self.policy, self.max_tokens = run, policy, max_tokens
        self.models: dict[str, Opened] = {}

    def open(self, spec: str | None, role: str) -> Policy:
        """The policy behind `spec` (None: the starting policy)."""
        name = spec or self.policy
        if name not in self.models:
            self.models[name] = open_policy(name, temperature=0.0, max_tokens=self.max_tokens)
        model, folder, rank = self.models[name], self.run / "cache", world()[0]
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        file = folder / (f"{role}.jsonl" if rank == 0 else f"{role}.{rank}.jsonl")
        return CachedPolicy(model.policy, file, key=str(model.path or model.spec))  # of a run: its checkpoint


def checkpoints_of(options: Any, names: Sequence[str]) -> dict[str, Any]:
    """The checkpoints behind the options that name a run: a run that was trained further is another model."""
    named = {name: getattr(options, name) for name in names}
    found = {name: (spec, model_source(spec)[0]) for name, spec in named.items() if spec and Path(spec).is_dir()}
    opened = {name: source for name, (spec, source) in found.items() if source != spec}
    return {"checkpoints": opened} if opened else {}


def loop_of(base: LoopConfig, seed: int, **changes: Any) -> LoopConfig:
    """The profile's loop with what the command line changes (None: no change)."""
    return replace(base, seed=seed, **{name: value for name, value in changes.items() if value is not None})


def lora(rank: int | None) -> Lora | None:
    """LoRA settings for `--lora RANK`; None trains all weights."""
    return None if rank is None else Lora(r=rank, alpha=2.0 * rank)


def in_turn(tasks: Sequence[Task], config: LoopConfig) -> Callable[[int, int], list[Task]]:
    """Tasks of an update: a seeded shuffle of all, walked through, then the next shuffle.

    Where constant groups are replaced, every update has room for all attempts, so that resuming needs no state.
    """
    attempts = 1 + (config.resample_rounds if config.constant == "resample" and config.algo == "grpo" else 0)

    def pick(update: int, attempt: int) -> list[Task]:
        first = (update * attempts + attempt) * config.groups
        chosen: dict[str, Task] = {}
        for position in range(first, first + config.groups):
            lap, at = divmod(position, len(tasks))
            order = list(range(len(tasks)))
            random.Random(f"{config.seed}/{lap}").shuffle(order)
            task = tasks[order[at]]
            chosen.setdefault(task.id, task)
        return list(chosen.values())

    return pick
