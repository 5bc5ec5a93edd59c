"""`mnemon chat`: talk to an agent; what it stores is what it was trained to store."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from mnemon.agent import Agent, State
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.cli.common import agent_of, check_role, need_torch
from mnemon.endpoint import EndpointError
from mnemon.memory.memory import Operation
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.open import Opened, is_url, open_policy
from mnemon.tasks.person import Person
from mnemon.tasks.tiny import words
from mnemon.tasks.tiny.scripted import read_answer
from mnemon.types import Input, MnemonError, Policy, Turn

QUESTION = ("?", "？", "؟")
HELP = """\
A statement is read by the memory manager; a line that ends in "?" is answered from memory.
/memory  what it holds    /history  every operation    /forget  start over    /help    /quit"""
TINY_HINT = """\
The tiny agent knows {n} words. Try:
  Anna lives in Paris            Anna adopted Rex          Anna moved to Rome
  a pet of Anna is Luna          Anna gave Rex away        pets of Anna ?     city of Anna ?"""


@dataclass(slots=True)
class Talk:
    """A conversation: one state, a writer and a reader with their policies."""

    writer: Agent
    reader: Agent
    policy: Policy
    answers: Policy
    state: State
    tiny: bool
    patient: bool = False
    """Whether an endpoint's failure is shown and the conversation goes on: its memory would be lost otherwise."""


def shipped(role: Literal["writer", "reader"] = "writer") -> Path:
    """The trained tiny manager, or answerer, that comes with the package."""
    name = "tiny" if role == "writer" else "tiny_reader"
    return Path(str(__file__)).resolve().parents[1] / "policy" / "assets" / name


def named(spec: str, role: Literal["writer", "reader"]) -> str:
    """What an option names: 'tiny' is the shipped agent of this role."""
    return str(shipped(role)) if spec == "tiny" else spec


def open_talk(run: str, reader: str | None) -> Talk:
    """Open a run, model or endpoint as the writer, and the reader that goes with it."""
    opened = _opened(run)
    tiny = opened.trained.get("world") == "tiny"
    if opened.trained.get("role") == "reader":
        raise MnemonError(f"{run} is an answerer: name the manager's run, and this one with --reader {run}")
    writer = agent_of(partial(manager, extract="raw", style="tiny") if tiny else manager, opened, run)
    if reader is not None:
        answering = _opened(reader)
        check_role(answering, reader, "reader")
        if tiny != (answering.trained.get("world") == "tiny"):
            raise MnemonError(f"{run} and {reader} do not fit: one of them knows only the tiny world's words")
        agent = agent_of(_tiny_answerer() if tiny else answerer, answering, reader)
        return Talk(writer, agent, opened.policy, answering.policy, writer.start(), tiny)
    if tiny:
        agent = answerer(k=1, style="tiny", marker=False)
        return Talk(writer, agent, opened.policy, Scripted(read_answer), writer.start(), tiny)
    return Talk(writer, answerer(), opened.policy, opened.policy, writer.start(), tiny)


def _opened(spec: str) -> Opened:
    if not is_url(spec):
        need_torch(f"{spec!r} is a local model, which")
    return open_policy(spec, max_tokens=256)


def _tiny_answerer() -> Callable[..., Agent]:
    from mnemon.recipes.memory_r1.tiny_reader import tiny_answerer  # torch only where a local model is asked for

    return tiny_answerer


def _operation(operation: Operation) -> str:
    if operation.before is None:
        return f"add    {operation.entry.label}: {operation.entry.text}"
    if operation.after is None:
        return f"delete {operation.entry.label}: {operation.entry.text}"
    return f"update {operation.entry.label}: {operation.before.text} → {operation.after.text}"


async def _say(talk: Talk, text: str) -> str:
    """One line of the person: observe it, or answer it."""
    if talk.tiny:
        known = set(words.vocabulary())
        for mark in QUESTION:
            text = text.replace(mark, " ?")
        text = " ".join(text.rstrip(".!").split())
        strange = [word for word in text.split() if word not in known]
        if strange:
            return f"(the tiny model does not know: {', '.join(strange)}; /help shows sentences it knows)"
    if text.endswith(QUESTION):
        turn = await talk.reader.respond(talk.state.fork(), Input(text), talk.answers)
        used = "; ".join(entry.text for entry in turn.view or []) or "no memory"
        return f"{turn.reply or '(no answer)'}    [from: {used}]{_noted(turn)}"
    turn = await talk.writer.respond(talk.state, Input(text), talk.policy)
    refused = [result.content for step in turn.steps for result in step.results if not result.ok]
    done = [_operation(operation) for operation in turn.operations]
    return "\n".join([*done, *(f"(refused: {why})" for why in refused)]) or f"(nothing to remember){_noted(turn)}"


def _noted(turn: Turn) -> str:
    """What went wrong, as it is counted everywhere else: a reply without a call, cut, or not to be read."""
    events = [name for name in turn.events if name not in ("calls", "skipped") and not name.startswith("refused:")]
    return f"    [noted: {', '.join(events)}]" if events else ""


def _command(talk: Talk, text: str) -> str:
    if text == "/memory":
        shown = (f"{e.label}: {e.text}" + (f"  [{e.time}]" if e.time else "") for e in talk.state.memory.entries())
        return "\n".join(shown) or "(empty)"
    if text == "/history":
        return "\n".join(map(_operation, talk.state.memory.log)) or "(nothing yet)"
    if text == "/forget":
        talk.state = talk.writer.start()
        return "(a new, empty memory)"
    unknown = "" if text == "/help" else f"(there is no command {text.split()[0]})\n"
    return unknown + HELP + ("\n" + TINY_HINT.format(n=len(words.vocabulary())) if talk.tiny else "")


async def converse(talk: Talk, person: Person) -> None:
    """The loop: a person is an environment, the agent responds."""
    given = await person.reset()
    while given is not None and given.text not in ("/quit", "/exit"):
        try:
            reply = _command(talk, given.text) if given.text.startswith("/") else await _say(talk, given.text)
        except EndpointError as error:
            if not talk.patient:
                raise
            reply = f"(error: {error})"
        given, _, _ = await person.step(reply)


def chat(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A run, model directory, hub id or URL; default: the tiny agent that comes with mnemon.",
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who answers: a run, model or URL (default: the same model; in the tiny world a rule; 'tiny' is the "
            "answerer that comes with mnemon, trained on memories of a dozen entries and more).",
        ),
    ] = None,
) -> None:
    """Talk to an agent that keeps a memory. /memory shows what it holds, /history what it did, /help the rest."""
    if run is None and not shipped().exists():
        raise MnemonError(
            "no agent is shipped with this installation: name a run, a model or a URL, or run `mnemon demo` first"
        )
    talk = open_talk(named(run or "tiny", "writer"), named(reader, "reader") if reader else None)
    console = Console()

    def show(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    show(_command(talk, "/help"))
    talk.patient = sys.stdin is not None and sys.stdin.isatty()
    read: Callable[[str], str] = input if talk.patient else _piped
    before = signal.signal(signal.SIGINT, _interrupt)  # else asyncio keeps the first Ctrl-C for itself
    try:
        run_sync(converse(talk, Person(read, show)))
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _piped(prompt: str) -> str:
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise EOFError
    typer.echo(f"{prompt}{line.rstrip()}")
    return line
