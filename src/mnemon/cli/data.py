"""`mnemon data`: what is in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemon.tasks import locomo

app = typer.Typer(help="Look at datasets.")


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Look at datasets."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("show")
def show(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A LoCoMo file (locomo10.json), or the folder it lies in.")
    ],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Use the rest of a file with unknown faults.")] = False,
    problems: Annotated[int, typer.Option(min=0, metavar="N", help="Most malformed fields to list.")] = 40,
) -> None:
    """Show a file: conversations, turns, questions per category under both naming schemes, splits, malformed fields."""
    typer.echo(locomo.render_summary(locomo.load(path, skip_bad), problems=problems))
