"""Two small tasks, a writer that stores what it is told to, a reader that answers from what it was shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

import pytest

from mnemon.agent import Agent, Ctx
from mnemon.policy.base import EPISODE
from mnemon.tasks.script import Script
from mnemon.tools import tool
from mnemon.types import Completion, Input, Message, MnemonError, Probe, Stage, Task, ToolCall, ToolSchema


def stage(*texts: str, first: int = 1) -> Stage:
    """Inputs "a", "b" … with sources s1, s2 … and Ana as the speaker."""
    inputs = [Input(text, f"day {i}", (f"s{i}",), "Ana") for i, text in enumerate(texts, first)]
    return Stage(partial(Script, inputs))


def make_task(name: str = "t1", **more: object) -> Task:
    """Two stages of two inputs; a question in the middle and two at the end."""
    return Task(
        name,
        (stage("Rex is a dog", "forget m1"), stage("Mia is a cat", "Leo is a fox", first=3)),
        (
            Probe("q0", "Rex ?", ("dog",), "1", ("s1",), after=1, scorers=("em", "f1_squad")),
            Probe("q1", "Mia ?", ("cat",), "2", ("s3", "s9"), scorers=("em", "f1_squad")),
            Probe("q2", "Rex ?", ("dog",), "1", (), scorers=("em", "f1_squad")),
        ),
        dict(more),
    )


def add(ctx: Ctx, text: str) -> str:
    """Store a text.

    text: what
    """
    return ctx.memory.add(text, owner=ctx.input.speaker, time=ctx.input.time, source=ctx.input.source).label


def delete(ctx: Ctx, id: str) -> str:
    """Remove an entry.

    id: which
    """
    return ctx.memory.delete(ctx.resolve(id)).label


def writer_agent() -> Agent:
    def prompt(ctx: Ctx, given: Input) -> list[Message]:
        return [Message("user", given.text)]

    return Agent("writer", prompt, tools=(tool(add), tool(delete)))


def reader_agent(k: int = 1) -> Agent:
    def prompt(ctx: Ctx, given: Input) -> list[Message]:
        shown = ctx.show([hit.entry for hit in ctx.retrieve(given.text, k)], 1)
        return [Message("user", "\n".join(entry.text for _, entry in shown) + f"\n{given.text}")]

    return Agent("reader", prompt)


class Counting:
    """A policy that answers by rule and advances its episode's key, as a model does.

    `down`: a part of "task: prompt" -> the error that it raises there.
    """

    temperature = 0.0

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.asked: list[str] = []
        self.keys: list[tuple[int, int, str, int, int]] = []
        self.down: dict[str, Exception] = {}

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        text = messages[-1].content
        self.asked.append(text)
        episode = EPISODE.get()
        assert episode is not None
        self.keys.append(episode.next())
        for part, error in self.down.items():
            if part in f"{episode.task}: {text}":
                raise error
        return Completion(self.reply(text), prompt_tokens=10)

    def reply(self, text: str) -> Message:
        raise MnemonError("a rule is missing")


class Writer(Counting):
    """Stores every input; "forget m1" deletes that entry."""

    def reply(self, text: str) -> Message:
        verb, _, rest = text.partition(" ")
        call = ToolCall("delete", {"id": rest}) if verb == "forget" else ToolCall("add", {"text": text})
        return Message("assistant", "", (call,))


class Reader(Counting):
    """The last word of the first line that was shown."""

    def reply(self, text: str) -> Message:
        line = text.split("\n")[0]
        return Message("assistant", line.split()[-1] if line else "nothing")


@pytest.fixture
def small() -> SimpleNamespace:
    """All of the above."""
    parts = (stage, make_task, writer_agent, reader_agent, Counting, Writer, Reader)
    return SimpleNamespace(**{part.__name__: part for part in parts})
