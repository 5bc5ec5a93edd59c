"""`mnemon data`: what is in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemon.tasks import locomo

app = typer.Typer(help="Look at datasets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at datasets."""


@app.command("show")
def show(
    path: Annotated[Path, typer.Argument(help="A LoCoMo file (locomo10.json), or the folder it lies in.")],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Use the rest of a file with unknown faults.")] = False,
    problems: Annotated[int, typer.Option(help="Most malformed fields to list.")] = 40,
) -> None:
    """Conversations, turns, questions per category under both naming schemes, splits, malformed fields."""
    typer.echo(locomo.render_summary(locomo.load(path, skip_bad), problems=problems))
