"""The command line: `mnemon train | eval | chat | demo | data`. A user's mistake gives one message, never a traceback."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from mnemon.cli import chat, data, demo, evaluate, train
from mnemon.types import MnemonError

app = typer.Typer(
    name="mnemon",
    help="Agents that learn what to remember: train, evaluate and talk to agents that manage their own memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.add_typer(data.app, name="data")
app.command("chat")(chat.chat)
app.command("demo")(demo.demo)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except MnemonError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, markup=True, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command with --resume goes on from the last checkpoint")
        sys.exit(130)


if __name__ == "__main__":
    main()
