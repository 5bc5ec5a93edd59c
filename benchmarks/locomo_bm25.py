"""BM25 evidence recall on the raw turns of LoCoMo: what lexical search finds before any memory is built.

    MNEMON_DATA=... python benchmarks/locomo_bm25.py

reads $MNEMON_DATA/locomo/locomo10.json and writes locomo_bm25.json and .md beside this file (figures only).

Unit: one turn, as "date-time speaker: text", with captions also the image's caption and search query; one index per
conversation. R@k is the mean share of a question's evidence among the k best turns, A@k the share of questions with all
of it there. Questions of categories 1 to 4 with evidence. The best turns are padded in dialogue order where fewer than
k have a positive score.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnemon.memory.retrieve import Lexical
from mnemon.metrics import retr_all, retr_frac
from mnemon.tasks.locomo import CATEGORIES, Conversation, Locomo, asked, load, split
from mnemon.types import MnemonError

CUTS = (10, 30, 60)
IDFS: tuple[tuple[str, Literal["okapi", "plus"]], ...] = (("IDF-A", "okapi"), ("IDF-B", "plus"))
SETTINGS: dict[str, tuple[Lexical, bool]] = {
    f"{name} {'stem' if stem else 'raw'}, {'captions' if captions else 'no captions'}": (
        Lexical(idf=idf, stem=stem, stop_words=stem),
        captions,
    )
    for name, idf in IDFS
    for stem in (False, True)
    for captions in (False, True)
}
"""Title -> (retriever, captions). IDF-A is Okapi's, IDF-B the always positive one; stem also drops stop words."""


@dataclass(frozen=True)
class Recall:
    """Recall in per cent at each of `CUTS`: mean share of the evidence, and share of questions with all of it."""

    n: int
    share: tuple[float, ...]
    every: tuple[float, ...]


def documents(conversation: Conversation, captions: bool) -> list[str]:
    """One text per turn, in dialogue order."""
    texts = []
    for session in conversation.sessions:
        for turn in session.turns:
            text = f"{session.time_text} {turn.speaker}: {turn.text}"
            texts.append(f"{text} {turn.caption} {turn.query}" if captions else text)
    return texts


def question_rows(
    conversations: Iterable[Conversation], lexical: Lexical, captions: bool
) -> list[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """(category, share at each cut, all found at each cut) per question with evidence."""
    rows = []
    for conversation in conversations:
        names = [turn.id for turn in conversation.turns]
        index = lexical.index()
        for position, text in enumerate(documents(conversation, captions)):
            index.add(position, text)
        for question in asked(conversation):
            if question.evidence:
                found = [names[i] for i, _ in index.search(question.question, max(CUTS), all=True)]
                shares = tuple(retr_frac(found, question.evidence, k) for k in CUTS)
                every = tuple(retr_all(found, question.evidence, k) for k in CUTS)
                rows.append((str(question.category), shares, every))
    return rows


def recall(rows: Sequence[tuple[str, tuple[float, ...], tuple[float, ...]]], category: str | None = None) -> Recall:
    """Means over the questions of one category, or of all."""
    kept = [(share, every) for c, share, every in rows if category in (None, c)]
    if not kept:
        raise MnemonError(f"no question with evidence in category {category}")
    shares, alls = zip(*kept, strict=True)
    return Recall(len(kept), _means(shares), _means(alls))


def _means(columns: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(100 * sum(column) / len(columns) for column in zip(*columns, strict=True))


def measure(locomo: Locomo, settings: dict[str, tuple[Lexical, bool]] = SETTINGS) -> dict[str, Any]:
    """setting -> {retriever, test: {all, "1" … "4"}, all: {…}}, each a `Recall`."""
    result: dict[str, Any] = {}
    for title, (lexical, captions) in settings.items():
        parts: dict[str, Any] = {"retriever": lexical.id}
        for name in ("test", "all"):
            rows = question_rows(split(locomo, "test" if name == "test" else "all"), lexical, captions)
            categories = [c for c in CATEGORIES if any(row[0] == c for row in rows)]
            parts[name] = {"all": recall(rows)} | {c: recall(rows, c) for c in categories}
        result[title] = parts
    return result


def speed(locomo: Locomo, entries: int = 1000) -> dict[str, float]:
    """Microseconds (median) of add, remove, search for 10 and copy, over an index of `entries` turns."""
    texts = [text for conversation in locomo.conversations for text in documents(conversation, captions=False)][
        :entries
    ]
    questions = [question.question for question in locomo.conversations[0].questions]
    index = Lexical().index()
    for i, text in enumerate(texts):
        index.add(i, text)
    times: dict[str, list[float]] = {"remove": [], "add": [], "search": [], "copy": []}
    for i, text in enumerate(texts):
        start = time.perf_counter()
        index.remove(i)
        middle = time.perf_counter()
        index.add(i, text)
        times["remove"].append(middle - start)
        times["add"].append(time.perf_counter() - middle)
    for question in questions:
        start = time.perf_counter()
        index.search(question, 10)
        times["search"].append(time.perf_counter() - start)
        start = time.perf_counter()
        index.copy()
        times["copy"].append(time.perf_counter() - start)
    return {name: round(1e6 * sorted(values)[len(values) // 2], 1) for name, values in times.items()}


def table(result: dict[str, Any], best: str) -> str:
    """The figures as Markdown: every setting over all categories, then `best` by category."""

    def cells(part: Recall) -> str:
        return " | ".join(" / ".join(f"{x:.1f}" for x in values) for values in (part.share, part.every))

    cuts = "/".join(map(str, CUTS))
    heads = f"test R@{cuts} | test A@{cuts} | all R@{cuts} | all A@{cuts}"
    lines = [f"| setting, categories 1 to 4 | {heads} |", "|---|---|---|---|---|"]
    lines += [f"| {title} | {cells(p['test']['all'])} | {cells(p['all']['all'])} |" for title, p in result.items()]
    lines += ["", f"| {best}, by category | test n | all n | {heads} |", "|---|--:|--:|---|---|---|---|"]
    test, everything = result[best]["test"], result[best]["all"]
    for category in (c for c in test if c != "all"):
        sizes = f"{test[category].n:,} | {everything[category].n:,}"
        name = f"{category} {CATEGORIES[category][0]}"
        lines.append(f"| {name} | {sizes} | {cells(test[category])} | {cells(everything[category])} |")
    return "\n".join(lines) + "\n"


def as_json(result: dict[str, Any]) -> dict[str, Any]:
    """`result` as plain numbers, rounded to 2 decimals."""

    def plain(part: Any) -> Any:
        if isinstance(part, Recall):
            numbers = {"R": part.share, "A": part.every}
            return {"n": part.n} | {k: [round(x, 2) for x in v] for k, v in numbers.items()}
        return {key: plain(value) for key, value in part.items()} if isinstance(part, dict) else part

    return {"cuts": list(CUTS), "settings": plain(result)}


def main() -> None:
    """Measure, print the table, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("MNEMON_DATA"), help="folder with locomo/locomo10.json")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the figures")
    arguments = parser.parse_args()
    if not arguments.data:
        parser.error("set MNEMON_DATA or give --data: the folder that holds locomo/locomo10.json")
    locomo = load(arguments.data)
    result = measure(locomo)
    microseconds = speed(locomo)
    page = "# BM25 evidence recall on LoCoMo turns (per cent)\n\n"
    page += "`python benchmarks/locomo_bm25.py`. R: mean share of the evidence among the k best turns; A: share of\n"
    page += "questions with all of it there. IDF-A: Okapi; IDF-B: always positive.\n\n"
    page += table(result, "IDF-A stem, captions")
    page += f"\nOne CPU core, 1,000 turns, median microseconds: {microseconds}.\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "locomo_bm25.md").write_text(page, encoding="utf-8")
    figures = as_json(result) | {"file_sha256": locomo.sha256, "microseconds_1000_turns": microseconds}
    (arguments.out / "locomo_bm25.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
