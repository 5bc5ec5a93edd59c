"""`Agent.respond`: rounds, refused calls, the window, contexts, recorded steps, hooks, fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mnemon.agent import Agent, Ctx, Limits, State, agent_fingerprint
from mnemon.memory.memory import Memory, Section
from mnemon.memory.retrieve import Lexical
from mnemon.policy.base import Scripted, run_sync
from mnemon.tools import tool
from mnemon.types import Completion, Input, Message, MnemonError, ToolCall, ToolError, ToolSchema, Turn


def add(ctx: Ctx, text: str) -> str:
    """Store a text."""
    return "added " + ctx.memory.add(text, time=ctx.input.time, source=ctx.input.source).label


def delete(ctx: Ctx, id: str) -> str:
    """Remove an entry."""
    return "deleted " + ctx.memory.delete(ctx.resolve(id)).label


async def summarise(ctx: Ctx) -> str:
    """Ask for a summary."""
    done = await ctx.ask("summariser", [Message("user", "sum up")])
    return done.message.content


TOOLS = (tool(add), tool(delete), tool(summarise))
GIVEN = Input("Ana has a dog", "day 1", ("s1",), "Ana")


def shown(ctx: Ctx, given: Input) -> list[Message]:
    """The input alone, as an ordinary message."""
    return [Message("user", given.text, kind="input")]


def calls(*made: ToolCall, content: str = "") -> Message:
    return Message("assistant", content, made)


class Replies:
    """A policy with a list of replies; keeps what it was asked."""

    def __init__(self, *replies: Message | str) -> None:
        self.replies = list(replies)
        self.asked: list[Sequence[Message]] = []
        self.tools: list[Sequence[ToolSchema]] = []

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        self.asked.append(messages)
        self.tools.append(tools)
        reply = self.replies.pop(0)
        return Completion(Message("assistant", reply) if isinstance(reply, str) else reply)

    @property
    def seen(self) -> list[list[str]]:
        return [[message.content for message in messages] for messages in self.asked]


def respond(agent: Agent, policy: Any, given: Input | str = GIVEN, state: State | None = None, **more: Any) -> Turn:
    return run_sync(agent.respond(state or agent.start(), given, policy, **more))


# ── rounds and calls ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_rounds_end_with_a_reply_without_calls() -> None:
    agent = Agent("writer", shown, TOOLS, limits=Limits(rounds=5))
    policy = Replies(calls(ToolCall("add", {"text": "a"}, "c1")), calls(ToolCall("delete", {"id": "m1"}, "c2")), "done")
    state = agent.start()
    turn = respond(agent, policy, state=state, stage=2, turn=3)
    assert turn.reply == "done"
    assert policy.seen == [
        ["Ana has a dog"],
        ["Ana has a dog", "", "added m1"],
        ["Ana has a dog", "", "added m1", "", "deleted m1"],
    ]
    assert policy.tools == [agent.schemas] * 3
    assert [(s.role, s.stage, s.turn, s.source, [r.content for r in s.results]) for s in turn.steps] == [
        ("writer", 2, 3, ("s1",), ["added m1"]),
        ("writer", 2, 3, ("s1",), ["deleted m1"]),
        ("writer", 2, 3, ("s1",), []),
    ]
    assert [list(step.messages) for step in turn.steps] == [list(asked) for asked in policy.asked]
    assert [op.kind for op in turn.operations] == ["add", "delete"]
    assert turn.events == {"calls": 2}
    assert [(m.role, m.kind, m.turn, m.call_id, m.name) for m in state.context] == [
        ("user", "input", 0, "", ""),
        ("assistant", "reply", 3, "", ""),
        ("tool", "result", 3, "c1", "add"),
        ("assistant", "reply", 3, "", ""),
        ("tool", "result", 3, "c2", "delete"),
        ("assistant", "reply", 3, "", ""),
    ]


def test_rounds_are_limited() -> None:
    policy = Replies(*(calls(ToolCall("add", {"text": f"fact {i}"}), content=f"reply {i}") for i in range(3)))
    turn = respond(Agent("writer", shown, TOOLS, limits=Limits(rounds=2)), policy)
    assert len(turn.steps) == 2
    assert turn.reply == "reply 1"
    assert len(turn.operations) == 2


def test_a_turn_without_any_call_is_counted() -> None:
    assert respond(Agent("writer", shown, TOOLS), Replies("hm")).events == {"no_call": 1}
    assert respond(Agent("reader", shown), Replies("hm")).events == {}  # there was nothing to call


def test_calls_beyond_the_limit_are_refused() -> None:
    agent = Agent("writer", shown, TOOLS, limits=Limits(calls=1))
    turn = respond(agent, Replies(calls(*(ToolCall("add", {"text": text}) for text in "abc"))))
    assert [op.entry.text for op in turn.operations] == ["a"]
    assert [(r.ok, r.code) for r in turn.steps[0].results] == [(True, ""), *[(False, "too_many_calls")] * 2]
    assert turn.steps[0].results[1].content == "At most 1 calls are run per reply; this one was not."
    assert turn.events == {"calls": 1, "refused:too_many_calls": 2}


def test_refused_calls_are_data_and_the_others_run() -> None:
    bad = [
        ToolCall("", error="no brace", raw="{"),
        ToolCall("merge"),
        ToolCall("add", {}),
        ToolCall("add", {"text": " "}),
        ToolCall("delete", {"id": "m9"}),
    ]
    turn = respond(Agent("writer", shown, TOOLS), Replies(calls(*bad, ToolCall("add", {"text": "a"}))))
    codes = ["unparsable", "unknown_tool", "bad_arguments", "empty_text", "unknown_id", ""]
    assert [result.code for result in turn.steps[0].results] == codes
    assert turn.events == {"calls": 1} | {f"refused:{code}": 1 for code in codes[:-1]}
    assert len(turn.operations) == 1


def test_a_cut_reply_is_counted() -> None:
    async def policy(messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        return Completion(Message("assistant", "and then"), finish="length")

    assert respond(Agent("reader", shown), policy).events == {"cut_reply": 1}


# ── what the policy is shown ─────────────────────────────────────────────────────────────────────────────────────────


def test_each_input_or_each_stage_has_its_context() -> None:
    for context, seen in (("input", [["one"], ["two"]]), ("stage", [["one"], ["one", "first", "two"]])):
        agent = Agent("writer", shown, context=context)  # type: ignore[arg-type]
        policy, state = Replies("first", "second"), agent.start()
        respond(agent, policy, "one", state)
        respond(agent, policy, "two", state)
        assert policy.seen == seen


def test_what_was_asked_is_kept_as_it_was() -> None:
    agent, policy = (
        Agent("writer", shown, TOOLS, limits=Limits(rounds=2)),
        Replies(calls(ToolCall("add", {"text": "a"})), "b"),
    )
    turn = respond(agent, policy)
    assert [len(asked) for asked in policy.asked] == [1, 3]  # the live context grew behind the first question
    assert [len(step.messages) for step in turn.steps] == [1, 3]


def test_tools_can_stay_unseen() -> None:
    policy = Replies(calls(ToolCall("add", {"text": "a"})))
    turn = respond(Agent("writer", shown, TOOLS, show_tools=False), policy)
    assert policy.tools == [()]
    assert turn.events == {"calls": 1}


def test_a_prompt_can_skip_the_policy() -> None:
    async def nothing(ctx: Ctx, given: Input) -> None:
        ctx.memory.add(given.text)

    turn = respond(Agent("writer", nothing, final=lambda text, ctx: text or "nothing to do"), Replies())
    assert (turn.steps, turn.events, turn.reply) == ((), {"skipped": 1}, "nothing to do")
    assert len(turn.operations) == 1


def test_only_this_turns_operations_are_told() -> None:
    agent, state = Agent("writer", shown, TOOLS), State(Memory())
    state.memory.add("before")
    fork = state.fork()
    turn = respond(agent, Replies(calls(ToolCall("add", {"text": "a"}))), state=fork)
    assert [op.entry.text for op in turn.operations] == ["a"]
    assert len(state.memory) == 1


# ── the window ───────────────────────────────────────────────────────────────────────────────────────────────────────


def windowed(window: int, *, rounds: int = 1) -> Agent:
    return Agent("writer", shown, TOOLS, limits=Limits(window=window, rounds=rounds), context="stage")


def test_the_oldest_unpinned_message_leaves_first() -> None:
    agent, policy = windowed(6), Replies("ok")
    state = agent.start()
    pinned = Message("user", "pinned here", pinned=True)
    old = [Message("assistant", f"reply {i}") for i in range(3)]
    state.context = [Message("system", "obey"), pinned, *old]
    turn = respond(agent, policy, "new", state)
    # obey + pinned here + 3 replies + new = 10 words: two replies leave
    assert policy.seen == [["obey", "pinned here", "reply 2", "new"]]
    assert turn.events == {"truncated": 2, "no_call": 1}
    assert [m.content for m in state.context] == ["obey", "pinned here", "reply 2", "new", "ok"]


def test_a_window_that_fits_exactly_drops_nothing() -> None:
    state = State(Memory(), [Message("assistant", "a b c")])
    assert respond(windowed(4), Replies("x"), "new", state).events == {"no_call": 1}
    state = State(Memory(), [Message("assistant", "a b c")])
    assert respond(windowed(3), Replies("x"), "new", state).events == {"truncated": 1, "no_call": 1}


def test_a_reply_leaves_with_its_results() -> None:
    results = [Message("tool", "r 1", kind="result"), Message("tool", "r 2", kind="result")]
    state = State(Memory(), [calls(ToolCall("add"), ToolCall("add"), content="x y"), *results, Message("user", "old")])
    policy = Replies("ok")
    turn = respond(windowed(4), policy, "new", state)
    assert policy.seen == [["old", "new"]]  # no result stands without its call
    assert turn.events["truncated"] == 3


def test_later_rounds_are_fitted_too() -> None:
    made = [calls(ToolCall("add", {"text": f"fact {i}"})) for i in range(2)]
    policy = Replies(*made, "done")
    turn = respond(windowed(4, rounds=3), policy, "a b")
    assert policy.seen == [["a b"], ["a b", "", "added m1"], ["a b", "", "added m2"]]  # the input itself stays
    assert turn.events["truncated"] == 2


@pytest.mark.parametrize("message", [Message("user", "a b c", pinned=True), Message("system", "a b c")])
def test_what_must_stay_and_is_too_long_is_an_error(message: Message) -> None:
    agent = Agent("writer", lambda ctx, given: [message], limits=Limits(window=2))
    with pytest.raises(MnemonError, match="need 3 tokens, the window is 2: raise"):
        respond(agent, Replies("x"))


def test_an_input_that_is_too_long_is_an_error() -> None:
    with pytest.raises(MnemonError, match="need 4 tokens, the window is 2"):
        respond(windowed(2), Replies("x"), state=State(Memory(), [Message("assistant", "old one")]))


def test_the_policy_counts_where_it_can() -> None:
    class Counting(Replies):
        def count_tokens(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> int:
            return 10 * len(messages) + len(tools)

    state = State(Memory(), [Message("assistant", "a"), Message("assistant", "b")])
    policy = Counting("x")
    assert respond(windowed(23), policy, "new", state).events["truncated"] == 1
    assert policy.seen == [["b", "new"]]


# ── helpers and hooks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_policy_call_in_a_tool_is_a_step_of_its_own() -> None:
    agent = Agent("writer", shown, TOOLS, limits=Limits(rounds=2))
    policy, helper = Replies(calls(ToolCall("summarise")), "done"), Replies("in short")
    turn = respond(agent, policy, helpers={"summariser": helper})
    assert [step.role for step in turn.steps] == ["writer", "summariser", "writer"]
    assert [r.content for r in turn.steps[0].results] == ["in short"]  # the results stay with the call that made them
    assert turn.steps[1].results == ()
    assert turn.steps[1].source == ("s1",)
    assert helper.seen == [["sum up"]]
    assert policy.seen[1] == ["Ana has a dog", "", "in short"]


def test_without_a_helper_the_agents_own_policy_is_asked() -> None:
    policy = Replies(calls(ToolCall("summarise")), "in short")
    turn = respond(Agent("writer", shown, TOOLS), policy)
    assert policy.seen == [["Ana has a dog"], ["sum up"]]
    assert turn.steps[0].results[0].content == "in short"


def test_a_helper_never_answers_for_the_agent_itself() -> None:
    turn = respond(Agent("writer", shown), Replies("mine"), helpers={"writer": Replies("not mine")})
    assert turn.reply == "mine"


def test_parse_reads_calls_from_text_and_final_picks_the_answer() -> None:
    def parse(text: str) -> list[ToolCall]:
        return [ToolCall("add", {"text": text[1:]})] if text.startswith("+") else []

    def final(text: str, ctx: Ctx) -> str:
        ctx.count("finished")
        return text.upper()

    agent = Agent("writer", shown, TOOLS, parse=parse, final=final)
    turn = respond(agent, Replies("+a b"))
    assert ([op.entry.text for op in turn.operations], turn.reply) == (["a b"], "+A B")
    assert turn.events == {"calls": 1, "finished": 1}
    assert respond(agent, Replies("none")).events == {"no_call": 1, "finished": 1}
    message = calls(ToolCall("add", {"text": "c"}), content="+a b")
    assert [op.entry.text for op in respond(agent, Replies(message)).operations] == ["c"]  # real calls come first


def test_shown_ids_are_mapped_back() -> None:
    def prompt(ctx: Ctx, given: Input) -> list[Message]:
        entries = ctx.memory.entries()[1:]
        lines = [f"{n} {entry.text}" for n, entry in ctx.show(entries, first=1)]
        return [Message("user", "\n".join(lines))]

    agent = Agent("writer", prompt, TOOLS)
    state = agent.start()
    for text in ("a", "b", "c"):
        state.memory.add(text)
    policy = Replies(
        calls(ToolCall("delete", {"id": " 2 "}), ToolCall("delete", {"id": "0"}), ToolCall("delete", {"id": "m1"}))
    )
    turn = respond(agent, policy, state=state)
    assert policy.seen == [["1 b\n2 c"]]
    assert [(r.code, r.content) for r in turn.steps[0].results] == [
        ("", "deleted m3"),
        ("unknown_id", "There is no memory '0' in this prompt (ids: 1, 2)."),
        ("unknown_id", "There is no memory 'm1' in this prompt (ids: 1, 2)."),
    ]
    assert [entry.text for entry in turn.view] == ["b", "c"]


def test_without_shown_ids_labels_are_read() -> None:
    agent = Agent("writer", shown)
    ctx = Ctx(agent, agent.start(), GIVEN, Replies())
    assert (ctx.resolve("m12"), ctx.resolve(" 7 ")) == (12, 7)
    for bad in ("", "m", "twelve", "-1", "²", "m" + "9" * 5000):
        with pytest.raises(ToolError) as caught:
            ctx.resolve(bad)
        assert caught.value.code == "unknown_id"
    assert ctx.show([]) == []
    with pytest.raises(ToolError, match="none were shown"):
        ctx.resolve("0")


def test_state_fork_is_independent() -> None:
    state = State(Memory(), [Message("user", "a")])
    fork = state.fork()
    fork.context.append(Message("user", "b"))
    fork.memory.add("x")
    assert (len(state.context), len(state.memory)) == (1, 0)


# ── fingerprint ──────────────────────────────────────────────────────────────────────────────────────────────────────


def reading(
    k: int = 5, word: str = "Answer", sections: tuple[Section, ...] = (Section("facts"),), owned: bool = False
) -> Agent:
    def prompt(ctx: Ctx, given: Input) -> list[Message]:
        owner = given.speaker if owned else None
        lines = [f"{hit.entry.time} {hit.entry.text}" for hit in ctx.retrieve(given.text, k, owner=owner or None)]
        return [Message("user", "\n".join([word, *lines, given.time, given.text]))]

    return Agent("reader", prompt, sections=sections)


def later(ctx: Ctx, given: Input) -> list[Message]:
    return [Message("user", given.text + (" again" if len(ctx.state.context) else ""))]


def other_add(ctx: Ctx, text: str) -> str:
    """Store a text now."""
    return ""


def test_fingerprint_is_the_same_for_the_same_agent() -> None:
    assert agent_fingerprint(reading()) == agent_fingerprint(reading())
    assert len(agent_fingerprint(reading())) == 16


FULL = (Section("facts", max_entries=3, max_tokens=9),)
CHANGES: dict[str, tuple[Agent, Agent]] = {
    "a word": (reading(), reading(word="answer")),
    "k": (reading(k=5), reading(k=6)),
    "a large k": (reading(k=60), reading(k=61)),
    "k of a small memory": (reading(k=60, sections=FULL), reading(k=61, sections=FULL)),
    "whose memories": (reading(), reading(owned=True)),
    "sections": (reading(), reading(sections=(Section("facts", max_entries=9),))),
    "retriever": (reading(), replace(reading(), retriever=Lexical(b=0.5))),
    "limits": (reading(), replace(reading(), limits=Limits(window=4096))),
    "a second turn": (
        Agent("w", shown, context="stage"),
        Agent("w", later, context="stage"),
    ),
    "a tool's description": (Agent("w", shown, (tool(add),)), Agent("w", shown, (tool(other_add, "add"),))),
    "a hidden tool": (
        Agent("w", shown, (tool(add),), show_tools=False),
        Agent("w", shown, (tool(other_add, "add"),), show_tools=False),
    ),
    "tools shown": (Agent("w", shown, (tool(add),)), Agent("w", shown, (tool(add),), show_tools=False)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_sees(change: str) -> None:
    one, other = CHANGES[change]
    assert agent_fingerprint(one) != agent_fingerprint(other)


def test_fingerprint_of_a_small_window_and_a_text_section() -> None:
    sections = (Section("core", "text", max_tokens=2), Section("facts"))

    def prompt(ctx: Ctx, given: Input) -> list[Message]:
        entries = ctx.memory.entries("core") + ctx.memory.entries("facts")
        return [Message("user", " ".join(entry.text for entry in entries), pinned=True)]

    agent = Agent("writer", prompt, sections=sections, limits=Limits(window=3))
    assert agent_fingerprint(agent) == agent_fingerprint(agent)


def test_scripted_policies_take_text_or_messages() -> None:
    policy = Scripted(lambda messages, tools: calls(ToolCall("add", {"text": messages[-1].content})))
    agent = Agent("writer", shown, TOOLS)
    assert respond(agent, policy).operations[0].entry.source == ("s1",)
    assert policy.calls == 1


def test_a_result_says_what_it_changed() -> None:
    made = calls(ToolCall("add", {"text": "a"}), ToolCall("delete", {"id": "m7"}), ToolCall("delete", {"id": "m1"}))
    turn = respond(Agent("writer", shown, TOOLS), Replies(made))
    results = turn.steps[0].results
    assert [[op.kind for op in result.operations] for result in results] == [["add"], [], ["delete"]]
    assert turn.operations == results[0].operations + results[2].operations
    assert turn.given == GIVEN


def test_size_is_the_policys_count_else_the_agents() -> None:
    sizes = []

    def sized(ctx: Ctx, given: Input) -> list[Message]:
        sizes.append(ctx.size([Message("user", "three words here"), Message("user", "one")]))
        return [Message("user", given.text)]

    class Counting(Replies):
        def count_tokens(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> int:
            return 100 * len(messages) + len(tools)

    agent = Agent("writer", sized, TOOLS)
    respond(agent, Replies("ok"))
    respond(agent, Counting("ok"))
    assert sizes == [4, 203]
