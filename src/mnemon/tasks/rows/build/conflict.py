"""Conflict resolution for training: numbered facts of your own, of which later ones correct earlier ones.

MemoryAgentBench (arXiv 2507.05257) tests this with FactConsolidation, which has no training part, and Mem-α leaves it
out. Here rows in that form are made from any list of facts (JSON list or JSON Lines):

    {"subject": "Ada", "relation": "employer", "object": "the post office",
     "statement": "{subject} works for {object}.", "question": "Whom does {subject} work for?"}

`statement` and `question` are optional. About half of the facts of a row are corrected later: another object of the
same relation takes the place of the first. Asked is what holds at the end, of one fact or through two (the newest
object is itself a subject). Split by subject.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Source, distinct, draw, read_records, shuffled
from mnemon.tasks.rows.data import Question, Row, Segment
from mnemon.tasks.rows.fields import Bad, have, need
from mnemon.tasks.rows.split import split_documents
from mnemon.tasks.rows.wrap import dialogue
from mnemon.types import MnemonError

CORRECTED = 0.5
SCORERS = ("sub_squad", "em_squad", "f1_hotpot")
STATEMENT = "The {relation} of {subject} is {object}."
QUESTION = "What is the {relation} of {subject}?"


@dataclass(frozen=True, slots=True)
class _Fact:
    subject: str
    relation: str
    object: str
    statement: str = STATEMENT
    question: str = QUESTION

    def fill(self, form: str, subject: str = "") -> str:
        """`form` with its fields replaced; braces elsewhere are left alone."""
        for name, value in (("relation", self.relation), ("object", self.object), ("subject", subject or self.subject)):
            form = form.replace("{" + name + "}", value)
        return form


def build(source: Source) -> Iterator[Row]:
    """Rows of about `options.row_chunks` full chunks, train and validation."""
    facts: dict[tuple[str, str], _Fact] = {}
    for path in source.each():
        for i, record in read_records(source, path, "facts"):
            with source.part("fact", f"record {i}"):
                fact = _read(record)
                if (fact.subject, fact.relation) in facts:
                    raise Bad("relation", f"the {fact.relation} of {fact.subject} is given twice")
                facts[fact.subject, fact.relation] = fact
    source.row = ""
    splits = split_documents(fact.subject for fact in facts.values())
    options = source.options
    room = options.row_chunks * options.chunk_tokens * 3 // 4
    for split in ("train", "validation"):
        own = [fact for fact in facts.values() if splits[fact.subject] == split]
        others: dict[str, list[str]] = defaultdict(list)
        for fact in own:
            others[fact.relation].append(fact.object)
        choice = {relation: distinct(objects) for relation, objects in others.items()}
        n = 0
        run: list[_Fact] = []
        total = 0
        for fact in _linked(own, options.seed, split):
            cost = 2 * options.counter(f"1000. {fact.fill(fact.statement)}\n")
            if run and total + cost > room:
                yield _row(source, f"conflict/{split}#{n}", split, run, choice)
                run, total, n = [], 0, n + 1
            run.append(fact)
            total += cost
        if run:
            yield _row(source, f"conflict/{split}#{n}", split, run, choice)


def _read(record: Any) -> _Fact:
    names = ("subject", "relation", "object")
    fact = _Fact(*(need(record, name, str).strip() for name in names))
    fact = replace(
        fact,
        statement=have(record, "statement", str, STATEMENT).strip(),
        question=have(record, "question", str, QUESTION).strip(),
    )
    for field, form, wanted in (
        ("statement", fact.statement, ("{subject}", "{object}")),
        ("question", fact.question, ("{subject}",)),
    ):
        if missing := [name for name in wanted if name not in form]:
            raise Bad(field, f"has no {missing[0]}")
    return fact


def _linked(facts: Sequence[_Fact], seed: int, split: str) -> list[_Fact]:
    """Subjects in a drawn order, each with its facts, the subjects that it leads to right after it."""
    by_subject: dict[str, list[_Fact]] = defaultdict(list)
    for fact in facts:
        by_subject[fact.subject].append(fact)
    order: list[_Fact] = []
    waiting = shuffled(sorted(by_subject), seed, "conflict", split)
    while waiting:
        found = by_subject.pop(waiting.pop(), [])
        order += found
        waiting += [fact.object for fact in found if fact.object in by_subject]
    return order


def _row(source: Source, name: str, split: str, facts: Sequence[_Fact], choice: Mapping[str, Sequence[str]]) -> Row:
    """One row: the facts and corrections of some in a drawn order, a correction after what it corrects."""
    options = source.options
    luck = random.Random(f"{options.seed}/{name}")
    told = list(facts)
    luck.shuffle(told)
    for fact in sorted(facts, key=lambda f: (f.subject, f.relation)):
        objects = [o for o in choice[fact.relation] if o != fact.object and o != fact.subject]
        if objects and luck.random() < CORRECTED:
            at = luck.randint(told.index(fact) + 1, len(told))
            told.insert(at, replace(fact, object=luck.choice(objects)))
    lines = [f"{i}. {fact.fill(fact.statement)}" for i, fact in enumerate(told)]
    wrap = dialogue(options.seed, key=name)
    left = chunk.room(options.chunk_tokens, options.counter, wrap)
    sizes = [options.counter(line) + options.counter("\n") for line in lines]
    if max(sizes) > left:
        raise MnemonError(
            f"{name}: a fact has {max(sizes)} tokens, and a chunk holds {left}: allow more (--chunk-tokens)"
        )
    groups = chunk.greedy(sizes, lambda: left)
    segments = tuple(
        Segment(f"f{k}", "facts", "\n".join(lines[i] for i in group), meta={"serials": [group[0], group[-1]]})
        for k, group in enumerate(groups)
    )
    chunks, rule = chunk.each(segments, options.counter, options.chunk_tokens, wrap)
    place = {i: f"f{k}" for k, group in enumerate(groups) for i in group}
    questions = _questions(told, place)
    return Row(
        id=name,
        source="conflict",
        dimension="conflict_resolution",
        split=split,
        license="yours",
        segments=segments,
        probes=tuple(draw(questions, options.questions, options.seed, name)),
        chunks=chunks,
        chunker=rule,
        metadata={"documents": list(distinct(fact.subject for fact in facts))},
    )


def _questions(told: Sequence[_Fact], place: Mapping[int, str]) -> list[Question]:
    """Of every fact as it holds at the end, and of two facts where the first leads to the second."""
    newest = {(fact.subject, fact.relation): i for i, fact in enumerate(told)}
    by_subject: dict[str, list[int]] = defaultdict(list)
    for (subject, _), i in newest.items():
        by_subject[subject].append(i)
    times: dict[tuple[str, str], int] = defaultdict(int)
    for fact in told:
        times[fact.subject, fact.relation] += 1
    asked = []
    for key, i in newest.items():
        first = told[i]
        asked.append(_ask(f"s{i}", first.fill(first.question), first.object, "single_hop", [place[i]], times[key] > 1))
        for j in by_subject.get(first.object, ()):
            second = told[j]
            text = second.fill(second.question, f"the {first.relation} of {first.subject}")
            changed = times[key] > 1 or times[second.subject, second.relation] > 1
            asked.append(_ask(f"m{i}-{j}", text, second.object, "multi_hop", [place[i], place[j]], changed))
    return asked


def _ask(name: str, text: str, answer: str, category: str, evidence: list[str], corrected: bool) -> Question:
    return Question(
        id=name,
        question=text,
        answers=(answer,),
        category=category,
        evidence=distinct(evidence),
        evidence_level="segment",
        scorers=SCORERS,
        meta={"corrected": corrected},
    )
