"""The flat baseline of the tiny stream: one paragraph under the sections' caps together, rewritten by every reply."""

from __future__ import annotations

from collections.abc import Sequence

from mnemon.agent import State, rollouts
from mnemon.agents.mem_alpha.agents import writer
from mnemon.agents.mem_alpha.sections import FLAT, layout
from mnemon.memory.memory import Memory
from mnemon.policy.base import Scripted
from mnemon.tasks.tiny_stream import words
from mnemon.tasks.tiny_stream.reader import flat_reader, read_paragraph
from mnemon.tasks.tiny_stream.reading import content, read_sentence
from mnemon.types import Message, Task, ToolCall, ToolSchema, Trajectory

MOST_WORDS = 100
"""What one reply can rewrite: the paragraph cannot be longer, whatever its cap."""


def flat_state(task: Task) -> State:
    """An empty paragraph under the sum of the task's caps."""
    return State(Memory(layout(**task.meta["caps"], flat="text")))


def rewrite(paragraph: str, day: str, sentences: Sequence[str], most: int) -> str:
    """The paragraph after the sentences; where it exceeds `most` words, what was touched longest ago is left out."""
    facts = read_paragraph(paragraph)
    for sentence in sentences:
        reading = read_sentence(sentence, day)
        key = (reading.subject, reading.attribute)
        if reading.sense == "noise":
            continue
        held = facts.pop(key, [])
        if reading.sense == "remove":
            held = [v for v in held if v not in reading.values]
        elif reading.attribute == words.TRIPS:
            held = [*reading.values, *held]
        else:
            held = [*reading.values]
        if held:
            facts[key] = held
    texts = [content(*key, held) for key, held in facts.items()]
    while texts and sum(len(text.split()) for text in texts) > most:
        del texts[0]
    return " ".join(texts)


def _writer(most: int) -> Scripted:
    """A writer that rewrites its paragraph with every chunk, at most `most` words of it."""

    def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
        state, _, chunk = messages[-1].content.partition("chunk: ")
        rows = state.splitlines()[1:]
        day = rows.pop().removeprefix("time: ")
        paragraph = " ".join(rows)
        text = rewrite(paragraph, day, [row.partition(" ")[2] for row in chunk.splitlines()], most)
        if text == paragraph:
            return Message("assistant", "ok")
        section = {"section": FLAT}
        if not text:
            return Message("assistant", "", (ToolCall("delete", section),))
        return Message("assistant", "", (ToolCall("update" if paragraph else "insert", {**section, "text": text}),))

    return Scripted(reply)


async def play_flat(tasks: Sequence[Task]) -> list[Trajectory]:
    """One rollout per task of the best that a paragraph allows."""
    agent = writer(style="tiny", sections=layout(flat="text"))
    played = []
    for task in tasks:
        policy = _writer(min(MOST_WORDS, sum(task.meta["caps"].values())))
        ((trajectory,),) = await rollouts(agent, [task], policy, reader=flat_reader(), start=flat_state)
        played.append(trajectory)
    return played
