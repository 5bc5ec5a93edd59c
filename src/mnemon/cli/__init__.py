"""The command line: `mnemon train | eval | chat | demo | data`. A mistake gives one message, never a traceback."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import mnemon
from mnemon.cli import chat, data, demo, evaluate, mem_alpha, train
from mnemon.types import MnemonError

UsageError: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
"""What typer raises for a wrong command line: a class of click, or of typer's own copy of click (newer versions)."""

app = typer.Typer(
    name="mnemon",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
train.app.command("mem-alpha")(mem_alpha.train)
evaluate.app.command("mem-alpha")(mem_alpha.evaluate)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="eval")
app.command("chat")(chat.chat)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnemon {mnemon.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _mnemon(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Agents that learn what to remember: train, evaluate and talk to agents that manage their own memory.

    Start with `mnemon demo`: a tiny agent learns on a CPU, in minutes.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's). Returns the exit code: 0, 2 for a mistake, 130 when interrupted.

    One process of several (torchrun) is left here and does not return.
    """
    given = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show "→" shows "?"
            stream.reconfigure(errors="replace")
    try:
        code = app(given, prog_name="mnemon", standalone_mode=False)
    except MnemonError as error:
        code = _complain(str(error))
    except UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if getattr(error, "ctx", None) is not None else ""
        code = _complain(error.format_message().replace("Value error, ", "").rstrip(".") + where)
    except OSError as error:
        code = _complain(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    except RuntimeError as error:
        if _rank() == 0 or "onnection" not in str(error):
            raise
        code = _complain(f"process {_rank()} lost the others: {str(error).splitlines()[0]}")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        print(f"stopped{_how_to_go_on(given)}", file=sys.stderr)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _leave(int(code or 0))
    return int(code or 0)


def _how_to_go_on(given: Sequence[str]) -> str:
    if given[:1] == ["train"]:
        return ": the same command with --resume goes on from the last checkpoint"
    kept = given[:1] == ["demo"] or (given[:1] == ["eval"] and "--data" in given and "--out" in given)
    return ": the same command goes on from there" if kept else ""


def _complain(message: str) -> int:
    if _rank() > 0:
        time.sleep(2)  # every process made the same mistake, and the launcher ends the others when the first one leaves
    print(f"error: {message}", file=sys.stderr)
    return 2


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _leave(code: int) -> None:
    """Leave a process of several without the interpreter's shutdown, in which gloo's threads sometimes abort."""
    torch = sys.modules.get("torch")
    if code == 0 and torch is not None and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
