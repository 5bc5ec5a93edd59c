"""A row as a task: one input per chunk, one probe per question."""

from __future__ import annotations

from functools import partial

from mnemon.tasks.rows.data import Chunk, Question, Row
from mnemon.tasks.script import Script
from mnemon.types import Input, MnemonError, Probe, Stage, Task

PREFIXES = {
    "label": "The memory holds sentences with the numbers of their labels, or rules drawn from them. Which label has "
    "the following sentence? Answer with its number alone, as \\boxed{number}.",
    "keywords": "The memory holds a summary of what was read. Tell it in full: people, places and what happens.",
    "summary": "The memory holds a summary of what was read. Tell it in full: people, places and what happens.",
    "options": "Answer with one of the options, word for word.",
    "ranking": "Answer with a numbered list of 20 titles, the best first.",
}
"""Answer type -> what a reader is told before the question. Retrieval uses the bare question."""


def to_task(row: Row, *, judged: bool = False) -> Task:
    """A row as a task: a stage of one `Input` per chunk (per segment where a row has none), one `Probe` per question.

    Input: the chunk's text, its time, ``source=(chunk id,)``. Probe: id ``row/question``, evidence = the chunks that
    hold it, `meta` with source, dimension, prefix (`PREFIXES`), answer_type, options, rubric and the question's own.
    A stage ends where a segment of another stage begins (the context is cleared) and, with the context kept, where a
    question is asked in mid-stream. `judged`: scorers that need a judge are kept; otherwise they are left out, and so
    are the questions that only a judge can score, counted in ``meta["unjudged"]``.

    Raises MnemonError where no question is left.
    """
    chunks = row.chunks or tuple(_whole(row))
    starts = _starts(row, chunks)
    stages = []
    for k, start in enumerate(starts):
        end = starts[k + 1] if k + 1 < len(starts) else len(chunks)
        name = _stage(row, chunks[start])
        fresh = start == 0 or name != _stage(row, chunks[start - 1])
        inputs = [Input(chunk.text, chunk.time, (chunk.id,)) for chunk in chunks[start:end]]
        stages.append(Stage(partial(Script, inputs), fresh, name if fresh else f"{name}/{k}"))
    probes = [probe for question in row.probes if (probe := _probe(row, question, chunks, starts, judged)) is not None]
    if not probes:
        raise MnemonError(f"row {row.id}: only a judge can score its questions; use to_task(row, judged=True)")
    meta = {
        "source": row.source,
        "dimension": row.dimension,
        "split": row.split,
        "license": row.license,
        "tokens": row.tokens,
        "counter": row.chunker.counter if row.chunker else "",
        "unjudged": len(row.probes) - len(probes),
    }
    return Task(row.id, tuple(stages), tuple(probes), meta)


def _whole(row: Row) -> list[Chunk]:
    """Each segment as a chunk, its turns one per line."""
    texts = [s.text or "\n".join(f"{turn.speaker}: {turn.text}" for turn in s.turns) for s in row.segments]
    return [
        Chunk(s.id, text, (s.id,), tuple(turn.id for turn in s.turns), s.time)
        for s, text in zip(row.segments, texts, strict=True)
    ]


def _stage(row: Row, chunk: Chunk) -> str:
    return next(segment.stage for segment in row.segments if segment.id == chunk.segments[0])


def _read_by(row: Row, chunks: tuple[Chunk, ...], after: int | None) -> int:
    """How many chunks must be read so that the first `after` segments are."""
    if after is None or after >= len(row.segments):
        return len(chunks)
    wanted = {segment.id for segment in row.segments[:after]}
    return max(i for i, chunk in enumerate(chunks) if wanted & set(chunk.segments)) + 1


def _starts(row: Row, chunks: tuple[Chunk, ...]) -> list[int]:
    """The chunks at which a stage begins, the first always."""
    stage = {segment.id: segment.stage for segment in row.segments}
    names = [stage[chunk.segments[0]] for chunk in chunks]
    borders = {0} | {i for i in range(1, len(chunks)) if names[i] != names[i - 1]}
    borders |= {_read_by(row, chunks, probe.after) for probe in row.probes}
    return sorted(borders - {len(chunks)})


def _probe(row: Row, question: Question, chunks: tuple[Chunk, ...], starts: list[int], judged: bool) -> Probe | None:
    scorers = tuple(name for name in question.scorers if judged or not name.startswith("judge_"))
    if not scorers:
        return None
    wanted = set(question.evidence)
    units = {chunk.id: chunk.turns if question.evidence_level == "turn" else chunk.segments for chunk in chunks}
    read = _read_by(row, chunks, question.after)
    added = {
        "source": row.source,
        "dimension": row.dimension,
        "prefix": PREFIXES.get(question.answer_type, ""),
        "answer_type": question.answer_type,
        "options": question.options,
        "rubric": question.rubric,
    }
    return Probe(
        id=f"{row.id}/{question.id}",
        question=question.question,
        answers=question.answers,
        category=question.category,
        evidence=tuple(name for name, held in units.items() if wanted & set(held)),
        after=None if read == len(chunks) else starts.index(read),
        scorers=scorers,
        time=question.asked_at,
        meta={**question.meta, **added},
    )
