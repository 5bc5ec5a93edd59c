"""LoCoMo as rows: one per conversation, a segment per session, split by conversation as in Memory-R1.

The file is read by `mnemon.tasks.locomo.load`, with its repairs. Adversarial questions are abstentions: no answer, the
trap in ``meta["wrong_answer"]``. CC BY-NC 4.0: non-commercial use.
"""

from __future__ import annotations

from collections.abc import Iterator

from mnemon.tasks import locomo
from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Source, draw
from mnemon.tasks.rows.data import Fault, Question, Row, Said, Segment
from mnemon.tasks.rows.wrap import named_line, session_header

SCORERS = ("f1_mem0", "bleu1_mem0", "em_squad", "f1_locomo", "judge_correct")


def build(source: Source) -> Iterator[Row]:
    """A row per conversation."""
    options = source.options
    for path in source.each():
        data = locomo.load(path, skip_bad=True)
        source.faults += [Fault(path.name, p.row, p.field, p.what, p.done, bad=not p.repaired) for p in data.problems]
        for conversation in data.conversations:
            source.progress(conversation.id)
            segments = tuple(_segment(session, conversation.speakers[0]) for session in conversation.sessions)
            chunks, rule = chunk.sessions(segments, options.counter, options.chunk_tokens, session_header, named_line)
            roles = {**dict.fromkeys(locomo.TRAIN, "train"), **dict.fromkeys(locomo.VALIDATION, "validation")}
            asked = draw(conversation.questions, options.questions, options.seed, conversation.id)
            yield Row(
                id=f"locomo/{conversation.id}",
                source="locomo",
                dimension="accurate_retrieval",
                split=roles.get(conversation.id, "test"),
                license="CC-BY-NC-4.0",
                segments=segments,
                probes=tuple(_question(question) for question in asked),
                chunks=chunks,
                chunker=rule,
                metadata={"documents": [conversation.id], "noncommercial": True},
            )


def _segment(session: locomo.Session, first: str) -> Segment:
    turns = tuple(
        Said(
            turn.id,
            turn.speaker,
            "user" if turn.speaker == first else "other",
            turn.text,
            {key: value for key, value in (("caption", turn.caption), ("image_query", turn.query)) if value},
        )
        for turn in session.turns
    )
    return Segment(
        id=f"S{session.number}",
        kind="dialogue",
        turns=turns,
        time=session.time,
        time_text=session.time_text,
        speakers=tuple(dict.fromkeys(turn.speaker for turn in turns)),
    )


def _question(question: locomo.Question) -> Question:
    """The category is the file's number: its names differ between papers."""
    adversarial = question.category == 5
    meta = {"category_name": locomo.CATEGORIES[str(question.category)][0]}
    if question.wrong_answer:
        meta["wrong_answer"] = question.wrong_answer
    return Question(
        id=f"q{question.index}",
        question=question.question,
        answers=() if adversarial else (question.answer,),
        answer_type="abstain" if adversarial else "list" if question.category == 1 else "short",
        category=str(question.category),
        evidence=question.evidence,
        evidence_level="turn" if question.evidence else "none",
        scorers=("f1_locomo",) if adversarial else SCORERS,
        meta=meta,
    )
