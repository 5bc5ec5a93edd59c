"""Rewards of building a memory, by hand: valid calls, compression, content, attribution; a worked episode."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.agent import Agent, Ctx, rollout
from mnemon.agents.mem_alpha import Edit, layout, writer
from mnemon.algos.advantages import leave_one_out, pooled_steps
from mnemon.memory.count import WORDS
from mnemon.policy.base import Scripted, run_sync
from mnemon.rewards import (
    Reward,
    Scored,
    answers,
    attribute,
    attributed_answers,
    compression,
    content,
    score,
    valid_calls,
)
from mnemon.rewards.memory import Profile
from mnemon.tasks.script import Script
from mnemon.types import Input, Message, Probe, Stage, Task, ToolCall, ToolSchema, Trajectory, Unscorable

Calls = Sequence[tuple[str, dict[str, Any]]]


def words(n: int, first: str) -> str:
    return " ".join([first, *["w"] * (n - 1)])


def episode(
    replies: Sequence[Calls], *, chunk: int = 10, right: Sequence[bool] = (True,), agent: Agent | None = None
) -> Trajectory:
    """A writer that makes these calls, chunk by chunk; a reader that is right as told."""
    made = iter(replies)

    def write(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
        return Message("assistant", "", tuple(ToolCall(name, arguments) for name, arguments in next(made, ())))

    def look(ctx: Ctx, given: Input) -> list[Message]:
        ctx.view = ctx.memory.entries()
        return [Message("user", given.text)]

    inputs = [Input(words(chunk, f"chunk{i}"), f"2024-01-0{i + 1}", (f"c{i}",)) for i in range(len(replies))]
    probes = tuple(Probe(f"q{i}", "right" if ok else "wrong", ("right",)) for i, ok in enumerate(right))
    task = Task("t", (Stage(partial(Script, inputs)),), probes)
    reader = (Agent("reader", look), Scripted(lambda messages, tools: messages[-1].content))
    return run_sync(rollout(agent or writer(), task, Scripted(write), reader=reader))


def scored(found: Trajectory, *rewards: Reward) -> Scored:
    return run_sync(score(found, rewards))


def honest(edit: Edit) -> float:
    """A rule judge: texts that begin with "bad" are invalid."""
    return float(not edit.after.startswith("bad"))


def insert(text: Any, section: str = "semantic") -> tuple[str, dict[str, Any]]:
    return "insert", {"section": section, "text": text}


def update(text: Any, section: str = "semantic", **more: Any) -> tuple[str, dict[str, Any]]:
    return "update", {"section": section, "text": text, **more}


def delete(section: str = "semantic", **more: Any) -> tuple[str, dict[str, Any]]:
    return "delete", {"section": section, **more}


# ── the worked episode of the paper's reward ─────────────────────────────────────────────────────────────────────────


def published(name: str, kind: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return name, {"memory_type": kind, **more}


PAPER = (
    answers(),
    valid_calls("paper"),
    compression(WORDS, weight=0.05),
    content(honest, "paper", weight=0.1),
)


def rollout_a() -> Trajectory:
    """400 words a chunk, 300 words kept, three of four questions right."""
    kept, bad, core = words(100, "kept"), words(100, "bad"), words(100, "core")
    fact = partial(published, "new_memory_insert", "semantic_memory")
    first = [
        fact(content=kept),
        fact(content=bad),
        fact(content=kept),
        published("new_memory_insert", "procedural_memory", content="kept"),
    ]
    third = [
        published("memory_update", "core_memory", new_content=core),
        published("memory_delete", "semantic_memory", memory_id="m99"),
    ]
    agent = writer(sections=layout(cut=True), names="published", shown="newest")
    return episode([first, [], third], chunk=400, right=(True, True, True, False), agent=agent)


def rollout_b() -> Trajectory:
    """One valid insert of 500 words per chunk, half of the questions right."""
    replies = [[published("new_memory_insert", "episodic_memory", content=words(500, f"e{i}"))] for i in range(3)]
    agent = writer(sections=layout(cut=True), names="published", shown="newest")
    return episode(replies, chunk=400, right=(True, True, False, False), agent=agent)


def returns(found: Scored) -> list[float]:
    assert found.total is not None
    assert found.steps is not None
    return [found.total + step for step in found.steps]


def test_the_worked_episode() -> None:
    a, b = scored(rollout_a(), *PAPER), scored(rollout_b(), *PAPER)
    assert (a.terms["answers"], a.terms["compression"]) == (0.75, 0.75)
    assert returns(a) == pytest.approx([1.3375, 0.7875, 1.8375])
    assert returns(b) == pytest.approx([1.5875] * 3)
    pooled = pooled_steps([returns(a), returns(b)])
    assert np.concatenate(pooled) == pytest.approx([-0.3215, -1.8373, 1.0564, 0.3675, 0.3675, 0.3675], abs=1e-4)
    assert leave_one_out([a.terms["answers"], b.terms["answers"]]).tolist() == [0.25, -0.25]


def test_the_same_episode_as_mnemon_pays_it() -> None:
    """Refused calls earn nothing, nothing is a success that changed nothing, and nothing to store costs nothing."""
    found = scored(rollout_a(), valid_calls(), content(honest, weight=1.0))
    assert found.steps == pytest.approx([2 / 4 + 1 / 2, 1.0 + 0.0, 1 / 2 + 1.0])


# ── one call ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TEXT = "Rex is a dog"
BEFORE: Calls = [insert(TEXT), insert("who", "core"), insert("on 2024-01-01 it rained", "episodic")]
CASES: dict[str, tuple[tuple[str, dict[str, Any]], str, tuple[float, float], tuple[float, float]]] = {
    # what: (call, code, (r2 paper, r4 paper), (r2, r4))
    "new text": (insert("Mia is a cat"), "", (1, 1), (1, 1)),
    "exact duplicate": (insert(TEXT), "duplicate", (0, 1), (0, 0)),
    "the same text elsewhere": (insert(TEXT, "episodic"), "", (1, 1), (1, 1)),
    "insert into core": (insert("else", "core"), "exists", (0, 1), (0, 0)),
    "unknown section": (insert("x", "procedural"), "unknown_section", (0, 0), (0, 0)),
    "core update": (update("else", "core"), "", (1, 1), (1, 1)),
    "update, unknown id": (update("x y", id="m77"), "unknown_id", (0, 1), (0, 0)),
    "update, no id": (update("x y"), "no_id", (0, 1), (0, 0)),
    "identical update": (update(TEXT, id="m1"), "unchanged", (1, 1), (0, 0)),
    "delete": (delete(id="m1"), "", (1, 0), (1, 1)),
    "clear core": (delete("core"), "", (1, 0), (1, 1)),
    "delete, unknown id": (delete(id="m77"), "unknown_id", (1, 0), (0, 0)),
    "delete, no id": (delete(), "no_id", (1, 0), (0, 0)),
    "empty text": (insert("  "), "empty_text", (1, 0), (0, 0)),
    "number as text": (insert(5), "not_text", (1, 0), (0, 0)),
    "list as text": (insert(["a"]), "not_text", (1, 0), (0, 0)),
    "missing argument": (("insert", {"section": "semantic"}), "bad_arguments", (0, 0), (0, 0)),
    "unknown tool": (("remember", {"text": "x"}), "unknown_tool", (0, 0), (0, 0)),
    "invalid text": (insert("bad things"), "", (1, 0), (1, 0)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_call(case: str) -> None:
    """A refused call changes nothing; what the paper pays for it stands beside what mnemon pays."""
    call, code, paper, ours = CASES[case]
    found = episode([BEFORE, [call]])
    result = found.steps[1].results[0]
    assert (result.code, result.ok) == (code, not code)
    assert bool(result.operations) is result.ok
    assert len(found.state.memory.log) == len(BEFORE) + result.ok
    profiles: list[tuple[Profile, tuple[float, float]]] = [("paper", paper), ("default", ours)]
    for profile, (r2, r4) in profiles:
        assert scored(found, valid_calls(profile)).terms["valid_calls"] == 1 + r2
        assert scored(found, content(honest, profile)).terms["content"] == 1 + r4


def test_what_cannot_be_read_is_no_success() -> None:
    agent = writer(names="published")
    task = Task("t", (Stage(partial(Script, [Input("a b", source=("c0",))])),))
    found = run_sync(rollout(agent, task, Scripted(lambda m, t: "✿FUNCTION✿: memory_update\n✿ARGS✿: {broken")))
    assert found.steps[0].results[0].code == "unparsable"
    for profile in ("paper", "default"):
        marks = scored(found, valid_calls(profile), content(honest, profile))  # type: ignore[arg-type]
        assert marks.terms == {"valid_calls": 0, "content": 0}


def test_the_judge_sees_chunk_and_edit() -> None:
    seen: list[Edit] = []

    async def note(edit: Edit) -> float:
        seen.append(edit)
        return 0.25

    found = episode([[insert(TEXT)], [update("Rex is a cat", id="m1"), insert(TEXT)], [delete(id="m1")]])
    assert scored(found, content(note, weight=1.0)).steps == [0.25, 0.25, 0.25]
    outline = [(e.given.source, e.kind, e.section, e.before, e.after) for e in seen]
    assert outline == [
        (("c0",), "insert", "semantic", "", TEXT),
        (("c1",), "update", "semantic", TEXT, "Rex is a cat"),
        (("c1",), "insert", "semantic", "", TEXT),
        (("c2",), "delete", "semantic", "Rex is a cat", ""),
    ]
    assert [entry.text for entry in seen[3].shown] == ["Rex is a cat", TEXT]


def test_a_judge_that_fails_makes_the_trajectory_unscorable() -> None:
    def fails(edit: Edit) -> float:
        raise Unscorable("no answer")

    found = scored(episode([[insert(TEXT)]]), answers(), content(fails))
    assert found.total is None
    assert found.error == "content: no answer"
    assert scored(episode([[]]), content(fails)).steps == [0.0]


# ── compression ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("kept", "ratio"), [(0, 1.0), (3, 0.75), (12, 0.0), (15, -0.25)])
def test_compression_is_not_clipped(kept: int, ratio: float) -> None:
    found = episode([[insert(words(kept, "k"))] if kept else [], []], chunk=6)
    assert scored(found, compression()).terms == {"compression": ratio}


def test_compression_needs_an_input() -> None:
    assert scored(episode([]), compression()).total is None


# ── attribution ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_attribution_by_hand() -> None:
    assert attribute(0.75, (0.75, 0, 0)) == pytest.approx([0.5, 0.125, 0.125])
    assert attribute(0.75, (0.75, 0, 0), share=0) == pytest.approx([0.25] * 3)
    assert attribute(0.75, (0.75, 0, 0), share=1) == pytest.approx([0.75, 0, 0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_attribution_conserves_the_total(evidence: list[float], share: float) -> None:
    assert sum(attribute(sum(evidence), evidence, share)) == pytest.approx(sum(evidence))


def test_answers_are_paid_to_the_chunks_whose_entries_were_seen() -> None:
    """Two questions, one right: R = 1/2. Seen: m1 of chunk 0, m2 of chunks 0 and 2. Chunk 1 stored nothing.

    N = 1/2 · (1/2 + 1/4, 0, 1/4) = (.375, 0, .125); r = 1/12 + N/2.
    """
    replies = [[insert("a"), insert("b")], [], [update("b c", id="m2")]]
    found = scored(episode(replies, right=(True, False)), attributed_answers())
    assert found.steps == pytest.approx([1 / 12 + 0.1875, 1 / 12, 1 / 12 + 0.0625])
    nothing = scored(episode([[], []]), attributed_answers())
    assert nothing.steps == [0.5, 0.5]
    assert scored(episode([[]], right=()), attributed_answers()).total is None
