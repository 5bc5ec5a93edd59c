"""`mnemon eval`: rollouts without credit; the figures of a trained or untrained agent, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mnemon.agents.memory_r1 import answerer, manager
from mnemon.cli.chat import named, shipped
from mnemon.cli.common import agent_of, check_role, need_torch, refuse
from mnemon.policy.base import run_sync
from mnemon.policy.open import open_policy
from mnemon.types import MnemonError, Policy

app = typer.Typer(help="Evaluate a memory agent.")

REAL_ONLY = (
    "split", "extractor", "judge", "k", "distill", "facts", "conversations", "adversarial", "max_reply", "max_prompt",
    "concurrency", "chunk", "seed", "skip_bad",
)  # fmt: skip
"""Options that mean nothing in the tiny world."""


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Evaluate a memory agent."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("memory-r1")
def memory_r1(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A LoCoMo file; without it the tiny world is used.")
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who builds the banks: PATH, hub id or URL; 'turns' (the default with --data) stores every turn as "
            "it stands.",
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who answers: PATH, hub id or URL (in the tiny world a rule by default; 'tiny' is the answerer "
            "that comes with mnemon, trained on memories of a dozen entries and more).",
        ),
    ] = None,
    extractor: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Who extracts facts (default: the writer's model).")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Who says whether an answer is right, beside the metrics (default: nobody)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For banks, answers and the report; a rerun goes on there.")
    ] = None,
    split: Annotated[Literal["train", "validation", "test", "all"], typer.Option(help="Which conversations.")] = "test",
    conversations: Annotated[
        str | None, typer.Option(metavar="IDS", help="Conversation ids, comma-separated, in place of the split.")
    ] = None,
    adversarial: Annotated[bool, typer.Option("--adversarial", help="Ask category 5 too.")] = False,
    k: Annotated[int | None, typer.Option("--k", min=1, metavar="N", help="Memories shown to the answerer.")] = None,
    distill: Annotated[
        bool | None,
        typer.Option(help="The answerer names the useful memories before it answers (default: as it was trained)."),
    ] = None,
    facts: Annotated[
        Literal["policy", "raw"] | None,
        typer.Option(help="A model extracts facts, or every input is one fact (default: as it was trained)."),
    ] = None,
    max_reply: Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of a reply.")] = 512,
    max_prompt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most prompt tokens (default: as it was trained).")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Requests under way at an endpoint.")] = 8,
    chunk: Annotated[int, typer.Option(min=1, metavar="N", help="Questions under way together.")] = 64,
    episodes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tiny world: episodes of six events (fewer of longer ones).")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Use the rest of a data file with unknown faults.")
    ] = False,
) -> None:
    """Evaluate Memory-R1: a manager builds the banks and an answerer answers; metrics by category with intervals.

    Leaves with exit code 3 when some questions could not be asked; a rerun with the same --out asks only those.
    """
    if data is None:
        refuse(context, REAL_ONLY, "needs --data: it means nothing in the tiny world")
        _tiny(writer, reader, episodes, out)
        return
    refuse(context, ("episodes",), "is for the tiny world: --split or --conversations choose from --data")
    if writer in (None, "turns"):
        refuse(context, ("extractor", "facts"), "needs --writer: stored turns are not read by a model")
    chosen = None if conversations is None else [name.strip() for name in conversations.split(",") if name.strip()]
    if chosen == []:
        raise MnemonError("--conversations names none: give ids like conv-41,conv-42, or leave it out for the split")
    if reader is None:
        raise MnemonError("--reader is needed with --data: PATH, hub id or URL of the answering model")
    from mnemon.eval.locomo import evaluate_locomo
    from mnemon.tasks import locomo

    locomo.load(data, skip_bad)  # a wrong file is said before a model is loaded
    options: dict[str, Any] = {"max_tokens": max_reply, "concurrency": concurrency}
    answering = open_policy(reader, **options)
    check_role(answering, reader, "reader")
    reading = agent_of(answerer, answering, reader, k=k, distill=distill, window=max_prompt)
    writing: tuple[Any, Policy] | None = None
    helpers: dict[str, Policy] = {}
    if writer is not None and writer != "turns":
        opened = open_policy(writer, **options)
        check_role(opened, writer, "writer")
        writing = (agent_of(manager, opened, writer, extract=facts, window=max_prompt), opened.policy)
        if extractor is not None:
            helpers["extractor"] = open_policy(extractor, **options).policy
    judging = open_policy(judge, **{**options, "max_tokens": 256}).policy if judge is not None else None
    report = run_sync(
        evaluate_locomo(
            data,
            (reading, answering.policy),
            writing,
            split=split,
            conversations=chosen,
            adversarial=adversarial,
            skip_bad=skip_bad,
            helpers=helpers,
            judge=judging,
            out=out,
            seed=seed,
            chunk=chunk,
        )
    )
    Console().print(report)
    raise typer.Exit(report.exit_code)


def _tiny(writer: str | None, reader: str | None, episodes: int, out: Path | None) -> None:
    """The tiny world: lengths, unseen templates and people, beside the scripted policies."""
    spec = named(writer or "tiny", "writer")
    if writer is None and not shipped().exists():
        raise MnemonError("no agent is shipped with this installation: name a run with --writer")
    need_torch("the tiny world")
    from mnemon.recipes.memory_r1.tiny import REPLY_TOKENS, tiny_manager
    from mnemon.recipes.memory_r1.tiny_eval import measure, rows_of

    opened = open_policy(spec, max_tokens=REPLY_TOKENS)
    if opened.trained.get("world") != "tiny":
        raise MnemonError(f"{spec} was not trained in the tiny world: evaluate it with --data locomo10.json")
    check_role(opened, spec, "writer")
    agent_of(tiny_manager, opened, spec)
    found = measure(opened.policy, episodes, reader=named(reader, "reader") if reader else None)
    console = Console()
    console.print(f"tiny world, answers right in % (± standard error over episodes): {spec}", soft_wrap=True)
    console.print(_board(*rows_of(found)))
    if out is not None:
        from mnemon.runs import atomic_write_json

        atomic_write_json(out / "tiny.json" if out.suffix != ".json" else out, found)


def _board(header: list[str], rows: list[list[str]]) -> Table:
    """For a terminal of 80 columns: one word of a heading, and an error below its mean, to a line."""
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column(header[0], no_wrap=True)
    for name in header[1:]:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row[0], *(cell.replace(" ± ", "\n± ") for cell in row[1:]))
    return table
