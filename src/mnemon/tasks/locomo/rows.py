"""LoCoMo as tasks: splits by conversation, sessions as scripts of inputs, questions as probes, turns with questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from mnemon.tasks.locomo.data import LICENSE, Conversation, Locomo, Question, Session
from mnemon.tasks.script import Script
from mnemon.types import Input, MnemonError, Probe, Stage, Task

SplitName = Literal["train", "validation", "test", "all"]

CATEGORIES: dict[str, tuple[str, str]] = {
    "1": ("multi-hop", "Single Hop"),
    "2": ("temporal", "Temporal"),
    "3": ("open-domain", "Multi-Hop"),
    "4": ("single-hop", "Open Domain"),
    "5": ("adversarial", "adversarial"),
}
"""Category id -> (LoCoMo's name, the name in the tables of mem0 and Memory-R1). The two disagree: go by the id."""

TRAIN, VALIDATION = ("conv-26",), ("conv-30",)
"""The split of Memory-R1 (arXiv 2508.19828), by conversation: 152 / 81 / 1,307 questions without the adversarial."""

SCORERS = ("f1_mem0", "bleu1_mem0", "em_squad", "f1_locomo")


def split(locomo: Locomo, name: SplitName) -> tuple[Conversation, ...]:
    """The conversations of a split; those of neither train nor validation are test. MnemonError where none is left."""
    if name not in ("train", "validation", "test", "all"):
        raise MnemonError(f"unknown split {name!r}; use train, validation, test or all.")
    roles = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(VALIDATION, "validation")}
    kept = tuple(c for c in locomo.conversations if name in ("all", roles.get(c.id, "test")))
    if not kept:
        raise MnemonError(
            f"{locomo.file.name} has no conversation of the split {name!r} (train conv-26, validation conv-30)."
        )
    return kept


def session_inputs(session: Session, turns: int = 2, captions: bool = True) -> tuple[Input, ...]:
    """The session `turns` turns at a time, one line per turn; speaker "" where an input has more than one."""
    if turns < 1:
        raise MnemonError(f"turns={turns}: an input holds at least one turn.")
    inputs = []
    for start in range(0, len(session.turns), turns):
        block = session.turns[start : start + turns]
        speakers = {turn.speaker for turn in block}
        inputs.append(
            Input(
                text="\n".join(turn.render(captions) for turn in block),
                time=session.time_text,
                source=tuple(turn.id for turn in block),
                speaker=block[0].speaker if len(speakers) == 1 else "",
            )
        )
    return tuple(inputs)


def probe_id(conversation: Conversation, question: Question) -> str:
    """``conv-26/q3``: the question's 0-based place in the file."""
    return f"{conversation.id}/q{question.index}"


def probe(conversation: Conversation, question: Question, scorers: Sequence[str] = SCORERS) -> Probe:
    """A question as a probe. An adversarial one has no answers, its trap in `meta`, and LoCoMo's own score."""
    adversarial = question.category == 5
    return Probe(
        id=probe_id(conversation, question),
        question=question.question,
        answers=() if adversarial else (question.answer,),
        category=str(question.category),
        evidence=question.evidence,
        scorers=("f1_locomo",) if adversarial else tuple(scorers),
        meta={"conversation": conversation.id, "index": question.index, "wrong_answer": question.wrong_answer},
    )


def asked(conversation: Conversation, adversarial: bool = False) -> Iterator[Question]:
    """The questions of a conversation, without the adversarial ones unless asked for."""
    return (q for q in conversation.questions if adversarial or q.category != 5)


def tasks(
    locomo: Locomo,
    split_name: SplitName = "test",
    *,
    conversations: Sequence[str] | None = None,
    turns: int = 2,
    captions: bool = True,
    adversarial: bool = False,
    scorers: Sequence[str] = SCORERS,
) -> list[Task]:
    """One task per conversation, one stage per session, one probe per question.

    `conversations` (ids) replaces the split, for folds over conversations. Never divide the questions of one
    conversation between training and test: they share its memory.
    """
    chosen = split(locomo, split_name) if conversations is None else tuple(locomo[name] for name in conversations)
    return [
        Task(
            id=f"locomo/{conversation.id}",
            stages=tuple(
                Stage(partial(Script, session_inputs(session, turns, captions)), name=f"session_{session.number}")
                for session in conversation.sessions
            ),
            probes=tuple(probe(conversation, question, scorers) for question in asked(conversation, adversarial)),
            meta={"conversation": conversation.id, "speakers": conversation.speakers, "license": LICENSE},
        )
        for conversation in chosen
    ]


@dataclass(frozen=True, slots=True)
class LinkedTurn:
    """A turn that is evidence for questions: what one decision of a memory manager is paid by (Memory-R1, Algorithm 1).

    `context` are the ids of the turns before it, oldest first: the material of its temporary memory (build it from
    them, or replay them from an empty memory). `questions` are probe ids.
    """

    conversation: str
    turn: str
    context: tuple[str, ...]
    questions: tuple[str, ...]


def linked_turns(conversation: Conversation, context: int = 50, adversarial: bool = False) -> list[LinkedTurn]:
    """The turns with at least one question linked by its evidence, in order, each with up to `context` turns before."""
    if context < 0:
        raise MnemonError(f"context={context}: the number of turns before a linked turn is at least 0.")
    names = [turn.id for turn in conversation.turns]
    linked: dict[str, list[str]] = {}
    for question in asked(conversation, adversarial):
        for turn in question.evidence:
            linked.setdefault(turn, []).append(probe_id(conversation, question))
    return [
        LinkedTurn(conversation.id, name, tuple(names[max(0, i - context) : i]), tuple(linked[name]))
        for i, name in enumerate(names)
        if name in linked
    ]
