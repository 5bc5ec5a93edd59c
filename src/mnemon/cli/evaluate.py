"""`mnemon eval`: rollouts without credit; the figures of a trained or untrained agent, with intervals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mnemon.agents.memory_r1 import answerer, manager
from mnemon.cli.chat import shipped, warn_if_changed
from mnemon.policy.base import run_sync
from mnemon.policy.open import Opened, open_policy
from mnemon.types import MnemonError, Policy

app = typer.Typer(help="Evaluate a memory agent.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Evaluate a memory agent."""


@app.command("memory-r1")
def memory_r1(
    data: Annotated[Path | None, typer.Option(help="A LoCoMo file; without it the tiny world is used.")] = None,
    split: Annotated[str, typer.Option(help="train, validation, test or all (by conversation).")] = "test",
    writer: Annotated[str | None, typer.Option(help="Who builds the banks: PATH, hub id or URL; 'turns' stores every turn as it stands.")] = None,
    reader: Annotated[str | None, typer.Option(help="Who answers: PATH, hub id or URL (in the tiny world a rule by default).")] = None,
    extractor: Annotated[str | None, typer.Option(help="Who extracts facts (default: the writer's model).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for banks, answers and the report; a rerun goes on there.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Memories shown to the answerer.")] = None,
    distill: Annotated[bool, typer.Option(help="Answerer names the useful memories before it answers.")] = True,
    facts: Annotated[str | None, typer.Option(help="policy: a model extracts facts; raw: every input is one fact.")] = None,
    conversations: Annotated[str | None, typer.Option(help="Conversation ids, comma-separated, in place of the split.")] = None,
    adversarial: Annotated[bool, typer.Option("--adversarial", help="Ask category 5 too.")] = False,
    max_reply: Annotated[int, typer.Option(help="Most tokens of a reply.")] = 512,
    max_prompt: Annotated[int | None, typer.Option(help="Most prompt tokens.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests under way at an endpoint.")] = 8,
    chunk: Annotated[int, typer.Option(help="Questions under way together.")] = 64,
    episodes: Annotated[int, typer.Option(help="Tiny world: episodes of six events (fewer of longer ones).")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Use the rest of a data file with unknown faults.")] = False,
) -> None:
    """Memory-R1: let a manager build the banks and an answerer answer; metrics by category with intervals."""
    if data is None:
        _tiny(writer, reader, episodes, out)
        return
    from mnemon.eval.locomo import evaluate_locomo

    if reader is None:
        raise MnemonError("--reader is needed with --data: PATH, hub id or URL of the answering model")
    options: dict[str, Any] = {"max_tokens": max_reply, "concurrency": concurrency}
    answering = open_policy(reader, temperature=0.0, **options)
    settings = {"distill": distill, **dict(answering.trained.get("agent", {}))}
    if k is not None:
        settings["k"] = k
    reading = answerer(**settings, window=max_prompt)
    warn_if_changed(reading, answering, reader)
    writing: tuple[Any, Policy] | None = None
    helpers: dict[str, Policy] = {}
    if writer is not None and writer != "turns":
        opened = open_policy(writer, temperature=0.0, **options)
        agent_settings = dict(opened.trained.get("agent", {}))
        if facts is not None:
            agent_settings["extract"] = facts
        agent = manager(**agent_settings, window=max_prompt)
        warn_if_changed(agent, opened, writer)
        writing = (agent, opened.policy)
        if extractor is not None:
            helpers["extractor"] = open_policy(extractor, temperature=0.0, **options).policy
    report = run_sync(
        evaluate_locomo(
            data,
            (reading, answering.policy),
            writing,
            split=split,  # type: ignore[arg-type]
            conversations=conversations.split(",") if conversations else None,
            adversarial=adversarial,
            skip_bad=skip_bad,
            helpers=helpers,
            out=out,
            seed=seed,
            chunk=chunk,
        )
    )
    Console().print(report)
    if report.exit_code:
        sys.exit(report.exit_code)


def _tiny(writer: str | None, reader: str | None, episodes: int, out: Path | None) -> None:
    """The tiny world: lengths, unseen templates and people, beside the scripted policies."""
    from mnemon.cli.train import _need_torch

    spec = writer or str(shipped())
    if writer is None and not shipped().exists():
        raise MnemonError("no agent is shipped with this installation: name a run with --writer")
    _need_torch()
    from mnemon.recipes.memory_r1.tiny_eval import measure, rows_of

    opened: Opened = open_policy(spec, temperature=0.0, max_tokens=48)
    if opened.trained.get("world") != "tiny":
        raise MnemonError(f"{spec} was not trained in the tiny world: evaluate it with --data locomo10.json")
    found = measure(opened.policy, episodes, reader=reader)
    table = Table(title=f"tiny world, answers right (± standard error over episodes): {spec}")
    header, rows = rows_of(found)
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if out is not None:
        from mnemon.runs import atomic_write_json

        atomic_write_json(out / "tiny.json" if out.suffix != ".json" else out, found)
