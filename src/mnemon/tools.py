"""Tools: a plain function `(ctx, **typed args) -> str`, sync or async; its signature and docstring are its JSON schema.

Failure is `raise ToolError(code, hint)` and becomes ``ok=False``. Arguments are checked before the function runs, so a
malformed call never has a half effect.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mnemon.types import JSON, MnemonError, ToolCall, ToolError, ToolResult, ToolSchema

_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with its schema. Make one with `tool(function)`."""

    name: str
    function: Callable[..., Any]
    schema: ToolSchema
    hints: Mapping[str, Any]
    required: tuple[str, ...]


def tool(function: Callable[..., Any], name: str | None = None) -> Tool:
    """Make a tool of a function whose first parameter is the context.

    The first paragraph of the docstring is the description; lines ``arg: text`` after it describe the arguments. An
    argument of type Any arrives as it was written: the function checks it, with error codes of its own.
    MnemonError where the signature is none that a call by name can serve.
    """
    hints = get_type_hints(function)
    hints.pop("return", None)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "ctx":
        raise MnemonError(f"tool {function.__name__}: the first parameter must be named ctx")
    doc = inspect.cleandoc(function.__doc__ or "")
    description, _, rest = doc.partition("\n\n")
    notes = dict(re.findall(r"^\s*(\w+): (.+)$", rest, re.MULTILINE))
    properties: JSON = {}
    required: list[str] = []
    for parameter in parameters[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise MnemonError(f"tool {function.__name__}: {parameter} cannot be given by name; write out the arguments")
        if parameter.name not in hints:
            raise MnemonError(f"tool {function.__name__}: argument {parameter.name} needs a type annotation")
        properties[parameter.name] = _json_type(hints[parameter.name], f"{function.__name__}.{parameter.name}")
        if parameter.name in notes:
            properties[parameter.name]["description"] = notes[parameter.name]
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
    schema = ToolSchema(
        name or function.__name__,
        " ".join(description.split()),
        {"type": "object", "properties": properties, "required": required},
    )
    typed = {p.name: hints[p.name] for p in parameters[1:]}
    return Tool(schema.name, function, schema, typed, tuple(required))


def _json_type(hint: Any, where: str) -> JSON:
    if hint is Any:
        return {}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    origin = get_origin(hint)
    if origin is Literal:
        options = list(get_args(hint))
        kinds = {type(option) for option in options}
        if len(kinds) == 1 and kinds <= {str, int}:
            return {"type": _SCALARS[kinds.pop()], "enum": options}
    if origin in (list, Sequence):
        return {"type": "array", "items": _json_type(get_args(hint)[0], where)}
    if origin in (dict, Mapping) or hint is dict:
        return {"type": "object"}
    if origin in (Union, types.UnionType):
        options = [a for a in get_args(hint) if a is not type(None)]
        if len(options) == 1:
            return _json_type(options[0], where)
    raise MnemonError(
        f"{where}: {hint!r} is not a type that a tool argument can have (str, int, float, bool, list, dict, Literal)"
    )


def _checked(value: Any, hint: Any) -> Any:
    """The value as the hint's type, or ValueError with what was expected. Numbers written as text are accepted."""
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        return _checked(value, next(a for a in get_args(hint) if a is not type(None)))
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in get_args(hint)):
            return value
        raise ValueError("one of " + ", ".join(map(str, get_args(hint))))
    if origin in (list, Sequence):
        if isinstance(value, list):
            return [_checked(item, get_args(hint)[0]) for item in value]
        raise ValueError("a list")
    if origin in (dict, Mapping) or hint is dict:
        if isinstance(value, dict):
            return value
        raise ValueError("an object")
    return _scalar(value, hint)


def _scalar(value: Any, hint: Any) -> Any:
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")
    if hint is str:
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        raise ValueError("a string")
    expected = "an integer" if hint is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)
    if hint is int and isinstance(value, int):
        return value  # exact: a float would lose digits
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    if not math.isfinite(number) or (hint is int and not number.is_integer()):
        raise ValueError(expected)
    return int(number) if hint is int else number


def bind(tool: Tool, call: ToolCall) -> dict[str, Any]:
    """The call's arguments checked against the signature. Raises ToolError("bad_arguments")."""
    unknown = [name for name in call.arguments if name not in tool.hints]
    missing = [name for name in tool.required if name not in call.arguments]
    if unknown or missing:
        parts = [f"unknown argument {n!r}" for n in unknown] + [f"missing argument {n!r}" for n in missing]
        raise ToolError(
            "bad_arguments", f"{tool.name}: {', '.join(parts)}; it takes {', '.join(tool.hints) or 'none'}."
        )
    bound: dict[str, Any] = {}
    for name, value in call.arguments.items():
        try:
            bound[name] = _checked(value, tool.hints[name])
        except ValueError as expected:
            raise ToolError("bad_arguments", f"{tool.name}: {name} must be {expected}.") from None
    return bound


async def call_tool(tools: Mapping[str, Tool], call: ToolCall, ctx: Any) -> ToolResult:
    """Run one call. Never raises for a mistake of the agent: that is ``ok=False`` with a hint."""
    try:
        if call.error is not None:
            raise ToolError("unparsable", f"The call could not be read ({call.error}); nothing was done.")
        found = tools.get(call.name)
        if found is None:
            raise ToolError(
                "unknown_tool", f"There is no tool {call.name!r}; use one of: {', '.join(tools) or 'none'}."
            )
        result = found.function(ctx, **bind(found, call))
        if inspect.isawaitable(result):
            result = await result
        return ToolResult(call, True, str(result))
    except ToolError as error:
        return ToolResult(call, False, error.hint, error.code)


def renamed(tool: Tool, name: str) -> Tool:
    """The same tool under another name."""
    return replace(tool, name=name, schema=replace(tool.schema, name=name))


def call_mix(results: Iterable[ToolResult]) -> dict[str, int]:
    """How many calls were made of each tool, run or refused, by name; "none" are those that name no tool there is."""
    found: dict[str, int] = {}
    for result in results:
        name = "none" if result.call.error is not None or result.code == "unknown_tool" else result.call.name
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))
