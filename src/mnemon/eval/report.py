"""What an evaluation found: figures with intervals over conversations, as JSON, as Markdown and on a terminal.

metric over all questions      micro mean = Σ_q s_q / N,  macro mean = mean of the categories' means
interval                       percentile bootstrap over conversations (`mnemon.metrics.aggregate`)
comparison of two systems      the same of the differences s_q(a) - s_q(b), question by question
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from mnemon.metrics import Mean, Summary, aggregate
from mnemon.runs import atomic_write_json, atomic_write_text, flat, plain, read_jsonl
from mnemon.types import JSON, MnemonError

MEASURES = (
    "evidence_shown",
    "evidence_stored",
    "answer_words",
    "entries_shown",
    "prompt_tokens",
    "sampled_tokens",
    "seconds",
)
"""What is measured of every answer beside its scores. Evidence: the share of a question's evidence among the sources of
the entries that the reader was shown, or that the memory holds at all."""
SHARES = ("evidence_shown", "evidence_stored")
"""Measures between 0 and 1, shown times 100 as the scores are."""


@dataclass(frozen=True)
class Report:
    """One evaluation.

    settings: all that decides the answers, the seed included. categories: heading -> {category id: name}.
    answers: the records of answers.jsonl, in the order of tasks and probes; they are not repeated in report.json.
    failures: {task, probe, error} of questions that an endpoint did not answer: in no figure, asked again by a rerun.
    memory: task -> {entries, tokens} at its end, tokens by `counter`. work: what writer and reader did and cost.
    """

    settings: JSON
    versions: Mapping[str, str]
    answers: Sequence[JSON]
    failures: Sequence[JSON] = ()
    categories: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    memory: Mapping[str, JSON] = field(default_factory=dict)
    counter: str = ""
    work: Mapping[str, JSON] = field(default_factory=dict)

    @cached_property
    def scores(self) -> dict[str, Summary]:
        """Metric -> figures, over the answers that have it; the first is the headline."""
        names = dict.fromkeys(name for answer in self.answers for name in answer["scores"])
        return {name: _summary(self.answers, name) for name in names}

    @cached_property
    def measures(self) -> dict[str, Summary]:
        """The `MEASURES` that any answer has."""
        having = [name for name in MEASURES if any(_value(answer, name) is not None for answer in self.answers)]
        return {name: _summary(self.answers, name) for name in having}

    @property
    def exit_code(self) -> int:
        """0 when every question was answered, else 3: the figures leave the failed ones out."""
        return 3 if self.failures else 0

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def json(self) -> JSON:
        """All but the single answers, as plain data."""
        counts = {"asked": len(self.answers) + len(self.failures), "answered": len(self.answers)}
        return {
            "counts": {**counts, "failed": len(self.failures)},
            "scores": plain(self.scores),
            "measures": plain(self.measures),
            "categories": plain(self.categories),
            "memory": {"counter": self.counter, "tasks": plain(self.memory)},
            "work": plain(self.work),
            "failures": list(self.failures),
            "settings": plain(self.settings),
            "versions": dict(self.versions),
        }

    def write(self, folder: Path) -> None:
        """Write report.json and report.md, each at once or not at all."""
        atomic_write_json(folder / "report.json", self.json())
        atomic_write_text(folder / "report.md", self.markdown())

    @classmethod
    def load(cls, folder: str | Path) -> Report:
        """The report in an evaluation's folder, with its answers. MnemonError where there is none."""
        file = Path(folder) / "report.json"
        if not file.exists():
            raise MnemonError(f"{folder} holds no report: {file.name} is missing; finish the evaluation first")
        try:
            data = json.loads(file.read_bytes())
            memory, counter = data["memory"]["tasks"], data["memory"]["counter"]
            parts = {name: data[name] for name in ("settings", "versions", "failures", "categories", "work")}
        except (ValueError, KeyError, TypeError) as error:
            raise MnemonError(
                f"{file} is damaged ({error}): run the evaluation again, it asks nothing twice"
            ) from error
        answers = read_jsonl(Path(folder) / "answers.jsonl")
        return cls(answers=answers, memory=memory, counter=counter, **parts)

    # ── to read ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def markdown(self) -> str:
        """The report as a page."""
        lines = ["# Evaluation", "", *(f"- {line}" for line in self._facts()), ""]
        lines += [*_markdown(self._score_rows()), "", *_markdown(self._measure_rows()), ""]
        if self.failures:
            lines += ["## Not answered", ""]
            lines += [f"- {where}: {why}" for where, why in self._failed()] + [""]
        lines += ["## Settings", "", *(f"- {k}: `{v}`" for k, v in flat(self.settings).items()), ""]
        lines += [f"- {name} {version}" for name, version in self.versions.items()]
        return "\n".join(lines) + "\n"

    def __rich__(self) -> Group:
        """What a console prints."""
        tables = [_table(self._score_rows(1), 1 + len(self.categories)), _table(self._measure_rows(1))]
        failures = [f"[red]{escape(where)}[/]: {escape(why)}" for where, why in self._failed()]
        more = [f"… and {len(failures) - 5} more reasons (report.json)"] if len(failures) > 5 else []
        named = [f"names of categories: {'; '.join(self.categories)}"] if self.categories else []
        return Group(*map(escape, self._facts() + named), *tables, *failures[:5], *more)

    def _failed(self) -> list[tuple[str, str]]:
        """(which question, or how many; why), each reason once."""
        reasons: dict[str, list[str]] = {}
        for failure in self.failures:
            reasons.setdefault(failure["error"], []).append(f"{failure['task']}, {failure['probe']}")
        return [(q[0] + (f" and {len(q) - 1:,} more" if q[1:] else ""), why) for why, q in reasons.items()]

    def _facts(self) -> list[str]:
        """Counts and costs, a line each."""
        total = len(self.answers) + len(self.failures)
        facts = [f"{len(self.answers):,} of {total:,} questions answered"]
        if self.failures:
            facts[0] += f"; {len(self.failures):,} FAILED and are in no figure: run it again to ask them"
        if self.memory:
            entries = [m["entries"] for m in self.memory.values()]
            tokens = sum(m["tokens"] for m in self.memory.values()) / len(entries)
            counted = self.counter.rpartition(".")[2]
            size = f"{sum(entries) / len(entries):,.0f} entries, {tokens:,.0f} tokens ({counted})"
            facts.append(f"memory per task: {size}; {len(entries)} {'task' if len(entries) == 1 else 'tasks'}")
        for role, work in self.work.items():
            calls = ", ".join(f"{n:,} {name} calls" for name, n in work["calls"].items())
            if calls or work["events"]:
                inputs = f"{work['inputs']:,} inputs, " if work["inputs"] else ""
                events = "".join(f", {name} {n:,}" for name, n in sorted(work["events"].items()))
                tokens = f", {work['prompt_tokens']:,} prompt tokens" if work["prompt_tokens"] else ""
                facts.append(f"{role}: {inputs}{calls or 'no calls'}{tokens}{events}")
        interval = next((summary.micro.interval for summary in self.scores.values()), None)
        clusters = max((summary.clusters for summary in self.scores.values()), default=0)
        over = "conversation" if clusters == 1 else "conversations"
        how = f"95 % bootstrap intervals over {clusters} {over}" if interval else f"no intervals: {clusters} {over}"
        return [*facts, f"scores and evidence times 100; {how}"]

    def _score_rows(self, places: int = 2) -> list[list[str]]:
        """Header, one row per category, micro and macro over all."""
        return _rows(self.scores, self.categories, places)

    def _measure_rows(self, places: int = 2) -> list[list[str]]:
        rows = [["of each answer", "n", "mean"]]
        for name, summary in self.measures.items():
            shown = _cell(summary.micro, places, 100 if name in SHARES else 1)
            rows.append([name, f"{summary.micro.n:,}", shown])
        return rows


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Comparison:
    """System a minus system b on the same questions. `differences`: metric -> figures of the differences.

    `means`: metric -> (mean of a, mean of b) over the `pairs` that both answered; `unpaired` questions only one did.
    """

    differences: Mapping[str, Summary]
    means: Mapping[str, tuple[float, float]]
    pairs: int
    unpaired: int
    categories: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def json(self) -> JSON:
        """As plain data."""
        counts = {"pairs": self.pairs, "unpaired": self.unpaired}
        return {**counts, "means": plain(self.means), "differences": plain(self.differences)}

    def markdown(self) -> str:
        """As a page."""
        return "\n".join([*self._facts(), "", *_markdown(self._overall()), "", *_markdown(self._rows())]) + "\n"

    def __rich__(self) -> Group:
        """What a console prints."""
        tables = _table(self._overall()), _table(self._rows(), 1 + len(self.categories))
        return Group(*map(escape, self._facts()), *tables)

    def _facts(self) -> list[str]:
        left = f"; {self.unpaired:,} answered by one system only are left out" if self.unpaired else ""
        return [f"{self.pairs:,} questions answered by both{left}; scores times 100, a − b with 95 % interval"]

    def _overall(self) -> list[list[str]]:
        rows = [["metric", "a", "b", "a − b", "verdict"]]
        for name, summary in self.differences.items():
            a, b = self.means[name]
            verdict = _verdict(summary.micro)
            rows.append([name, f"{100 * a:.2f}", f"{100 * b:.2f}", _cell(summary.micro), verdict])
        return rows

    def _rows(self) -> list[list[str]]:
        return _rows(self.differences, self.categories)


def _verdict(difference: Mean) -> str:
    if difference.interval is None:
        return "one conversation: cannot tell"
    low, high = difference.interval
    return "a is better" if low > 0 else "b is better" if high < 0 else "within chance"


def compare(a: Report, b: Report, metrics: Sequence[str] | None = None) -> Comparison:
    """Paired comparison by the metrics that both have (or those named), with bootstrap over conversations.

    Raises MnemonError where the two share no question, or ask different things under one name.
    """
    left, right = ({(r["task"], r["probe"]): r for r in report.answers} for report in (a, b))
    both = [key for key in left if key in right]
    changed = [key for key in both if left[key]["question"] != right[key]["question"]]
    if changed:
        task, probe = changed[0]
        raise MnemonError(
            f"these reports do not ask the same: {probe} of {task} differs in its question or answers"
            f" ({len(changed)} such questions). Evaluate both on the same file."
        )
    pairs = [(left[key], right[key]) for key in both]
    shared = dict.fromkeys(m for x, y in pairs for m in x["scores"] if m in y["scores"])
    names = list(shared) if metrics is None else list(metrics)
    missing = [name for name in names if name not in shared]
    if missing or not names:
        what = f"no question has {', '.join(missing)} in both" if missing else "they share no question and metric"
        raise MnemonError(f"cannot compare the reports: {what} (shared: {', '.join(shared) or 'nothing'})")
    differences, means = {}, {}
    for name in names:
        found = [(x, y) for x, y in pairs if name in x["scores"] and name in y["scores"]]
        difference = [x["scores"][name] - y["scores"][name] for x, y in found]
        differences[name] = aggregate(difference, [x["category"] for x, _ in found], [x["cluster"] for x, _ in found])
        means[name] = (_mean(x["scores"][name] for x, _ in found), _mean(y["scores"][name] for _, y in found))
    unpaired = len(left.keys() ^ right.keys())
    return Comparison(differences, means, len(pairs), unpaired, a.categories or b.categories)


# ── figures and tables ───────────────────────────────────────────────────────────────────────────────────────────────


def _value(answer: JSON, name: str) -> float | None:
    found = answer["scores"].get(name) if name in answer["scores"] else answer.get(name)
    return None if found is None else float(found)


def _summary(answers: Sequence[JSON], name: str) -> Summary:
    """Figures over the answers that have the metric or measure."""
    rows = [(value, a["category"], a["cluster"]) for a in answers if (value := _value(a, name)) is not None]
    values, categories, clusters = zip(*rows, strict=True)
    return aggregate(values, categories, clusters)


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)


def _cell(mean: Mean | None, places: int = 2, scale: float = 100) -> str:
    """``41.20 [38.02, 44.11]``."""
    if mean is None:
        return "–"
    numbers = [f"{scale * x:.{places}f}" for x in (mean.mean, *(mean.interval or ()))]
    return numbers[0] + (f" [{numbers[1]}, {numbers[2]}]" if mean.interval else "")


def _rows(summaries: Mapping[str, Summary], names: Mapping[str, Mapping[str, str]], places: int = 2) -> list[list[str]]:
    """Header; categories (id, their names, n, a cell per metric); all by question (micro) and by category (macro).

    n is the largest number of answers of any metric; a cell over fewer says so.
    """
    blank = [""] * len(names)
    rows = [["category", *names, "n", *summaries]]
    ids = sorted({category for summary in summaries.values() for category in summary.categories})

    def row(title: str, titles: list[str], means: list[Mean | None]) -> list[str]:
        n = max((mean.n for mean in means if mean is not None), default=0)
        fewer = [f" (n={mean.n:,})" if mean is not None and mean.n < n else "" for mean in means]
        cells = [_cell(mean, places) + note for mean, note in zip(means, fewer, strict=True)]
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


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; the first row is its header."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _table(rows: Sequence[Sequence[str]], folded: int = 1) -> Table:
    """For a terminal of 80 columns: the first `folded` columns are one, the interval stands under its mean."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for at, cell in enumerate((rows[0][0], *rows[0][folded:])):
        table.add_column(escape(cell), no_wrap=True, justify="right" if at else "left")
    for row in rows[1:]:
        first = "\n".join(cell for cell in row[:folded] if cell)
        table.add_row(*(escape(cell.replace(" [", "\n[")) for cell in (first, *row[folded:])))
    return table
