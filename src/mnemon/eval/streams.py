"""What a report says of streams: scores per source and dimension, memory against input, length, the writer's calls.

score of a question     its headline scorer's (the first of `Probe.scorers`)
score by question       mean over questions; by stream: mean over streams of their means (arXiv 2509.25911's columns)
interval                percentile bootstrap over streams
kept / read             tokens of the memory at the end / tokens of all inputs, by one counter
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mnemon.eval.judge import NAME
from mnemon.eval.tables import cell_of, mean_of
from mnemon.metrics import Mean, aggregate, is_judged
from mnemon.types import JSON


@dataclass(frozen=True, slots=True)
class Stream:
    """One task that was read: tokens by the report's counter; `scores` are its questions' headline scores.

    scorers: headline -> how many questions have it. judged: how many of the scores a judge gave; unread: how many
    verdicts could not be read.
    """

    task: str
    source: str
    dimension: str
    input_tokens: int
    memory_tokens: int
    scores: tuple[float, ...]
    scorers: Mapping[str, int]
    judged: int
    unread: int

    @property
    def score(self) -> float | None:
        """Mean headline score; None where no question was scored."""
        return mean_of(self.scores) if self.scores else None


@dataclass(frozen=True, slots=True)
class Part:
    """Some streams together: a source, a dimension, a range of lengths, or all."""

    name: str
    streams: int
    questions: int
    judged: int
    unread: int
    scorers: tuple[str, ...]
    by_question: Mean | None
    by_stream: Mean | None
    input_tokens: int
    memory_tokens: int

    @property
    def share(self) -> float:
        """Memory tokens per input token."""
        return self.memory_tokens / max(1, self.input_tokens)


def streams_of(answers: Sequence[JSON], memory: Mapping[str, JSON]) -> list[Stream]:
    """The tasks of a report that name a source, in their order."""
    asked: dict[str, list[JSON]] = {}
    for answer in answers:
        asked.setdefault(answer["task"], []).append(answer)
    found = []
    for task, held in memory.items():
        if "source" not in held:
            continue
        known = [(a["headline"], a["scores"].get(a["headline"])) for a in asked.get(task, [])]
        scorers: dict[str, int] = {}
        for name, _ in known:
            scorers[name] = scorers.get(name, 0) + 1
        scores = tuple(float(score) for _, score in known if score is not None)
        judged = sum(is_judged(name) or name == NAME for name, score in known if score is not None)
        unread = len(known) - len(scores)
        sizes = held["input_tokens"], held["tokens"]
        found.append(Stream(task, held["source"], held["dimension"], *sizes, scores, scorers, judged, unread))
    return found


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def parts_of(streams: Sequence[Stream], key: Callable[[Stream], str]) -> list[Part]:
    """A part per value of `key`, in the order in which the values appear."""
    names = list(dict.fromkeys(map(key, streams)))
    return [part_of(name, [stream for stream in streams if key(stream) == name]) for name in names]


def part_of(name: str, streams: Sequence[Stream]) -> Part:
    """The figures of some streams."""
    questions = [(score, stream.task) for stream in streams for score in stream.scores]
    means = [(stream.score, stream.task) for stream in streams if stream.score is not None]
    return Part(
        name,
        len(streams),
        len(questions),
        sum(stream.judged for stream in streams),
        sum(stream.unread for stream in streams),
        tuple(dict.fromkeys(scorer for stream in streams for scorer in stream.scorers)),
        _mean(questions),
        _mean(means),
        sum(stream.input_tokens for stream in streams),
        sum(stream.memory_tokens for stream in streams),
    )


def _mean(scores: Sequence[tuple[float, str]]) -> Mean | None:
    if not scores:
        return None
    values, clusters = zip(*scores, strict=True)
    return aggregate(values, [""] * len(values), clusters).micro


def by_length(streams: Sequence[Stream]) -> list[Part]:
    """A part per doubling of the stream length: "1,024 to 2,047 tokens"."""

    def least(stream: Stream) -> int:
        return 1 << (max(1, stream.input_tokens).bit_length() - 1)

    ordered = sorted(streams, key=least)
    return [
        replace(p, name=f"{int(p.name):,} to {2 * int(p.name) - 1:,}")
        for p in parts_of(ordered, lambda s: str(least(s)))
    ]


def over_sources(parts: Sequence[Part]) -> float | None:
    """The plain mean over sources of their scores by stream."""
    means = [part.by_stream.mean for part in parts if part.by_stream is not None]
    return mean_of(means) if means else None


# ── as JSON and as tables ────────────────────────────────────────────────────────────────────────────────────────────


def figures(streams: Sequence[Stream], work: JSON) -> JSON:
    """All of it as plain data; `work` is what the writer did."""
    sources = parts_of(streams, lambda stream: stream.source)
    return {
        "all": _plain(part_of("all", streams)),
        "mean_of_sources": over_sources(sources),
        "sources": {part.name: _plain(part) for part in sources},
        "dimensions": {part.name: _plain(part) for part in parts_of(streams, lambda stream: stream.dimension)},
        "lengths": {part.name: _plain(part) for part in by_length(streams)},
        "tasks": {
            s.task: {
                "source": s.source,
                "dimension": s.dimension,
                "input_tokens": s.input_tokens,
                "memory_tokens": s.memory_tokens,
                "questions": len(s.scores),
                "score": s.score,
            }
            for s in streams
        },
        "calls": calls(work),
    }


def _plain(part: Part) -> JSON:
    means = {
        name: None if mean is None else {"n": mean.n, "mean": mean.mean, "interval": mean.interval}
        for name, mean in (("by_question", part.by_question), ("by_stream", part.by_stream))
    }
    counts = {name: getattr(part, name) for name in ("streams", "questions", "judged", "unread")}
    sizes = {name: getattr(part, name) for name in ("input_tokens", "memory_tokens", "share")}
    return {**counts, "scorers": list(part.scorers), **means, **sizes}


def calls(work: JSON) -> JSON:
    """The writer's calls by tool, and those refused by code."""
    events = work.get("events", {})
    refused = {name[8:]: n for name, n in sorted(events.items()) if name.startswith("refused:")}
    return {"tools": dict(work.get("tools", {})), "refused": refused, "inputs_without_a_call": events.get("no_call", 0)}


def score_tables(streams: Sequence[Stream], places: int = 2, short: bool = False) -> list[list[list[str]]]:
    """Tables by source, by dimension and by length; the first row of each is its header. short: for a terminal."""
    sources = parts_of(streams, lambda stream: stream.source)
    dimensions = parts_of(streams, lambda stream: stream.dimension)
    header = ["metric", "streams", "questions", "score", "score by stream", "tokens read", "kept", "kept / read"]
    chosen = [1, 2, 3, 5, 7] if short else list(range(8))

    def row(part: Part) -> list[str]:
        means = (part.by_question, part.by_stream)
        cells = [
            ", ".join(part.scorers),
            f"{part.streams:,}",
            f"{part.questions:,}",
            *(cell_of(mean, places) for mean in means),
            f"{part.input_tokens:,}",
            f"{part.memory_tokens:,}",
            f"{100 * part.share:.0f} %",
        ]
        name = part.name.replace("_", " ") if short and len(part.name) > 14 else part.name  # so that lines can break
        return [name, *(cells[i] for i in chosen)]

    def rows(title: str, parts: Sequence[Part], *more: Part) -> list[list[str]]:
        return [[title, *(header[i] for i in chosen)], *map(row, (*parts, *more))]

    mean = over_sources(sources)
    first = rows("source", sources, *([part_of("all", streams)] if len(sources) > 1 else []))
    if mean is not None and len(sources) > 1:
        cells = ["", "", "", "", f"{100 * mean:.{places}f}", "", "", ""]
        cells[3] = cells[4] if short else ""
        first.append(["mean of sources", *(cells[i] for i in chosen)])
    return [first, rows("dimension", dimensions), rows("stream length", by_length(streams))]


def call_table(work: JSON) -> list[list[str]]:
    """Tools and error codes with their share of all calls; [] where the writer called nothing."""
    found = calls(work)
    total = sum(found["tools"].values())
    lines = [*found["tools"].items(), *((f"refused: {code}", n) for code, n in found["refused"].items())]
    if not total:
        return []
    return [["writer's calls", "n", "share"], *([name, f"{n:,}", f"{100 * n / total:.1f} %"] for name, n in lines)]


def facts(streams: Sequence[Stream], counter: str, unjudged: JSON | None) -> list[str]:
    """A line about the judge, one about who counted."""
    judged, unread = (sum(getattr(stream, name) for stream in streams) for name in ("judged", "unread"))
    lines = [f"tokens of inputs and memories are counted in {counter}; each question is scored by its headline metric"]
    if judged or unread:
        missing = f"; verdicts that could not be read, and are in no figure: {unread:,}" if unread else ""
        lines.append(f"{judged:,} questions were scored by the judge{missing}")
    if unjudged:
        rows = f", {unjudged['rows']:,} whole streams among them" if unjudged["rows"] else ""
        lines.append(f"{unjudged['questions']:,} questions were NOT asked{rows}: only a judge can score them (--judge)")
    return lines
