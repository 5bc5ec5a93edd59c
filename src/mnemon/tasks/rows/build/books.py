"""Long-range understanding: a book read in parts, then one request to tell what was read. BookSum and InfBench-Sum.

    booksum       records of the hub set ubaada/booksum-complete-cleaned: text, book_title, chapter_id, summary (a list
                  of {text}); one row per chapter of 5 to 20 chunks (Kryściński et al., arXiv 2105.08209)
    infbench_sum  longbook_sum_eng.jsonl of xinrongzhang2022/InfiniteBench: id, context, input, answer
                  (Zhang et al., arXiv 2402.13718); test only

The answer is a list of keywords, scored by how many a reply holds, as in Mem-α (arXiv 2509.25911). There a language
model draws them from the summary; here a rule does (`summary_keywords`) unless
`mnemon.tasks.rows.assist.with_keywords` is asked to. The reference summary is kept in the question's `meta`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnemon.tasks.rows import chunk
from mnemon.tasks.rows.build.common import Source, read_records
from mnemon.tasks.rows.data import Question, Row, Segment, Split
from mnemon.tasks.rows.fields import Bad, need
from mnemon.tasks.rows.split import split_documents
from mnemon.tasks.rows.wrap import book

SCORERS = ("keyword_hit", "rouge_l")
CHUNKS = (5, 20)
"""Fewest and most chunks of a chapter."""
MOST_KEYWORDS = 20
_NAME = re.compile(r"\b[A-Z][\w’'-]*(?: [A-Z][\w’'-]*)*")
_LONG = re.compile(r"\b[a-z]{6,}\b")


def booksum(source: Source) -> Iterator[Row]:
    """A row per chapter; the split is the file's, or by book where its name tells none."""
    for path in source.each():
        chapters = []
        for i, record in read_records(source, path, "BookSum chapters"):
            with source.part("chapter", f"row {i}"):
                title = need(record, "book_title", str).strip()
                chapters.append((i, title, str(record.get("chapter_id", i)), need(record, "text", str), _told(record)))
        by_name = _split_of(path)
        splits = split_documents(title for _, title, *_ in chapters)
        sizes: Counter[str] = Counter()
        for i, title, chapter, text, summary in chapters:
            source.row = f"row {i}"
            row = book_row(
                source,
                f"booksum/{path.stem}/{i}",
                by_name or splits[title],
                text,
                summary,
                {"source": "booksum", "license": "unstated"},
                {"documents": [title], "chapter": chapter},
            )
            if CHUNKS[0] <= len(row.chunks) <= CHUNKS[1]:
                yield row
            else:
                sizes["shorter" if len(row.chunks) < CHUNKS[0] else "longer"] += 1
        source.row = ""
        for what, n in sizes.items():
            source.note("text", f"{n} chapter(s) {what} than {CHUNKS[0]} to {CHUNKS[1]} chunks", "left aside")


def infbench_sum(source: Source) -> Iterator[Row]:
    """A row per book."""
    for path in source.each():
        for i, record in read_records(source, path, "InfiniteBench books"):
            with source.part("book", f"row {i}"):
                answer = record.get("answer") if isinstance(record, dict) else None
                if isinstance(answer, list):
                    answer = answer[0] if answer else None
                if not isinstance(answer, str) or not answer.strip():
                    raise Bad("answer", "is no summary")
                name = str(record.get("id", i))
                yield book_row(
                    source,
                    f"infbench_sum/{name}",
                    "test",
                    need(record, "context", str),
                    answer.strip(),
                    {"source": "infbench_sum", "license": "unstated"},
                    {"documents": [name]},
                )


def _told(record: Any) -> str:
    """The first summary of a chapter."""
    given = record.get("summary")
    for item in given if isinstance(given, list) else [given]:
        text = item.get("text") if isinstance(item, dict) else item
        if isinstance(text, list):
            text = " ".join(str(part) for part in text)
        if isinstance(text, str) and text.strip():
            return text.strip()
    raise Bad("summary", "has no text")


def _split_of(path: Path) -> Split | None:
    name = path.name.lower()
    return "train" if "train" in name else "validation" if "valid" in name else "test" if "test" in name else None


def book_row(
    source: Source,
    name: str,
    split: Split,
    text: str,
    summary: str,
    facts: Mapping[str, str],
    metadata: Mapping[str, Any],
    keypoints: tuple[str, ...] = (),
) -> Row:
    """A text in sentence-packed chunks, and the request to tell it. `facts`: source and license."""
    options = source.options
    wrap = book(options.seed)
    left = chunk.room(options.chunk_tokens, options.counter, wrap)
    parts = chunk.pack_sentences(text, left, options.counter)
    segments = tuple(Segment(f"b{i}", "text", part) for i, part in enumerate(parts))
    chunks, rule = chunk.each(segments, options.counter, options.chunk_tokens, wrap)
    if not chunks:
        raise Bad("text", "is blank")
    words = summary_keywords(summary, text)
    first, last = chunks[0].time[:10], chunks[-1].time[:10]
    probe = Question(
        id="q0",
        question=f"Summarise what the user read from {first} to {last}.",
        answers=words or (summary,),
        answer_type="keywords" if words else "summary",
        category="summary",
        scorers=SCORERS if words else ("rouge_l",),
        meta={"summary": summary} | ({"keypoints": list(keypoints)} if keypoints else {}),
    )
    return Row(
        id=name,
        dimension="long_range_understanding",
        split=split,
        segments=segments,
        probes=(probe,),
        chunks=chunks,
        chunker=rule,
        metadata=dict(metadata),
        **facts,
    )


def summary_keywords(summary: str, text: str, most: int = MOST_KEYWORDS) -> tuple[str, ...]:
    """Names of the summary that the text has too, the most frequent first; then long words of both, up to five in all.

    A single capitalised word is no name where the text also writes it small (the first word of a sentence).
    """
    names: Counter[str] = Counter()
    for match in _NAME.finditer(summary):
        name = match.group().removesuffix("'s").removesuffix("’s")
        words = name.split()
        while words and re.search(rf"\b{re.escape(words[0].lower())}\b", text):
            words = words[1:]
        if words and len(" ".join(words)) > 1 and " ".join(words) in text:
            names[" ".join(words)] += 1
    kept = [name for name, _ in names.most_common(most)]
    if len(kept) < 5:
        shared = set(_LONG.findall(text))
        common = Counter(word for word in _LONG.findall(summary) if word in shared)
        kept += [word for word, _ in common.most_common(5 - len(kept))]
    return tuple(kept)
