"""SQuAD v1.1 and v2.0 and XQuAD, one row per run of paragraphs.

The file: {version, data: [{title, paragraphs: [{context, qas: [{id, question, answers: [{text, answer_start}]}]}]}]},
or the hub's records {id, title, context, question, answers {text, answer_start}} as JSON Lines or parquet (Rajpurkar
et al., arXiv 1606.05250; XQuAD: Artetxe et al., arXiv 1910.11856). CC BY-SA 4.0. A file named *train* is split by
article into train and validation; any other is test. `Options.deal` deals a file's articles to all three splits.
Questions without an answer (v2.0) are left aside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemon.tasks.rows.build.common import Source, distinct, read_json, read_records
from mnemon.tasks.rows.build.packed import packed_rows
from mnemon.tasks.rows.data import Question, Row, Segment, Split
from mnemon.tasks.rows.fields import Bad, have, need
from mnemon.tasks.rows.split import deal_documents, split_documents
from mnemon.types import MnemonError

SCORERS = ("em_squad", "f1_squad", "sub_squad", "sub_raw")
LICENSE = "CC-BY-SA-4.0"


def build(source: Source) -> Iterator[Row]:
    """Rows of SQuAD or XQuAD files; the source's name follows the file's."""
    for path in source.each():
        data = _nested(source, path)
        articles: dict[str, list[Segment]] = {}
        questions: dict[str, list[Question]] = {}
        seen: set[str] = set()
        for i, article in enumerate(data):
            with source.part("article", f"data[{i}]"):
                title = need(article, "title", str)
                held = articles.setdefault(title, [])
                for j, paragraph in enumerate(need(article, "paragraphs", list)):
                    with source.part("paragraph"):
                        segment, asked = _paragraph(source, paragraph, f"paragraphs[{j}]", i, j, title, seen)
                        held.append(segment)
                        questions[segment.id] = asked
        name = "xquad" if "xquad" in path.name.lower() else "squad"
        training = "train" in path.name.lower()
        splits: dict[str, Split] = split_documents(articles) if training else dict.fromkeys(articles, "test")
        if source.options.deal:
            splits = deal_documents(articles, seed=source.options.seed)
        for split in ("train", "validation", "test"):
            inside = [s for title, segments in articles.items() if splits[title] == split for s in segments]
            if inside:
                facts = {"source": name, "dimension": "accurate_retrieval", "split": split, "license": LICENSE}
                yield from packed_rows(f"{name}/{path.stem}/{split}", inside, questions, source.options, facts)


def _nested(source: Source, path: Path) -> list[Any]:
    """The articles of a file. The hub's records, one per question, are put together by title and context."""
    if path.suffix == ".json":
        raw = read_json(path)
        if not isinstance(raw, dict) or not isinstance(raw.get("data"), list):
            raise MnemonError(f"{path} is not a SQuAD file: expected an object with version and data")
        return list(raw["data"])
    articles: dict[str, dict[str, list[Any]]] = {}
    for i, record in read_records(source, path, "SQuAD questions"):
        with source.part("question", f"row {i}"):
            answers = need(record, "answers", dict)
            starts, told = need(answers, "answer_start", list, "answers"), need(answers, "text", list, "answers")
            pairs = [{"text": text, "answer_start": start} for text, start in zip(told, starts, strict=False)]
            qa = {key: record.get(key) for key in ("id", "question")} | {"answers": pairs, "is_impossible": not pairs}
            paragraphs = articles.setdefault(need(record, "title", str), {})
            paragraphs.setdefault(need(record, "context", str), []).append(qa)
    return [
        {"title": title, "paragraphs": [{"context": text, "qas": qas} for text, qas in paragraphs.items()]}
        for title, paragraphs in articles.items()
    ]


def _paragraph(
    source: Source, raw: Any, place: str, article: int, number: int, title: str, seen: set[str]
) -> tuple[Segment, list[Question]]:
    context = need(raw, "context", str, place)
    segment = Segment(f"p{article}.{number}", "document", context.strip(), meta={"title": title})
    asked = []
    empty = 0
    for k, item in enumerate(have(raw, "qas", list, [], place)):
        spot = f"{place}.qas[{k}]"
        with source.part("question"):
            name = need(item, "id", str, spot)
            if name in seen:
                raise Bad(f"{spot}.id", f"{name!r} is used twice")
            found = have(item, "answers", list, [], spot)
            if not found and item.get("is_impossible"):
                empty += 1
                continue
            answers = distinct(need(a, "text", str, f"{spot}.answers[{n}]").strip() for n, a in enumerate(found))
            if not answers:
                raise Bad(f"{spot}.answers", "is empty")
            seen.add(name)
            asked.append(
                Question(
                    id=name,
                    question=need(item, "question", str, spot).strip(),
                    answers=answers,
                    category="extractive",
                    evidence=(segment.id,),
                    evidence_level="segment",
                    scorers=SCORERS,
                    meta={"title": title},
                )
            )
    if empty:
        source.note(f"{place}.qas", f"{empty} question(s) without an answer", "left aside")
    return segment, asked
