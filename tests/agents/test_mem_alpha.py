"""Mem-alpha's writer and reader: sections, tools and their refusals, what prompts show, budgets, the published form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemon.agent import Agent, Ctx, State, agent_fingerprint, rollout
from mnemon.agents.mem_alpha import chronological, layout, moment, reader, reply_limit, writer
from mnemon.memory.count import BYTES, WORDS
from mnemon.memory.memory import CUT, Entry, Section
from mnemon.policy.base import Scripted, run_sync
from mnemon.tasks.script import Script
from mnemon.types import (
    Input,
    Message,
    MnemonError,
    Probe,
    Stage,
    Task,
    ToolCall,
    TooLong,
    ToolResult,
    ToolSchema,
    Turn,
)

CHUNK = Input("Ana feeds Rex", "2024-01-05", ("c4",))


class Says:
    """A policy that makes these calls, reply by reply, then says "done"; keeps what it was asked."""

    def __init__(self, *replies: Sequence[tuple[str, dict[str, Any]]] | str) -> None:
        self.replies = list(replies)
        self.prompts: list[list[Message]] = []
        self.tools: Sequence[ToolSchema] = ()

    def write(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message:
        self.prompts.append(list(messages))
        self.tools = tools
        reply = self.replies.pop(0) if self.replies else "done"
        if isinstance(reply, str):
            return Message("assistant", reply)
        return Message("assistant", "", tuple(ToolCall(name, arguments) for name, arguments in reply))


def insert(section: str, text: Any) -> tuple[str, dict[str, Any]]:
    return "insert", {"section": section, "text": text}


def respond(agent: Agent, state: State, says: Says, chunk: Input = CHUNK) -> Turn:
    return run_sync(agent.respond(state, chunk, Scripted(says.write)))


def results(agent: Agent, state: State, *calls: tuple[str, dict[str, Any]]) -> list[ToolResult]:
    return list(respond(agent, state, Says(calls)).steps[0].results)


def filled(agent: Agent, core: str = "who", events: Sequence[str] = (), facts: Sequence[str] = ()) -> State:
    state = agent.start()
    for section, texts in (("core", [core] if core else []), ("episodic", events), ("semantic", facts)):
        for text in texts:
            state.memory.add(text, section=section)
    return state


def prompt(agent: Agent, state: State, chunk: Input = CHUNK) -> str:
    says = Says()
    respond(agent, state, says, chunk)
    return "\n".join(message.content for message in says.prompts[0])


# ── sections ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_layouts() -> None:
    core, episodic, semantic = layout(episodic=100)
    assert (core.name, core.kind, core.max_tokens, core.overflow) == ("core", "text", 512, "refuse")
    assert (episodic.kind, episodic.max_tokens, semantic.max_tokens) == ("list", 100, None)
    assert [s.name for s in layout(without=["core", "semantic"])] == ["episodic"]
    assert layout(core=10, episodic=20, semantic=30, flat="text") == (Section("memory", "text", max_tokens=60),)
    assert layout(core=10, episodic=20, semantic=30, without=["semantic"], flat="list")[0].max_tokens == 30
    assert layout(flat="list")[0].max_tokens is None
    assert [s.overflow for s in layout(cut=True)] == ["mark", "refuse", "refuse"]
    for without in (["cores"], ["core", "episodic", "semantic"]):
        with pytest.raises(MnemonError, match="not all of them"):
            layout(without=without)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[Dialogue at 2023/05/20 (Sat) 02:21] hello", (2023, 5, 20, 2, 21)),
        ("2024-01-01 00:05: rain, on 2023-12-31 snow", (2024, 1, 1, 0, 5)),
        ("12:10 am on 3rd of May, 2023", (2023, 5, 3, 0, 10)),
        ("On March 7, 2023 Ana left early; 12:10 was later", (2023, 3, 7, 0, 0)),
        ("on day 12 Anna met Bob", (0, 0, 12, 0, 0)),
        ("yesterday", None),
        ("room 2023-55", None),
    ],
)
def test_the_moment_of_a_text(text: str, found: Any) -> None:
    assert moment(text) == found


def test_events_stand_in_the_order_of_their_time() -> None:
    """Written time, else the chunk's; what has none stands where it was written down."""
    entries = [
        Entry(1, "episodic", "on 2024-03-01 Ana left", times=("2024-05-01",)),
        Entry(2, "episodic", "she was tired"),
        Entry(3, "episodic", "Ben came", times=("8 May, 2023", "2025-01-01")),
        Entry(4, "episodic", "on 2024-02-01 it rained"),
        Entry(5, "episodic", "Ana came back", times=("2024-03-01",)),
    ]
    assert [entry.id for entry in chronological(entries[::-1])] == [3, 4, 1, 2, 5]


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_run_in_order_and_see_each_other() -> None:
    agent = writer()
    state = agent.start()
    done = results(
        agent,
        state,
        insert("core", "Ana is a baker"),
        insert("episodic", "Ana fed Rex"),
        insert("semantic", "Rex is a dog"),
        ("update", {"section": "core", "text": "Ana is a cook"}),
        ("update", {"section": "semantic", "id": "m3", "text": "Rex is a cat"}),
        ("delete", {"section": "episodic", "id": "m2"}),
        insert("semantic", "Ana fed Rex"),
    )
    said = "inserted m1/inserted m2/inserted m3/updated m1/updated m3/deleted m2/inserted m4"
    assert [r.content for r in done] == said.split("/")
    assert [(e.label, e.section, e.text) for e in state.memory.entries()] == [
        ("m1", "core", "Ana is a cook"),
        ("m3", "semantic", "Rex is a cat"),
        ("m4", "semantic", "Ana fed Rex"),
    ]
    assert (state.memory.read(4).times, state.memory.read(4).source) == (("2024-01-05",), ("c4",))


REFUSED: dict[str, tuple[tuple[str, dict[str, Any]], str, str]] = {
    "core exists": (insert("core", "new"), "exists", "update it instead"),
    "duplicate": (insert("semantic", " Rex is a dog "), "duplicate", "already holds exactly this text"),
    "unchanged": (("update", {"section": "semantic", "id": "m3", "text": "Rex is a dog"}), "unchanged", "nothing to"),
    "unknown id": (("delete", {"section": "semantic", "id": "m9"}), "unknown_id", "no memory 'm9' in this prompt"),
    "not shown": (("delete", {"section": "semantic", "id": "m4"}), "unknown_id", "ids: m2, m3"),
    "no id": (("update", {"section": "semantic", "text": "x"}), "no_id", "needs its id"),
    "other section": (("delete", {"section": "semantic", "id": "m2"}), "wrong_section", "m2 is in episodic"),
    "empty": (insert("semantic", "\n "), "empty_text", "is empty"),
    "number": (insert("semantic", 7), "not_text", "not int"),
    "list": (("update", {"section": "core", "text": ["x"]}), "not_text", "not list"),
    "unknown section": (insert("procedural", "x"), "unknown_section", "use one of: core, episodic, semantic"),
    "over the cap": (insert("semantic", "a b c d e f g"), "too_long", "holds 12 tokens; this needs 7, room is 6"),
    "core over the cap": (
        ("update", {"section": "core", "text": "a b c d e f"}),
        "too_long",
        "this needs 6, room is 5",
    ),
    "missing argument": (("insert", {"section": "core"}), "bad_arguments", "missing argument 'text'"),
    "no such tool": (("search", {"section": "semantic", "query": "Rex"}), "unknown_tool", "insert, update, delete"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_mistake_has_an_error_of_its_own_and_changes_nothing(case: str) -> None:
    call, code, hint = REFUSED[case]
    agent = writer(sections=layout(core=5, semantic=12), related=1, recent=0)
    state = filled(agent, "who", ["Ana fed Rex"], ["Rex is a dog", "hidden away"])
    before, logged = state.memory.entries(), len(state.memory.log)
    (result,) = results(agent, state, call)
    assert (result.ok, result.code, result.operations) == (False, code, ())
    assert hint in result.content
    assert (state.memory.entries(), len(state.memory.log)) == (before, logged)


def test_an_empty_core_is_inserted_never_updated() -> None:
    agent = writer()
    for name, more in (("update", {"text": "x"}), ("delete", {})):
        (result,) = results(agent, agent.start(), (name, {"section": "core", **more}))
        assert result.code == "empty_section"
        assert "insert its text instead" in result.content


def test_a_core_that_is_too_long_is_cut_only_where_the_paper_is_followed() -> None:
    """600 words: refused, or 511 words and a mark that counts."""
    long = " ".join(["w"] * 600)
    assert results(writer(), filled(writer()), ("update", {"section": "core", "text": long}))[0].code == "too_long"
    agent = writer(sections=layout(cut=True))
    state = filled(agent)
    turn = respond(agent, state, Says([("update", {"section": "core", "text": long})]))
    text = state.memory.read(1).text
    assert text.endswith(CUT)
    assert WORDS(text) == 512
    assert "cut to 512 tokens" in turn.steps[0].results[0].content
    assert turn.events["cut"] == 1


def test_ids_are_never_used_again() -> None:
    agent = writer()
    state = agent.start()
    made = results(agent, state, *(insert("semantic", f"fact {i}") for i in range(1000)))
    results(agent, state, ("delete", {"section": "semantic", "id": "m1000"}))
    again = results(agent, state, insert("semantic", "fact 999"))
    assert len({result.content for result in [*made, *again]}) == 1001
    assert again[0].content == "inserted m1001"


def enums(agent: Agent, argument: str) -> dict[str, list[str]]:
    return {t.name: t.schema.parameters["properties"][argument]["enum"] for t in agent.tools}


def test_disabled_sections_and_tools_without_values_disappear() -> None:
    every = ["core", "episodic", "semantic"]
    assert enums(writer(), "section") == {"insert": every, "update": every, "delete": every}
    agent = writer(sections=layout(without=["episodic"]), searching=True, rounds=2)
    assert enums(agent, "section")["search"] == ["semantic"]
    (result,) = results(agent, agent.start(), insert("episodic", "x"))
    assert result.code == "disabled"
    assert "episodic" not in prompt(agent, agent.start())
    alone = writer(sections=layout(without=["episodic", "semantic"]), names="published")
    assert enums(alone, "memory_type") == {"memory_update": ["core_memory"], "memory_delete": ["core_memory"]}
    call = ("new_memory_insert", {"memory_type": "semantic_memory", "content": "x"})
    assert results(alone, alone.start(), call)[0].code == "unknown_tool"


@pytest.mark.parametrize("flat", ["list", "text"])
def test_a_flat_memory(flat: Any) -> None:
    agent = writer(sections=layout(core=4, episodic=4, semantic=4, flat=flat))
    state = agent.start()
    first, second = results(agent, state, insert("memory", "one two three"), insert("memory", "four five six seven"))
    assert first.ok
    assert second.code == ("" if flat == "list" else "exists")
    assert "one two three" in prompt(agent, state)
    assert "core" not in prompt(agent, state)


def test_search_reaches_what_is_not_shown() -> None:
    agent = writer(searching=True, rounds=3, related=0, recent=0)
    state = filled(agent, facts=["Rex is a dog", "Mia is a cat"])
    says = Says(
        [("delete", {"section": "semantic", "id": "m2"}), ("search", {"section": "semantic", "query": "about Rex"})],
        [("delete", {"section": "semantic", "id": "m2"})],
    )
    turn = respond(agent, state, says)
    first, second, last = turn.steps
    assert [(r.ok, r.content) for r in first.results][1] == (True, "m2 Rex is a dog")
    assert first.results[0].code == "unknown_id"
    assert second.results[0].ok
    assert (turn.reply, last.results) == ("done", ())
    assert "no_call" not in turn.events
    with pytest.raises(MnemonError, match="next round"):
        writer(searching=True)


# ── what the writer is shown ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_writer_sees_core_related_and_recent_entries_with_their_ids() -> None:
    agent = writer(related=1, recent=1)
    events = ["on 2024-01-03 Rex barked", "on 2024-01-01 Ben slept", "on 2024-01-02 Ben ate"]
    state = filled(agent, "Ana is a baker", events, ["Rex is a dog", "Ben has a car", "Ben is old"])
    text = prompt(agent, state)
    assert "Ana is a baker" in text
    assert "<episodic> shown 2 of 3\nm4 on 2024-01-02 Ben ate\nm2 on 2024-01-03 Rex barked\n</episodic>" in text
    assert "<semantic> shown 2 of 3\nm5 Rex is a dog\nm7 Ben is old\n</semantic>" in text
    assert "Time: 2024-01-05\n<new_chunk>\nAna feeds Rex\n</new_chunk>" in text
    assert "At most 512 words." in text


def test_the_papers_view_is_the_newest_five_and_shrinks() -> None:
    agent = writer(shown="newest")
    facts = [f"fact{i} about Rex" for i in range(8)]
    text = prompt(agent, filled(agent, facts=facts, events=["it rained"]))
    assert "shown 5 of 8" in text
    assert "shown 1 of 1" in text
    assert [f for f in facts if f in text] == facts[3:]
    empty = WORDS(prompt(writer(shown="newest"), filled(agent)))
    for room, shown in ((20, 5), (19, 2), (8, 2), (7, 1), (4, 1), (3, 0)):
        limited = writer(shown="newest", window=empty + room)
        says = Says()
        turn = respond(limited, filled(agent, facts=facts), says)
        assert f"<semantic> shown {shown} of 8" in says.prompts[0][0].content
        assert turn.events.get("not_shown", 0) == 5 - shown


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 60), st.sampled_from(["related", "newest"]))
def test_the_prompt_fits_its_budget_whatever_the_memorys_size(sizes: list[int], room: int, view: Any) -> None:
    plain = writer(shown=view)
    base = prompt(plain, filled(plain))
    state = filled(plain, facts=[" ".join(["Rex", str(i), *["w"] * n]) for i, n in enumerate(sizes)])
    text = prompt(writer(shown=view, window=WORDS(base) + room), state)
    assert WORDS(text) <= WORDS(base) + room
    assert text.startswith(base[: base.index("<episodic>")])  # instructions and core are never cut


def test_a_window_smaller_than_the_instructions_is_an_error() -> None:
    with pytest.raises(TooLong, match="the window is 9"):
        prompt(writer(window=9), writer().start())


def test_a_long_entry_leaves_room_to_shorter_ones() -> None:
    agent = writer()
    state = filled(agent, facts=["Rex Ana feeds " + "w " * 90, "Rex is a dog"])
    base = WORDS(prompt(agent, filled(agent)))
    text = prompt(writer(window=base + 10), state)
    assert "<semantic> shown 1 of 2\nm3 Rex is a dog" in text


def test_the_policys_own_count_is_the_budget() -> None:
    """A policy that counts characters: 3,000 of them hold few of the entries."""

    class Counting(Scripted):
        def count_tokens(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> int:
            return sum(len(message.content) for message in messages)

    agent = writer(window=3000, related=50)
    says = Says()
    state = filled(agent, facts=[f"Rex likes place {i} " + "x" * 80 for i in range(50)])
    turn = run_sync(agent.respond(state, CHUNK, Counting(says.write)))
    size = sum(len(message.content) for message in says.prompts[0])
    assert 2850 < size <= 3000
    assert 0 < turn.events["not_shown"] < 50


def test_the_reply_limit_of_the_prompt() -> None:
    assert reply_limit(2048) == 1638
    assert "at most 1638 tokens" in prompt(writer(reply_tokens=2048), writer().start())


def test_chunks_are_isolated_and_memory_is_the_only_bridge() -> None:
    inputs = [Input("alpha secret", source=("c0",)), Input("beta", source=("c1",)), Input("gamma", source=("c2",))]
    says = Says([insert("semantic", "kept fact beta")], "done", [insert("core", "who")])
    task = Task("t", (Stage(partial(Script, inputs)),))
    found = run_sync(rollout(writer(), task, Scripted(says.write)))
    assert len(says.prompts) == 3  # one generation per chunk
    texts = ["\n".join(message.content for message in messages) for messages in says.prompts]
    assert [("alpha" in t, "kept fact" in t) for t in texts] == [(True, False), (False, True), (False, True)]
    assert found.events == {"calls": 2, "no_call": 1}
    rounds = Says([insert("semantic", "x")], [insert("semantic", "x")], "done")
    turn = respond(writer(rounds=3), writer().start(), rounds)
    assert [[r.code for r in step.results] for step in turn.steps] == [[""], ["duplicate"], []]
    assert "at most 3 replies" in rounds.prompts[0][0].content


def test_the_tiny_prompt() -> None:
    agent = writer(style="tiny")
    state = filled(agent, "who", ["on day 2 Ben ate", "on day 1 Rex slept"], ["Rex is a dog"])
    says = Says([("update", {"section": "semantic", "id": "3", "text": "Rex is a cat"})])
    turn = respond(agent, state, says, Input("Rex", "day 3"))
    assert [m.content for m in says.prompts[0]] == [
        "core:\nwho\nepisodic:\non day 1 Rex slept 1\non day 2 Ben ate 2\nsemantic:\nRex is a dog 3\n"
        "time: day 3\nchunk: Rex"
    ]
    assert says.tools == ()
    assert turn.operations[0].after.text == "Rex is a cat"


# ── the reader ───────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(agent: Agent, state: State, question: Input) -> tuple[Turn, str]:
    says = Says("an answer")
    turn = run_sync(agent.respond(state.fork(), question, Scripted(says.write)))
    return turn, "\n".join(message.content for message in says.prompts[0])


def test_the_reader_sees_core_and_the_best_of_every_list() -> None:
    state = filled(
        writer(), "Ana is a baker", ["on 2024-02-02 Rex ran", "on 2024-01-01 Rex ate"], ["Mia is a cat", "Rex is a dog"]
    )
    turn, text = ask(reader(k=1), state, Input("What is Rex?", "2024-03-01", note="Say cat if a cat, \\boxed{}"))
    assert "<core>\nAna is a baker\n</core>" in text
    assert "<semantic>\n1. Rex is a dog\n</semantic>" in text  # the note's "cat" is no part of the query
    assert text.endswith("Asked on: 2024-03-01\nWhat is Rex?\nSay cat if a cat, \\boxed{}")
    assert turn.reply == "an answer"
    assert {entry.id for entry in turn.view} == {1, 2, 5}
    _, text = ask(reader(k=2), state, Input("Where did Rex run?"))
    assert "1. on 2024-01-01 Rex ate\n2. on 2024-02-02 Rex ran" in text
    assert "Mia is a cat" in text  # a small memory is shown whole


def test_k_is_lowered_until_the_prompt_fits() -> None:
    state = filled(writer(), "Ana is a baker", facts=[f"Rex fact {i}" for i in range(9)])
    base = WORDS(ask(reader(k=0), state, Input("Rex?"))[1])
    turn, text = ask(reader(k=9, window=base + 4 * 6 + 3), state, Input("Rex?"))
    assert text.count("Rex fact") == 6
    assert turn.events == {"not_shown": 3}
    assert "Ana is a baker" in text
    with pytest.raises(TooLong):
        ask(reader(k=9, window=base - 1), state, Input("Rex?"))


def test_questions_and_instructions_reach_the_reader_apart() -> None:
    task = Task("t", (Stage(partial(Script, [CHUNK])),), (Probe("q", "Rex?", ("dog",), meta={"prefix": "Box it."}),))
    says = Says("dog")
    made = Says([insert("semantic", "Rex is a dog")])
    found = run_sync(rollout(writer(), task, Scripted(made.write), reader=(reader(), Scripted(says.write))))
    assert says.prompts[0][-1].content == "Rex?\nBox it."
    assert found.answers[0].text == "dog"


def test_a_flat_memory_is_read_too() -> None:
    agent = writer(sections=layout(flat="text"))
    state = agent.start()
    state.memory.add("Rex is a dog")
    assert "<memory>\nRex is a dog\n</memory>" in ask(reader(), state, Input("Rex?"))[1]
    _, tiny = ask(reader(style="tiny"), filled(writer(), "who", facts=["Rex is a dog"]), Input("Rex ?"))
    assert tiny == "core:\nwho\nepisodic:\nsemantic:\nRex is a dog 1\nquestion: Rex ?"


def test_fingerprints_tell_settings_apart() -> None:
    agents = [
        writer(),
        writer(counter=BYTES),
        writer(related=4),
        writer(recent=9),
        writer(shown="newest"),
        writer(names="published"),
        writer(style="tiny"),
        writer(rounds=2),
        writer(rounds=2, searching=True),
        writer(window=900),
        writer(reply_tokens=64),
        writer(sections=layout(core=100)),
        writer(sections=layout(without=["core"])),
        writer(sections=layout(flat="list")),
        reader(),
        reader(k=19),
        reader(style="tiny"),
    ]
    assert len({agent_fingerprint(agent) for agent in agents}) == len(agents)


def test_the_context_that_prompts_get_is_the_loops() -> None:
    """Prompt functions are plain: they can be called with a context of one's own."""
    agent = reader(k=1)
    ctx = Ctx(agent, filled(writer(), facts=["Rex is a dog"]), Input("Rex?"), Scripted(lambda m, t: ""))
    messages = agent.prompt(ctx, ctx.input)
    assert isinstance(messages, list)
    assert ctx.ids == {"m2": 2}
