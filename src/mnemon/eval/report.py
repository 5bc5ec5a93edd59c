"""What an evaluation found: figures with intervals over conversations, as JSON, as Markdown and on a terminal.

metric over all questions      micro mean = Σ_q s_q / N,  macro mean = mean of the categories' means
interval                       percentile bootstrap over conversations (`mnemon.metrics.aggregate`)
comparison of two systems      the same of the differences s_q(a) - s_q(b), question by question
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rich.console import Group
from rich.markup import escape

from mnemon.eval import streams
from mnemon.eval.streams import Stream
from mnemon.eval.tables import category_rows, cell_of, markdown_of, mean_of, summary_of, table_of, value_of
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
    memory: task -> {entries, tokens} at its end, tokens by `counter`; of a task that names its source (a row) also
    {source, dimension, inputs, input_tokens, sections}. work: what writer and reader did and cost.
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
        return {name: summary_of(self.answers, name) for name in names}

    @cached_property
    def measures(self) -> dict[str, Summary]:
        """The `MEASURES` that any answer has."""
        having = [name for name in MEASURES if any(value_of(answer, name) is not None for answer in self.answers)]
        return {name: summary_of(self.answers, name) for name in having}

    @cached_property
    def streams(self) -> list[Stream]:
        """The tasks that name their source, as `mnemon.eval.streams` tells of them."""
        return streams.streams_of(self.answers, self.memory)

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
            **({"streams": plain(streams.figures(self.streams, self.work["writer"]))} if self.streams else {}),
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
        for rows in self._stream_tables():
            lines += [*markdown_of(rows), ""]
        lines += [*markdown_of(self._score_rows()), "", *markdown_of(self._measure_rows()), ""]
        if self.failures:
            lines += ["## Not answered", ""]
            lines += [f"- {where}: {why}" for where, why in self._failed()] + [""]
        lines += ["## Settings", "", *(f"- {k}: `{v}`" for k, v in flat(self.settings).items()), ""]
        lines += [f"- {name} {version}" for name, version in self.versions.items()]
        return "\n".join(lines) + "\n"

    def __rich__(self) -> Group:
        """What a console prints."""
        tables = [table_of(rows, wrap=True) for rows in self._stream_tables(1, short=True)]
        if not self.streams:  # their metrics are many: the terminal shows the headline, report.md all of them
            tables.append(table_of(self._score_rows(1), 1 + len(self.categories)))
        tables.append(table_of(self._measure_rows(1)))
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
        if self.streams:
            unjudged = self.settings.get("data", {}).get("unjudged")
            facts += streams.facts(self.streams, self.counter.rpartition(".")[2], unjudged)
        interval = next((summary.micro.interval for summary in self.scores.values()), None)
        clusters = max((summary.clusters for summary in self.scores.values()), default=0)
        over = ("stream" if self.streams else "conversation") + "s" * (clusters != 1)
        how = f"95 % bootstrap intervals over {clusters} {over}" if interval else f"no intervals: {clusters} {over}"
        return [*facts, f"scores and evidence times 100; {how}"]

    def _stream_tables(self, places: int = 2, short: bool = False) -> list[list[list[str]]]:
        """Scores by source, dimension and length, the writer's calls; none where no task names its source."""
        if not self.streams:
            return []
        tables = [*streams.score_tables(self.streams, places, short), streams.call_table(self.work["writer"])]
        return [rows for rows in tables if rows]

    def _score_rows(self, places: int = 2) -> list[list[str]]:
        """Header, one row per category, micro and macro over all."""
        return category_rows(self.scores, self.categories, places)

    def _measure_rows(self, places: int = 2) -> list[list[str]]:
        rows = [["of each answer", "n", "mean"]]
        for name, summary in self.measures.items():
            shown = cell_of(summary.micro, places, 100 if name in SHARES else 1)
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
        return "\n".join([*self._facts(), "", *markdown_of(self._overall()), "", *markdown_of(self._rows())]) + "\n"

    def __rich__(self) -> Group:
        """What a console prints."""
        tables = table_of(self._overall()), table_of(self._rows(), 1 + len(self.categories))
        return Group(*map(escape, self._facts()), *tables)

    def _facts(self) -> list[str]:
        left = f"; {self.unpaired:,} answered by one system only are left out" if self.unpaired else ""
        return [f"{self.pairs:,} questions answered by both{left}; scores times 100, a − b with 95 % interval"]

    def _overall(self) -> list[list[str]]:
        rows = [["metric", "a", "b", "a − b", "verdict"]]
        for name, summary in self.differences.items():
            a, b = self.means[name]
            verdict = _verdict(summary.micro)
            rows.append([name, f"{100 * a:.2f}", f"{100 * b:.2f}", cell_of(summary.micro), verdict])
        return rows

    def _rows(self) -> list[list[str]]:
        return category_rows(self.differences, self.categories)


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
        means[name] = (mean_of(x["scores"][name] for x, _ in found), mean_of(y["scores"][name] for _, y in found))
    unpaired = len(left.keys() ^ right.keys())
    return Comparison(differences, means, len(pairs), unpaired, a.categories or b.categories)
