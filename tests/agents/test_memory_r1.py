"""Memory-R1's manager and answerer: operations, local ids, refusals, extraction, retrieval, answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.agent import Agent, Ctx, State, agent_fingerprint
from mnemon.agents.memory_r1 import (
    MARKER,
    TOOLS,
    after_marker,
    answerer,
    extract_prompt,
    manager,
    parse_facts,
    parse_operations,
)
from mnemon.memory.memory import Memory, Section
from mnemon.policy.base import Scripted, run_sync
from mnemon.types import Input, Message, ToolCall, ToolError, ToolSchema, Turn

ANA = Input("I adopted another dog, Scout!", "2 June 2023", ("D4:1",), "Ana")


class Replies:
    """A policy with a list of replies; keeps what it was asked."""

    def __init__(self, *replies: Message | str) -> None:
        self.replies = list(replies)
        self.asked: list[Sequence[Message]] = []
        self.inner = Scripted(self.reply)
        self.tools: Sequence[ToolSchema] = ()

    def reply(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Message | str:
        self.asked.append(messages)
        self.tools = tools
        return self.replies.pop(0)

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Any:
        return await self.inner(messages, tools)

    @property
    def prompt(self) -> str:
        return self.asked[-1][-1].content


def calls(*made: ToolCall) -> Message:
    return Message("assistant", "", made)


def bank(*facts: tuple[str, str, str]) -> State:
    """A state with entries (owner, time, text)."""
    memory = Memory([Section("facts")])
    for i, (owner, time, text) in enumerate(facts, start=1):
        memory.add(text, owner=owner, time=time, source=(f"D1:{i}",))
    return State(memory)


def respond(agent: Agent, state: State, policy: Any, given: Input = ANA, **more: Any) -> Turn:
    return run_sync(agent.respond(state, given, policy, **more))


def listed(*items: dict[str, Any]) -> str:
    return json.dumps({"memory": list(items)})


def contents(state: State) -> list[tuple[int, str]]:
    return [(entry.id, entry.text) for entry in state.memory.entries()]


def codes(turn: Turn) -> list[str]:
    return [result.code for result in turn.steps[-1].results]


RAW = manager(extract="raw")
RAW_JSON = manager(extract="raw", reply="json")
DOGS = (("Ana", "8 May 2023", "Ana adopted a dog, Buddy"), ("Ben", "9 May 2023", "Ben painted a dog"))

# ── the four operations ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tools_as_the_model_sees_them() -> None:
    assert [(t.name, t.schema.parameters["required"]) for t in TOOLS] == [
        ("add", ["text"]),
        ("update", ["id", "text"]),
        ("delete", ["id"]),
        ("noop", []),
    ]
    number = {"type": "string", "description": "the memory's number in the list"}
    assert TOOLS[1].schema.parameters["properties"] == {
        "id": number,
        "text": {"type": "string", "description": "the whole new text"},
    }
    assert all(t.schema.description for t in TOOLS)


def test_operations_are_applied_once_in_list_order() -> None:
    state = bank(*DOGS)
    reply = listed(
        {"id": "0", "text": "Ana has a dog, Buddy, and a cat", "event": "UPDATE", "old_memory": "…"},
        {"id": "1", "text": "Ben painted a dog", "event": "NONE"},
        {"id": "0", "text": "Ana has two dogs, Buddy and Scout", "event": "update"},
        {"id": "7", "text": "Ana likes dogs", "event": "ADD"},
        {"id": "1", "text": "Ben painted a dog", "event": "DELETE"},
        {"event": "NOOP"},
    )
    turn = respond(RAW_JSON, state, Replies(reply))
    assert [op.kind for op in turn.operations] == ["update", "update", "add", "delete"]
    assert contents(state) == [(1, "Ana has two dogs, Buddy and Scout"), (3, "Ana likes dogs")]
    assert turn.events == {"calls": 6}
    first = state.memory.read(1)
    assert (first.times, first.source, first.version) == (("8 May 2023", "2 June 2023"), ("D1:1", "D4:1"), 3)
    assert turn.operations[0].before.text == "Ana adopted a dog, Buddy"  # the old version is kept in the log
    added = state.memory.read(3)  # the id that the model wrote for an ADD is nothing
    assert (added.owner, added.times, added.source) == ("Ana", ("2 June 2023",), ("D4:1",))


def test_noop_is_none() -> None:
    assert (
        parse_operations(listed({"event": "NONE"})) == parse_operations(listed({"event": "noop"})) == [ToolCall("noop")]
    )
    state = bank(*DOGS)
    before = state.memory.entries()
    turn = respond(RAW, state, Replies(calls(ToolCall("noop"))))
    assert (state.memory.entries(), turn.operations, turn.events) == (before, (), {"calls": 1})


def test_two_dogs() -> None:
    """An update that merges keeps both names and both dates; delete and add leave the newer fact alone."""
    merged, replaced = bank(DOGS[0]), bank(DOGS[0])
    respond(RAW, merged, Replies(calls(ToolCall("update", {"id": "1", "text": "Ana has two dogs, Buddy and Scout"}))))
    policy = Replies(calls(ToolCall("delete", {"id": "1"}), ToolCall("add", {"text": "Ana adopted a dog, Scout"})))
    respond(RAW, replaced, policy)
    (one,) = merged.memory.entries()
    assert (one.text, one.time) == ("Ana has two dogs, Buddy and Scout", "8 May 2023; 2 June 2023")
    (other,) = replaced.memory.entries()
    assert (other.text, other.time) == ("Ana adopted a dog, Scout", "2 June 2023")


def test_local_ids_are_list_positions() -> None:
    """The related memories are ranked; "0" is the first shown, whatever its real id."""
    state = bank(("Ben", "", "Ben likes tea"), *DOGS, ("Ana", "", "Ana adopted another dog"))
    policy = Replies(listed({"id": "0", "event": "DELETE"}))
    turn = respond(manager(extract="raw", reply="json", related=2), state, policy)
    assert policy.prompt.split("\n")[:4] == [
        "Memories:",
        "0. Ana: Ana adopted another dog",
        "1. [8 May 2023] Ana: Ana adopted a dog, Buddy",
        "",
    ]
    assert turn.operations[0].entry.id == 4
    assert [entry.id for entry in turn.view] == [4, 2]
    policy = Replies(calls(ToolCall("delete", {"id": "1"})))
    respond(RAW, state, policy)
    assert "1. [8 May 2023] Ana: Ana adopted a dog, Buddy\n2." in policy.prompt  # with tools they count from 1
    assert [entry.id for entry in state.memory.entries()] == [1, 3]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (listed({"id": "2", "text": "x", "event": "UPDATE"}), "unknown_id"),
        (listed({"id": "m1", "event": "DELETE"}), "unknown_id"),
        (listed({"id": "", "event": "DELETE"}), "unknown_id"),
        (listed({"id": "0", "text": " ", "event": "UPDATE"}), "empty_text"),
        (listed({"text": "", "event": "ADD"}), "empty_text"),
        (listed({"id": "0", "text": "Ana adopted a dog, Buddy", "event": "UPDATE"}), "unchanged"),
        (listed({"id": "0", "text": "x", "event": "MERGE"}), "unknown_tool"),
        (listed({"id": "0", "text": "x"}), "unknown_tool"),
        (listed({"id": "0", "text": "x", "event": None}), "unknown_tool"),
        (listed({"event": "ADD"}), "bad_arguments"),
        (listed({"text": None, "event": "ADD"}), "bad_arguments"),
        (listed({"text": "x", "event": "UPDATE"}), "bad_arguments"),
        (listed({"id": ["0"], "event": "DELETE"}), "bad_arguments"),
        ('{"memory": [{"id": "0", "event": "DELETE"', "unparsable"),
        ('{"facts": []}', "unparsable"),
        ('{"memory": "none"}', "unparsable"),
        ('{"memory": ["DELETE 0"]}', "unparsable"),
        ("[1]", "unparsable"),
        ("delete 0", "unparsable"),
        ("[" * 100_000, "unparsable"),
    ],
)
def test_refusals_have_names_and_change_nothing(reply: str, code: str) -> None:
    state = bank(*DOGS)
    before = (state.memory.entries(), len(state.memory.log))
    turn = respond(RAW_JSON, state, Replies(reply))
    assert codes(turn) == [code]
    assert turn.events == {f"refused:{code}": 1}
    assert (state.memory.entries(), len(state.memory.log)) == before


def test_a_bad_item_does_not_stop_the_others() -> None:
    state = bank(*DOGS)
    reply = listed({"id": "9", "event": "DELETE"}, {"text": "Ana has Scout", "event": "ADD"})
    turn = respond(RAW_JSON, state, Replies(reply))
    assert codes(turn) == ["unknown_id", ""]
    assert contents(state)[-1] == (3, "Ana has Scout")


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "```json\n{}\n```",
        "```\n{}\n```",
        "Here it is:\n```json\n{}\n```\nDone.",
        "I think {} is right.",
        "<think>\nadd {{\n</think>\n\n{}",
    ],
)
def test_json_is_found_in_its_frame(frame: str) -> None:
    body = listed({"id": "0", "event": "DELETE"}, {"text": "uses ``` fences", "event": "ADD"})
    reply = frame.replace("{}", body)
    assert [(c.name, dict(c.arguments)) for c in parse_operations(reply)] == [
        ("delete", {"id": "0"}),
        ("add", {"text": "uses ``` fences"}),
    ]


def test_numbers_as_ids() -> None:
    state = bank(*DOGS)
    assert codes(respond(RAW_JSON, state, Replies(listed({"id": 0, "event": "DELETE"})))) == [""]
    assert [entry.id for entry in state.memory.entries()] == [2]


@given(
    st.text(max_size=60)
    | st.builds(
        json.dumps,
        st.recursive(
            st.none() | st.integers(0, 3) | st.text(max_size=4) | st.sampled_from(["ADD", "UPDATE", "DELETE", "NONE"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["memory", "event", "id", "text"]), inner, max_size=4)
            ),
            max_leaves=8,
        ),
    )
)
def test_no_reply_breaks_the_manager(reply: str) -> None:
    state = bank(*DOGS)
    turn = respond(RAW_JSON, state, Replies(reply))
    assert len(turn.operations) <= turn.events.get("calls", 0)


# ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_extractors_prompt() -> None:
    system, user = extract_prompt(ANA)
    assert (system.role, user.role) == ("system", "user")
    assert "about Ana." in system.content
    assert '{"facts": []}' in system.content
    assert user.content == "[2 June 2023] I adopted another dog, Scout!"
    system, user = extract_prompt(Input("hello"))
    assert "about the people in it." in system.content
    assert user.content == "hello"


def test_facts_are_parsed() -> None:
    assert parse_facts('```json\n{"facts": [" a ", "b", "a", " "]}\n```') == ["a", "b"]
    assert parse_facts('{"facts": []}') == []
    for bad in ("a", '{"facts": "a"}', '{"facts": [1]}', '{"fact": []}', "[]", "", "null"):
        with pytest.raises(ToolError) as caught:
            parse_facts(bad)
        assert caught.value.code == "unparsable"


def test_facts_are_extracted_and_each_finds_its_memories() -> None:
    state = bank(*DOGS, ("Ana", "", "Ana plays chess"), ("Ben", "", "Ben bakes bread"))
    extractor = Replies('{"facts": ["Ana plays go", "Ben bakes cakes"]}')
    policy = Replies(calls(ToolCall("add", {"text": "Ana plays go"}), ToolCall("add", {"text": "Ben bakes cakes"})))
    turn = respond(manager(related=1), state, policy, helpers={"extractor": extractor})
    assert policy.prompt == (
        "Memories:\n1. Ana: Ana plays chess\n2. Ben: Ben bakes bread\n\n"
        "New facts (2 June 2023):\n- Ana plays go\n- Ben bakes cakes"
    )
    assert [(step.role, len(step.results)) for step in turn.steps] == [("extractor", 0), ("writer", 2)]
    assert [schema.name for schema in policy.tools] == ["add", "update", "delete", "noop"]
    assert extractor.tools == ()


@pytest.mark.parametrize(
    ("said", "events"),
    [('{"facts": []}', {"skipped": 1}), ("nothing to note", {"skipped": 1, "extract_unparsable": 1})],
)
def test_without_a_fact_the_manager_is_not_asked(said: str, events: dict[str, int]) -> None:
    policy = Replies(said)  # without a helper the manager's own policy extracts
    turn = respond(manager(), bank(), policy)
    assert [step.role for step in turn.steps] == ["extractor"]
    assert (turn.events, turn.operations) == (events, ())


def test_an_empty_bank() -> None:
    policy = Replies(calls(ToolCall("add", {"text": "Ana has Scout"})))
    state = RAW.start()
    respond(RAW, state, policy)
    assert policy.prompt.startswith("Memories:\n(none)\n\nNew facts (2 June 2023):\n- I adopted")
    assert contents(state) == [(1, "Ana has Scout")]


def test_two_banks_show_only_the_speakers_memories() -> None:
    policy = Replies(calls(ToolCall("noop")), calls(ToolCall("noop")))
    respond(manager(extract="raw", banks="two"), bank(*DOGS), policy)
    assert "Buddy" in policy.prompt
    assert "Ben" not in policy.prompt
    respond(RAW, bank(*DOGS), policy)
    assert "Ben" in policy.prompt


def test_capacity_refuses_and_says_so() -> None:
    agent = manager(extract="raw", capacity=1)
    state = agent.start()
    turn = respond(agent, state, Replies(calls(ToolCall("add", {"text": "a"}), ToolCall("add", {"text": "b"}))))
    assert codes(turn) == ["", "full"]


def test_the_tiny_style() -> None:
    policy = Replies(calls(ToolCall("add", {"text": "x"}), ToolCall("add", {"text": "y"})))
    agent = manager(extract="raw", style="tiny")
    turn = respond(agent, bank(*DOGS), policy, Input("Ana sold her dog"))
    assert [m.content for m in policy.asked[0]] == [
        "memories:\n1 Ana adopted a dog, Buddy\n2 Ben painted a dog\nevent: Ana sold her dog"
    ]
    assert policy.tools == ()
    assert codes(turn) == ["", "too_many_calls"]


def test_the_json_form_shows_no_tools() -> None:
    policy = Replies(listed())
    turn = respond(RAW_JSON, bank(), policy)
    assert policy.tools == ()
    assert "Reply with JSON only" in policy.asked[0][0].content
    assert turn.events == {"no_call": 1}


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(
    agent: Agent, state: State, reply: str = f"{MARKER} x", question: str = "Who has a dog?", time: str = ""
) -> tuple[Replies, Turn]:
    policy = Replies(reply)
    return policy, respond(agent, state, policy, Input(question, time))


@pytest.mark.parametrize(
    ("reply", "text", "events"),
    [
        ("Useful memories:\n1. a\n**Answer:** a red dog \n", "a red dog", {}),
        ("**Answer:** cat\nNo: **Answer:** dog", "dog", {}),  # the last marker counts
        ("**Answer:**", "", {}),
        ("a red dog", "", {"no_marker": 1}),
        ("Answer: a red dog", "", {"no_marker": 1}),
        ("", "", {"no_marker": 1}),
    ],
)
def test_the_answer_stands_behind_the_last_marker(reply: str, text: str, events: dict[str, int]) -> None:
    _, turn = ask(answerer(), bank(*DOGS), reply)
    assert (turn.reply, turn.events) == (text, events)
    ctx = Ctx(answerer(), bank(), ANA, Replies())
    assert after_marker(reply, ctx) == text


def test_without_a_marker_the_whole_reply_counts() -> None:
    assert ask(answerer(marker=False), bank(*DOGS), "a red dog")[1].reply == "a red dog"


def test_memories_are_shown_with_their_times() -> None:
    state = bank(
        *DOGS, ("", "", "It rained on the dog"), ("Ana", "day 1", "Ana: my dog ran"), ("Ana", "", "Anabel has a dog")
    )
    state.memory.update(1, "Ana has two dogs, Buddy and Scout", time="2 June 2023")
    policy, turn = ask(answerer(), state, time="3 July 2023", question="Tell me about dogs")
    shown = policy.prompt.split("\n")
    assert shown[0] == "Memories:"
    assert sorted(line.partition(". ")[2] for line in shown[1:6]) == [
        "Ana: Anabel has a dog",
        "It rained on the dog",
        "[8 May 2023; 2 June 2023] Ana: Ana has two dogs, Buddy and Scout",
        "[9 May 2023] Ben: Ben painted a dog",
        "[day 1] Ana: my dog ran",  # the speaker is not named twice
    ]
    assert shown[6:] == ["", "Asked on: 3 July 2023", "Question: Tell me about dogs"]
    assert MARKER in policy.asked[0][0].content
    assert "Useful memories:" in policy.asked[0][0].content
    assert len(turn.view) == 5


def test_without_distilling_the_answer_comes_at_once() -> None:
    policy, _ = ask(answerer(distill=False), bank())
    assert "Useful memories:" not in policy.asked[0][0].content
    assert MARKER in policy.asked[0][0].content
    assert policy.prompt == "Memories:\n(none)\n\nQuestion: Who has a dog?"


def test_thirty_memories_of_each_owner() -> None:
    def many(ana: int, ben: int) -> State:
        facts = [("Ana", "", f"Ana fed dog {i}") for i in range(ana)] + [
            ("Ben", "", f"Ben met dog {i}") for i in range(ben)
        ]
        return bank(*facts)

    def counted(agent: Agent, state: State) -> tuple[int, int]:
        view = ask(agent, state, question="Which dog")[1].view
        return sum(e.owner == "Ana" for e in view), sum(e.owner == "Ben" for e in view)

    paper = answerer(per_owner=True)
    assert counted(paper, many(40, 50)) == (30, 30)
    assert counted(paper, many(40, 20)) == (30, 20)  # a smaller bank is not filled up by the other
    assert counted(paper, many(5, 40)) == (5, 30)
    assert counted(paper, many(90, 0)) == (60, 0)
    assert sum(counted(answerer(), many(40, 50))) == 60
    assert counted(answerer(k=1, per_owner=True), many(3, 3)) == (1, 0)  # never more than k


def test_the_tiny_answerer() -> None:
    policy, _ = ask(answerer(style="tiny", k=1), bank(*DOGS), question="what did Ben paint")
    assert policy.prompt == "memories:\n1 Ben painted a dog\nquestion: what did Ben paint"
    assert len(policy.asked[0]) == 1


def test_fingerprints_tell_the_settings_apart() -> None:
    agents = [
        manager(),
        manager(related=6),
        manager(extract="raw"),
        manager(banks="two"),
        manager(reply="json"),
        manager(style="tiny"),
        manager(capacity=20),
        manager(capacity=2, extract="raw"),
        answerer(),
        answerer(k=59),
        answerer(distill=False),
        answerer(per_owner=True),
        answerer(style="tiny"),
        answerer(window=100),
    ]
    assert len({agent_fingerprint(agent) for agent in agents}) == len(agents)
