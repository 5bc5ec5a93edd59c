"""Tool calls as text between ✿ signs, the form of Qwen-Agent in which the released Mem-alpha models write them.

✿FUNCTION✿: name
✿ARGS✿: {"argument": "value"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from mnemon.types import ToolCall, ToolSchema

FUNCTION, ARGS, RESULT, RETURN = "✿FUNCTION✿", "✿ARGS✿", "✿RESULT✿", "✿RETURN✿"
_CALL = re.compile(rf"{FUNCTION}:?")
_END = re.compile(rf"{RESULT}|{RETURN}")


def parse(text: str) -> list[ToolCall]:
    """The calls of a reply, in order; everything from a result that the model wrote itself on is left out.

    Text that cannot be read as a call is one call with an error (``unparsable``), never an exception.
    """
    written = _END.split(text, maxsplit=1)[0]
    return [_call(part, i) for i, part in enumerate(_CALL.split(written)[1:])]


def _call(part: str, index: int) -> ToolCall:
    name, marker, rest = part.partition(ARGS)
    name, raw = name.strip(), f"{FUNCTION}:{part}".strip()
    error = "" if marker else f"there is no {ARGS}"
    arguments: object = None
    if not error:
        body = rest.strip().removeprefix(":").strip()
        fence = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", body, re.DOTALL)
        try:
            arguments = json.loads(fence[1] if fence else body)
        except (ValueError, RecursionError):
            error = f"what follows {ARGS} is not valid JSON"
    if not error and not isinstance(arguments, dict):
        error = f"what follows {ARGS} is no JSON object"
    if error or not isinstance(arguments, dict):
        return ToolCall(name, id=f"call_{index}", error=error, raw=raw)
    if not name:
        return ToolCall("", id=f"call_{index}", error="the call has no name", raw=raw)
    return ToolCall(name, arguments, f"call_{index}")


def render(calls: Iterable[ToolCall]) -> str:
    """Calls as the model writes them; the inverse of `parse`."""
    return "\n".join(
        f"{FUNCTION}: {c.name}\n{ARGS}: {json.dumps(dict(c.arguments), ensure_ascii=False)}" for c in calls
    )


def manual(schemas: Sequence[ToolSchema]) -> str:
    """What the system message says of the tools and of the form of calls."""
    described = "\n\n".join(
        f"### {s.name}\n{s.description} Arguments: {json.dumps(s.parameters, ensure_ascii=False)}" for s in schemas
    )
    return (
        f"# Tools\n\n{described}\n\n## Calls\nWrite a call as two lines, several calls one after another:\n"
        f"{FUNCTION}: name of the tool, one of {', '.join(s.name for s in schemas)}\n"
        f"{ARGS}: its arguments as one JSON object"
    )
