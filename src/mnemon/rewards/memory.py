"""Rewards of building a memory (Mem-alpha, arXiv 2509.25911 §3.2): valid calls, compression, content.

    r_t = r1 + r2_t + β · r3 + γ · r4_t        (trajectory: r1, r3; chunk t: r2, r4)

"paper" reproduces what the released code pays; "default" pays for what a call observably did.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

from mnemon.agents.mem_alpha.judge import Edit, Kind, kind_of, section_of, text_of
from mnemon.agents.mem_alpha.sections import NAMES
from mnemon.memory.count import WORDS, TokenCounter
from mnemon.policy.base import run_lockstep
from mnemon.rewards.terms import Reward
from mnemon.types import Step, ToolResult, Trajectory, Turn, Unscorable

Profile = Literal["default", "paper"]
Judge = Callable[[Edit], "float | Awaitable[float]"]
"""An edit → its validity in [0, 1]."""

_TAKEN = frozenset({"unchanged", "empty_text", "not_text"})
_GONE = frozenset({"unknown_id", "no_id", "wrong_section", "empty_section"})
"""Refusals that the released code counts as success: it stores anything, and deletes what is not there."""


def valid_calls(profile: Profile = "default", role: str = "writer", weight: float = 1.0) -> Reward:
    """r2 per policy call: (calls that succeeded) / (calls made).

    default: a call succeeded if it was run; a reply without calls is 1 (nothing to store is no mistake).
    paper: empty, non-string and unchanged texts and deletes of unknown entries succeed too; no call is 0.
    """

    def share(step: Step) -> float:
        if not step.results:
            return float(profile == "default")
        return sum(_succeeded(result, profile) for result in step.results) / len(step.results)

    return Reward("valid_calls", weight, lambda t: [share(step) for _, step in _steps(t, role)])


def _succeeded(result: ToolResult, profile: Profile) -> bool:
    if result.ok or profile == "default":
        return result.ok
    return result.code in (_GONE if kind_of(result.call) == "delete" else _TAKEN)


def compression(counter: TokenCounter = WORDS, weight: float = 0.05) -> Reward:
    """r3 = 1 − l_memory / l_chunks, both by one counter; negative where the memory outgrew the input.

    l_memory: texts of all entries at the end (ids and times are not counted); l_chunks: texts of all inputs read.
    `Unscorable` where nothing was read.
    """

    def ratio(trajectory: Trajectory) -> float:
        read = sum(counter(turn.given.text) for turn in trajectory.turns if turn.given is not None)
        if not read:
            raise Unscorable("no input was read, so there is nothing to compress")
        return 1 - sum(counter(entry.text) for entry in trajectory.state.memory.entries()) / read

    return Reward("compression", weight, ratio)


def content(judge: Judge, profile: Profile = "default", role: str = "writer", weight: float = 0.1) -> Reward:
    """r4 per policy call: the mean validity, by the judge, of what it wrote; 0 where it wrote nothing.

    default: over the edits that were executed, deletions included; the rest earns nothing.
    paper: over all calls. A text counts whether or not it was stored; deletes, unknown sections, empty and non-string
    texts are 0. What the judge cannot decide after its retries is `Unscorable`.
    """

    async def per_step(trajectory: Trajectory) -> list[float]:
        steps = list(_steps(trajectory, role))
        judged = [list(_paid(turn, step, profile)) for turn, step in steps]
        edits = [edit for edits in judged for edit in edits if edit is not None]
        verdicts = iter(await run_lockstep([_verdict(judge, edit) for edit in edits]))
        found = [[0.0 if edit is None else next(verdicts) for edit in edits] for edits in judged]
        return [sum(values) / len(values) if values else 0.0 for values in found]

    return Reward("content", weight, per_step)


async def _verdict(judge: Judge, edit: Edit) -> float:
    value: Any = judge(edit)
    return float(await value if inspect.isawaitable(value) else value)


def _paid(turn: Turn, step: Step, profile: Profile) -> Iterator[Edit | None]:
    """What is averaged over: an edit for the judge, or None for a certain 0."""
    shown = tuple(turn.view or ())
    assert turn.given is not None
    for result in step.results:
        if profile == "default":
            for op in result.operations:
                kind: Kind = "insert" if op.kind == "add" else op.kind
                before, after = (entry.text if entry else "" for entry in (op.before, op.after))
                yield Edit(turn.given, kind, op.entry.section, before, after, shown)
            continue
        written, section, text = kind_of(result.call), section_of(result.call), text_of(result.call)
        known = (
            written in ("insert", "update") and section in NAMES and result.code not in ("bad_arguments", "disabled")
        )
        yield Edit(turn.given, written, section, "", text, shown) if known and text.strip() else None


def _steps(trajectory: Trajectory, role: str) -> Iterator[tuple[Turn, Step]]:
    return ((turn, step) for turn in trajectory.turns for step in turn.steps if step.role == role)
