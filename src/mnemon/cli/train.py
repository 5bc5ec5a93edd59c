"""`mnemon train`: reinforcement learning of a memory agent, in the tiny world or on real data with a real model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mnemon.types import MnemonError

app = typer.Typer(help="Train a memory agent.", no_args_is_help=True)
err = Console(stderr=True)


@app.callback()
def _group() -> None:
    """Train a memory agent."""


@app.command("memory-r1")
def memory_r1(
    role: Annotated[str, typer.Option(help="Who is trained: writer (Memory Manager) or reader (Answer Agent).")] = "writer",
    algo: Annotated[str, typer.Option(help="grpo or ppo.")] = "grpo",
    policy: Annotated[str, typer.Option(help="PATH or hub id of a causal LM; 'tiny' builds the tiny model from scratch.")] = "tiny",
    data: Annotated[Path | None, typer.Option(help="A LoCoMo file; without it the tiny world is used.")] = None,
    run: Annotated[Path, typer.Option(help="The run's folder: logs, samples, checkpoints.")] = Path("runs/memory-r1"),
    writer: Annotated[str | None, typer.Option(help="Frozen manager that builds the banks a reader is trained on: PATH, hub id, URL; 'turns' stores every turn; 'oracle' in the tiny world.")] = None,
    reader: Annotated[str | None, typer.Option(help="Frozen answerer that a writer is trained against: PATH, hub id, URL (default: the starting policy; a rule in the tiny world).")] = None,
    extractor: Annotated[str | None, typer.Option(help="Who extracts facts: PATH, hub id or URL (default: the starting policy, frozen).")] = None,
    profile: Annotated[str, typer.Option(help="default (ours) or paper (as published).")] = "default",
    construction: Annotated[str, typer.Option(help="Manager's training material: bandit (one decision on a built bank) or replay (all turns from an empty bank).")] = "bandit",
    facts: Annotated[str | None, typer.Option(help="policy: a model extracts facts; raw: every input is one fact.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="With --data: memories shown to the answerer.")] = None,
    distill: Annotated[bool, typer.Option(help="Answerer names the useful memories before it answers.")] = True,
    constant: Annotated[str | None, typer.Option(help="Groups without variance: skip or resample.")] = None,
    updates: Annotated[int | None, typer.Option(help="Policy updates.")] = None,
    groups: Annotated[int | None, typer.Option(help="Tasks per update.")] = None,
    members: Annotated[int | None, typer.Option(help="Rollouts per task.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the policy.")] = None,
    kl: Annotated[float | None, typer.Option(help="Coefficient of the KL to the starting policy.")] = None,
    lora: Annotated[int | None, typer.Option(help="Train LoRA adapters of this rank instead of all weights.")] = None,
    train_questions: Annotated[int | None, typer.Option(help="Use at most this many training questions.")] = None,
    cold_updates: Annotated[int | None, typer.Option(help="Tiny world: supervised updates of the cold start.")] = None,
    max_prompt: Annotated[int | None, typer.Option(help="Most prompt tokens.")] = None,
    max_reply: Annotated[int | None, typer.Option(help="Most sampled tokens per reply.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard events into RUN/tensorboard.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and one rendered prompt; train nothing.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Use the rest of a data file with unknown faults.")] = False,
) -> None:
    """Memory-R1: a Memory Manager (ADD, UPDATE, DELETE, NOOP) and an Answer Agent that distils and answers.

    Without --data this trains the tiny model in the tiny world, on a CPU, in minutes. Under torchrun the work is shared.
    """
    _need_torch()
    from mnemon.recipes.memory_r1 import run as recipe
    from mnemon.recipes.memory_r1.options import TrainOptions

    options = TrainOptions(
        role=_one("role", role, ("writer", "reader")),
        algo=_one("algo", algo, ("grpo", "ppo")),
        policy=policy, data=data, run=run, writer=writer, reader=reader, extractor=extractor, profile=profile,
        construction=_one("construction", construction, ("bandit", "replay")),
        facts=None if facts is None else _one("facts", facts, ("policy", "raw")),
        k=k, distill=distill,
        constant=None if constant is None else _one("constant", constant, ("skip", "resample")),
        updates=updates, groups=groups, members=members, lr=lr, kl=kl, lora=lora, train_questions=train_questions,
        cold_updates=cold_updates, max_prompt=max_prompt, max_reply=max_reply, seed=seed, tensorboard=tensorboard,
        resume=resume, dry_run=dry_run, skip_bad=skip_bad,
    )  # fmt: skip
    recipe.start(options)


def _one(name: str, value: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise MnemonError(f"--{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _need_torch() -> None:
    import importlib.util

    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise MnemonError(f"training needs {' and '.join(missing)}: pip install 'mnemon[train]'")
