"""Tools: the schema from signature and docstring, arguments checked before anything runs, refusals by code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.policy.base import run_sync
from mnemon.tools import Tool, call_tool, renamed, tool
from mnemon.types import MnemonError, ToolCall, ToolError, ToolResult


def note(
    ctx: list[Any],
    text: str,
    kind: Literal["fact", "plan"] = "fact",
    level: Literal[1, 2] = 1,
    tags: list[str] | None = None,
    weight: float = 1.0,
    times: int = 1,
    *,
    sure: bool = False,
    extra: dict[str, Any] | None = None,
    places: Sequence[int] = (),
) -> str:
    """Write a note
    that lasts.

    Kept until it is deleted.
    text: the note: complete
    tags: words for it
    nothing: is no argument
    """
    ctx.append(text)
    return f"noted {text}"


async def wait(ctx: list[Any], id: str) -> str:
    """Wait."""
    ctx.append(id)
    return f"waited {id}"


def fail(ctx: list[Any]) -> str:
    """Fail."""
    raise ToolError("too_late", "Ask earlier.")


TOOLS = {t.name: t for t in (tool(note), tool(wait), tool(fail))}


def run(call: ToolCall, tools: Mapping[str, Tool] = TOOLS) -> tuple[ToolResult, list[Any]]:
    ctx: list[Any] = []
    return run_sync(call_tool(tools, call, ctx)), ctx


def as_written(ctx: list[Any], text: Any, id: Any = None) -> str:
    """Takes anything."""
    return repr((text, id))


def test_an_argument_of_any_type_arrives_as_it_was_written() -> None:
    free = tool(as_written)
    assert free.schema.parameters == {"type": "object", "properties": {"text": {}, "id": {}}, "required": ["text"]}
    for value in ("5", 5, True, None, ["a"], {"b": 1.5}):
        result, _ = run(ToolCall("as_written", {"text": value}), {"as_written": free})
        assert result.content == repr((value, None))
    assert run(ToolCall("as_written", {"id": 1}), {"as_written": free})[0].code == "bad_arguments"


def test_schema_comes_from_signature_and_docstring() -> None:
    assert TOOLS["note"].schema.as_openai() == {
        "type": "function",
        "function": {
            "name": "note",
            "description": "Write a note that lasts.",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "description": "the note: complete"},
                    "kind": {"type": "string", "enum": ["fact", "plan"]},
                    "level": {"type": "integer", "enum": [1, 2]},
                    "tags": {"type": "array", "items": {"type": "string"}, "description": "words for it"},
                    "weight": {"type": "number"},
                    "times": {"type": "integer"},
                    "sure": {"type": "boolean"},
                    "extra": {"type": "object"},
                    "places": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["text"],
            },
        },
    }
    json.dumps(TOOLS["note"].schema.parameters)
    assert TOOLS["fail"].schema.parameters == {"type": "object", "properties": {}, "required": []}


def test_another_name() -> None:
    named = tool(wait, "pause")
    assert named == renamed(TOOLS["wait"], "pause")
    assert (named.name, named.schema.name, named.schema.description) == ("pause", "pause", "Wait.")
    result, _ = run(ToolCall("pause", {"id": "1"}), {"pause": named})
    assert result.content == "waited 1"


def no_ctx(text: str) -> str:
    return text


def no_type(ctx: Any, text) -> str:  # type: ignore[no-untyped-def]
    return str(text)


def odd_type(ctx: Any, text: bytes) -> str:
    return str(text)


def two_types(ctx: Any, text: int | str) -> str:
    return str(text)


def mixed(ctx: Any, text: Literal["a", 1]) -> str:
    return str(text)


def many(ctx: Any, **texts: str) -> str:
    return str(texts)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (no_ctx, "first parameter must be named ctx"),
        (no_type, "text needs a type annotation"),
        (odd_type, r"odd_type\.text: .*bytes.* is not a type"),
        (two_types, "is not a type"),
        (mixed, "is not a type"),
        (many, "cannot be given by name"),
    ],
)
def test_functions_that_are_no_tools(function: Callable[..., Any], why: str) -> None:
    with pytest.raises(MnemonError, match=why):
        tool(function)


def test_sync_and_async_tools_run() -> None:
    call = ToolCall("note", {"text": "x"}, "c1")
    assert run(call) == (ToolResult(call, True, "noted x"), ["x"])
    call = ToolCall("wait", {"id": 7})
    assert run(call) == (ToolResult(call, True, "waited 7"), ["7"])  # a number where text is meant


@pytest.mark.parametrize(
    ("call", "code", "hint"),
    [
        (
            ToolCall("", error="no closing brace", raw="{"),
            "unparsable",
            "The call could not be read (no closing brace); nothing was done.",
        ),
        (ToolCall("nota"), "unknown_tool", "There is no tool 'nota'; use one of: note, wait, fail."),
        (ToolCall("fail"), "too_late", "Ask earlier."),
        (ToolCall("fail", {"now": 1}), "bad_arguments", "fail: unknown argument 'now'; it takes none."),
        (ToolCall("wait"), "bad_arguments", "wait: missing argument 'id'; it takes id."),
        (
            ToolCall("wait", {"di": "1"}),
            "bad_arguments",
            "wait: unknown argument 'di', missing argument 'id'; it takes id.",
        ),
        (ToolCall("wait", {"id": None}), "bad_arguments", "wait: id must be a string."),
        (ToolCall("wait", {"id": True}), "bad_arguments", "wait: id must be a string."),
        (ToolCall("wait", {"id": ["1"]}), "bad_arguments", "wait: id must be a string."),
    ],
)
def test_refusals(call: ToolCall, code: str, hint: str) -> None:
    assert run(call) == (ToolResult(call, False, hint, code), [])


def test_without_tools_the_hint_says_so() -> None:
    assert run(ToolCall("add"), {})[0].content == "There is no tool 'add'; use one of: none."


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("kind", "idea", "one of fact, plan"),
        ("kind", ["fact"], "one of fact, plan"),
        ("level", 3, "one of 1, 2"),
        ("level", True, "one of 1, 2"),
        ("tags", "a", "a list"),
        ("tags", [None], "a string"),
        ("weight", "heavy", "a number"),
        ("weight", True, "a number"),
        ("weight", float("nan"), "a number"),
        ("weight", 10**400, "a number"),
        ("times", 1.5, "an integer"),
        ("times", "1.5", "an integer"),
        ("times", float("inf"), "an integer"),
        ("times", "1e999", "an integer"),
        ("times", None, "an integer"),
        ("times", [], "an integer"),
        ("sure", 1, "true or false"),
        ("sure", "true", "true or false"),
        ("extra", [], "an object"),
        ("places", [1, "x"], "an integer"),
    ],
)
def test_wrong_values_run_nothing(name: str, value: Any, expected: str) -> None:
    result, did = run(ToolCall("note", {"text": "x", name: value}))
    assert (result.ok, result.code, result.content) == (False, "bad_arguments", f"note: {name} must be {expected}.")
    assert did == []


def everything(
    ctx: list[Any],
    text: str = "",
    number: float = 0.0,
    count: int = 0,
    flag: bool = False,
    tags: list[str] | None = None,
    data: dict[str, Any] | None = None,
    level: Literal[1, 2] = 1,
) -> str:
    """Keep the arguments."""
    ctx.append((text, number, count, flag, tags, data, level))
    return "ok"


EVERYTHING = {"everything": tool(everything)}
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NAMES = ("text", "number", "count", "flag", "tags", "data", "level")


@given(st.dictionaries(st.sampled_from(NAMES), plain))
def test_any_json_is_bound_with_the_right_types_or_refused(arguments: dict[str, Any]) -> None:
    result, did = run(ToolCall("everything", arguments), EVERYTHING)
    if not result.ok:
        assert (result.code, did) == ("bad_arguments", [])
        return
    text, number, count, flag, tags, data, level = did[0]
    assert (type(text), type(count), type(flag)) == (str, int, bool)
    assert isinstance(number, int | float)
    assert tags is None or all(isinstance(tag, str) for tag in tags)
    assert data is None or isinstance(data, dict)
    assert level in (1, 2)
    assert type(level) is int


@pytest.mark.parametrize(
    ("name", "given", "bound"),
    [
        ("count", 2**53 + 1, 2**53 + 1),  # no digit is lost
        ("count", "12", 12),
        ("count", 3.0, 3),
        ("number", "2.5", 2.5),
        ("text", 2.5, "2.5"),
        ("tags", None, None),
        ("tags", ["a", 1], ["a", "1"]),
    ],
)
def test_values_written_in_another_form_are_taken(name: str, given: Any, bound: Any) -> None:
    _, did = run(ToolCall("everything", {name: given}), EVERYTHING)
    value = did[0][NAMES.index(name)]
    assert value == bound
    assert type(value) is type(bound)


def test_only_tool_errors_are_data() -> None:
    def broken(ctx: Any) -> str:
        """Break."""
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):  # a bug in a tool is no mistake of the agent
        run(ToolCall("broken"), {"broken": tool(broken)})
