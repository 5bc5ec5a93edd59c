from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemon.policy.chat import Chat, parse, render_call, render_calls, to_openai
from mnemon.types import Message, MnemonError, ToolCall, ToolSchema

ADD = ToolSchema("add", "Store a fact.", {"type": "object", "properties": {"text": {"type": "string"}}})
TOOLS = (ADD, ToolSchema("noop", "Do nothing.", {"type": "object", "properties": {}}))

# ── parsing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def hermes_text(name: str, arguments: Any) -> str:
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def names(text: str, form: str = "hermes") -> tuple[str, list[tuple[str, Any]]]:
    content, calls = parse(text, form)  # type: ignore[arg-type]
    return content, [(c.name, dict(c.arguments)) if c.error is None else ("error", c.raw) for c in calls]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("hello", "hello", []),
        ("", "", []),
        (hermes_text("add", {"text": "a"}), "", [("add", {"text": "a"})]),
        ("So: " + hermes_text("add", {"n": 1}) + hermes_text("noop", {}), "So:", [("add", {"n": 1}), ("noop", {})]),
        ('<tool_call>{"name":"add","arguments":"{\\"n\\": 2}"}</tool_call>', "", [("add", {"n": 2})]),
        ('<tool_call>{"name":"noop"}</tool_call> bye', "bye", [("noop", {})]),
        ("<think>\nlet me see\n</think>\n\nParis", "Paris", []),
        ("<think>\n</think>" + hermes_text("noop", {}), "", [("noop", {})]),
        ("maybe so</think>Paris", "Paris", []),  # the prompt had opened the think
        ("<think>" + hermes_text("noop", {}), "", []),  # a call that is only thought of, and never left the think
        ("<think>" + hermes_text("noop", {}) + "</think>ok", "ok", []),
        ("one <think>x</think>two <think>y", "one two", []),
        # what cannot be read is a failed call, with its text kept
        ("<tool_call>{nope}</tool_call>rest", "rest", [("error", "{nope}")]),
        ('<tool_call>{"name": "add", "arguments": {}}', "", [("error", '{"name": "add", "arguments": {}}')]),
        ("<tool_call>", "", [("error", "")]),
        ("<tool_call>[1]</tool_call>", "", [("error", "[1]")]),
        ('<tool_call>{"arguments": {}}</tool_call>', "", [("error", '{"arguments": {}}')]),
        ('<tool_call>{"name": ""}</tool_call>', "", [("error", '{"name": ""}')]),
        ('<tool_call>{"name": "a"} and more</tool_call>', "", [("error", '{"name": "a"} and more')]),
    ],
)
def test_hermes(text: str, content: str, calls: list[Any]) -> None:
    assert names(text) == (content, calls)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("hello", "hello", []),
        ('{"name": "add", "parameters": {"text": "a"}}', "", [("add", {"text": "a"})]),
        ('<|python_tag|>{"name": "add", "parameters": {"text": "a"}}', "", [("add", {"text": "a"})]),
        ('so: <|python_tag|>{"name": "noop", "parameters": {}}', "so:", [("noop", {})]),
        ('{"name": "a", "parameters": {}}; {"name": "b", "arguments": {"n": 1}}', "", [("a", {}), ("b", {"n": 1})]),
        ('{"name": "a", "parameters": {}};', "", [("a", {})]),
        ('<think>hm</think>{"name": "a", "parameters": "{}"}', "", [("a", {})]),
        ("<think>hm", "", []),
        ('{"answer": 3}', '{"answer": 3}', []),  # JSON that does not try to be a call
        ('{"name": "a", "parameters": {}', "", [("error", '{"name": "a", "parameters": {}')]),
        ("<|python_tag|>print(1)", "", [("error", "print(1)")]),
        ('{"name": "a", "parameters": {}} thanks', "", [("a", {}), ("error", "thanks")]),
        ('{"name": "a"}; nope', "", [("a", {}), ("error", "nope")]),
        ('{"name": 3}', "", [("error", '{"name": 3}')]),
    ],
)
def test_llama3(text: str, content: str, calls: list[Any]) -> None:
    assert names(text, "llama3") == (content, calls)


@pytest.mark.parametrize("arguments", ["[1]", "null", '"x"', '{"n": NaN}', '{"t": "\\ud800"}'])
def test_arguments_that_are_no_json_object(arguments: str) -> None:
    body = '{"name": "a", "arguments": ' + arguments + "}"
    assert names(f"<tool_call>{body}</tool_call>") == ("", [("error", body)])


def test_errors_say_why() -> None:
    _, (call,) = parse("<tool_call>{'name': 'add'}</tool_call>")
    assert call.error is not None
    assert "JSON" in call.error
    _, (call,) = parse('<tool_call>{"name": "add", "arguments": 3}</tool_call>')
    assert (call.name, call.error) == ("add", '"arguments" must be a JSON object')


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    _, (call,) = parse('<tool_call>{"name": "a", "arguments": ' + "[" * 100_000 + "</tool_call>")
    assert call.error is not None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NASTY = st.sampled_from(["</tool_call>", "<tool_call>", "<think>", "</think>", ";", "\\u0041", "<|python_tag|>", '"}'])
ARGUMENTS = st.dictionaries(st.text(), JSON_VALUES | NASTY, max_size=3)
CALLS = st.lists(st.builds(ToolCall, name=st.text(min_size=1), arguments=ARGUMENTS), max_size=3)


@given(calls=CALLS, content=st.sampled_from(["", "I store this.", "好。", "{not a call}"]), think=st.booleans())
@settings(max_examples=150, deadline=None)
def test_hermes_round_trip(calls: list[ToolCall], content: str, think: bool) -> None:
    text = ("<think>\nhm\n</think>\n\n" if think else "") + content + "\n" + render_calls(calls)
    got, parsed = parse(text)
    assert got == content
    assert [(c.name, c.arguments, c.error) for c in parsed] == [(c.name, c.arguments, None) for c in calls]


@given(calls=CALLS.filter(bool))
@settings(max_examples=150, deadline=None)
def test_llama3_round_trip(calls: list[ToolCall]) -> None:
    text = "<|python_tag|>" + render_calls(calls, "llama3")
    content, parsed = parse(text, "llama3")
    assert content == ""
    assert [(c.name, c.arguments, c.error) for c in parsed] == [(c.name, c.arguments, None) for c in calls]


PIECES = [
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    '{"name": "a"',
    "}",
    ";",
    " x ",
    "<|python_tag|>",
    '"',
    "\\",
    "[",
]


@given(text=st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join))
@settings(max_examples=300, deadline=None)
def test_parsing_never_raises(text: str) -> None:
    for form in ("hermes", "llama3"):
        content, calls = parse(text, form)  # type: ignore[arg-type]
        assert "<tool_call>" not in content or form == "llama3"
        assert all(call.name or call.error for call in calls)


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def ids_of(chat: Chat, text: str, end: bool = True) -> list[int]:
    """A reply as a model may have sampled it: one token per byte, which no encoder would choose."""
    ids = [i for character in text for i in chat.encode(character)]
    return [*ids, chat.tokenizer.eos_token_id] if end else ids


def test_form_is_detected(hermes: Any, llama3: Any) -> None:
    assert Chat(hermes).form == "hermes"
    assert Chat(llama3).form == "llama3"
    assert Chat(llama3, "hermes").form == "hermes"
    with pytest.raises(MnemonError, match="unknown form"):
        Chat(hermes, "xml")  # type: ignore[arg-type]


def test_stop_ids(hermes: Any, llama3: Any) -> None:
    def ids(tokenizer: Any, *tokens: str) -> set[int]:
        return {tokenizer.convert_tokens_to_ids(t) for t in tokens}

    assert Chat(hermes).stop_ids == ids(hermes, "<|im_end|>")
    assert Chat(hermes, stop_ids=[0]).stop_ids == ids(hermes, "<|im_end|>", "<|endoftext|>")
    assert Chat(llama3).stop_ids == ids(llama3, "<|eot_id|>", "<|eom_id|>")


def test_template_text(hermes: Any) -> None:
    chat = Chat(hermes)
    ids = chat.render([Message("system", "Be good."), Message("user", "Hi, Anna")])
    expected = "<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\nHi, Anna<|im_end|>\n<|im_start|>assistant\n"
    assert chat.decode(ids) == expected
    assert ids == chat.encode(expected)
    assert chat.count_tokens([Message("system", "Be good."), Message("user", "Hi, Anna")]) == len(ids)


def test_growth_over_three_turns(family: Any) -> None:
    """prompt(t+1) = prompt(t) + sampled(t) + glue, and its text is what the template writes for the whole context."""
    chat = Chat(family)
    messages = [Message("system", "Be good."), Message("user", "Anna lives in Oslo")]
    for text in ("Oslo", "Bergen", "Rome"):
        prompt = chat.render(messages, TOOLS)
        sampled = ids_of(chat, render_call(ToolCall("add", {"text": text}), chat.form))
        reply = chat.message(sampled)
        assert reply.tool_calls == (ToolCall("add", {"text": text}, id="call_0"),)
        messages += [reply, Message("tool", f"ok, stored {text}", call_id="call_0", name="add")]
        middle = chat.render(messages, TOOLS)
        assert middle[: len(prompt) + len(sampled)] == prompt + sampled
        sampled = ids_of(chat, f"Noted {text}.")
        messages += [chat.message(sampled), Message("user", f"And {text}?")]
        after = chat.render(messages, TOOLS)
        assert after[: len(middle) + len(sampled)] == middle + sampled
    whole = family.apply_chat_template(
        [to_openai(m) for m in messages],
        tools=[t.as_openai() for t in TOOLS],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert chat.decode(chat.render(messages, TOOLS)) == whole


def test_several_calls_and_results(hermes: Any) -> None:
    chat = Chat(hermes)
    calls = [ToolCall("add", {"text": "a"}), ToolCall("noop", {})]
    start = [Message("user", "hi")]
    sampled = ids_of(chat, render_calls(calls))
    messages = [*start, chat.message(sampled), Message("tool", "one"), Message("tool", "two")]
    tail = chat.decode(chat.render(messages)[len(chat.render(start)) + len(sampled) :])
    assert tail == (
        "\n<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_end_of_turn_is_added_when_it_was_not_sampled(family: Any) -> None:
    chat, start = Chat(family), [Message("user", "hi")]
    cut = ids_of(chat, "I was cut off he", end=False)
    prompt = chat.render(start)
    grown = chat.render([*start, chat.message(cut), Message("user", "go on")])
    assert grown[: len(prompt) + len(cut) + 1] == [*prompt, *cut, family.eos_token_id]
    whole = chat.render([*start, chat.message([*cut, family.eos_token_id]), Message("user", "go on")])
    assert grown == whole


def test_another_stop_token_replaces_the_end_of_turn(llama3: Any) -> None:
    chat, start = Chat(llama3), [Message("user", "hi")]
    eom = llama3.convert_tokens_to_ids("<|eom_id|>")
    sampled = [*ids_of(chat, "x", end=False), eom]
    grown = chat.render([*start, chat.message(sampled), Message("tool", "ok")])
    assert llama3.eos_token_id not in grown[len(chat.render(start)) : len(chat.render(start)) + len(sampled) + 1]


def test_empty_reply_and_adjacent_replies(hermes: Any) -> None:
    chat, start = Chat(hermes), [Message("user", "hi")]
    end = hermes.eos_token_id
    empty, again = chat.message([]), chat.message([end])
    assert (empty.content, again.content) == ("", "")
    turn = "<|im_end|>\n<|im_start|>assistant\n"
    assert chat.decode(chat.render([*start, empty, again])) == chat.decode(chat.render(start)) + turn + turn


def test_without_generation_prompt(hermes: Any) -> None:
    chat, start = Chat(hermes), [Message("user", "hi")]
    assert chat.decode(chat.render(start, generation=False)) == "<|im_start|>user\nhi<|im_end|>\n"
    reply = chat.message(ids_of(chat, "yo"))
    text = chat.decode(chat.render([*start, reply], generation=False))
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
    two = chat.decode(chat.render([*start, reply, Message("user", "so"), reply], generation=False))
    assert two == text + "<|im_start|>user\nso<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"


class Spy:
    """A tokenizer that notes every text it encodes."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.encoded = inner, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def encode(self, text: str, **kwargs: Any) -> Any:
        self.encoded.append(text)
        return self.inner.encode(text, **kwargs)


def test_sampled_text_is_never_encoded(family: Any) -> None:
    spy = Spy(family)
    chat = Chat(spy)
    sampled = ids_of(Chat(family), "xyzzy" + render_call(ToolCall("add", {"text": "plugh"}), chat.form))
    messages = [Message("user", "hi")]
    for n in range(3):
        messages += [chat.message(sampled), Message("tool", f"result {n}")]
        ids = chat.render(messages, TOOLS)
        assert any(ids[i : i + len(sampled)] == sampled for i in range(len(ids)))
    assert any("result 2" in text for text in spy.encoded)
    assert not any("xyzzy" in text or "plugh" in text for text in spy.encoded)


def test_an_edited_message_is_rendered_from_its_content(hermes: Any) -> None:
    chat = Chat(hermes)
    edited = Message("assistant", "short", tool_calls=(ToolCall("noop", {}),))
    text = chat.decode(chat.render([Message("user", "hi"), edited]))
    assert text.endswith(
        '\nshort\n<tool_call>\n{"name": "noop", "arguments": {}}\n</tool_call><|im_end|>\n<|im_start|>assistant\n'
    )


def test_a_failed_call_is_shown_as_it_was_written() -> None:
    message = Message("assistant", "so", tool_calls=(ToolCall("", error="bad", raw="{nope}"),))
    assert to_openai(message) == {"role": "assistant", "content": "so\n{nope}"}


def test_thinking_is_kept_or_dropped(hermes: Any) -> None:
    keep, drop = Chat(hermes), Chat(hermes, keep_think=False)
    assert keep.fingerprint != drop.fingerprint
    first = [Message("user", "hi")]
    reply = keep.message(ids_of(keep, "<think>\nsecret\n</think>\n\nhello"))
    assert reply.content == "hello"
    plain = keep.message(ids_of(keep, "plain"))
    # while the tool loop of one input runs, the think stays; after the next user message it is dropped
    assert "secret" in drop.decode(drop.render([*first, reply, Message("tool", "ok")]))
    later = [*first, reply, Message("user", "and?"), plain, Message("user", "well?")]
    assert "secret" in keep.decode(keep.render(later))
    dropped = drop.decode(drop.render(later))
    assert "secret" not in dropped
    assert "assistant\nhello<|im_end|>" in dropped
    sampled = list(plain.token_ids or ())
    ids = drop.render(later)
    assert any(ids[i : i + len(sampled)] == sampled for i in range(len(ids)))  # no think: still its own tokens


def test_a_think_opened_by_the_prompt(hermes: Any) -> None:
    class Opening(Spy):
        chat_template = hermes.chat_template.replace(
            "assistant\\n' }}\n{%- endif %}\n", "assistant\\n<think>\\n' }}\n{%- endif %}\n"
        )

        def apply_chat_template(self, messages: Any, **kwargs: Any) -> Any:
            return self.inner.apply_chat_template(messages, chat_template=self.chat_template, **kwargs)

    chat = Chat(Opening(hermes))
    assert chat.decode(chat.render([Message("user", "hi")])).endswith("assistant\n<think>\n")
    assert chat.message(ids_of(Chat(hermes), "hm <tool_call>? </think>yes")).content == "yes"
    assert chat.message(ids_of(Chat(hermes), "still at it", end=False)).content == ""


def test_message_hides_the_stop_token_and_keeps_the_ids(hermes: Any) -> None:
    chat = Chat(hermes)
    ids = ids_of(chat, "Paris")
    assert chat.message(ids) == Message("assistant", "Paris", kind="reply", token_ids=tuple(ids))


def test_fingerprint_follows_template_form_and_settings(hermes: Any, llama3: Any) -> None:
    prints = [
        Chat(hermes).fingerprint,
        Chat(llama3).fingerprint,
        Chat(llama3, "hermes").fingerprint,
        Chat(hermes, template_kwargs={"enable_thinking": False}).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert Chat(hermes).fingerprint == prints[0]


def test_repeated_prompts_are_rendered_once(hermes: Any) -> None:
    spy = Spy(hermes)
    chat = Chat(spy)
    messages = [Message("user", "hi")]
    first = chat.render(messages, TOOLS)
    seen = len(spy.encoded)
    first.append(-1)  # the caller's list is its own
    equal = [ToolSchema(t.name, t.description, dict(t.parameters)) for t in TOOLS]
    assert chat.render(list(messages), TOOLS) == chat.render(list(messages), equal) == first[:-1]
    assert len(spy.encoded) == seen
    called = Message("assistant", "", tool_calls=(ToolCall("noop"),))
    other = Message("assistant", "", tool_calls=(ToolCall("noop", {"n": 1}),))
    assert chat.render([*messages, called]) != chat.render([*messages, other])
    seen = len(spy.encoded)
    chat.render(messages, TOOLS[:1])
    assert len(spy.encoded) == seen + 1
    chat.forget()
    chat.render(messages, TOOLS)
    assert len(spy.encoded) == seen + 2


def test_errors_say_what_to_do(hermes: Any, llama3: Any) -> None:
    class Bare(Spy):
        chat_template = None
        name_or_path = "some/base-model"

    with pytest.raises(MnemonError, match=r"some/base-model.*no chat template.*instruct"):
        Chat(Bare(hermes))

    class NoTools(Spy):
        chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"

        def apply_chat_template(self, messages: Any, **kwargs: Any) -> Any:
            return self.inner.apply_chat_template(messages, chat_template=self.chat_template, **kwargs)

    with pytest.raises(MnemonError, match="no place for them"):
        Chat(NoTools(hermes)).render([Message("user", "hi")], TOOLS)
    with pytest.raises(MnemonError, match=r"refused this context \(roles: system\)"):
        Chat(llama3).render([Message("system", "x")], TOOLS)
