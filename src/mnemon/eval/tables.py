"""Figures of answers, and tables of them as Markdown and on a terminal: what the parts of a report share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mnemon.metrics import Mean, Summary, aggregate
from mnemon.types import JSON


def value_of(answer: JSON, name: str) -> float | None:
    """A score of an answer, else what its record holds under the name; None where it has neither."""
    found = answer["scores"].get(name) if name in answer["scores"] else answer.get(name)
    return None if found is None else float(found)


def summary_of(answers: Sequence[JSON], name: str) -> Summary:
    """Figures over the answers that have the metric or measure."""
    rows = [(value, a["category"], a["cluster"]) for a in answers if (value := value_of(a, name)) is not None]
    values, categories, clusters = zip(*rows, strict=True)
    return aggregate(values, categories, clusters)


def mean_of(values: Iterable[float]) -> float:
    """The plain mean."""
    held = list(values)
    return sum(held) / len(held)


def cell_of(mean: Mean | None, places: int = 2, scale: float = 100) -> str:
    """``41.20 [38.02, 44.11]``."""
    if mean is None:
        return "–"
    numbers = [f"{scale * x:.{places}f}" for x in (mean.mean, *(mean.interval or ()))]
    return numbers[0] + (f" [{numbers[1]}, {numbers[2]}]" if mean.interval else "")


def category_rows(
    summaries: Mapping[str, Summary], names: Mapping[str, Mapping[str, str]], places: int = 2
) -> list[list[str]]:
    """Header; categories (id, their names, n, a cell per metric); all by question (micro) and by category (macro).

    n is the largest number of answers of any metric; a cell over fewer says so.
    """
    blank = [""] * len(names)
    rows = [["category", *names, "n", *summaries]]
    ids = sorted({category for summary in summaries.values() for category in summary.categories})

    def row(title: str, titles: list[str], means: list[Mean | None]) -> list[str]:
        n = max((mean.n for mean in means if mean is not None), default=0)
        fewer = [f" (n={mean.n:,})" if mean is not None and mean.n < n else "" for mean in means]
        cells = [cell_of(mean, places) + note for mean, note in zip(means, fewer, strict=True)]
        return [title, *titles, f"{n:,}", *cells]

    for category in ids if ids != [""] else []:
        titles = [table.get(category, "") for table in names.values()]
        rows.append(row(category, titles, [summary.categories.get(category) for summary in summaries.values()]))
    rows.append(row("all, micro", blank, [summary.micro for summary in summaries.values()]))
    if len(ids) > 1:
        rows.append(
            ["all, macro", *blank, "", *(f"{100 * summary.macro:.{places}f}" for summary in summaries.values())]
        )
    return rows


def markdown_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; the first row is its header."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def table_of(rows: Sequence[Sequence[str]], folded: int = 1, wrap: bool = False) -> Table:
    """For a terminal of 80 columns: the first `folded` columns are one, the interval stands under its mean.

    wrap: long names in the first column are broken rather than cut.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for at, cell in enumerate((rows[0][0], *rows[0][folded:])):
        table.add_column(escape(cell), no_wrap=bool(at) or not wrap, overflow="fold", justify="right" if at else "left")
    for row in rows[1:]:
        first = "\n".join(cell for cell in row[:folded] if cell)
        table.add_row(*(escape(cell.replace(" [", "\n[")) for cell in (first, *row[folded:])))
    return table
