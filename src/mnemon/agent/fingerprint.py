"""The fingerprint of an agent: what a checkpoint keeps, so that other prompts or settings are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from mnemon.agent.loop import Agent, State
from mnemon.memory.memory import Entry, Memory
from mnemon.policy.base import Scripted, run_sync
from mnemon.types import Input, Message, ToolSchema

_RENDERED = 128  # entries of a fingerprint's memory: more than any agent here retrieves, so that its k shows


def agent_fingerprint(agent: Agent) -> str:
    """A hash of all that shapes an agent's prompts: wording, tools, retrieval settings, sections, limits.

    The prompt is rendered for two inputs on a fixed memory of 128 entries of two owners (in every section of kind
    "list") and hashed with the tools' schemas, so a change of any word shows, and of how many memories are retrieved
    (up to 128). A checkpoint keeps it; serving with another one is said loudly.
    """
    seen: list[str] = []

    def record(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        seen.append(repr([(m.role, m.content) for m in messages]) + repr(tools))
        return '{"facts": ["Ana moved to Oslo", "Ben knows Ana"]}'

    entries: list[Entry] = []
    for section in agent.sections:
        for i in range(_RENDERED if section.kind == "list" else 1):
            owner = ("Ana", "Ben")[i % 2]
            text = f"Ana told Ben of place {i}"
            entries.append(Entry(len(entries) + 1, section.name, text, owner, (f"{i} May 2023",), (f"D1:{i}",)))

    async def render() -> None:
        state = State(Memory.restore(agent.sections, entries, len(entries) + 1, agent.counter))
        unlimited = replace(agent, limits=replace(agent.limits, window=None))
        told, asked = Input("Ana moved to Oslo", "9 May 2023", ("D2:1",), "Ana"), Input("Where is Ana", note="one word")
        for given in (told, asked):
            await unlimited.respond(state, given, Scripted(record))

    run_sync(render())
    schemas = [tool.schema for tool in agent.tools]
    parts = [seen, schemas, agent.retriever.id, agent.sections, agent.limits, agent.context, agent.role]
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()
