"""`mnemon data`: what is in a file, rows from original files, checks of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnemon.cli import data_build
from mnemon.cli.data_build import SKIP, check_files, looks_like_rows, row_summary
from mnemon.tasks import locomo

app = typer.Typer(help="Look at datasets, turn them into task rows, check rows.")
app.command("build")(data_build.build)


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Look at datasets, turn them into task rows, check rows."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("show")
def show(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file of rows (.jsonl), or LoCoMo's locomo10.json or its folder."),
    ],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help=SKIP)] = False,
    problems: Annotated[int, typer.Option(min=0, metavar="N", help="Most malformed fields to list.")] = 40,
) -> None:
    """Show a file: sizes, questions per category, splits, malformed fields; of rows also one sample."""
    if looks_like_rows(path):
        typer.echo(row_summary(path, skip_bad, problems))
    else:
        typer.echo(locomo.render_summary(locomo.load(path, skip_bad), problems=problems))


@app.command("check")
def check(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of rows, as mnemon data build writes.")],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help=SKIP)] = False,
    problems: Annotated[int, typer.Option(min=0, metavar="N", help="Most malformed fields and leaks to list.")] = 40,
    near: Annotated[
        float,
        typer.Option(min=0.05, max=1.0, metavar="SHARE", help="Chunks that share this much of their text are alike."),
    ] = 0.8,
) -> None:
    """Check rows: every field, and that no document, question, label or chunk of one split is in another one."""
    text, clean = check_files(paths, skip_bad, problems, near)
    typer.echo(text)
    if not clean:
        raise typer.Exit(1)
