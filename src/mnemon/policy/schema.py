"""JSON schemas for replies: a small checker, because many servers take a schema and ignore it.

It knows the keywords that describe data to a model (see `KNOWN`) and refuses a schema with any other, so that nothing
is silently left unchecked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mnemon.policy.chat import parse
from mnemon.types import JSON, MnemonError

NOTES = frozenset({"title", "description", "default", "examples", "$schema", "$id", "$defs", "definitions", "format"})
BOUNDS = frozenset({"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern"})
PARTS = frozenset({"required", "properties", "additionalProperties", "items"})
KNOWN = NOTES | BOUNDS | PARTS | frozenset({"type", "enum", "const", "anyOf", "oneOf", "$ref"})
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
}


def check_schema(schema: Any, where: str = "schema", root: JSON | None = None) -> None:
    """Raise `MnemonError` for a schema that `mismatch` cannot fully check."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise MnemonError(f"{where}: a JSON schema is an object, not {type(schema).__name__}")
    unknown = sorted(set(schema) - KNOWN)
    if unknown:
        raise MnemonError(f"{where}: the keyword {unknown[0]!r} is not checked here; remove it ({sorted(KNOWN)} are)")
    if "$ref" in schema:
        _resolve(schema["$ref"], root)
    kinds = schema.get("type", [])
    odd = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind not in TYPES]
    if odd:
        raise MnemonError(f"{where}.type: {odd[0]!r} is not one of {sorted(TYPES)}")
    try:
        re.compile(schema.get("pattern", ""))
    except re.error as error:
        raise MnemonError(f"{where}.pattern: not a regular expression: {error}") from error
    for inner_where, inner in _inside(schema, where):
        check_schema(inner, inner_where, root)


def _inside(schema: JSON, where: str) -> Iterator[tuple[str, Any]]:
    """The schemas directly inside a schema, with their places."""
    for key in ("properties", "$defs", "definitions"):
        for name, inner in schema.get(key, {}).items():
            yield f"{where}.{key}.{name}", inner
    for key in ("anyOf", "oneOf"):
        for index, inner in enumerate(schema.get(key, [])):
            yield f"{where}.{key}[{index}]", inner
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield f"{where}.{key}", schema[key]


def mismatch(value: Any, schema: Any, root: JSON | None = None, where: str = "$") -> str | None:
    """The first way in which a decoded JSON `value` does not fit `schema`, as a sentence; None when it fits."""
    if isinstance(schema, bool):
        return None if schema else f"{where} must not be there"
    root = schema if root is None else root
    if "$ref" in schema:
        why = mismatch(value, _resolve(schema["$ref"], root), root, where)
        if why:
            return why
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(TYPES[kind](value) for kind in kinds):
            return f"{where} must be of type {' or '.join(kinds)}, not {json.dumps(value)[:80]}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return f"{where} must be one of {json.dumps(schema['enum'])}, not {json.dumps(value)[:80]}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{where} must be {json.dumps(schema['const'])}, not {json.dumps(value)[:80]}"
    return _bounds(value, schema, where) or _parts(value, schema, root, where) or _choices(value, schema, root, where)


def _bounds(value: Any, schema: JSON, where: str) -> str | None:
    """minimum, maximum, minLength, maxLength, minItems, maxItems, pattern."""
    if TYPES["number"](value):
        measured, low, high, unit = value, "minimum", "maximum", ""
    elif isinstance(value, str):
        measured, low, high, unit = len(value), "minLength", "maxLength", " characters"
    elif isinstance(value, list):
        measured, low, high, unit = len(value), "minItems", "maxItems", " items"
    else:
        return None
    if low in schema and measured < schema[low]:
        return f"{where} must be at least {schema[low]}{unit}, not {measured}"
    if high in schema and measured > schema[high]:
        return f"{where} must be at most {schema[high]}{unit}, not {measured}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{where} must match {schema['pattern']!r}"
    return None


def _parts(value: Any, schema: JSON, root: JSON, where: str) -> str | None:
    """required, properties, additionalProperties, items."""
    if isinstance(value, list) and "items" in schema:
        checks = (mismatch(item, schema["items"], root, f"{where}[{i}]") for i, item in enumerate(value))
        return next((why for why in checks if why), None)
    if not isinstance(value, dict):
        return None
    for name in schema.get("required", ()):
        if name not in value:
            return f"{where} lacks {name!r}"
    properties = schema.get("properties", {})
    for name, item in value.items():
        if name not in properties and schema.get("additionalProperties", True) is False:
            return f"{where} must not have {name!r}"
        inner = properties.get(name, schema.get("additionalProperties", True))
        why = mismatch(item, inner, root, f"{where}.{name}")
        if why:
            return why
    return None


def _choices(value: Any, schema: JSON, root: JSON, where: str) -> str | None:
    """anyOf, oneOf."""
    for key in ("anyOf", "oneOf"):
        if key in schema:
            reasons = [mismatch(value, inner, root, where) for inner in schema[key]]
            fits = reasons.count(None)
            if not fits:
                return f"{where} fits none of its forms ({'; '.join(why for why in reasons if why)})"
            if key == "oneOf" and fits > 1:
                return f"{where} fits {fits} of its forms, it must fit one"
    return None


def _same(a: Any, b: Any) -> bool:
    """Equality as JSON has it: 1 and 1.0 are equal, 1 and true are not."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _resolve(ref: str, root: JSON) -> Any:
    """The schema behind ``#/$defs/name``."""
    node: Any = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        if not part:
            continue
        if not isinstance(node, dict) or part not in node:
            raise MnemonError(f"schema: {ref!r} points to nothing")
        node = node[part]
    return node


def read_json(text: str) -> tuple[Any, str]:
    """The JSON value of a reply and its exact text: thinking, a code fence and prose around it are left out.

    Raises ValueError where there is none.
    """
    visible = parse(text)[0]
    fence = re.search(r"```(?:json)?\s*\n(.*?)```", visible, re.DOTALL)
    try:
        for whole in (text, visible, fence[1] if fence else ""):
            try:
                return json.loads(whole), whole.strip()
            except ValueError:
                continue
        start = min((at for at in (visible.find("{"), visible.find("[")) if at >= 0), default=0)
        value, end = json.JSONDecoder().raw_decode(visible, start)
        return value, visible[start:end]
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
