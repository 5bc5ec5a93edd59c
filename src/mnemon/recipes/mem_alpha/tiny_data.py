"""Cold-start data for the tiny stream: what a model of half a million weights must be able to *do* before it learns
*when* and *where*.

Two kinds of rows. Demonstrations come from an imperfect policy that mostly inserts. Skill rows show what every call
writes, with the token that chooses the call (tool and section, or none) left out of the loss, so the choice is left to
reinforcement learning.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnemon.agent import Agent, State, rollouts
from mnemon.agents.mem_alpha.sections import layout
from mnemon.memory.memory import Memory
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.tiny import END, START, build_tokenizer
from mnemon.tasks.tiny.world import blurred
from mnemon.tasks.tiny_stream import make_task, words
from mnemon.tasks.tiny_stream import scripted as rules
from mnemon.tasks.tiny_stream.reading import Reading, View, content, core_text, split_prompt
from mnemon.tasks.tiny_stream.world import section_of
from mnemon.train.batch import Row
from mnemon.types import Message, Task, ToolCall, ToolSchema

SECTIONS = ("core", "episodic", "semantic")
SKIP = "ok"
"""The word that stands where a call would: nothing to do for this sentence."""
CLOSE, TEXT = '"}}</tool_call>', '", "text": "'
FILLERS = words.fillers()


def opening(name: str, section: str) -> str:
    """The fixed text that begins a call: one token, the choice that reinforcement learning has to make."""
    head = f'<tool_call>{{"name": "{name}", "arguments": {{"section": "{section}"'
    if section == "core" and name == "delete":
        return head + "}}</tool_call>"
    return head + (', "text": "' if name == "insert" or section == "core" else ', "id": "')


OPENINGS = tuple(opening(name, section) for name in ("insert", "update", "delete") for section in SECTIONS)


def stream_tokenizer() -> Any:
    """The word-level tokenizer of the tiny stream."""
    return build_tokenizer(words.vocabulary(), (*OPENINGS, TEXT, CLOSE))


def start_state(task: Task) -> State:
    """The memory that a task starts from, under its caps: empty, or what is true after the chunks read before."""
    memory = Memory(layout(**task.meta["caps"]))
    held = task.meta["held"]
    core = core_text({a: tuple(values) for (s, a), values in held.items() if section_of(s, a) == "core"})
    if core:
        memory.add(core, section="core")
    for (subject, attribute), values in held.items():
        section = section_of(subject, attribute)
        if section != "core":
            memory.add(content(subject, attribute, values), section=section)
    return State(memory)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def call_tokens(call: ToolCall | None) -> list[str]:
    """The tokens of a call, the first of which chooses it; of None the word that skips."""
    if call is None:
        return [SKIP]
    arguments = call.arguments
    tokens = [opening(call.name, arguments["section"])]
    if "id" in arguments:
        tokens.append(arguments["id"])
    if "text" in arguments:
        tokens += [TEXT] * ("id" in arguments) + arguments["text"].split()
    return tokens if tokens[0].endswith("</tool_call>") else [*tokens, CLOSE]


STRESS = 2.0
"""Weight in the loss of the tokens that say how sentence and memory relate: few, and hard to learn."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The tokens of a reply, the indices of those that choose a call, and of those that relate (see `STRESS`)."""

    tokens: tuple[str, ...]
    choices: tuple[int, ...]
    related: tuple[int, ...]


def reply_of(parts: Sequence[tuple[str, ToolCall | None]]) -> Reply:
    """A reply from (thought, call) per sentence: its number, what is known of its fact, then the call or the skip."""
    tokens: list[str] = []
    choices: list[int] = []
    related: list[int] = []
    for marker, (thought, call) in zip(words.MARKERS, parts, strict=False):
        tokens += [marker, *thought.split()]
        related += (
            [len(tokens) - 2, len(tokens) - 1]
            if tokens[-2] == words.STOP or tokens[-2].isdecimal()
            else [len(tokens) - 1]
        )
        choices.append(len(tokens))
        tokens += call_tokens(call)
    return Reply((*tokens, END), tuple(choices), tuple(related))


def prompt_tokens(text: str) -> list[str]:
    """The tokens of a prompt: what the chat template makes of the agent's one message (a test compares them)."""
    return [START, "user", *text.split(), END, START, "assistant"]


def make_row(ids: dict[str, int], text: str, reply: Reply, masked: bool, name: str) -> Row:
    """A supervised row: loss on the reply only, without the choices where `masked`."""
    prompt = prompt_tokens(text)
    tokens = [ids[t] for t in (*prompt, *reply.tokens)]
    mask = np.zeros(len(tokens), np.uint8)
    mask[len(prompt) :] = 1
    weight = mask.astype(np.float32)
    weight[[len(prompt) + i for i in reply.related]] = STRESS
    if masked:
        weight[[len(prompt) + i for i in reply.choices]] = 0.0
    return Row(name, name, np.array(tokens, np.int64), mask, np.zeros(len(tokens), np.float32), weight=weight)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def skilled(view: View, reading: Reading, rng: random.Random) -> ToolCall | None:
    """What a skill row shows: mostly the right call, else another that can be carried out, or none."""
    if rng.random() < 0.8:
        return rules.right_call(view, reading)
    return rules.random_call(view, reading, rng)


def blur(rng: random.Random, text: str) -> str:
    """The prompt with some sentences blurred: training sees more than its templates."""
    head, marker, chunk = text.partition("chunk: ")
    rows = []
    for row in chunk.splitlines():
        number, _, sentence = row.partition(" ")
        rows.append(f"{number} {blurred(rng, sentence, FILLERS)}" if rng.random() < 0.35 else row)
    return head + marker + "\n".join(rows)


def cold_rows(agent: Agent, ids: dict[str, int], count: int, seed: int, demonstrations: float = 0.25) -> list[Row]:
    """`count` rows: this share of demonstrations (half on memories that the oracle keeps), else skill rows on
    memories of all sizes that a mostly right policy keeps.
    """
    rows: list[Row] = []
    demos = int(count * demonstrations)

    def driver(decide: rules.Decide, shown: rules.Decide, masked: bool) -> Scripted:
        def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
            rng = random.Random(f"{seed}/{len(rows)}")
            view, text = split_prompt(messages), messages[-1].content
            thoughts = [(thought, call) for thought, _, call in rules.decisions(view, shown, rng)]
            name = f"{'skill' if masked else 'demo'}/{len(rows)}"
            rows.append(make_row(ids, blur(rng, text) if masked else text, reply_of(thoughts), masked, name))
            calls = [call for _, _, call in rules.decisions(view, decide, rng) if call is not None]
            return Message("assistant", "", tuple(calls))

        return Scripted(reply)

    def play(until: int, lengths: Sequence[int], decide: rules.Decide, shown: rules.Decide, masked: bool) -> None:
        first = seed * 1_000_003
        while len(rows) < until:
            at = len(rows)
            tasks = [
                make_task(first + at + i, lengths[i % len(lengths)], slack=1, restate=0.5 if masked else 0.1)
                for i in range(24)
            ]
            run_sync(rollouts(agent, tasks, driver(decide, shown, masked), start=start_state))
        del rows[until:]

    play(demos // 2, (6,), rules.oracle, rules.demonstrator, False)
    play(demos, (6,), rules.demonstrator, rules.demonstrator, False)
    play(count, (6, 20, 60), skilled, skilled, True)
    return rows
