"""The writer's tools, under mnemon's names and under those of the released model. Failures change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from mnemon.agent import Ctx
from mnemon.agents.mem_alpha.sections import CORE, NAMES
from mnemon.memory.memory import Entry, Section
from mnemon.tools import Tool, tool
from mnemon.types import MnemonError, ToolError

FOUND = 5
"""Entries that one search shows."""


def insert(ctx: Ctx, section: str, text: Any) -> str:
    """Store a new entry.

    section: where it belongs
    text: the whole entry, complete in itself
    """
    spec, text = _section(ctx, section), _text(text)
    if spec.kind == "list" and any(entry.text == text for entry in ctx.memory.entries(spec.name)):
        raise ToolError("duplicate", f"{spec.name} already holds exactly this text: nothing to insert.")
    entry = ctx.memory.add(text, section=spec.name, time=ctx.input.time, source=ctx.input.source)
    return _known(ctx, "inserted", entry, text)


def update(ctx: Ctx, section: str, text: Any, id: str = "") -> str:
    """Replace an entry's text; what is still true in it must be kept in the new text.

    section: where the entry is
    text: the whole new text
    id: the entry's id as shown; not needed for a section that is one text
    """
    spec, text = _section(ctx, section), _text(text)
    before = _entry(ctx, spec, id)
    entry = ctx.memory.update(before.id, text, time=ctx.input.time, source=ctx.input.source)
    return _known(ctx, "updated", entry, text)


def delete(ctx: Ctx, section: str, id: str = "") -> str:
    """Remove an entry that is no longer true or no longer needed.

    section: where the entry is
    id: the entry's id as shown; not needed for a section that is one text
    """
    return f"deleted {ctx.memory.delete(_entry(ctx, _section(ctx, section), id).id).label}"


def search(ctx: Ctx, section: str, query: str) -> str:
    """Find entries that are not shown; the result lists them with their ids.

    section: where to look
    query: words of what is looked for
    """
    entries = [hit.entry for hit in ctx.retrieve(query, FOUND, section=_section(ctx, section).name)]
    if ctx.ids is not None:
        ctx.ids.update({entry.label: entry.id for entry in entries})
    return "\n".join(f"{entry.label} {entry.text}" for entry in entries) or "nothing found"


def _section(ctx: Ctx, name: str) -> Section:
    found = ctx.memory.sections.get(name)
    if found is None:
        code = "disabled" if name in NAMES else "unknown_section"
        raise ToolError(code, f"There is no section {name!r} here; use one of: {', '.join(ctx.memory.sections)}.")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ToolError("not_text", f"The text must be a string, not {type(value).__name__}.")
    if not value.strip():
        raise ToolError("empty_text", "The text is empty: write what is to be remembered.")
    return value.strip()


def _entry(ctx: Ctx, spec: Section, shown: str) -> Entry:
    """The entry that a call means. ToolError codes: empty_section, no_id, unknown_id, wrong_section."""
    if spec.kind == "text":
        held = ctx.memory.entries(spec.name)
        if not held:
            raise ToolError("empty_section", f"{spec.name} is still empty: insert its text instead.")
        return held[0]
    if not shown.strip():
        raise ToolError("no_id", f"An entry of {spec.name} needs its id, as shown in the prompt.")
    entry = ctx.memory.read(ctx.resolve(shown))
    if entry.section != spec.name:
        raise ToolError("wrong_section", f"{shown} is in {entry.section}, not in {spec.name}.")
    return entry


def _known(ctx: Ctx, did: str, entry: Entry, text: str) -> str:
    """What a change reports; its entry can be named by later calls of the same reply."""
    if ctx.ids is not None and entry.id not in ctx.ids.values():
        ctx.ids[entry.label] = entry.id
    if entry.text == text:
        return f"{did} {entry.label}"
    ctx.count("cut")
    cap = ctx.memory.sections[entry.section].max_tokens
    return f"{did} {entry.label}, cut to {cap} tokens: the rest of the text is lost"


# ── the published names ──────────────────────────────────────────────────────────────────────────────────────────────


def new_memory_insert(ctx: Ctx, memory_type: str, content: Any) -> str:
    """Store a new memory.

    memory_type: the kind of memory
    content: its whole text
    """
    section = memory_type.removesuffix("_memory")
    if section == CORE and CORE in ctx.memory.sections:
        raise ToolError("exists", "The core memory is one text: write it with memory_update.")
    return insert(ctx, section, content)


def memory_update(ctx: Ctx, memory_type: str, new_content: Any, memory_id: str = "") -> str:
    """Replace the whole text of a memory.

    memory_type: the kind of memory
    new_content: its whole new text
    memory_id: its id as shown; not needed for the core memory
    """
    section = memory_type.removesuffix("_memory")
    if section == CORE and CORE in ctx.memory.sections and not ctx.memory.entries(CORE):
        return insert(ctx, section, new_content)
    return update(ctx, section, new_content, memory_id)


def memory_delete(ctx: Ctx, memory_type: str, memory_id: str = "") -> str:
    """Remove a memory, or clear the core memory.

    memory_type: the kind of memory
    memory_id: its id as shown; not needed for the core memory
    """
    return delete(ctx, memory_type.removesuffix("_memory"), memory_id)


def search_memory(ctx: Ctx, memory_type: str, query: str, search_method: str = "bm25") -> str:
    """Find memories that are not shown.

    memory_type: the kind of memory
    query: words of what is looked for
    search_method: accepted for compatibility; the agent's own retriever ranks
    """
    return search(ctx, memory_type.removesuffix("_memory"), query)


Names = Literal["mnemon", "published"]


def tools(sections: Sequence[Section], names: Names = "mnemon", searching: bool = False) -> tuple[Tool, ...]:
    """The tools over these sections, each with the sections that it takes as an enum; a tool without any is left out.

    "published": names and arguments of the released Mem-alpha models (arXiv 2509.25911, appendix C); core is then
    written by update only. MnemonError for a flat memory under published names.
    """
    every = [section.name for section in sections]
    lists = [section.name for section in sections if section.kind == "list"]
    if names == "mnemon":
        offered = [(insert, every), (update, every), (delete, every), (search, lists)]
        return _offer(offered[: 4 if searching else 3], "section", "text")
    if not set(every) <= set(NAMES):
        raise MnemonError(f"the published tools know the sections {', '.join(NAMES)}, not {', '.join(every)}")
    every, lists = [f"{name}_memory" for name in every], [f"{name}_memory" for name in lists]
    published = [(new_memory_insert, lists), (memory_update, every), (memory_delete, every), (search_memory, lists)]
    return _offer(published[: 4 if searching else 3], "memory_type", "content", "new_content")


def _offer(offered: Sequence[tuple[Any, list[str]]], enum: str, *texts: str) -> tuple[Tool, ...]:
    """Tools whose argument `enum` names sections and whose arguments `texts` are shown as strings."""
    made = []
    for function, values in offered:
        if not values:
            continue
        plain = tool(function)
        properties = {
            name: {
                **({"type": "string"} if name in texts else {}),
                **spec,
                **({"enum": values} if name == enum else {}),
            }
            for name, spec in plain.schema.parameters["properties"].items()
        }
        schema = replace(plain.schema, parameters={**plain.schema.parameters, "properties": properties})
        made.append(replace(plain, schema=schema))
    return tuple(made)
