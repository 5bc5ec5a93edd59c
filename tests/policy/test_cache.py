"""`CachedPolicy`: what is asked again and what is not, on disk, concurrently, in lock-step."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.policy.base import EPISODE, LOCKSTEP, EpisodeKey, Request, run_lockstep
from mnemon.policy.cache import HEADER, CachedPolicy, _completion
from mnemon.policy.http import HttpPolicy
from mnemon.types import Completion, Message, MnemonError, Policy, ToolCall, ToolSchema

ADD = ToolSchema("add", "Store.", {"type": "object", "properties": {}})


class Echo:
    """Answers with what was said and how often it was asked, after a moment."""

    fingerprint = "echo"
    policy_version = 0

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(0)
        if messages[-1].content == "fail":
            raise RuntimeError(f"failure {number}")
        call = ToolCall("add", {"n": number}, "c", None, "raw")
        reply = Message("assistant", f"{messages[-1].content}!", (call,), token_ids=(1, 2))
        return Completion(reply, (3,), (1, 2), (-0.25, -1e-9), "tool", 4, 1)


def user(text: str, **more: Any) -> list[Message]:
    return [Message("user", text, **more)]


def ask(policy: Policy, text: str, tools: Sequence[ToolSchema] = ()) -> Completion:
    return asyncio.run(asyncio.wait_for(policy(user(text), tools), 5))


def test_the_same_request_is_asked_once() -> None:
    cached = CachedPolicy(echo := Echo())
    assert isinstance(cached, Policy)
    assert ask(cached, "a") == ask(cached, "a")
    assert (echo.asked, cached.hits, cached.misses) == (1, 1, 1)


def test_whatever_the_policy_sees_makes_a_request() -> None:
    cached = CachedPolicy(echo := Echo())
    requests: list[tuple[list[Message], list[ToolSchema]]] = [
        (user("a"), []),
        (user("b"), []),
        ([Message("system", "a")], []),
        (user("a") + user("a"), []),
        (user("a"), [ADD]),
        (user("a"), [dataclasses.replace(ADD, description="Keep.")]),
        ([Message("assistant", "a", (ToolCall("x"),))], []),
        ([Message("assistant", "a", (ToolCall("x", {"n": 1}),))], []),
        ([Message("assistant", "a", token_ids=(1,))], []),
        ([Message("tool", "a", call_id="1")], []),
        ([Message("tool", "a", call_id="2")], []),
    ]

    async def all_of_them() -> None:
        for messages, tools in requests * 2:
            await cached(messages, tools)

    asyncio.run(all_of_them())
    assert (echo.asked, cached.hits) == (len(requests), len(requests))
    asyncio.run(cached(user("a", turn=5, kind="input", pinned=True)))  # bookkeeping that no policy sees
    assert echo.asked == len(requests)
    echo.policy_version = 1  # new weights answer anew
    ask(cached, "a")
    assert echo.asked == len(requests) + 1


def test_it_survives_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    first = [ask(CachedPolicy(Echo(), path), text) for text in ("a", "é中\ud800", "a")]
    again = CachedPolicy(echo := Echo(), path)
    assert [ask(again, text) for text in ("a", "é中\ud800", "a")] == first
    assert echo.asked == 0
    assert len(path.read_text().splitlines()) == 3  # a header and two replies
    assert path.read_text().isascii()


def test_a_torn_last_line_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    cached = CachedPolicy(Echo(), path)
    ask(cached, "a"), ask(cached, "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    again = CachedPolicy(echo := Echo(), path)
    ask(again, "a"), ask(again, "b")
    assert echo.asked == 1
    third = CachedPolicy(echo := Echo(), path)
    ask(third, "a"), ask(third, "b")
    assert echo.asked == 0


@pytest.mark.parametrize("cut", [0, 1, 20, len(HEADER)])
def test_a_torn_header_is_mended(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cache.jsonl"
    path.write_text(HEADER[:cut])
    ask(CachedPolicy(Echo(), path), "a")
    ask(CachedPolicy(echo := Echo(), path), "a")
    assert echo.asked == 0


def test_another_file_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss": 1}\n')
    with pytest.raises(MnemonError, match="not a policy cache"):
        CachedPolicy(Echo(), path)
    with pytest.raises(MnemonError, match="make it first"):
        CachedPolicy(Echo(), tmp_path / "none" / "cache.jsonl")
    assert path.read_text() == '{"loss": 1}\n'


def test_replies_of_other_models_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    ask(CachedPolicy(Echo(), path, key="one"), "a")
    ask(CachedPolicy(echo := Echo(), path, key="two"), "a")
    assert echo.asked == 1

    async def nameless(messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        return Completion(Message("assistant", "x"))

    with pytest.raises(MnemonError, match="give key="):
        CachedPolicy(nameless, path)
    assert ask(CachedPolicy(nameless), "a").message.content == "x"


def test_a_sampling_policy_is_refused() -> None:
    with pytest.raises(MnemonError, match="repeat one sample"):
        CachedPolicy(HttpPolicy("http://h", temperature=0.7))


def test_count_tokens_is_passed_on() -> None:
    assert CachedPolicy(Echo()).count_tokens is None
    echo = Echo()
    echo.count_tokens = lambda messages, tools: 7  # type: ignore[attr-defined]
    assert CachedPolicy(echo).count_tokens([], []) == 7


# ── at the same time ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_concurrent_requests_share_one_answer() -> None:
    cached = CachedPolicy(echo := Echo())

    async def many() -> list[Completion]:
        return list(await asyncio.gather(*(cached(user(text)) for text in "abab" * 5)))

    replies = asyncio.run(many())
    assert echo.asked == 2
    assert {reply.message.content for reply in replies} == {"a!", "b!"}
    assert (cached.hits, cached.misses) == (18, 2)


def test_errors_are_shared_but_not_kept() -> None:
    cached = CachedPolicy(echo := Echo())

    async def many() -> list[Any]:
        return list(await asyncio.gather(*(cached(user("fail")) for _ in range(3)), return_exceptions=True))

    assert [str(error) for error in asyncio.run(many())] == ["failure 1"] * 3
    assert [str(error) for error in asyncio.run(many())] == ["failure 2"] * 3
    assert echo.asked == 2


def test_when_the_one_who_asks_is_cancelled_another_asks() -> None:
    cached = CachedPolicy(echo := Echo())

    async def scene() -> list[Completion]:
        first, *others = (asyncio.ensure_future(cached(user("a"))) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        return [await other for other in others]

    replies = asyncio.run(scene())
    assert [reply.message.tool_calls[0].arguments for reply in replies] == [{"n": 2}] * 2
    assert echo.asked == 2


class Batching:
    """A policy in lock-step that records which requests it was given together."""

    fingerprint = "batching"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        scheduler, episode = LOCKSTEP.get(), EPISODE.get()
        assert scheduler is not None
        assert episode is not None
        return await scheduler.submit(self, Request(episode.next(), tuple(messages), tuple(tools)))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append([r.messages[-1].content for r in requests])
        if self.batches[-1] == ["fail"]:
            raise RuntimeError("failed")
        return [Completion(Message("assistant", f"{r.messages[-1].content}{r.key[4]}")) for r in requests]


async def episode(number: int, script: Sequence[tuple[Policy, str]]) -> list[str]:
    EPISODE.set(EpisodeKey(task=f"t{number}"))
    return [(await policy(user(text))).message.content for policy, text in script]


def test_in_lock_step_nobody_waits_for_ever_and_batches_stay_whole() -> None:
    reader, writer = Batching(), Batching()
    cached = CachedPolicy(reader)
    scripts = [[(cached, "q"), (writer, f"w{n}")] for n in range(4)] + [[(writer, "w4"), (cached, "q")]]

    async def play() -> list[list[str]]:
        work = run_lockstep([episode(n, script) for n, script in enumerate(scripts)])
        return await asyncio.wait_for(work, 5)

    answers = asyncio.run(play())
    assert reader.batches == [["q"]]
    # w4 leaves with q; the four that shared q then write together, in one batch
    assert writer.batches == [["w4"], ["w0", "w1", "w2", "w3"]]
    assert answers == [["q1", f"w{n}1"] for n in range(4)] + [["w41", "q1"]]


def test_in_lock_step_a_failure_reaches_all_who_wait() -> None:
    cached = CachedPolicy(Batching())

    async def guarded(number: int) -> str:
        EPISODE.set(EpisodeKey(task=f"t{number}"))
        try:
            await cached(user("fail"))
        except RuntimeError as error:
            return str(error)
        return "no error"

    assert asyncio.run(run_lockstep([guarded(n) for n in range(3)])) == ["failed"] * 3


def test_in_lock_step_a_waiting_episode_can_be_cancelled() -> None:
    cached, writer = CachedPolicy(Batching()), Batching()

    async def gives_up() -> str:
        EPISODE.set(EpisodeKey(task="t1"))
        try:
            await asyncio.wait_for(cached(user("q")), 0.01)
        except TimeoutError:
            return (await writer(user("w"))).message.content
        return "was answered"

    async def slow() -> str:
        EPISODE.set(EpisodeKey(task="t0"))
        await asyncio.sleep(0.05)
        return (await cached(user("q"))).message.content

    async def leads() -> str:
        EPISODE.set(EpisodeKey(task="t2"))
        return (await cached(user("q"))).message.content

    async def play() -> list[str]:
        return await asyncio.wait_for(run_lockstep([leads(), gives_up(), slow()]), 5)

    assert asyncio.run(play()) == ["q1", "w1", "q1"]


def test_warm_or_cold_an_episode_draws_the_same_seeds() -> None:
    def keys(cached: CachedPolicy) -> list[int]:
        writer = Batching()
        script = [(writer, "w"), (cached, "q"), (writer, "w"), (cached, "q"), (writer, "w")]
        (answers,) = asyncio.run(run_lockstep([episode(0, script)]))
        return [int(answer[-1]) for answer in answers if answer.startswith("w")]

    cached = CachedPolicy(Batching())
    assert keys(cached) == keys(cached) == [1, 2, 3]


# ── the line of one reply ────────────────────────────────────────────────────────────────────────────────────────────

TEXT = st.text(max_size=6)
NUMBERS = st.lists(st.integers(0, 2**40), max_size=3).map(tuple)
CALLS = st.builds(ToolCall, TEXT, st.dictionaries(TEXT, st.integers() | TEXT | st.none()), TEXT, TEXT | st.none(), TEXT)
MESSAGES = st.builds(
    Message,
    st.just("assistant"),
    TEXT,
    st.lists(CALLS, max_size=2).map(tuple),
    st.integers(),
    TEXT,
    st.booleans(),
    NUMBERS | st.none(),
)
FLOATS = st.lists(st.floats(allow_nan=False), max_size=3).map(tuple)


@given(st.builds(Completion, MESSAGES, NUMBERS, NUMBERS, FLOATS, st.sampled_from(["stop", "tool"]), st.integers()))
def test_a_completion_comes_back_exactly(completion: Completion) -> None:
    assert _completion(json.loads(json.dumps(dataclasses.asdict(completion)))) == completion
