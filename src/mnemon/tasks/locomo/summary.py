"""What is in a LoCoMo file, as numbers and as a page."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mnemon.tasks.locomo.data import LICENSE, OFFICIAL_SHA256, Conversation, Locomo, Problem
from mnemon.tasks.locomo.rows import CATEGORIES, TRAIN, VALIDATION


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of one conversation, or of several together. `questions`: category id -> number."""

    name: str
    split: str
    speakers: str
    sessions: int
    turns: int
    words: int
    images: int
    captions: int
    questions: dict[str, int]

    @property
    def answerable(self) -> int:
        """Questions of categories 1 to 4."""
        return sum(n for category, n in self.questions.items() if category != "5")


@dataclass(frozen=True, slots=True)
class LocomoSummary:
    """`rows` per conversation, `splits` per split, `total`, the malformed fields, and remarks on the file."""

    rows: tuple[Counts, ...]
    splits: tuple[Counts, ...]
    total: Counts
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]


def _count(conversation: Conversation) -> Counts:
    turns = conversation.turns
    role = "train" if conversation.id in TRAIN else "validation" if conversation.id in VALIDATION else "test"
    by_category = Counter(str(question.category) for question in conversation.questions)
    return Counts(
        name=conversation.id,
        split=role,
        speakers="/".join(conversation.speakers),
        sessions=len(conversation.sessions),
        turns=len(turns),
        words=sum(len(turn.text.split()) for turn in turns),
        images=sum(turn.image for turn in turns),
        captions=sum(bool(turn.caption) for turn in turns),
        questions={category: by_category[category] for category in CATEGORIES},
    )


def _sum(name: str, rows: list[Counts]) -> Counts:
    return Counts(
        name=name,
        split=name,
        speakers=f"{len(rows)} conversation{'s' * (len(rows) != 1)}",
        sessions=sum(row.sessions for row in rows),
        turns=sum(row.turns for row in rows),
        words=sum(row.words for row in rows),
        images=sum(row.images for row in rows),
        captions=sum(row.captions for row in rows),
        questions={category: sum(row.questions[category] for row in rows) for category in CATEGORIES},
    )


def summary(locomo: Locomo) -> LocomoSummary:
    """Count everything in `locomo`."""
    rows = [_count(conversation) for conversation in locomo.conversations]
    remarks = [f"Licence: {LICENSE}, non-commercial use; do not redistribute the texts."]
    if locomo.official:
        remarks.append("The file is the released one, byte for byte.")
    else:
        remarks.append(
            f"The file is NOT the released locomo10.json (sha256 {locomo.sha256[:12]}…, released "
            f"{OFFICIAL_SHA256[:12]}…): figures do not compare with published ones."
        )
    if locomo.skipped:
        remarks.append(f"{len(locomo.skipped)} malformed part(s) were left out.")
    names = ("train", "validation", "test")
    splits = [_sum(name, [row for row in rows if row.split == name]) for name in names]
    return LocomoSummary(tuple(rows), tuple(splits), _sum("all", rows), locomo.problems, tuple(remarks))


def render_summary(locomo: Locomo, width: int = 120, problems: int | None = None) -> str:
    """The summary as plain text; `problems` limits how many malformed fields are listed (None: all)."""
    facts = summary(locomo)
    table = Table(title=f"LoCoMo, {locomo.file.name}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("name", "split", "speakers"):
        table.add_column(heading, no_wrap=True)
    for heading in ("sessions", "turns", "words", "images", "captions", *(f"c{c}" for c in CATEGORIES), "c1-4"):
        table.add_column(heading, justify="right")

    def add(row: Counts) -> None:
        sizes = (row.sessions, row.turns, row.words, row.images, row.captions, *row.questions.values(), row.answerable)
        split = "" if row.name == row.split else row.split
        table.add_row(row.name, split, row.speakers, *(f"{size:,}" for size in sizes))

    for row in facts.rows:
        add(row)
    table.add_section()
    for row in (*facts.splits, facts.total):
        add(row)

    title = "Categories (go by the number: the names disagree)"
    categories = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("id", "LoCoMo", "mem0, Memory-R1 tables", "questions"):
        categories.add_column(heading)
    for category, (official, mem0) in CATEGORIES.items():
        categories.add_row(f"c{category}", official, mem0, f"{facts.total.questions[category]:,}")

    page = io.StringIO()
    console = Console(file=page, width=width, no_color=True, highlight=False)
    console.print(table, categories, sep="\n")
    for remark in facts.remarks:
        console.print(remark, markup=False)
    console.print(f"Malformed fields: {len(facts.problems)}", markup=False)
    shown = facts.problems if problems is None else facts.problems[:problems]
    for problem in shown:
        console.print(f"  {problem}", markup=False, soft_wrap=True)
    if len(shown) < len(facts.problems):
        console.print(f"  … and {len(facts.problems) - len(shown)} more", markup=False)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"
