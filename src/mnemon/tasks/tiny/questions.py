"""Questions about the tiny world, and the memories they are answered from.

A reader is shown up to k memories, oldest first, and a question. Memories are what a manager left behind: current
facts, stale or doubled ones where it erred, facts about others, raw sentences. The gold answer is the truth of the
world, not of the memories.

Kinds of question: the value of a single attribute, a list, a count, whose, yes or no; and each of them about something
nobody ever said ("none" for a value or list, else "unknown").
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mnemon.agent import State
from mnemon.memory.memory import Memory
from mnemon.tasks.tiny import scripted as rules
from mnemon.tasks.tiny import words
from mnemon.tasks.tiny.world import Event, Facts, Split, apply, people_of, sample_episode, values_of
from mnemon.types import MnemonError, Probe, Task, Trajectory

Kind = Literal["value", "list", "count", "whose", "yesno"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SHARES: Mapping[Kind, float] = {"value": 0.25, "list": 0.22, "count": 0.17, "whose": 0.18, "yesno": 0.18}
"""How often each kind is asked."""
UNSUPPORTED = 0.1
"""Share of questions about something nobody ever said."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question; "whose" has no person, value, list and count have no value."""

    kind: Kind
    attribute: str
    person: str = ""
    value: str = ""

    @property
    def text(self) -> str:
        """The question as it is asked."""
        core = words.QUESTION_CORES["value" if self.kind == "list" else self.kind]
        return core.format(a=self.attribute, p=self.person, v=self.value)


def read_question(text: str) -> Question:
    """The inverse of `Question.text`. MnemonError where the text is no question of this world."""
    parts = text.split()
    if len(parts) == 4 and parts[1] == "of":
        return Question("list" if parts[0] in words.LISTS else "value", parts[0], parts[2])
    if len(parts) == 6 and parts[0] == "how":
        return Question("count", parts[2], parts[4])
    if len(parts) == 5 and parts[0] == "who":
        return Question("whose", parts[2], value=parts[3])
    if len(parts) == 5 and parts[0] == "has":
        return Question("yesno", parts[2], parts[1], parts[3])
    raise MnemonError(f"{text!r} is no question of the tiny world: ask with words.QUESTION_CORES.")


# ── the truth ────────────────────────────────────────────────────────────────────────────────────────────────────────


def facts_of(events: Iterable[Event]) -> tuple[Facts, Facts]:
    """(what is true after the events, every value that was ever true), per (person, attribute)."""
    facts: Facts = {}
    ever: Facts = {}
    for event in events:
        apply(facts, event)
        if event.kind in ("new", "change", "more"):
            ever.setdefault((event.person, event.attribute), []).append(event.value)
    return facts, ever


def truth(facts: Facts, question: Question) -> tuple[str, ...]:
    """What holds: the values of the asked fact, or the owners of the asked value, in the order of the facts."""
    if question.kind == "whose":
        return tuple(p for (p, a), held in facts.items() if a == question.attribute and question.value in held)
    return tuple(facts.get((question.person, question.attribute), ()))


def answer(question: Question, found: Sequence[str]) -> str:
    """The answer that follows from what was found (the values of the fact, or the owners)."""
    if not found:
        return "none" if question.kind in ("value", "list") else "unknown"
    if question.kind == "count":
        return str(len(found))
    if question.kind == "yesno":
        return "yes" if question.value in found else "no"
    return " ".join(found)


def sample_question(
    rng: random.Random, facts: Facts, ever: Facts, split: Split, shares: Mapping[Kind, float] = SHARES
) -> Question:
    """A question about these facts; those that changed often are asked more. Counts, owners and yes/no are asked of
    facts that hold (an emptied fact and one never told look the same in a well-kept memory), values of emptied ones
    too.
    """
    kind = rng.choices(KINDS, [shares[kind] for kind in KINDS])[0]
    table = words.SINGLE if kind == "value" else words.LISTS if kind in ("list", "count") else words.ATTRIBUTES
    asked = [f for f in ever if f[1] in table and (facts.get(f) or (kind in ("value", "list") and rng.random() < 0.3))]
    if not asked or rng.random() < UNSUPPORTED:
        free = [(p, a) for p in people_of(split) for a in table if (p, a) not in ever]
        told = {person for person, _ in ever}
        near = [fact for fact in free if fact[0] in told]
        person, attribute = rng.choice(near if near and rng.random() < 0.7 else free)
        told_values = {v for (_, a), values in ever.items() if a == attribute for v in values}
        unheld = [v for v in values_of(split, person, attribute) if v not in told_values]
        if kind == "whose" and not unheld:
            kind = "yesno"
        value = rng.choice(unheld or values_of(split, person, attribute)) if kind in ("whose", "yesno") else ""
        return Question(kind, attribute, "" if kind == "whose" else person, value)
    person, attribute = rng.choices(asked, [len(ever[fact]) for fact in asked])[0]
    if kind == "whose":
        return Question(kind, attribute, value=rng.choice(facts[person, attribute]))
    if kind == "yesno":
        held = facts[person, attribute]
        stale = [v for v in ever[person, attribute] if v not in held]
        others = [v for v in values_of(split, person, attribute) if v not in held]
        wrong = stale if stale and rng.random() < 0.7 else others
        return Question(kind, attribute, person, rng.choice(held if rng.random() < 0.5 or not wrong else wrong))
    return Question(kind, attribute, person)


# ── memories ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_memory(shown: str, text: str) -> rules.Line:
    """A stored line, or a raw sentence that states a fact as if it were one; anything else has no values."""
    line = rules.read_line(shown, text)
    if line.person:
        return line
    reading = rules.read_sentence(text)
    if reading.sense != "state":
        return line
    return rules.Line(shown, reading.person, reading.attribute, (reading.value,))


SLIPS = ("add", "skip", "raw", "forget")
"""Errors of a manager: a doubled entry, a missed change, the sentence stored as it is, a list that loses its items."""


def keep(rng: random.Random, events: Sequence[Event], quality: float = 1.0, junk: float = 0.0) -> list[str]:
    """The memories, least recently written first, of a manager that does the right thing with probability `quality`.

    Otherwise it makes one of `SLIPS`. With probability `junk` it also stores a sentence that states no fact.
    """
    kept: list[str] = []
    for event in events:
        if event.kind in ("chat", "distract"):
            if rng.random() < junk:
                kept.append(event.text)
            continue
        sense = "remove" if event.kind in ("drop", "end") else "state"
        reading = rules.Reading(sense, event.person, event.attribute, event.value)
        lines = [rules.read_line(str(i), text) for i, text in enumerate(kept)]
        slip = "" if rng.random() < quality else rng.choice(SLIPS)
        if slip == "skip":
            continue
        if slip == "raw":
            kept.append(event.text)
            continue
        doubled = slip == "add" and sense == "state"
        call = rules.add(reading) if doubled else rules.right_call(lines, reading, merge=slip != "forget")
        if call.name in ("update", "delete"):
            del kept[int(call.arguments["id"])]
        if call.name in ("add", "update"):
            kept.append(call.arguments["text"])
    return kept


def written(memory: Memory) -> list[str]:
    """The texts of a memory, least recently written first."""
    last = {operation.entry.id: at for at, operation in enumerate(memory.log)}
    return [entry.text for entry in sorted(memory.entries(), key=lambda entry: last[entry.id])]


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def bank_task(name: str, texts: Sequence[str], question: Question, facts: Facts) -> Task:
    """A reader's task: these memories (least recently written first) and one question; no inputs to read.

    Probe.meta: `kind`, and `truth`, the values or owners that make the answer. Category is the kind, or "unsupported".
    """
    held = truth(facts, question)
    probe = Probe(
        "q",
        question.text,
        (answer(question, held),),
        category=question.kind if held else "unsupported",
        scorers=("list_exact",),
        meta={"kind": question.kind, "truth": held},
    )
    return Task(name, (), (probe,), {"bank": tuple(texts)})


def bank_state(task: Task) -> State:
    """The memory that a task of `bank_task` starts from (for `rollouts(start=...)`)."""
    memory = Memory()
    for text in task.meta["bank"]:
        memory.add(text)
    return State(memory)


def bank_tasks(trajectories: Iterable[Trajectory], split: Split, questions: int = 2, seed: int = 0) -> list[Task]:
    """Reader's tasks on the memories that a writer left behind: `questions` per trajectory, about the whole episode."""
    tasks = []
    for trajectory in trajectories:
        facts, ever = facts_of(trajectory.task.meta["events"])
        texts = written(trajectory.state.memory)
        rng = random.Random(f"bank/{seed}/{trajectory.id}")
        for number in range(questions):
            question = sample_question(rng, facts, ever, split)
            tasks.append(bank_task(f"{trajectory.id}/r{number}", texts, question, facts))
    return tasks


def kept_tasks(
    count: int, split: Split, quality: float, junk: float = 0.0, length: int = 32, questions: int = 2, first: int = 0
) -> list[Task]:
    """`count` tasks on simulated memories of a manager of this `quality` (see `keep`), equal for equal arguments."""
    tasks: list[Task] = []
    seed = first
    while len(tasks) < count:
        rng = random.Random(f"kept/{split}/{quality}/{junk}/{length}/{seed}")
        episode = sample_episode(rng, length, split)
        facts, ever = facts_of(episode.events)
        texts = keep(rng, episode.events, quality, junk)
        for number in range(questions):
            question = sample_question(rng, facts, ever, split)
            name = f"tiny_bank/{split}/{quality}/{junk}/{length}/{seed}/{number}"
            tasks.append(bank_task(name, texts, question, facts))
        seed += 1
    return tasks[:count]
