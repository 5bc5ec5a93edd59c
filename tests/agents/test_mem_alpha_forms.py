"""The released model's call form and tool names, and the judge of edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.agent import State
from mnemon.agents.mem_alpha import Edit, judge, judge_prompt, layout, qwen, writer
from mnemon.memory.memory import Entry
from mnemon.policy.base import Scripted, run_sync
from mnemon.types import Input, Message, MnemonError, ToolCall, ToolSchema, Turn, Unscorable

# ── calls as text ────────────────────────────────────────────────────────────────────────────────────────────────────


def call(name: str, **arguments: Any) -> str:
    return qwen.render([ToolCall(name, arguments)])


def outline(text: str) -> list[tuple[str, dict[str, Any], bool]]:
    return [(c.name, dict(c.arguments), c.error is not None) for c in qwen.parse(text)]


def test_calls_are_read_in_order_with_text_around_them() -> None:
    text = "I store two.\n" + call("a", x="1") + '\nand\n✿FUNCTION✿:b\n✿ARGS✿:\n```json\n{"y": [1]}\n```\n'
    assert outline(text.replace("\nand\n", "\n")) == [("a", {"x": "1"}, False), ("b", {"y": [1]}, False)]
    assert outline("done") == []
    assert outline("") == []


@pytest.mark.parametrize("marker", [qwen.RESULT, qwen.RETURN])
def test_what_follows_a_result_written_by_the_model_is_left_out(marker: str) -> None:
    text = call("a", x="1") + f"\n{marker}: ok\n" + call("b", y="2")
    assert outline(text) == [("a", {"x": "1"}, False)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("✿FUNCTION✿: a\n✿ARGS✿: {broken", "not valid JSON"),
        ("✿FUNCTION✿: a\n✿ARGS✿: {} tail", "not valid JSON"),
        ("✿FUNCTION✿: a\n✿ARGS✿: [1]", "no JSON object"),
        ("✿FUNCTION✿: a\n✿ARGS✿:", "not valid JSON"),
        ("✿FUNCTION✿: a", "there is no ✿ARGS✿"),
        ("✿FUNCTION✿:\n✿ARGS✿: {}", "has no name"),
        ("✿FUNCTION✿: a\n✿ARGS✿: " + "[" * 100_000, "not valid JSON"),
    ],
)
def test_what_cannot_be_read_is_one_call_with_an_error(text: str, said: str) -> None:
    (found,) = qwen.parse(text)
    assert said in (found.error or "")
    assert found.raw.startswith("✿FUNCTION✿")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab ✿\n"{}ö', max_size=8), lambda s: st.lists(s, max_size=3)
)
named = st.tuples(
    st.text("abz_", min_size=1, max_size=8), st.dictionaries(st.text("ab", max_size=3), values, max_size=3)
)


@given(st.lists(named, max_size=4))
def test_render_and_parse_are_inverse(calls: list[tuple[str, dict[str, Any]]]) -> None:
    made = [ToolCall(name, arguments) for name, arguments in calls]
    assert outline(qwen.render(made)) == [(name, arguments, False) for name, arguments in calls]


@given(
    st.text('ab{}":, \n', max_size=40), st.sampled_from([qwen.FUNCTION, qwen.ARGS, qwen.RESULT]), st.text(max_size=20)
)
def test_no_text_is_an_exception(before: str, marker: str, after: str) -> None:
    found = qwen.parse(before + marker + after + qwen.FUNCTION + before)
    assert all(isinstance(c, ToolCall) for c in found)


# ── the published tools ──────────────────────────────────────────────────────────────────────────────────────────────

PUBLISHED = writer(sections=layout(cut=True), names="published", shown="newest")


def respond(state: State, *replies: str) -> tuple[Turn, list[Message]]:
    asked: list[Message] = []

    def write(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        assert not tools  # they stand in the system message
        asked[:] = messages
        return "\n".join(replies)

    return run_sync(PUBLISHED.respond(state, Input("Ana feeds Rex", "2024-01-05", ("c0",)), Scripted(write))), asked


def test_the_released_models_names_and_form() -> None:
    state = PUBLISHED.start()
    turn, asked = respond(
        state,
        call("memory_update", memory_type="core_memory", new_content="Ana is a baker"),
        call("new_memory_insert", memory_type="semantic_memory", content="Rex is a dog"),
        call("new_memory_insert", memory_type="episodic", content="2024-01-05: Ana fed Rex"),
        call("memory_update", memory_type="semantic_memory", new_content="Rex is a cat", memory_id="m2"),
        call("new_memory_insert", memory_type="core_memory", content="again"),
        call("memory_delete", memory_type="core_memory"),
        call("memory_delete", memory_type="episodic_memory", memory_id="ab12"),
        "✿RESULT✿: " + call("memory_delete", memory_type="episodic_memory", memory_id="m3"),
    )
    codes = [r.code for r in turn.steps[0].results]
    assert codes == ["", "", "", "", "exists", "", "unknown_id"]
    assert [(e.section, e.text) for e in state.memory.entries()] == [
        ("semantic", "Rex is a cat"),
        ("episodic", "2024-01-05: Ana fed Rex"),
    ]
    system = asked[0].content
    for word in ("new_memory_insert", "memory_update", "memory_delete", qwen.FUNCTION, qwen.ARGS):
        assert word in system
    assert "search_memory" not in system
    assert '"enum": ["episodic_memory", "semantic_memory"]' in system


def test_broken_calls_do_not_stop_the_others() -> None:
    state = PUBLISHED.start()
    broken = "✿FUNCTION✿: memory_update\n✿ARGS✿: {'memory_type': core}"
    turn, _ = respond(state, broken, call("new_memory_insert", memory_type="semantic_memory", content="Rex is a dog"))
    assert [r.code for r in turn.steps[0].results] == ["unparsable", ""]
    assert turn.events == {"refused:unparsable": 1, "calls": 1}


def test_published_search_and_flat_memory() -> None:
    agent = writer(names="published", searching=True, rounds=2)
    schema = agent.tools[-1].schema
    assert (schema.name, schema.parameters["required"]) == ("search_memory", ["memory_type", "query"])
    assert schema.parameters["properties"]["memory_type"]["enum"] == ["episodic_memory", "semantic_memory"]
    state = agent.start()
    state.memory.add("Rex is a dog", section="semantic")
    replies = iter([call("search_memory", memory_type="semantic_memory", query="Rex", search_method="bm25"), "done"])
    turn = run_sync(agent.respond(state, "x", Scripted(lambda m, t: next(replies))))
    assert turn.steps[0].results[0].content == "m1 Rex is a dog"
    with pytest.raises(MnemonError, match="published tools know"):
        writer(sections=layout(flat="list"), names="published")


# ── the judge ────────────────────────────────────────────────────────────────────────────────────────────────────────

SHOWN = (Entry(1, "semantic", "Rex is a dog"), Entry(2, "semantic", "Ana has the dog Rex"))
EDIT = Edit(Input("Ana feeds Rex", "2024-01-05"), "update", "semantic", "Rex is a dog", "Rex is Ana's dog", SHOWN)


def verdict(*replies: str, blind: bool = False, retries: int = 2) -> tuple[float, list[int]]:
    """The verdict, and how many messages each request had."""
    given, sizes = iter(replies), list[int]()

    def say(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        sizes.append(len(messages))
        return next(given)

    async def ask() -> float:
        return await judge(Scripted(say), retries, blind)(EDIT)

    return run_sync(ask()), sizes


def test_the_judge_reads_json() -> None:
    assert verdict('{"valid": true, "reason": "said so"}') == (1.0, [2])
    assert verdict('Well.\n```json\n{"valid": false, "reason": ""}\n```') == (0.0, [2])


def test_an_unreadable_verdict_is_asked_for_again_then_unscorable() -> None:
    assert verdict("yes", '{"valid": "yes"}', '{"valid": true}') == (1.0, [2, 4, 6])
    with pytest.raises(Unscorable, match="in 2 replies"):
        verdict("yes", "[true]", retries=1)


def test_the_papers_judge_is_blind_and_counts_what_it_cannot_read_as_invalid() -> None:
    assert verdict('{"VALID": true, "ISSUES": [], "EXPLANATION": ""}', blind=True) == (1.0, [2])
    assert verdict("yes", blind=True) == (0.0, [2])
    text = "\n".join(m.content for m in judge_prompt(EDIT, blind=True))
    assert "Rex is Ana's dog" in text
    assert "feeds" not in text


def test_the_judge_sees_chunk_old_and_new_text_and_for_a_deletion_what_is_shown() -> None:
    text = judge_prompt(EDIT)[1].content
    for part in ("Time: 2024-01-05", "Ana feeds Rex", "<old>\nRex is a dog\n</old>", "<new>\nRex is Ana's dog\n</new>"):
        assert part in text
    assert "The edit: update in semantic." in text
    assert "Ana has the dog" not in text
    gone = judge_prompt(Edit(EDIT.given, "delete", "semantic", "Rex is a dog", "", SHOWN))[1].content
    assert "Ana has the dog Rex" in gone
    assert "<new>" not in gone
    systems = {
        judge_prompt(Edit(EDIT.given, "insert", name, "", "x"))[0].content for name in ("core", "episodic", "memory")
    }
    assert len(systems) == 3
