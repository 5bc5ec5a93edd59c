"""The published Mem-α data (YuWangX/Memalpha, …-full and …-Memoryagentbench on the hub; arXiv 2509.25911).

Records: instance_id, prompt, chunks (JSON text of a list of texts), questions_and_answers (JSON text of a list of
{question, answer}), data_source, metadata (JSON text), num_chunks, num_questions; parquet or JSON Lines. Chunks are
taken as they are, frames included, so they may be larger than ``--chunk-tokens``; evidence is not published.
Apache-2.0 by its code repository. The split is the file's: train, validation (``valid``), else test.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mnemon.tasks.rows.build.common import Source, draw, read_records, text_of
from mnemon.tasks.rows.check import is_time
from mnemon.tasks.rows.data import Chunk, Chunker, Question, Row, Segment, Split
from mnemon.tasks.rows.fields import Bad, cast, need, short, texts

MOST_QUESTIONS = 100
_DATE = re.compile(r"\b(\d{4})[-/](\d\d)[-/](\d\d)(?:\s+\(\w+\))?(?:\s+(\d\d:\d\d))?")


@dataclass(frozen=True, slots=True)
class Kind:
    """How the questions of a source are answered and scored, and what it asks of a memory."""

    answer_type: str
    scorers: tuple[str, ...]
    dimension: str = "accurate_retrieval"


TEXT = Kind("short", ("sub_raw", "em_squad", "f1_squad"))
LABEL = Kind("label", ("boxed", "label"), "test_time_learning")
BOOK = Kind("keywords", ("keyword_hit",), "long_range_understanding")
KINDS: dict[str, Kind] = {
    "squad": TEXT,
    "hotpotqa": TEXT,
    "perltqa": Kind("list", ("list_hit", "list_hit_compat")),
    "lme_train": Kind("short", ("judge_lme", "f1_mem0", "sub_squad")),
    "longmemeval": Kind("short", ("judge_lme", "f1_mem0", "sub_squad")),
    "ruler_qa": Kind("short", ("sub_squad", "em_squad", "f1_squad")),
    "pubmed": LABEL,
    "icl_": LABEL,
    "trec": LABEL,
    "nlu": LABEL,
    "booksum": BOOK,
    "infbench": BOOK,
}
"""Beginning of ``data_source`` -> kind."""


def build(source: Source) -> Iterator[Row]:
    """A row per record."""
    stems = Counter(path.stem for path in source.files)
    for path in source.each():
        stem = path.stem if stems[path.stem] == 1 else f"{path.parent.name}-{path.stem}"
        name = path.name.lower()
        split: Split = "train" if "train" in name else "validation" if "valid" in name else "test"
        for i, record in read_records(source, path, "Memalpha records"):
            with source.part("record", f"row {i}"):
                yield _row(source, record, stem, i, split)


def _row(source: Source, record: Any, stem: str, i: int, split: Split) -> Row:
    options = source.options
    name = need(record, "data_source", str)
    kind = next((kind for start, kind in KINDS.items() if name.lower().startswith(start)), None)
    if kind is None:
        raise Bad("data_source", f"{name!r} is unknown; known: {', '.join(KINDS)}")
    told = texts(_list(record, "chunks"), "chunks")
    asked = _list(record, "questions_and_answers")
    for field, held in (("num_chunks", told), ("num_questions", asked)):
        if need(record, field, int) != len(held):
            raise Bad(field, f"is {record[field]}, but there are {len(held)}")
    if len(asked) > MOST_QUESTIONS:
        raise Bad("num_questions", f"is {len(asked)}, more than {MOST_QUESTIONS}")
    times = _times(source, told)
    segments = tuple(Segment(f"s{k}", "text", text, time=times[k]) for k, text in enumerate(told))
    questions: list[Question] = []
    for k, item in enumerate(asked):
        with source.part("question"):
            questions.append(_question(item, f"questions_and_answers[{k}]", k, kind))
    if not questions:
        raise Bad("questions_and_answers", "holds no usable question")
    number = need(record, "instance_id", int)
    return Row(
        id=f"memalpha/{stem}/{i}",
        source=f"memalpha-{name.lower()}",
        dimension=kind.dimension,
        split=split,
        license="Apache-2.0",
        segments=segments,
        probes=tuple(draw(questions, options.questions, options.seed, stem, i)),
        chunks=tuple(
            Chunk(f"c{k}", text, (f"s{k}",), (), times[k], options.counter(text)) for k, text in enumerate(told)
        ),
        chunker=Chunker("given", options.counter.name),
        metadata={"documents": [f"{stem}/{i}"], "instance_id": number},
    )


def _list(record: Any, key: str) -> list[Any]:
    """A list, or the JSON text of one."""
    value = record.get(key)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise Bad(key, f"is not the JSON of a list ({error})") from error
    elif key not in record:
        raise Bad(key, "is missing")
    if not cast(value, list, key):
        raise Bad(key, "is empty")
    return list(value)


def _question(item: Any, place: str, k: int, kind: Kind) -> Question:
    question, answer = need(item, "question", str, place), item.get("answer")
    given = answer if isinstance(answer, list) else [answer]
    answers = tuple(text_of(one, f"{place}.answer") for one in given)
    if not answers:
        raise Bad(f"{place}.answer", "is empty")
    if kind.answer_type == "keywords" and len(answers) == 1:
        answers = tuple(part.strip() for part in answers[0].split(",") if part.strip())
    if kind.answer_type == "label" and not answers[0].isdigit():
        raise Bad(f"{place}.answer", f"{short(answers[0])} is not the number of a label")
    return Question(
        id=f"q{k}",
        question=question.strip(),
        answers=answers,
        answer_type=kind.answer_type,
        category=kind.answer_type,
        scorers=kind.scorers,
    )


def _times(source: Source, told: Sequence[str]) -> list[str]:
    """The date in each chunk's first line; none at all where they are not in order."""
    times = []
    for text in told:
        match = _DATE.search(text.lstrip().partition("\n")[0])
        time = "{}-{}-{}T{}".format(*match.groups()[:3], match.group(4) or "00:00") if match else ""
        times.append(time if is_time(time) else "")
    dated = [time for time in times if time]
    if dated != sorted(dated):
        source.note("chunks", "their dates are not in order", "dates kept in the texts only")
        return [""] * len(told)
    return times
