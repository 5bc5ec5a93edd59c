"""The writer, which reads chunk after chunk and edits the memory, and the reader, which answers from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mnemon.agent import Agent, Ctx, Limits
from mnemon.agents.mem_alpha import qwen, view
from mnemon.agents.mem_alpha.sections import CORE, EPISODIC, FLAT, SEMANTIC, layout, moment
from mnemon.agents.mem_alpha.sections import layout as make_layout
from mnemon.agents.mem_alpha.tools import Names, tools
from mnemon.memory.count import WORDS, TokenCounter, token_counter
from mnemon.memory.memory import Entry, Section
from mnemon.memory.retrieve import Lexical, Retriever
from mnemon.types import Input, Message, MnemonError

Style = Literal["full", "tiny"]
NEWEST = 5
"""Entries per list of the paper's view."""

# ── the writer ───────────────────────────────────────────────────────────────────────────────────────────────────────

WRITE = """\
You keep a memory for an assistant. You read a long input piece by piece; once a piece is gone, only the memory is \
left, and questions will be answered from it alone. Decide what of the new piece to remember and change the memory \
with the tools."""
PARTS = {
    CORE: "- core: one short text that is always at hand: who the user is and wants, or the running summary of what is "
    "being read, or the rules behind the labels of examples.",
    EPISODIC: "- episodic: what happened, one event per entry: who did what, and when. Every entry states its time.",
    SEMANTIC: "- semantic: facts that hold: about people, places, things, definitions, procedures, labelled examples.",
    FLAT: "- memory: everything worth remembering: facts, events with their time, rules, a summary of what is read.",
}
RULES = """
- Store what could be asked for later; pass over greetings and small talk. One fact or event per entry, complete in \
itself: names instead of "he" or "I", numbers and dates exact.
- Before you insert, look at the entries shown: update the one that the piece changes or completes (write the whole \
new text), delete what is no longer true. Never store the same thing twice.
- Name entries by the ids shown."""
ONE_REPLY = """
- You have this one reply for the piece: make all calls in it. If nothing is to be stored, answer "done" without \
a call."""
ROUNDS = """
- You see what your calls did and may call again, in at most {rounds} replies. Answer "done" when the memory is \
right."""
REPLY_LIMIT = """
- The reply may have at most {tokens} tokens."""


def reply_limit(tokens: int) -> int:
    """The limit that the prompt names for a reply of at most `tokens`: a fifth is kept back, 2,048 gives 1,638."""
    return int(0.8 * tokens)


def _cap(section: Section, counter: TokenCounter) -> str:
    return f" At most {section.max_tokens} {counter.name}." if section.max_tokens is not None else ""


def _state(ctx: Ctx, shown: view.Shown) -> str:
    """The memory as the writer sees it: texts in full, "shown X of Y" and the shown entries of every list."""
    blocks = []
    for section in ctx.memory.sections.values():
        entries = ctx.memory.entries(section.name)
        if section.kind == "text":
            blocks.append(f"<{section.name}>\n{entries[0].text if entries else '(empty)'}\n</{section.name}>")
            continue
        lines = [f"{label} {_line(entry)}" for label, entry in shown[section.name]]
        head = f"<{section.name}> shown {len(lines)} of {len(entries)}"
        blocks.append("\n".join([head, *lines, f"</{section.name}>"]))
    return "\n".join(blocks)


def _line(entry: Entry) -> str:
    """ "[time] text"; without the time where the text states its own."""
    if entry.section == EPISODIC and moment(entry.text):
        return entry.text
    time = "; ".join(time for time in entry.times if time not in entry.text)
    return f"[{time}] {entry.text}" if time else entry.text


def _tiny_state(ctx: Ctx, shown: view.Shown) -> str:
    """The memory in the words of the tiny world: a line per section, then its entries, each with its number at the end
    (who recites an entry then arrives at its number)."""
    lines = []
    for section in ctx.memory.sections.values():
        lines.append(f"{section.name}:")
        if section.kind == "text":
            lines += [entry.text for entry in ctx.memory.entries(section.name)]
        else:
            lines += [f"{entry.text} {label}" for label, entry in shown[section.name]]
    return "\n".join(lines)


def writer(
    *,
    sections: Sequence[Section] = layout(),
    counter: TokenCounter = WORDS,
    shown: view.View = "related",
    related: int = 5,
    recent: int = 2,
    rounds: int = 1,
    searching: bool = False,
    names: Names = "mnemon",
    style: Style = "full",
    window: int | None = None,
    reply_tokens: int | None = None,
    retriever: Retriever | None = None,
) -> Agent:
    """The agent that builds the memory: every chunk in a fresh context with the memory it has built.

    sections, counter: the memory (see `layout`) and who counts its tokens. shown: "related" shows, of every list, the
    `related` entries that fit the chunk best and the `recent` newest; "newest" the five newest (arXiv 2509.25911).
    rounds: policy calls per chunk. searching: offer the search tool (needs rounds > 1 to be of use). names: "published"
    is the form of the released models: their tool names, calls as Qwen-Agent text. style: "tiny" is the short prompt of
    the tiny world's word-level model. window: prompt budget in tokens, counted by the policy where it can count: fewer
    entries are shown, never fewer instructions. reply_tokens: the policy's reply limit, which the prompt mentions.
    """
    if searching and rounds < 2:
        raise MnemonError("a search shows its result in the next round: set rounds to at least 2, or searching=False")
    offered = tools(sections, names, searching)
    published = names == "published"
    instructions = "\n".join(
        [WRITE, *(PARTS[section.name] + _cap(section, counter) for section in sections), RULES.strip("\n")]
    )
    instructions += ONE_REPLY if rounds == 1 else ROUNDS.format(rounds=rounds)
    if reply_tokens is not None:
        instructions += REPLY_LIMIT.format(tokens=reply_limit(reply_tokens))
    if published:
        instructions += "\n\n" + qwen.manual([tool.schema for tool in offered])

    def prompt(ctx: Ctx, given: Input) -> Sequence[Message]:
        def compose(entries: view.Shown) -> list[Message]:
            if style == "tiny":
                when = f"time: {given.time}\n" if given.time else ""
                text = f"{_tiny_state(ctx, entries)}\n{when}chunk: {given.text}"
                return [Message("user", text, kind="input", pinned=True)]
            when = f"Time: {given.time}\n" if given.time else ""
            note = f"\n{given.note}" if given.note else ""
            state = f"{instructions}\n\nThe memory now:\n{_state(ctx, entries)}"
            chunk = f"{when}<new_chunk>\n{given.text}\n</new_chunk>{note}"
            return [
                Message("system", state, kind="system", pinned=True),
                Message("user", chunk, kind="input", pinned=True),
            ]

        numbers = style == "tiny"
        if shown == "newest":
            return view.fit_steps(ctx, (NEWEST, 2, 1, 0), lambda n: view.newest(ctx, n), compose, numbers)
        return view.fit_each(ctx, view.related(ctx, given.text, related, recent), compose, numbers)

    return Agent(
        role="writer",
        prompt=prompt,
        tools=offered,
        sections=tuple(sections),
        limits=Limits(window=window, rounds=rounds),
        retriever=retriever or Lexical(),
        show_tools=style == "full" and not published,
        parse=qwen.parse if published else None,
        counter=counter,
    )


def writer_of(*, layout: Mapping[str, Any] | None = None, counter: str = "words", **options: Any) -> Agent:
    """The writer of plain settings, as a checkpoint keeps them: `layout` and `counter` by their options and name."""
    return writer(sections=make_layout(**(layout or {})), counter=token_counter(counter), **options)


# ── the reader ───────────────────────────────────────────────────────────────────────────────────────────────────────

READ = """\
You answer a question from a memory. Use what the memory says; where it is not enough, say so. If entries contradict \
each other, the newest holds. Be complete and short: no sentence beyond the answer."""


def reader(
    *,
    k: int = 20,
    style: Style = "full",
    window: int | None = None,
    retriever: Retriever | None = None,
    counter: TokenCounter = WORDS,
) -> Agent:
    """The agent that answers: the texts of the memory in full, and the k entries of every list that fit the question.

    The query is the bare question; an input's note (how to answer) follows in the prompt only. Events stand in the
    order of their time. k is lowered until the prompt fits `window`. Entries that do not match fill up to k (a small
    memory is shown whole).
    """

    def prompt(ctx: Ctx, given: Input) -> Sequence[Message]:
        ranked = {
            name: [h.entry for h in ctx.retrieve(given.text, k, section=name, all=True)] for name in view.lists(ctx)
        }

        def compose(entries: view.Shown) -> list[Message]:
            if style == "tiny":
                text = f"{_tiny_state(ctx, entries)}\nquestion: {given.text}"
                return [Message("user", text, kind="input", pinned=True)]
            blocks = [f"<{entry.section}>\n{entry.text}\n</{entry.section}>" for entry in view.texts(ctx)]
            for name, held in entries.items():
                lines = [f"{number}. {_line(entry)}" for number, (_, entry) in enumerate(held, start=1)]
                blocks.append("\n".join([f"<{name}>", *lines, f"</{name}>"]))
            asked = f"Asked on: {given.time}\n" if given.time else ""
            note = f"\n{given.note}" if given.note else ""
            return [
                Message("system", "\n".join([READ, "", *blocks]), kind="system", pinned=True),
                Message("user", f"{asked}{given.text}{note}", kind="input", pinned=True),
            ]

        def choose(n: int) -> list[Entry]:
            return [entry for entries in ranked.values() for entry in entries[:n]]

        return view.fit_steps(ctx, range(k, -1, -1), choose, compose, style == "tiny")

    return Agent(
        role="reader",
        prompt=prompt,
        sections=layout(),
        limits=Limits(window=window, rounds=1),
        retriever=retriever or Lexical(),
        counter=counter,
    )
