"""The judge of what was written: it sees the chunk and the edit, and says whether the edit was right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from mnemon.agents.mem_alpha.sections import CORE, EPISODIC, FLAT, SEMANTIC
from mnemon.memory.memory import Entry
from mnemon.policy.schema import read_json
from mnemon.types import Input, Message, Policy, ToolCall, Unscorable

Kind = Literal["insert", "update", "delete", ""]


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit to be judged: `before` is "" for an insert, `after` for a delete; `shown` are the entries in view."""

    given: Input
    kind: Kind
    section: str
    before: str
    after: str
    shown: tuple[Entry, ...] = ()


_KINDS: dict[str, Kind] = {
    "insert": "insert",
    "new_memory_insert": "insert",
    "update": "update",
    "memory_update": "update",
    "delete": "delete",
    "memory_delete": "delete",
}


def kind_of(call: ToolCall) -> Kind:
    """What kind of edit a call asks for, under either set of names; "" for none."""
    return "" if call.error is not None else _KINDS.get(call.name, "")


def section_of(call: ToolCall) -> str:
    """The section that a call names."""
    return str(call.arguments.get("section", call.arguments.get("memory_type", ""))).removesuffix("_memory")


def text_of(call: ToolCall) -> str:
    """The text that a call wants to be stored; "" where there is none or it is no string."""
    given = (call.arguments[name] for name in ("text", "content", "new_content") if name in call.arguments)
    text = next(given, "")
    return text if isinstance(text, str) else ""


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

JUDGE = """\
You check one edit of an assistant's memory against the piece of input that was read when it was made.
- A text that was written is valid if all it says is said in the piece, or in the entry that it replaces; if an update \
loses nothing that is still true; and if it belongs where it was put. {part}
- A deletion is valid if the piece says that the entry no longer holds, or if another entry shown says the same.
Reply with JSON only: {{"valid": true or false, "reason": "one sentence"}}"""
BELONGS = {
    CORE: "Core is one short text: who the user is, a running summary, or rules.",
    EPISODIC: "Episodic holds what happened; an entry without its time is not valid.",
    SEMANTIC: "Semantic holds facts that last; an event of one moment does not belong there.",
    FLAT: "There is one part only, so everything belongs there.",
}
BLIND = """\
You check a text that an assistant wrote into its memory. {part}
Reply with a JSON block only: {{"VALID": true or false, "ISSUES": ["…"], "EXPLANATION": "…"}}"""
BLIND_PARTS = {
    CORE: "It is the core memory: invalid only if it is an empty placeholder or talks about the core memory itself.",
    EPISODIC: "It is an episodic memory: valid if it tells an event with a clear time and its context.",
    SEMANTIC: "It is a semantic memory: valid if it holds information, knowledge, a definition or a procedure that is "
    "neither an event nor about who the user is.",
}
AGAIN = "That was not the JSON asked for. Reply with that JSON object and nothing else."


def judge_prompt(edit: Edit, blind: bool = False) -> list[Message]:
    """The judge's messages for one edit. blind: without the chunk, as the paper's judge reads it."""
    if blind:
        system = BLIND.format(part=BLIND_PARTS.get(edit.section, ""))
        return [Message("system", system, kind="system"), Message("user", edit.after, kind="input")]
    parts = [f"<piece>\n{edit.given.text}\n</piece>"]
    if edit.given.time:
        parts.insert(0, f"Time: {edit.given.time}")
    if edit.kind == "delete" and edit.shown:
        parts.append("<shown>\n" + "\n".join(f"{e.section}: {e.text}" for e in edit.shown) + "\n</shown>")
    if edit.before:
        parts.append(f"<old>\n{edit.before}\n</old>")
    if edit.after:
        parts.append(f"<new>\n{edit.after}\n</new>")
    parts.append(f"The edit: {edit.kind} in {edit.section}.")
    system = JUDGE.format(part=BELONGS.get(edit.section, ""))
    return [Message("system", system, kind="system"), Message("user", "\n".join(parts), kind="input")]


def judge(policy: Policy, retries: int = 2, blind: bool = False) -> Callable[[Edit], Awaitable[float]]:
    """A judge by a policy: 1 for valid, 0 for not. An unreadable reply is asked for again, at most `retries` times.

    After that `Unscorable` is raised. blind: the paper's judge, which sees the text only and for which an unreadable
    reply is 0 (one request, no retry).
    """
    key = "VALID" if blind else "valid"

    async def verdict(edit: Edit) -> float:
        messages = judge_prompt(edit, blind)
        for _ in range(1 if blind else 1 + retries):
            completion = await policy(messages)
            said = _read(completion.message.content, key)
            if said is not None:
                return float(said)
            messages = [*messages, completion.message, Message("user", AGAIN)]
        if blind:
            return 0.0
        raise Unscorable(f'the judge gave no JSON with "{key}": true or false in {1 + retries} replies')

    return verdict


def _read(reply: str, key: str) -> bool | None:
    try:
        value: Any = read_json(reply)[0]
    except ValueError:
        return None
    said = value.get(key) if isinstance(value, dict) else None
    return said if isinstance(said, bool) else None
