"""Cold-start data for the tiny world: what a model of half a million weights must be able to *do* before it learns
*when*.

Two kinds of rows. Demonstrations come from an imperfect policy whose most likely choice is to add. Skill rows show the
content of every operation on richer memories, with the operation's own token left out of the loss, so the choice is
left to reinforcement learning.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnemon.agent import Agent, State, rollouts
from mnemon.memory.memory import Memory, Section
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.tiny import CALL_PIECES, END, OPERATIONS, START
from mnemon.tasks.tiny import make_task, words
from mnemon.tasks.tiny import scripted as rules
from mnemon.tasks.tiny.world import blurred, sentence, values_of
from mnemon.train.batch import Row
from mnemon.types import Message, Task, ToolCall, ToolSchema

FILLERS = words.fillers()


def start_state(task: Task) -> State:
    """The empty memory of a tiny task, with the task's capacity."""
    return State(Memory([Section("facts", max_entries=task.meta["capacity"])]))


def prompt_tokens(lines: Sequence[str], marker: str, given: str) -> list[str]:
    """The tokens of a tiny prompt: what the chat template makes of the agent's message (a test compares them)."""
    body = " ".join(f"{i} {line}" for i, line in enumerate(lines, 1)).split()
    return [START, "user", "memories:", *body, marker, *given.split(), END, START, "assistant"]


def call_tokens(call: ToolCall) -> tuple[list[str], int]:
    """The tokens of a call and the index of the one that names the operation."""
    arguments = call.arguments
    tokens = ["<tool_call>", OPERATIONS[call.name]]
    if call.name != "noop":
        if "id" in arguments:
            tokens.append(arguments["id"])
        if "text" in arguments:
            tokens += [CALL_PIECES[4]] * ("id" in arguments) + arguments["text"].split()
        tokens.append(CALL_PIECES[5])
    return [*tokens, "</tool_call>"], 1


def reply_tokens(thought: str, call: ToolCall) -> tuple[list[str], int]:
    """The tokens of a whole reply and the index of the operation's token."""
    calls, operation = call_tokens(call)
    head = ["<think>", *thought.split(), "</think>"]
    return [*head, *calls, END], len(head) + operation


def make_row(ids: dict[str, int], prompt: Sequence[str], reply: Sequence[str], masked: int | None, name: str) -> Row:
    """A supervised row: loss on the reply only, without the token at index `masked` of the reply."""
    tokens = [ids[t] for t in (*prompt, *reply)]
    mask = np.zeros(len(tokens), np.uint8)
    mask[len(prompt) :] = 1
    weight = mask.astype(np.float32)
    if masked is not None:
        weight[len(prompt) + masked] = 0.0
    return Row(name, name, np.array(tokens, np.int64), mask, np.zeros(len(tokens), np.float32), weight=weight)


def demonstrations(agent: Agent, ids: dict[str, int], episodes: int, seed: int, length: int = 6) -> list[Row]:
    """Rows of the demonstrator's decisions; half of the memories it decides on are kept by the oracle."""
    rows: list[Row] = []

    def driver(decide: rules.Decide) -> Scripted:
        def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
            pairs, given = rules.split_prompt(messages)
            lines = [rules.read_line(shown, text) for shown, text in pairs]
            reading = rules.read_sentence(given)
            rng = random.Random(f"{seed}/{len(rows)}")
            shown = rules.demonstrator(lines, reading, rng)
            ignored = reading.sense == "distract" and shown.name == "noop"
            thought = "nothing" if ignored else rules.think(lines, reading)
            reply, _ = reply_tokens(thought, shown)
            prompt = prompt_tokens([text for _, text in pairs], "event:", given)
            rows.append(make_row(ids, prompt, reply, None, f"demo/{len(rows)}"))
            return Message("assistant", "", (decide(lines, reading, rng),))

        return Scripted(reply)

    tasks = [make_task(seed * 1_000_003 + i, length, "train", slack=1) for i in range(episodes)]
    half = len(tasks) // 2
    for part, decide in ((tasks[:half], rules.oracle), (tasks[half:], rules.demonstrator)):
        for at in range(0, len(part), 256):
            run_sync(rollouts(agent, part[at : at + 256], driver(decide), start=start_state))
    return rows


def _skill_view(rng: random.Random, person: str, attribute: str, held: Sequence[str]) -> list[str]:
    """One to five stored lines: the fact itself (when it is held) among the person's and other people's facts."""
    lines: dict[tuple[str, str], str] = {}
    for _ in range(rng.randrange(5)):
        other = person if rng.random() < 0.6 else rng.choice(words.PEOPLE[: -words.UNSEEN_PEOPLE])
        about = rng.choice(words.ATTRIBUTES)
        if (other, about) == (person, attribute):
            continue
        count = rng.randint(1, 3) if about in words.LISTS else 1
        lines[other, about] = rules.content(other, about, rng.sample(values_of("train", other, about), count))
    view = list(lines.values())[:4]
    if held:
        view.insert(0 if rng.random() < 0.5 else rng.randint(0, len(view)), rules.content(person, attribute, held))
    return view


def skill_row(rng: random.Random, ids: dict[str, int], name: str) -> Row:
    """One skill row: a random memory, a sentence that fits it, one of the operations that can be carried out on it."""
    person = rng.choice(words.PEOPLE[: -words.UNSEEN_PEOPLE])
    attribute = rng.choice(tuple(words.LISTS) if rng.random() < 0.7 else tuple(words.SINGLE))
    pool = values_of("train", person, attribute)
    most = 5 if attribute in words.LISTS else 1
    held = rng.sample(pool, rng.choices(range(most + 1), [1, *[1.3] * most])[0])
    draw = rng.random()
    inside = bool(held) and draw < 0.6
    value = rng.choice(held) if inside else rng.choice([v for v in pool if v not in held])
    removal = inside and rng.random() < 0.85
    if removal and rng.random() < 0.3:
        value = held[0]
    core = rng.choice(words.cores("remove" if removal else "state", attribute, "seen"))
    reading = rules.Reading("remove" if removal else "state", person, attribute, value)
    view = _skill_view(rng, person, attribute, held)
    lines = [rules.read_line(str(i), text) for i, text in enumerate(view, 1)]
    call = rules.right_call(lines, reading)
    if call.name == "noop":
        call = rules.add(reading) if rng.random() < 0.5 else call
    elif call.name == "update" and rng.random() < 0.15:
        call = rng.choice([rules.add(reading), ToolCall("delete", {"id": call.arguments["id"]})])
    elif call.name == "delete" and rng.random() < 0.2:
        call = ToolCall("noop")
    reply, operation = reply_tokens(rules.think(lines, reading), call)
    text = sentence(rng, core, person, value)
    if rng.random() < 0.55:
        text = blurred(rng, text, FILLERS)
    prompt = prompt_tokens(view, "event:", text)
    return make_row(ids, prompt, reply, operation, name)


def skills(ids: dict[str, int], count: int, seed: int) -> list[Row]:
    """`count` skill rows, the same for the same seed."""
    rng = random.Random(f"skills/{seed}")
    return [skill_row(rng, ids, f"skill/{i}") for i in range(count)]


def token_ids(tokenizer: Any) -> dict[str, int]:
    """Token → id."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary
