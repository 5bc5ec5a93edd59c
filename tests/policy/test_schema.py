"""The JSON-schema checker of replies: each keyword by hand, then values drawn against their own schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.policy.schema import check_schema, mismatch, read_json
from mnemon.types import MnemonError

FACTS = {
    "type": "object",
    "properties": {"facts": {"type": "array", "items": {"$ref": "#/$defs/fact"}}},
    "required": ["facts"],
    "additionalProperties": False,
    "$defs": {"fact": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}},
}


@pytest.mark.parametrize(
    ("schema", "fits", "fails"),
    [
        ({"type": "integer"}, [1, -2, 3.0], [1.5, True, "1", None]),
        ({"type": "number"}, [1, 1.5], [False, "1", float("nan")]),
        ({"type": "string"}, ["", "a"], [1, None]),
        ({"type": "boolean"}, [True, False], [0, 1]),
        ({"type": "null"}, [None], [0, ""]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"enum": ["a", 1]}, ["a", 1, 1.0], ["b", True]),
        ({"const": 0}, [0], [False, None]),
        ({"minimum": 1, "maximum": 3}, [1, 3, "x"], [0, 4]),
        ({"minLength": 1, "maxLength": 2}, ["a", "ab", 9], ["", "abc"]),
        ({"minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
        ({"pattern": "^m[0-9]+$"}, ["m12", 5], ["12"]),
        ({"required": ["a"]}, [{"a": None}, []], [{}]),
        ({"properties": {"a": {"type": "string"}}}, [{}, {"a": "x"}, {"b": 1}], [{"a": 1}]),
        ({"additionalProperties": {"type": "integer"}}, [{"x": 1}], [{"x": "1"}]),
        ({"properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}], [{"b": 1}]),
        ({"items": {"type": "integer"}}, [[], [1, 2], "x"], [[1, "2"]]),
        ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 6], [4]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [1, 5.5], [6, 1.5]),
        (FACTS, [{"facts": []}, {"facts": [{"text": "a"}]}], [{"facts": [{}]}, {"facts": [], "x": 1}, []]),
        (True, [1, None], []),
        (False, [], [1]),
    ],
)
def test_keywords(schema: Any, fits: list[Any], fails: list[Any]) -> None:
    check_schema(schema)
    for value in fits:
        assert mismatch(value, schema) is None, value
    for value in fails:
        assert mismatch(value, schema), value


def test_the_reason_names_the_place() -> None:
    assert mismatch({"facts": [{"text": "a"}, {"text": 2}]}, FACTS) == "$.facts[1].text must be of type string, not 2"
    assert mismatch({}, FACTS) == "$ lacks 'facts'"
    assert mismatch({"facts": [], "y": 1}, FACTS) == "$ must not have 'y'"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ([], "is an object, not list"),
        ({"properties": {"a": {"not": {}}}}, r"schema.properties.a: the keyword 'not'"),
        ({"type": "text"}, r"schema.type: 'text'"),
        ({"items": {"$ref": "#/$defs/gone"}}, "points to nothing"),
        ({"anyOf": [{}, {"pattern": "["}]}, r"anyOf\[1\].pattern"),
    ],
)
def test_what_cannot_be_checked_is_refused(schema: Any, says: str) -> None:
    with pytest.raises(MnemonError, match=says):
        check_schema(schema)


@pytest.mark.parametrize(
    ("text", "value", "exact"),
    [
        ('{"a": 1}', {"a": 1}, '{"a": 1}'),
        (" [1]\n", [1], "[1]"),
        ('```json\n{"a": 1}\n```', {"a": 1}, '{"a": 1}'),
        ('Sure:\n```\n{"a": 1}\n```\nDone.', {"a": 1}, '{"a": 1}'),
        ('Sure: {"a": {"b": 2}} and more {', {"a": {"b": 2}}, '{"a": {"b": 2}}'),
        ('<think>{"a": 0}</think>{"a": 1}', {"a": 1}, '{"a": 1}'),
        ('{"a": "<think>x</think>"}', {"a": "<think>x</think>"}, '{"a": "<think>x</think>"}'),
        ("3", 3, "3"),
    ],
)
def test_read_json(text: str, value: Any, exact: str) -> None:
    assert read_json(text) == (value, exact)


@pytest.mark.parametrize("text", ["", "no", "{", "```json\nno\n```", "[" * 100_000])
def test_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def schema_of(value: Any) -> dict[str, Any]:
    """A schema as narrow as one example allows."""
    if isinstance(value, dict):
        inner = {name: schema_of(item) for name, item in value.items()}
        return {"type": "object", "properties": inner, "required": list(value), "additionalProperties": False}
    if isinstance(value, list):
        kinds: dict[str, Any] = {"items": {"anyOf": [schema_of(item) for item in value]}} if value else {}
        return {"type": "array", "minItems": len(value), "maxItems": len(value)} | kinds
    return {"const": value}


@given(JSON_VALUES)
def test_a_value_fits_its_own_schema(value: Any) -> None:
    schema = schema_of(value)
    check_schema(schema)
    assert mismatch(value, schema) is None
    assert mismatch([value, "more"], schema) is not None


@given(JSON_VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    assert read_json(json.dumps(value))[0] == value
    wrapped = {"reply": value}
    assert read_json(f"Here you are: {json.dumps(wrapped)}")[0] == wrapped
