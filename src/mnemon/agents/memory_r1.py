"""Memory-R1 (arXiv 2508.19828): a Memory Manager that edits a bank, and an Answer Agent that distils and answers.

Manager: facts of an input are extracted (by a policy, or the input itself is the fact), related memories are retrieved,
and one reply decides with add, update, delete and noop. Answerer: up to 60 retrieved memories; it first names the
useful ones, then answers after a marker, all in one generation.

Departures from the paper, each with its switch, stand in docs/paper_index.md: one bank with an owner per entry (paper:
two banks), edits only (paper: the related list is rewritten), dates of merged facts are kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from mnemon.agent import Agent, Ctx, Limits
from mnemon.memory.memory import Entry, Section
from mnemon.memory.retrieve import Lexical, Retriever
from mnemon.policy.schema import read_json
from mnemon.tools import tool
from mnemon.types import Input, Message, ToolCall, ToolError

MARKER = "**Answer:**"

# ── the four operations ──────────────────────────────────────────────────────────────────────────────────────────────


def add(ctx: Ctx, text: str) -> str:
    """Store a new memory.

    text: the fact, complete in itself
    """
    entry = ctx.memory.add(text, owner=_owner(ctx), time=ctx.input.time, source=ctx.input.source)
    return f"added {entry.label}"


def update(ctx: Ctx, id: str, text: str) -> str:
    """Replace the text of a memory; what is still true in it must be kept in the new text.

    id: the memory's number in the list
    text: the whole new text
    """
    entry = ctx.memory.update(ctx.resolve(id), text, time=ctx.input.time, source=ctx.input.source)
    return f"updated {entry.label}"


def delete(ctx: Ctx, id: str) -> str:
    """Remove a memory that is no longer true and has nothing to replace it.

    id: the memory's number in the list
    """
    return f"deleted {ctx.memory.delete(ctx.resolve(id)).label}"


def noop(ctx: Ctx) -> str:
    """Change nothing: the fact is known already or not worth remembering."""
    return "nothing changed"


TOOLS = (tool(add), tool(update), tool(delete), tool(noop))


def _owner(ctx: Ctx) -> str:
    return ctx.input.speaker


# ── fact extraction ──────────────────────────────────────────────────────────────────────────────────────────────────

EXTRACT = """\
You keep notes about {who}. Read the message and write down every lasting fact it reveals about {who}: events, plans, \
preferences, relations, possessions, feelings with their cause. Rules:
- Each fact is one sentence that makes sense on its own: use names, never "he", "she", "I" or "the user".
- Keep numbers, titles, places and dates exactly. Turn "yesterday" or "last week" into a date by the time of the \
message.
- A shared photo counts: its caption is in brackets.
- Greetings, thanks and small talk are no facts.
Reply with JSON only: {{"facts": ["…", "…"]}}. If there is nothing to note: {{"facts": []}}."""


def extract_prompt(given: Input) -> list[Message]:
    """The extractor's messages for one input."""
    system = EXTRACT.format(who=given.speaker or "the people in it")
    when = f"[{given.time}] " if given.time else ""
    return [
        Message("system", system, kind="system", pinned=True),
        Message("user", f"{when}{given.text}", kind="input", pinned=True),
    ]


def parse_facts(text: str) -> list[str]:
    """The facts of an extractor's reply. Raises ToolError("unparsable") when it is not the JSON asked for."""
    obj = _json_object(text)
    facts = obj.get("facts")
    if not isinstance(facts, list) or not all(isinstance(fact, str) for fact in facts):
        raise ToolError("unparsable", 'the reply must be JSON of the form {"facts": ["…"]}')
    return list(dict.fromkeys(fact.strip() for fact in facts if fact.strip()))


def _json_object(text: str) -> dict[str, Any]:
    """The JSON object in a reply; code fences, thinking and prose around it are left out."""
    try:
        obj, _ = read_json(text)
    except ValueError:
        raise ToolError("unparsable", "the reply is not valid JSON") from None
    if not isinstance(obj, dict):
        raise ToolError("unparsable", "the reply is not a JSON object")
    return obj


# ── the manager ──────────────────────────────────────────────────────────────────────────────────────────────────────

MANAGE = """\
You manage a memory. You are shown memories that may be related, each with a number, and new facts. Compare every fact \
with the memories and call one tool for it:
- add: the fact is new. Example: memories "1. Tom plays tennis"; fact "Tom's sister is Eva" → add "Tom's sister is \
Eva".
- update: a memory is about the same thing and the fact changes, completes or corrects it. Write the whole new text \
and keep what is still true. Example: "1. Tom has a cat named Mia"; fact "Tom adopted a second cat, Leo" → update 1 \
with "Tom has two cats, Mia and Leo". Two facts that can both be true never replace each other.
- delete: the fact says that a memory is no longer true and leaves nothing to say in its place. Example: "2. Tom rents \
a garage"; fact "Tom gave up the garage for good" → delete 2.
- noop: a memory already says it, or it is not worth remembering. Example: "1. Tom plays tennis"; fact "Tom likes a \
game of tennis" → noop.
Use only the numbers you are shown. If no memories are shown, every lasting fact is added."""

MANAGE_JSON = """

Do not call tools. Reply with JSON only: {"memory": [{"id": "0", "text": "…", "event": "ADD|UPDATE|DELETE|NONE", \
"old_memory": "…"}]}, one item per memory or fact that you judged; old_memory only for UPDATE."""


def _when(entry: Entry) -> str:
    """ "[times] owner: text"; the owner is left out where the text begins with it, as a raw dialogue turn does."""
    owner = f"{entry.owner}: " if entry.owner else ""
    if entry.text.startswith(owner):
        owner = ""
    return f"[{entry.time}] {owner}{entry.text}" if entry.time else f"{owner}{entry.text}"


def parse_operations(text: str) -> list[ToolCall]:
    """The paper's JSON reply as calls, in order; NOOP and NONE are the same.

    A reply that is no such JSON is one call with an error (``unparsable``), as is an item that is no object. An
    unknown event calls a tool that does not exist (``unknown_tool``), a field left out is a missing argument
    (``bad_arguments``).
    """
    try:
        items = _json_object(text).get("memory")
    except ToolError as error:
        return [ToolCall("", error=error.hint, raw=text)]
    if not isinstance(items, list):
        return [ToolCall("", error='there is no list "memory"', raw=text)]
    calls = []
    for item in items:
        if not isinstance(item, dict):
            raw = json.dumps(item, ensure_ascii=False)
            calls.append(ToolCall("", error="an item of the list is no object", raw=raw))
            continue
        event = item.get("event")
        name = event.strip().lower() if isinstance(event, str) else ""
        name = "noop" if name == "none" else name
        wanted = {"add": ("text",), "update": ("id", "text"), "delete": ("id",)}.get(name, ())
        calls.append(ToolCall(name, {key: item[key] for key in wanted if key in item}))
    return calls


def manager(
    *,
    extract: Literal["policy", "raw"] = "policy",
    related: int = 5,
    banks: Literal["one", "two"] = "one",
    reply: Literal["tools", "json"] = "tools",
    style: Literal["full", "tiny"] = "full",
    retriever: Retriever | None = None,
    capacity: int | None = None,
    window: int | None = None,
) -> Agent:
    """The Memory Manager as a writer.

    extract: "policy" asks the helper "extractor" (or the manager's own policy) for facts; "raw" takes the input as one.
    related: memories retrieved per fact (union over facts). banks: "two" shows only memories of the input's owner.
    reply: "json" is the paper's list form. style: "tiny" is the short prompt of the tiny world's word-level model.
    """

    async def prompt(ctx: Ctx, given: Input) -> Sequence[Message] | None:
        facts = [given.text] if extract == "raw" else await _extract(ctx, given)
        if not facts:
            return None
        owner = given.speaker if banks == "two" else None
        found: dict[int, Entry] = {}
        for fact in facts:
            for hit in ctx.retrieve(fact, related, owner=owner):
                found.setdefault(hit.entry.id, hit.entry)
        shown = ctx.show(list(found.values()), first=0 if reply == "json" else 1)
        ctx.notes["facts"] = facts
        if style == "tiny":
            lines = "\n".join(f"{number} {entry.text}" for number, entry in shown)
            return [Message("user", f"memories:\n{lines}\nevent: {facts[0]}", kind="input", pinned=True)]
        memories = "\n".join(f"{number}. {_when(entry)}" for number, entry in shown) or "(none)"
        when = f" ({given.time})" if given.time else ""
        news = "\n".join(f"- {fact}" for fact in facts)
        return [
            Message("system", MANAGE + (MANAGE_JSON if reply == "json" else ""), kind="system", pinned=True),
            Message("user", f"Memories:\n{memories}\n\nNew facts{when}:\n{news}", kind="input", pinned=True),
        ]

    return Agent(
        role="writer",
        prompt=prompt,
        tools=TOOLS,
        sections=(Section("facts", max_entries=capacity),),
        limits=Limits(window=window, rounds=1, calls=1 if style == "tiny" else None),
        retriever=retriever or Lexical(),
        show_tools=style == "full" and reply == "tools",
        parse=parse_operations if reply == "json" else None,
    )


async def _extract(ctx: Ctx, given: Input) -> list[str]:
    completion = await ctx.ask("extractor", extract_prompt(given))
    try:
        return parse_facts(completion.message.content)
    except ToolError:
        ctx.count("extract_unparsable")
        return []


# ── the answerer ─────────────────────────────────────────────────────────────────────────────────────────────────────

ANSWER = """\
You answer a question about people from memories of their conversations. Each memory has a number and the time when it \
was said.
- Work out dates: "last Friday" in a memory counts from that memory's time. Give absolute dates.
- If memories contradict each other, the newest counts.
- A name inside a memory need not be its owner: look who said what."""
ANSWER_DISTILL = """
First write a line "Useful memories:" with the numbers and texts of the memories that help, and no others. Then write \
the marker {marker} and behind it the answer in at most six words."""
ANSWER_DIRECT = """
Write the marker {marker} and behind it the answer in at most six words, nothing else."""


def after_marker(text: str, ctx: Ctx) -> str:
    """The text after the last marker, trimmed; without a marker the answer is empty and counted as ``no_marker``."""
    _, marker, tail = text.rpartition(MARKER)
    if not marker:
        ctx.count("no_marker")
        return ""
    return tail.strip()


def answerer(
    *,
    k: int = 60,
    distill: bool = True,
    per_owner: bool = False,
    style: Literal["full", "tiny"] = "full",
    retriever: Retriever | None = None,
    marker: bool = True,
    window: int | None = None,
) -> Agent:
    """The Answer Agent as a reader: retrieves up to k memories, names the useful ones, answers.

    distill=False answers at once. per_owner: the k memories are shared out evenly over the owners (paper: 30 + 30).
    marker=False takes the whole reply as the answer (scripted readers).
    """

    def prompt(ctx: Ctx, given: Input) -> Sequence[Message]:
        if per_owner:
            owners = list(dict.fromkeys(entry.owner for entry in ctx.memory.entries()))
            share = max(1, k // max(1, len(owners)))
            entries = [hit.entry for owner in owners[:k] for hit in ctx.retrieve(given.text, share, owner=owner)]
        else:
            entries = [hit.entry for hit in ctx.retrieve(given.text, k)]
        shown = ctx.show(entries, first=1)
        if style == "tiny":
            lines = "\n".join(f"{number} {entry.text}" for number, entry in shown)
            return [Message("user", f"memories:\n{lines}\nquestion: {given.text}", kind="input", pinned=True)]
        system = ANSWER + (ANSWER_DISTILL if distill else ANSWER_DIRECT).format(marker=MARKER)
        lines = "\n".join(f"{number}. {_when(entry)}" for number, entry in shown) or "(none)"
        asked = f"\nAsked on: {given.time}" if given.time else ""
        return [
            Message("system", system, kind="system", pinned=True),
            Message("user", f"Memories:\n{lines}\n{asked}\nQuestion: {given.text}", kind="input", pinned=True),
        ]

    return Agent(
        role="reader",
        prompt=prompt,
        limits=Limits(window=window, rounds=1),
        retriever=retriever or Lexical(),
        final=after_marker if marker else None,
    )
