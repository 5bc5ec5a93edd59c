"""Rows of paragraphs packed into chunks: SQuAD, XQuAD and HotpotQA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Options, distinct, draw
from mnemon.tasks.rows.data import Chunk, Question, Row, Segment
from mnemon.tasks.rows.wrap import dialogue


def packed_rows(
    prefix: str,
    segments: Sequence[Segment],
    questions: Mapping[str, Sequence[Question]],
    options: Options,
    facts: Mapping[str, Any],
) -> Iterator[Row]:
    """Rows of `options.row_chunks` chunks each, the paragraphs in order, with the questions about them.

    questions: segment id -> what is asked about it. A paragraph is in one row only, so a row ends with the chunk that
    finishes one. facts: the other fields of `Row`; ``metadata["documents"]`` becomes the titles of the paragraphs.
    Rows without a question are left out.
    """
    least = min(100, options.chunk_tokens // 4)
    wrap = dialogue(options.seed)
    size, counter = options.chunk_tokens, options.counter
    chunks, _ = chunk.pack(segments, counter, size, least, wrap, options.seed)
    for n, ids in enumerate(_groups(chunks, options.row_chunks)):
        inside = [segment for segment in segments if segment.id in ids]
        asked = [q for segment in inside for q in questions.get(segment.id, ())]
        if not asked:
            continue
        seed = options.seed + n
        own, rule = chunk.pack(inside, counter, size, least, dialogue(seed, key=prefix), seed)
        yield Row(
            id=f"{prefix}#{n}",
            segments=tuple(inside),
            probes=tuple(draw(asked, options.questions, options.seed, prefix, n)),
            chunks=own,
            chunker=rule,
            metadata={"documents": list(distinct(str(s.meta["title"]) for s in inside))},
            **facts,
        )


def _groups(chunks: Sequence[Chunk], most: int) -> Iterator[set[str]]:
    """The segments of runs of about `most` chunks; a segment cut in two goes with its first part."""
    done: set[str] = set()
    ids: set[str] = set()
    for i, one in enumerate(chunks):
        ids |= set(one.segments) - done
        if (i + 1) % most == 0 or i + 1 == len(chunks):
            if ids:
                yield ids
            done |= ids
            ids = set()
