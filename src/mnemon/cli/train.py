"""`mnemon train`: reinforcement learning of a memory agent, in the tiny world or on real data with a real model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mnemon.cli.chat import named
from mnemon.cli.common import gpu_memory, need_torch, refuse
from mnemon.types import MnemonError

app = typer.Typer(help="Train a memory agent.")

REAL_ONLY = ("extractor", "profile", "construction", "facts", "k", "max_prompt", "max_reply", "skip_bad")
"""Options that mean nothing in the tiny world."""


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Train a memory agent."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("memory-r1")
def memory_r1(
    context: typer.Context,
    # what is trained
    role: Annotated[
        Literal["writer", "reader"],
        typer.Option(help="Who is trained: the writer (Memory Manager) or the reader (Answer Agent)."),
    ] = "writer",
    algo: Annotated[Literal["grpo", "ppo"], typer.Option(help="The algorithm.")] = "grpo",
    policy: Annotated[
        str,
        typer.Option(metavar="MODEL", help="PATH or hub id of a causal LM; 'tiny' builds the tiny model from scratch."),
    ] = "tiny",
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A LoCoMo file; without it the tiny world is used.")
    ] = None,
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="The run's folder: logs, samples, checkpoints.")] = Path(
        "runs/memory-r1"
    ),
    # against whom
    writer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="With --role reader: the frozen manager that builds the banks: PATH, hub id or URL; 'turns' stores "
            "every turn as it stands; in the tiny world a run, 'tiny' (the shipped manager), 'simulated', or 'oracle' "
            "(the default).",
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="With --role writer: the frozen answerer: PATH, hub id or URL (default: the starting policy; in the "
            "tiny world a rule; there 'tiny' is the shipped answerer).",
        ),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="With --data: who extracts facts (default: the starting policy, frozen)."),
    ] = None,
    # how
    profile: Annotated[
        Literal["default", "paper"], typer.Option(help="With --data: our settings, or those published.")
    ] = "default",
    construction: Annotated[
        Literal["bandit", "replay"],
        typer.Option(
            help="With --data, the writer's material: bandit (one decision on a built bank) or replay (all turns from "
            "an empty bank)."
        ),
    ] = "bandit",
    facts: Annotated[
        Literal["policy", "raw"] | None,
        typer.Option(help="With --data: a model extracts facts, or every input is one fact."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, metavar="N", help="With --data: memories shown to the answerer.")
    ] = None,
    distill: Annotated[bool, typer.Option(help="The answerer names the useful memories before it answers.")] = True,
    constant: Annotated[
        Literal["skip", "resample"] | None, typer.Option(help="What happens to groups without variance.")
    ] = None,
    cold_updates: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tiny world: supervised updates of the cold start.")
    ] = None,
    updates: Annotated[int | None, typer.Option(min=1, metavar="N", help="Policy updates.")] = None,
    groups: Annotated[int | None, typer.Option(min=1, metavar="N", help="Tasks per update.")] = None,
    members: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rollouts per task.")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="Learning rate of the policy.")] = None,
    kl: Annotated[
        float | None, typer.Option(min=0.0, metavar="X", help="Coefficient of the KL to the starting policy.")
    ] = None,
    lora: Annotated[
        int | None, typer.Option(min=1, metavar="RANK", help="Train LoRA adapters of this rank, not all weights.")
    ] = None,
    train_questions: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most this many training questions (writer: tasks)."),
    ] = None,
    max_prompt: Annotated[int | None, typer.Option(min=1, metavar="N", help="With --data: most prompt tokens.")] = None,
    max_reply: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --data: most sampled tokens per reply.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    # the run
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and one rendered prompt; train nothing.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events into FOLDER/tensorboard.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Use the rest of a data file with unknown faults.")
    ] = False,
) -> None:
    """Train Memory-R1: a Memory Manager (ADD, UPDATE, DELETE, NOOP) and an Answer Agent that distils and answers.

    Without --data this trains the tiny model in the tiny world, on a CPU, in minutes. A run that was stopped, or killed
    at any moment, goes on with --resume. Processes share the work under torchrun, which wants a -- before our options:

    torchrun --nproc_per_node 4 -m mnemon.cli -- train memory-r1 --run FOLDER
    """
    if data is None:
        refuse(context, REAL_ONLY, "needs --data: it means nothing in the tiny world")
    else:
        refuse(context, ("cold_updates",), "is for the tiny world: with --data training starts from --policy")
    if policy != "tiny":
        refuse(context, ("cold_updates",), "is for --policy tiny: another policy is trained as it is")
    if role == "writer":
        refuse(context, ("writer",), "names the frozen manager of --role reader: here the writer is what is trained")
    else:
        refuse(context, ("reader",), "names the frozen answerer of --role writer: here the reader is what is trained")
        refuse(context, ("construction",), "is about --role writer")
    if lr is not None and lr <= 0:
        raise MnemonError(f"--lr must be above 0, got {lr:g}")
    need_torch("training")
    from mnemon.recipes.memory_r1 import run as recipe
    from mnemon.recipes.memory_r1.options import TrainOptions

    if data is None:  # the shipped agents have a name here, as in chat and eval
        writer = named(writer, "writer") if writer else None
        reader = named(reader, "reader") if reader else None
    options = TrainOptions(
        role=role, algo=algo, policy=policy, data=data, run=run, writer=writer, reader=reader, extractor=extractor,
        profile=profile, construction=construction, facts=facts, k=k, distill=distill, constant=constant,
        updates=updates, groups=groups, members=members, lr=lr, kl=kl, lora=lora, train_questions=train_questions,
        cold_updates=cold_updates, max_prompt=max_prompt, max_reply=max_reply, seed=seed, tensorboard=tensorboard,
        resume=resume, dry_run=dry_run, skip_bad=skip_bad,
    )  # fmt: skip
    with gpu_memory():
        recipe.start(options)
