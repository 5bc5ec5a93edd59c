"""`mnemon train mem-alpha` and `mnemon eval mem-alpha`: a memory built chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from mnemon.agent import Agent
from mnemon.cli.common import agent_of, check_role, gpu_memory, need_torch, refuse
from mnemon.policy.base import run_sync
from mnemon.policy.open import open_policy
from mnemon.types import MnemonError, Policy

ROWS_ONLY = (
    "reader", "judge", "profile", "flat", "shown", "rounds", "search", "core_tokens", "counter", "k", "questions",
    "max_prompt", "max_reply", "skip_bad",
)  # fmt: skip
"""Training options that mean nothing in the tiny stream."""
ROWS_ONLY_EVAL = (
    "reader", "judge", "out", "split", "k", "max_reply", "max_prompt", "max_answer", "counter", "published",
    "concurrency", "chunk", "skip_bad", "seed",
)  # fmt: skip


def train(
    context: typer.Context,
    # what is trained
    policy: Annotated[
        str,
        typer.Option(metavar="MODEL", help="PATH or hub id of a causal LM; 'tiny' builds the tiny model from scratch."),
    ] = "tiny",
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Task rows (mnemon data build); repeat it. Without: the tiny stream."),
    ] = None,
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="The run's folder: logs, samples, checkpoints.")] = Path(
        "runs/mem-alpha"
    ),
    reader: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The frozen answerer: PATH, hub id or URL (default: the starting policy)."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who judges what was written (default: the starting policy, frozen), and the answers that no metric "
            "can score (default: nobody, they are left out).",
        ),
    ] = None,
    # the reward
    profile: Annotated[Literal["default", "paper"], typer.Option(help="Our settings, or those published.")] = "default",
    beta: Annotated[float | None, typer.Option(min=0.0, metavar="X", help="Weight of compression.")] = None,
    gamma: Annotated[
        float | None, typer.Option(min=0.0, metavar="X", help="Weight of the judge's content score; 0 asks no judge.")
    ] = None,
    validity: Annotated[
        float | None, typer.Option(min=0.0, metavar="X", help="Weight of valid calls; 0 turns them off.")
    ] = None,
    credit: Annotated[
        Literal["episode", "evidence"] | None,
        typer.Option(help="Answers pay every chunk alike, or those more which their evidence came from."),
    ] = None,
    # the memory
    flat: Annotated[
        Literal["list", "text"] | None, typer.Option(help="Ablation: one section, a list or one text, for all.")
    ] = None,
    shown: Annotated[
        Literal["related", "newest"] | None,
        typer.Option(help="What the writer is shown of its lists: the related entries, or the five newest (paper)."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, metavar="N", help="Replies per chunk.")] = None,
    search: Annotated[bool, typer.Option("--search", help="Offer the search tool (with --rounds above 1).")] = False,
    core_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Capacity of the core text.")] = None,
    counter: Annotated[
        str, typer.Option(metavar="NAME", help="Who counts memory tokens: words, bytes, or a tokenizer's PATH or id.")
    ] = "words",
    # how
    k: Annotated[int | None, typer.Option("--k", min=1, metavar="N", help="Entries per list for the reader.")] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most questions per stream and update.")
    ] = None,
    cold_updates: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tiny stream: supervised updates of the cold start.")
    ] = None,
    updates: Annotated[int | None, typer.Option(min=1, metavar="N", help="Policy updates.")] = None,
    groups: Annotated[int | None, typer.Option(min=1, metavar="N", help="Streams per update.")] = None,
    members: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rollouts per stream.")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="Learning rate of the policy.")] = None,
    kl: Annotated[
        float | None, typer.Option(min=0.0, metavar="X", help="Coefficient of the KL to the starting policy.")
    ] = None,
    lora: Annotated[
        int | None, typer.Option(min=1, metavar="RANK", help="Train LoRA adapters of this rank, not all weights.")
    ] = None,
    max_prompt: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most prompt tokens.")] = None,
    max_reply: Annotated[int | None, typer.Option(min=1, metavar="N", help="Most sampled tokens per reply.")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    # the run
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and one rendered prompt; train nothing.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events into FOLDER/tensorboard.")
    ] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Use the rest of a row file with faults.")] = False,
) -> None:
    """Train Mem-α: a writer that reads chunk after chunk and keeps a core, an episodic and a semantic memory.

    Without --data this trains the tiny model on the tiny stream, on a CPU, in minutes. With --data it trains on rows of
    the split 'train' (mnemon data build makes them) and validates on those of 'validation'. A run that was stopped, or
    killed at any moment, goes on with --resume.
    """
    if not data:
        refuse(context, ROWS_ONLY, "needs --data: it means nothing in the tiny stream")
    if data or policy != "tiny":
        refuse(context, ("cold_updates",), "is for --policy tiny without --data: other training starts from --policy")
    if lr is not None and lr <= 0:
        raise MnemonError(f"--lr must be above 0, got {lr:g}")
    need_torch("training")
    from mnemon.recipes.mem_alpha import run as recipe
    from mnemon.recipes.mem_alpha.options import TrainOptions

    options = TrainOptions(
        policy=policy, data=tuple(data or ()), run=run, reader=reader, judge=judge, profile=profile, beta=beta,
        gamma=gamma, validity=validity, credit=credit, flat=flat, shown=shown, rounds=rounds, search=search,
        core_tokens=core_tokens, counter=counter, k=k, questions=questions, cold_updates=cold_updates, updates=updates,
        groups=groups, members=members, lr=lr, kl=kl, lora=lora, max_prompt=max_prompt, max_reply=max_reply, seed=seed,
        tensorboard=tensorboard, resume=resume, dry_run=dry_run, skip_bad=skip_bad,
    )  # fmt: skip
    with gpu_memory():
        recipe.start(options)


def evaluate(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Task rows (mnemon data build); repeat it. Without: the tiny stream."),
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who builds the memory: PATH, hub id or URL; 'chunks' stores every chunk as it stands.",
        ),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Who answers, with --data: PATH, hub id or URL.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who says whether an answer is right, beside the metrics; questions that only a judge can score are "
            "asked with one only (default: nobody).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For memories, answers, report, plots; a rerun goes on there."),
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test", "all"], typer.Option(help="Which rows of the files.")
    ] = "test",
    k: Annotated[
        int, typer.Option("--k", min=1, metavar="N", help="Entries per list for the reader (2 with 'chunks' is RAG).")
    ] = 20,
    published: Annotated[
        bool, typer.Option("--published", help="The writer is a released Mem-α model: its tool names and call form.")
    ] = False,
    counter: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who counts memory tokens (default: as it was trained, else words)."),
    ] = None,
    max_prompt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The writer's most prompt tokens (default: as trained).")
    ] = None,
    max_answer: Annotated[
        int, typer.Option(min=1, metavar="N", help="The reader's most prompt tokens: fewer entries are shown.")
    ] = 30000,
    max_reply: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a reply.")] = 2048,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Requests under way at an endpoint.")] = 8,
    chunk: Annotated[int, typer.Option(min=1, metavar="N", help="Questions under way together.")] = 64,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Tiny stream: streams of training length.")] = 100,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Use the rest of a row file with faults.")] = False,
) -> None:
    """Evaluate Mem-α: a writer reads the streams, a reader answers; scores per source and dimension with intervals.

    Leaves with exit code 3 when some questions could not be asked; a rerun with the same --out asks only those.
    """
    if not data:
        refuse(context, ROWS_ONLY_EVAL, "needs --data: it means nothing in the tiny stream")
        _tiny(writer, episodes)
        return
    refuse(context, ("episodes",), "is for the tiny stream: --split chooses from --data")
    if reader is None or writer is None:
        missing = "--reader" if reader is None else "--writer"
        raise MnemonError(f"{missing} is needed with --data: PATH, hub id or URL of a model (or --writer chunks)")
    if published and writer == "chunks":
        raise MnemonError("--published describes a writing model: it means nothing with --writer chunks")
    from mnemon.agents import mem_alpha as agents
    from mnemon.eval.rows import evaluate_rows, row_tasks
    from mnemon.memory.count import token_counter

    row_tasks(data, split, skip_bad, judge is not None)  # a wrong file is said before a model is loaded
    counting = token_counter(counter or "words")
    options: dict[str, Any] = {"concurrency": concurrency}
    answering = open_policy(reader, max_tokens=min(max_reply, 512), **options)
    writing: tuple[Agent, Policy] | None = None
    if writer != "chunks":
        opened = open_policy(writer, max_tokens=max_reply, **options)
        check_role(opened, writer, "writer")
        changes = {"counter": counter, "window": max_prompt, "names": "published" if published else None}
        writing = (agent_of(agents.writer_of, opened, writer, **changes), opened.policy)
    judging = open_policy(judge, max_tokens=256, **options).policy if judge is not None else None
    report = run_sync(
        evaluate_rows(
            data,
            (agents.reader(k=k, window=max_answer), answering.policy),
            writing,
            split=split,
            skip_bad=skip_bad,
            counter=counting,
            judge=judging,
            out=out,
            seed=seed,
            chunk=chunk,
        )
    )
    Console().print(report)
    raise typer.Exit(report.exit_code)


def _tiny(writer: str | None, episodes: int) -> None:
    """The tiny stream: lengths and dimensions, beside the scripted writers."""
    if writer is None:
        raise MnemonError("name a run of the tiny stream with --writer (mnemon train mem-alpha makes one)")
    need_torch("the tiny stream's models")
    from mnemon.recipes.mem_alpha.tiny import REPLY_TOKENS
    from mnemon.recipes.mem_alpha.tiny_eval import measure, rows_of

    opened = open_policy(writer, max_tokens=REPLY_TOKENS)
    if (opened.trained.get("recipe"), opened.trained.get("world")) != ("mem-alpha", "tiny"):
        raise MnemonError(f"{writer} was not trained on the tiny stream: evaluate it with --data ROWS")
    header, rows = rows_of(measure(opened.policy, episodes))
    table = Table(title=f"tiny stream, answers right (± standard error over streams): {writer}")
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
