"""The rule reader of the tiny stream: retrieves from each section by the question, answers by rule."""

from __future__ import annotations

from collections.abc import Sequence

from mnemon.agent import Agent, Ctx, Reader
from mnemon.memory.memory import Entry
from mnemon.policy.base import Scripted
from mnemon.tasks.tiny_stream import words
from mnemon.tasks.tiny_stream.questions import Question, answer, read_question
from mnemon.tasks.tiny_stream.reading import read_core, read_line, read_sentence
from mnemon.types import Input, Message, ToolSchema

Facts = dict[tuple[str, str], list[str]]


def learn(facts: Facts, text: str, day: str = "") -> None:
    """Read one stored text (or a chunk's raw sentence) into `facts`: an entry is taken as it stands, a sentence as an
    event of its day.
    """
    line = read_line("", "semantic", text)
    if line.subject:
        facts[line.subject, line.attribute] = list(line.values)
        return
    reading = read_sentence(text, day)
    key = (reading.subject, reading.attribute)
    if reading.sense == "remove":
        facts[key] = [v for v in facts.get(key, []) if v not in reading.values]
    elif reading.sense == "state":
        facts[key] = [*reading.values, *(facts.get(key, []) if reading.attribute == words.TRIPS else [])]


def answer_log(chunks: Sequence[tuple[str, str]], question: str) -> str:
    """Answer from raw chunks, (day, text) in order: what long context and retrieval-augmented baselines read."""
    facts: Facts = {}
    for day, text in chunks:
        for row in text.splitlines():
            learn(facts, row.partition(" ")[2], day)
    return answer(facts, read_question(question))


def queries(question: Question, facts: Facts) -> list[str]:
    """What to look up next, given what is known: the owner of a pet first, then the fact about that person."""
    if question.ask == "box":
        return [f"{words.BOX} {words.TOPIC_OF[question.subject]} {question.subject}"]
    if question.ask in ("count", "places", "day"):
        return [f"{question.subject} {words.TRIPS} {question.attribute}".strip()]
    if question.ask == "value":
        return [f"{question.subject} {question.attribute}"]
    owners = [s for (s, a), held in facts.items() if a == "pet" and question.subject in held]
    return [f"pet {question.subject}", *(f"{owner} {question.attribute}" for owner in owners[:1])]


def rule_reader(k: int = 1) -> Reader:
    """The deterministic answerer: sees the whole core and the k best entries of each other section per look-up."""

    def prompt(ctx: Ctx, given: Input) -> Sequence[Message]:
        question = read_question(given.text)
        facts: Facts = {}
        found: dict[int, Entry] = {}
        for _ in range(2):  # a second look-up sees what the first has found
            for query in queries(question, facts):
                for section in ("semantic", "episodic"):
                    if section in ctx.memory.sections:
                        found |= {hit.entry.id: hit.entry for hit in ctx.retrieve(query, k, section=section)}
            for entry in found.values():
                _note(facts, entry)
        ctx.view = list(found.values())
        core = " ".join(entry.text for entry in ctx.memory.entries("core"))
        rows = [f"core: {core}", *(entry.text for entry in found.values()), f"question: {given.text}"]
        return [Message("user", "\n".join(rows), kind="input", pinned=True)]

    return Agent(role="reader", prompt=prompt), Scripted(read_answer)


def _note(facts: Facts, entry: Entry) -> None:
    line = read_line("", "semantic", entry.text)
    if line.subject:
        facts.setdefault((line.subject, line.attribute), list(line.values))


def read_answer(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
    """The reader's answer by rule: of entries about the same fact the best match counts, the core before all."""
    core, *entries, question = messages[-1].content.splitlines()
    facts: Facts = {(words.USER, a): list(held) for a, held in read_core(core.partition(" ")[2]).items()}
    for text in entries:
        line = read_line("", "semantic", text)
        if line.subject:
            facts.setdefault((line.subject, line.attribute), list(line.values))
    return answer(facts, read_question(question.partition(" ")[2]))


# ── a flat memory ────────────────────────────────────────────────────────────────────────────────────────────────────


def read_paragraph(text: str) -> Facts:
    """The facts of one paragraph: "city User Rome pet Ben Rex …", an entry behind the other."""
    facts: Facts = {}
    parts = text.split()
    skip = -1
    for at, word in enumerate(parts):
        line = read_line("", "semantic", " ".join(parts[at : at + 2]))
        if line.subject:
            held = facts[line.subject, line.attribute] = []
            skip = at + 1
        elif facts and at != skip:
            held.append(word)
    return facts


def flat_reader() -> Reader:
    """The rule reader of a memory that is one paragraph: it sees all of it."""

    def prompt(ctx: Ctx, given: Input) -> Sequence[Message]:
        text = " ".join(entry.text for entry in ctx.memory.entries())
        return [Message("user", f"{text}\nquestion: {given.text}", kind="input", pinned=True)]

    def reply(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> str:
        text, question = messages[-1].content.split("\nquestion: ")
        return answer(read_paragraph(text), read_question(question))

    return Agent(role="reader", prompt=prompt), Scripted(reply)
