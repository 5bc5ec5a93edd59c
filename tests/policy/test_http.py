"""`HttpPolicy` against a scripted server: the wire in both directions, schemas, and token ids in and out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemon.endpoint import EndpointError, InvalidReply
from mnemon.policy.base import EPISODE, EpisodeKey, request_seed
from mnemon.policy.chat import Chat
from mnemon.policy.http import HttpPolicy, from_wire, to_wire
from mnemon.types import Completion, Message, MnemonError, Policy, ToolCall, ToolSchema

HELLO = (Message("system", "Be kind."), Message("user", "Hello"))
ADD = ToolSchema("add", "Store.", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MNEMON_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def said(content: Any = "Hi", finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    usage = {"prompt_tokens": 11, "completion_tokens": 5}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


def serving(*replies: Any, **options: Any) -> tuple[HttpPolicy, list[Any]]:
    """A policy whose server gives these replies in order (a JSON body, a response, or a function of the request)."""
    seen: list[Any] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) | {"path": request.url.path}
        reply = replies[len(seen)]
        seen.append(body)
        if isinstance(reply, httpx2.Response):
            return reply
        return httpx2.Response(200, json=reply(body) if callable(reply) else reply)

    options = {"model": "m", "retries": 0} | options
    return HttpPolicy("http://h", transport=httpx2.MockTransport(handle), **options), seen


def ask(policy: HttpPolicy, messages: Sequence[Message] = HELLO, tools: Sequence[ToolSchema] = ()) -> Completion:
    return asyncio.run(policy(messages, tools))


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_reply() -> None:
    policy, seen = serving(said())
    policy.policy_version = 3
    completion = ask(policy)
    assert isinstance(policy, Policy)
    assert completion.message == Message("assistant", "Hi", kind="reply")
    assert (completion.finish, completion.prompt_tokens, completion.policy_version) == ("stop", 11, 3)
    assert completion.prompt_ids == completion.token_ids == completion.logprobs == ()
    assert seen == [  # standard fields only, nothing empty
        {
            "path": "/v1/chat/completions",
            "model": "m",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
            "temperature": 0.0,
            "max_tokens": 1024,
        }
    ]
    assert (policy.usage.calls, policy.usage.prompt_tokens, policy.usage.completion_tokens) == (1, 11, 5)


def test_from_url_and_repr() -> None:
    policy = HttpPolicy.from_url("http://host:1234/v1#Qwen/Qwen3-8B", api_key="sk-x", temperature=0.5)
    assert (policy.endpoint.url, policy.model, policy.temperature) == ("http://host:1234/v1", "Qwen/Qwen3-8B", 0.5)
    assert "sk-x" not in repr(policy) + repr(vars(policy))
    assert HttpPolicy.from_url("http://host").model is None
    with pytest.raises(MnemonError, match="named apart"):
        HttpPolicy("http://host#m")


def test_without_a_model_the_field_is_left_out() -> None:
    policy, seen = serving(said(), model=None)
    ask(policy)
    assert "model" not in seen[0]


def test_extra_body_adds_overrides_and_removes() -> None:
    policy, seen = serving(said(), extra_body={"top_p": 0.9, "max_tokens": None, "max_completion_tokens": 7})
    ask(policy)
    assert seen[0]["top_p"] == 0.9
    assert seen[0]["max_completion_tokens"] == 7
    assert "max_tokens" not in seen[0]


def test_seeds_come_from_the_episode_and_differ_per_request() -> None:
    policy, seen = serving(*[said()] * 4, temperature=1.0)

    async def episode(member: int) -> None:
        EPISODE.set(EpisodeKey(7, 1, "t", member))
        await policy(HELLO)
        await policy(HELLO)

    asyncio.run(episode(0))
    asyncio.run(episode(1))
    expected = [request_seed((7, 1, "t", member, step)) % 2**31 for member in (0, 1) for step in (1, 2)]
    assert [body["seed"] for body in seen] == expected
    assert len(set(expected)) == 4


def test_seeds_differ_outside_an_episode_too() -> None:
    policy, seen = serving(said(), said(), temperature=1.0)
    ask(policy), ask(policy)
    assert seen[0]["seed"] != seen[1]["seed"]


def test_tools_are_sent() -> None:
    policy, seen = serving(said())
    ask(policy, tools=[ADD])
    assert seen[0]["tools"] == [ADD.as_openai()]
    assert "tool_choice" not in seen[0]


def test_a_server_without_a_tool_parser_is_asked_without_one_and_we_parse() -> None:
    refusal = httpx2.Response(400, json={"error": {"message": '"auto" tool choice requires --enable-auto-tool-choice'}})
    call = '<tool_call>\n{"name": "add", "arguments": {"text": "x"}}\n</tool_call>'
    policy, seen = serving(refusal, said(call), said(call))
    completion = ask(policy, tools=[ADD])
    assert completion.message.tool_calls == (ToolCall("add", {"text": "x"}, "call_0"),)
    assert completion.message.content == ""
    ask(policy, tools=[ADD])
    assert [body.get("tool_choice") for body in seen] == [None, "none", "none"]


def test_other_refusals_are_not_asked_again() -> None:
    policy, seen = serving(httpx2.Response(400, json={"error": "context too long"}))
    with pytest.raises(EndpointError, match="context too long"):
        ask(policy, tools=[ADD])
    assert len(seen) == 1


# ── replies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def structured(arguments: Any, name: Any = "add", call_id: Any = "abc") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def read(message: dict[str, Any], finish: str | None = "stop") -> tuple[Message, str]:
    return from_wire({"message": message, "finish_reason": finish})


def test_structured_calls() -> None:
    calls = [structured('{"text": "a"}'), structured({"text": "b"}, call_id=None), structured("")]
    message, finish = read({"content": None, "tool_calls": calls}, "tool_calls")
    assert message.content == ""
    assert message.tool_calls == (
        ToolCall("add", {"text": "a"}, "abc"),
        ToolCall("add", {"text": "b"}, "call_1"),
        ToolCall("add", {}, "abc"),
    )
    assert finish == "tool"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ('{"text": ', "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"n": NaN}', "not valid JSON"),
        ('{"text": "\\ud800"}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_malformed_arguments_are_data(raw: str, why: str) -> None:
    (call,) = read({"content": None, "tool_calls": [structured(raw)]})[0].tool_calls
    assert (call.name, dict(call.arguments), call.id, call.raw) == ("add", {}, "abc", raw)
    assert call.error is not None
    assert why in call.error


@pytest.mark.parametrize("call", ["x", {}, {"function": None}, structured("{}", name=None)])
def test_a_call_without_a_name_is_data(call: Any) -> None:
    (parsed,) = read({"content": "", "tool_calls": [call]})[0].tool_calls
    assert parsed.error == 'the call has no "name"'
    assert json.loads(parsed.raw) == call


def test_hermes_text_thinking_parts_and_refusals() -> None:
    text = '<think>hm</think>Fine.<tool_call>{"name": "add", "arguments": {"text": "a"}}</tool_call>'
    message, finish = read({"content": text})
    assert (message.content, message.tool_calls) == ("Fine.", (ToolCall("add", {"text": "a"}, "call_0"),))
    assert finish == "stop"
    broken = read({"content": "<tool_call>{oops</tool_call>"})[0].tool_calls[0]
    assert (broken.error is not None, broken.raw) == (True, "{oops")
    assert read({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})[0].content == "ab"
    assert read({"content": None, "refusal": "I will not."})[0].content == "I will not."


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "aborted"), ("abort", "aborted"), (None, "stop")],
)
def test_finish(reason: str | None, finish: str) -> None:
    assert read({"content": "x"}, reason)[1] == finish


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": None}, {"choices": ["x"]}])
def test_no_choices(reply: Any) -> None:
    policy, _ = serving(reply)
    with pytest.raises(EndpointError, match="holds no choices") as caught:
        ask(policy)
    assert caught.value.status == 200


# ── contexts on the wire ─────────────────────────────────────────────────────────────────────────────────────────────


def result(content: str, call_id: str = "") -> Message:
    return Message("tool", content, call_id=call_id, name="add")


def test_calls_and_results_are_paired_and_numbered_through() -> None:
    a, b = ToolCall("add", {"text": "é"}, "call_0"), ToolCall("add", {}, "call_1")
    context = [
        Message("user", "1"),
        Message("assistant", "ok", (a, b)),
        result("B", "call_1"),
        result("A", "call_0"),
        Message("assistant", "", (a,)),
        result("A2", "call_0"),
    ]
    wire = to_wire(context)
    assert [m["role"] for m in wire] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [c["id"] for c in wire[1]["tool_calls"]] == ["call00000", "call00001"]
    assert wire[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"text": "é"}'}
    assert wire[2] == {"role": "tool", "tool_call_id": "call00000", "content": "A"}
    assert wire[3] == {"role": "tool", "tool_call_id": "call00001", "content": "B"}
    assert wire[5] == {"role": "tool", "tool_call_id": "call00002", "content": "A2"}


def test_results_without_ids_are_paired_in_order() -> None:
    calls = (ToolCall("add", {"n": 0}), ToolCall("add", {"n": 1}))
    wire = to_wire([Message("assistant", "", calls), result("first"), result("second")])
    assert [(m["tool_call_id"], m["content"]) for m in wire[1:]] == [("call00000", "first"), ("call00001", "second")]


def test_a_call_whose_result_was_dropped_becomes_text() -> None:
    wire = to_wire([Message("assistant", "Noting.", (ToolCall("add", {"n": 1}, "c"),)), Message("user", "next")])
    call = '<tool_call>\n{"name": "add", "arguments": {"n": 1}}\n</tool_call>'
    assert wire == [{"role": "assistant", "content": f"Noting.\n{call}"}, {"role": "user", "content": "next"}]


def test_a_result_whose_call_was_dropped_becomes_a_user_message() -> None:
    assert to_wire([result("lost", "c"), Message("user", "next"), result("odd", "d")]) == [
        {"role": "user", "content": "lost"},
        {"role": "user", "content": "next"},
        {"role": "user", "content": "odd"},
    ]


def test_an_unreadable_call_is_shown_as_it_was_and_its_result_after_the_others() -> None:
    bad, good = ToolCall("", id="c0", error="no", raw="{oops"), ToolCall("add", {}, "c1")
    wire = to_wire([Message("assistant", "", (bad, good)), result("unparsable", "c0"), result("done", "c1")])
    assert wire[0]["content"] == "{oops"
    assert len(wire[0]["tool_calls"]) == 1
    assert [(m["role"], m["content"]) for m in wire[1:]] == [("tool", "done"), ("user", "unparsable")]


IDS = st.sampled_from(["", "a", "b"])
CALLS = st.builds(ToolCall, st.just("add"), st.just({}), IDS, st.sampled_from([None, "bad"]), st.just("raw"))
MESSAGES = st.one_of(
    st.builds(Message, st.just("user"), st.text(max_size=3)),
    st.builds(Message, st.just("assistant"), st.text(max_size=3), st.lists(CALLS, max_size=3).map(tuple)),
    st.builds(Message, st.just("tool"), st.integers(0, 10**6).map(str), call_id=IDS),
)


@given(st.lists(MESSAGES, max_size=8))
@settings(max_examples=200)
def test_any_context_satisfies_the_strictest_server(context: list[Message]) -> None:
    wire = to_wire(context)
    ids: list[str] = []
    for at, message in enumerate(wire):
        due = [call["id"] for call in message.get("tool_calls", [])]
        ids += due
        answers = [m.get("tool_call_id") for m in wire[at + 1 : at + 1 + len(due)]]
        assert sorted(answers) == sorted(due)  # every call is answered, at once
        if message["role"] == "tool":
            assert message["tool_call_id"] in ids  # every answer has its call
    assert len(set(ids)) == len(ids)
    shown = [m["content"] for m in wire if m["role"] != "assistant"]
    assert sorted(shown) == sorted(m.content for m in context if m.role != "assistant")  # nothing lost


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def test_a_fitting_reply_is_bare_json() -> None:
    policy, seen = serving(said('<think>hm</think>Here:\n```json\n{"n": 3}\n```\nBye'), schema=SCHEMA)
    assert ask(policy).message == Message("assistant", '{"n": 3}', kind="reply")
    assert seen[0]["response_format"] == {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("first", "reason"), [("I think 3", "not valid JSON"), ('{"n": "3"}', r"$.n must be of type integer"), ("", "JSON")]
)
def test_an_unfit_reply_is_sent_back_once(first: str, reason: str) -> None:
    policy, seen = serving(said(first), said('{"n": 3}'), schema=SCHEMA)
    assert ask(policy).message.content == '{"n": 3}'
    *before, shown, complaint = seen[1]["messages"]
    assert before == seen[0]["messages"]
    assert shown == {"role": "assistant", "content": first}
    assert reason in complaint["content"]
    assert json.dumps(SCHEMA) in complaint["content"]


def test_two_unfit_replies_raise() -> None:
    policy, seen = serving(said("no"), said('{"n": 1', "length"), schema=SCHEMA)
    with pytest.raises(InvalidReply, match=r"also after it was told so.*cut at max_tokens.*'\{\"n\": 1'"):
        ask(policy)
    assert len(seen) == 2


def test_what_cannot_go_together_is_refused() -> None:
    policy, _ = serving(schema=SCHEMA)
    with pytest.raises(MnemonError, match="drop schema or tools"):
        ask(policy, tools=[ADD])
    with pytest.raises(MnemonError, match="give chat="):
        HttpPolicy("http://h", tokens=True)
    with pytest.raises(MnemonError, match="keyword 'not'"):
        HttpPolicy("http://h", schema={"not": {}})


# ── token ids in and out ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def chat(hermes: Any) -> Chat:
    return Chat(hermes)


def sampled(chat: Chat, text: str, finish: str = "stop", **changes: Any) -> Callable[[Any], dict[str, Any]]:
    """What vLLM's /v1/completions returns for these sampled tokens."""
    ids = chat.encode(text)

    def reply(body: Any) -> dict[str, Any]:
        choice = {
            "text": text,
            "finish_reason": finish,
            "prompt_token_ids": body["prompt"],
            "token_ids": ids,
            "logprobs": {"token_logprobs": [-0.5 * (i + 1) for i in range(len(ids))]},
        }
        return {"choices": [choice | changes], "usage": {"prompt_tokens": len(body["prompt"])}}

    return reply


def test_token_exact_completion(chat: Chat) -> None:
    text = '<tool_call>\n{"name": "add", "arguments": {"text": "a"}}\n</tool_call><|im_end|>'
    policy, seen = serving(sampled(chat, text), tokens=True, chat=chat, temperature=1.0)
    EPISODE.set(None)
    completion = ask(policy, tools=[ADD])
    body = seen[0]
    assert body["path"] == "/v1/completions"
    assert body["prompt"] == chat.render(HELLO, [ADD])
    assert (body["return_token_ids"], body["logprobs"], body["temperature"]) == (True, 0, 1.0)
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)
    assert body["stop_token_ids"] == sorted(chat.stop_ids)
    assert isinstance(body["seed"], int)
    assert completion.prompt_ids == tuple(body["prompt"])
    assert completion.token_ids == completion.message.token_ids == tuple(chat.encode(text))
    assert completion.logprobs == tuple(-0.5 * (i + 1) for i in range(len(completion.token_ids)))
    assert completion.message.tool_calls == (ToolCall("add", {"text": "a"}, "call_0"),)
    assert completion.prompt_tokens == len(body["prompt"])


def test_the_next_prompt_begins_with_the_sampled_tokens(chat: Chat) -> None:
    policy, seen = serving(sampled(chat, "One.<|im_end|>"), sampled(chat, "Two.", "length"), tokens=True, chat=chat)
    first = ask(policy)
    second = ask(policy, [*HELLO, first.message, Message("user", "More")])
    start = [*first.prompt_ids, *first.token_ids]
    assert seen[1]["prompt"][: len(start)] == start
    assert second.finish == "length"


@pytest.mark.parametrize("missing", ["token_ids", "prompt_token_ids", "logprobs"])
def test_a_server_without_ids_is_refused(chat: Chat, missing: str) -> None:
    policy, _ = serving(sampled(chat, "Hi", **{missing: None}), tokens=True, chat=chat)
    with pytest.raises(EndpointError, match="can evaluate and serve, never train"):
        ask(policy)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_server_that_refuses_ids_is_named(chat: Chat, status: int) -> None:
    policy, _ = serving(httpx2.Response(status, json={"detail": "extra field"}), tokens=True, chat=chat)
    with pytest.raises(EndpointError, match=r"extra field.*never train") as caught:
        ask(policy)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt_token_ids": [1, 2]}, "the server read 2 prompt tokens"),
        ({"logprobs": {"token_logprobs": [-1.0]}}, "1 log-probs for 2 sampled"),
        ({"logprobs": {"token_logprobs": [-1.0, None]}}, "some are not numbers"),
    ],
)
def test_inconsistent_tokens_are_refused(chat: Chat, changes: Any, says: str) -> None:
    policy, _ = serving(sampled(chat, "Hi", **({"token_ids": [5, 6]} | changes)), tokens=True, chat=chat)
    with pytest.raises(EndpointError, match=says):
        ask(policy)


def test_count_tokens_needs_a_chat(chat: Chat) -> None:
    assert HttpPolicy("http://h").count_tokens is None
    assert HttpPolicy("http://h", chat=chat).count_tokens(HELLO) == len(chat.render(HELLO))


def test_fingerprints_tell_settings_apart(chat: Chat) -> None:
    def made(base: str = "http://h", **options: Any) -> str:
        return HttpPolicy(base, **options).fingerprint

    assert made() == made(api_key="k", timeout=3, retries=1)  # what does not change replies does not count
    variants: list[dict[str, Any]] = [
        {},
        {"base": "http://g"},
        {"model": "m"},
        {"temperature": 1.0},
        {"max_tokens": 5},
        {"extra_body": {"top_p": 0.5}},
        {"schema": SCHEMA},
        {"tokens": True, "chat": chat},
    ]
    assert len({made(**variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    ("message", "said"),
    [({"content": {"text": "hi"}}, "content is a JSON dict"), ({"tool_calls": "add"}, "tool_calls are a JSON str")],
)
def test_a_message_of_no_known_form(message: Any, said: str) -> None:
    with pytest.raises(EndpointError, match=said):
        from_wire({"message": message})


def test_parts_that_hold_no_text() -> None:
    assert from_wire({"message": {"content": [{"text": 3}, {"text": None}, "x"]}})[0].content == "3"
