"""What of the memory a prompt shows, so that it fits its budget whatever the memory's size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Literal

from mnemon.agent import Ctx
from mnemon.agents.mem_alpha.sections import EPISODIC, chronological
from mnemon.memory.memory import Entry
from mnemon.types import Message

View = Literal["related", "newest"]
Shown = dict[str, list[tuple[str, Entry]]]
"""Section -> its entries under the ids that the prompt gives them."""
Compose = Callable[[Shown], list[Message]]


def texts(ctx: Ctx) -> list[Entry]:
    """The entries of sections that are one text: always shown in full."""
    return [e for s in ctx.memory.sections.values() if s.kind == "text" for e in ctx.memory.entries(s.name)]


def lists(ctx: Ctx) -> list[str]:
    """The names of the sections that are lists."""
    return [section.name for section in ctx.memory.sections.values() if section.kind == "list"]


def related(ctx: Ctx, query: str, k: int, recent: int) -> list[Entry]:
    """The k entries of every list that fit the query best, and its newest, the most important first."""
    found = [[hit.entry for hit in ctx.retrieve(query, k, section=name)] for name in lists(ctx)]
    newest = [ctx.memory.entries(name)[: -recent - 1 : -1] for name in lists(ctx)]
    return _distinct(_in_turn(found), _in_turn(newest))


def newest(ctx: Ctx, n: int) -> list[Entry]:
    """The n newest entries of every list."""
    return [entry for name in lists(ctx) for entry in (ctx.memory.entries(name)[-n:] if n else [])]


def _in_turn(ranked: Sequence[Sequence[Entry]]) -> Iterable[Entry]:
    """The first of every list, then the second of every list …"""
    return (entry for row in zip_longest(*ranked) for entry in row if entry is not None)


def _distinct(*parts: Iterable[Entry]) -> list[Entry]:
    return list({entry.id: entry for part in parts for entry in part}.values())


def numbered(ctx: Ctx, entries: Sequence[Entry], numbers: bool) -> Shown:
    """Give entries their ids for this prompt and note them in ctx: positions from 1, or their own labels.

    Within a section the oldest is first; events stand in the order of their time.
    """
    shown: Shown = {}
    at = 0
    ctx.ids, ctx.view = {}, [*texts(ctx)]
    for name in lists(ctx):
        held = [entry for entry in entries if entry.section == name]
        ordered = chronological(held) if name == EPISODIC else sorted(held, key=lambda entry: entry.id)
        shown[name] = []
        for entry in ordered:
            at += 1
            label = str(at) if numbers else entry.label
            shown[name].append((label, entry))
            ctx.ids[label] = entry.id
            ctx.view.append(entry)
    return shown


def fit_each(ctx: Ctx, entries: Sequence[Entry], compose: Compose, numbers: bool) -> list[Message]:
    """The prompt with as many of the entries, the most important first, as its budget holds.

    The budget is ``limits.window`` of the agent. What is left out is counted as ``not_shown``; instructions never leave
    (where they alone are too long, the agent loop says so).
    """
    messages = compose(numbered(ctx, entries, numbers))
    window = ctx.agent.limits.window
    if window is None or ctx.size(messages) <= window:
        return messages
    kept: list[Entry] = []
    for entry in entries:
        if ctx.size(compose(numbered(ctx, [*kept, entry], numbers))) <= window:
            kept.append(entry)
    ctx.count("not_shown", len(entries) - len(kept))
    return compose(numbered(ctx, kept, numbers))


def fit_steps(
    ctx: Ctx, steps: Iterable[int], choose: Callable[[int], Sequence[Entry]], compose: Compose, numbers: bool
) -> list[Message]:
    """The prompt of the first step n whose entries choose(n) fit the budget, else of the last; counted as above."""
    first, messages = -1, []
    for n in steps:
        entries = choose(n)
        first = len(entries) if first < 0 else first
        messages = compose(numbered(ctx, entries, numbers))
        window = ctx.agent.limits.window
        if window is None or ctx.size(messages) <= window:
            break
    if len(entries) < first:
        ctx.count("not_shown", first - len(entries))
    return messages
