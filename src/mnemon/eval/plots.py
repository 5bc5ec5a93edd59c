"""Pictures: curves of a run and streams of a report as PNG (needs matplotlib), curves as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemon.eval.streams import Stream, by_length
from mnemon.eval.tables import mean_of
from mnemon.runs import flat, writing
from mnemon.types import MnemonError

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#555555",
)  # Okabe and Ito: colour-blind safe
SHOWN = ("accuracy", "reward")
"""Without keys, every numeric metric with one of these words in its name is drawn."""


def curves(
    metrics: Sequence[Mapping[str, Any]], path: str | Path, keys: Sequence[str] | None = None, title: str = ""
) -> Path:
    """Draw metrics over updates into a PNG; returns its path.

    metrics: records of a run (`RunFolder.metrics`), each with "update"; nested ones are named with dots. keys: the
    metrics to draw (None: see `SHOWN`). From 20 points on the running mean over a tenth of them is drawn strong over
    the pale values. Raises MnemonError without matplotlib and for keys that were never logged.
    """
    series = select(metrics, keys)
    figure, axes = _axes(title, raised=len(series) > 1)
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        updates, values = [x for x, _ in points], [y for _, y in points]
        window = len(values) // 10 if len(values) >= 20 else 1
        if window > 1:
            axes.plot(updates, values, color=colour, linewidth=1, alpha=0.3)
        marker = "o" if len(values) < 20 else None
        axes.plot(
            updates, running_mean(values, window), color=colour, linewidth=2, marker=marker, markersize=4, label=name
        )
    axes.set_xlabel("update")
    if len(series) == 1:
        axes.set_ylabel(next(iter(series)))
    else:
        _legend(axes, len(series))
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return _save(figure, path)


def call_curves(metrics: Sequence[Mapping[str, Any]], path: str | Path, title: str = "") -> Path:
    """Draw the mix of tool calls over training into a PNG: the share of each tool, and of refused calls, of all calls.

    metrics: records of a run (`RunFolder.metrics`). Raises MnemonError as `curves` does, and where nothing was called.
    """
    shares = call_shares(metrics)
    return curves(shares, path, [f"calls.{name}" for name in shares[0]["calls"]], title or "share of all tool calls")


def call_shares(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per update with calls: under "calls" the share of every tool, and of refused calls under "refused"."""
    records = [record for record in metrics if sum(record.get("tools", {}).values())]
    if not records:
        raise MnemonError("no tool was called in this run, or it was made by a version that did not count them")
    names = sorted({name for record in records for name in record["tools"]})
    found = []
    for record in records:
        total = sum(record["tools"].values())
        refused = sum(n for event, n in record.get("events", {}).items() if event.startswith("refused:"))
        shares = {name: record["tools"].get(name, 0) / total for name in names}
        found.append({"update": record["update"], "calls": {**shares, "refused": refused / total}})
    return found


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def length_plot(streams: Sequence[Stream], path: str | Path) -> Path:
    """Score against stream length: a dot per stream, the mean of each doubling of the length as a line.

    Raises MnemonError without matplotlib.
    """
    figure, axes = _axes("score against stream length", raised=False)
    _dots_by_source(axes, [(s.source, s.input_tokens, 100 * s.score) for s in streams if s.score is not None])
    middles = [(_middle(streams, part.name), part.by_stream) for part in by_length(streams)]
    known = [(x, 100 * mean.mean) for x, mean in middles if mean is not None]
    axes.plot([x for x, _ in known], [y for _, y in known], color="#999999", linewidth=2, zorder=1)
    axes.set_xscale("log")
    axes.set_ylim(-3, 103)
    axes.set_xlabel("tokens of the stream")
    axes.set_ylabel("score, times 100")
    return _save(figure, path)


def memory_plot(streams: Sequence[Stream], path: str | Path, counter: str = "") -> Path:
    """Memory against input tokens, a dot per stream, with the lines of all and of half of it kept.

    Raises MnemonError without matplotlib.
    """
    figure, axes = _axes("memory against input", raised=False)
    _dots_by_source(axes, [(s.source, max(1, s.input_tokens), max(1, s.memory_tokens)) for s in streams])
    ends = [max(1, f(s.input_tokens for s in streams)) for f in (min, max)]
    for share, style, name in ((1.0, "-", "all"), (0.5, "--", "half")):
        axes.plot(ends, [share * x for x in ends], style, color="#999999", linewidth=1, zorder=1)
        axes.annotate(name, (ends[1], share * ends[1]), color="#777777", fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"tokens of the stream{f' ({counter})' if counter else ''}")
    axes.set_ylabel("tokens of the memory")
    return _save(figure, path)


def _middle(streams: Sequence[Stream], name: str) -> float:
    """Mean length of the streams of a part of `by_length`."""
    low, high = (int(word.replace(",", "")) for word in name.split(" to "))
    return mean_of(s.input_tokens for s in streams if low <= max(1, s.input_tokens) <= high)


def _dots_by_source(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    sources = list(dict.fromkeys(source for source, _, _ in points))
    for number, source in enumerate(sources):
        held = [(x, y) for name, x, y in points if name == source]
        colour = COLOURS[number % len(COLOURS)]
        marker = "os^Dvp*"[number // len(COLOURS) % 7]
        axes.scatter(
            [x for x, _ in held], [y for _, y in held], s=22, alpha=0.7, color=colour, marker=marker, label=source
        )
    if sources:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)


# ── the frame of a picture ───────────────────────────────────────────────────────────────────────────────────────────


def _axes(title: str, raised: bool) -> tuple[Any, Any]:
    """A figure with one plain pair of axes. raised: the title leaves room for a legend below it."""
    try:
        from matplotlib.figure import Figure  # an extra: the package works without it
    except ImportError as error:
        raise MnemonError("plots need matplotlib: pip install 'mnemon[plot]'") from error
    figure = Figure(figsize=(8, 4.5), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold", pad=26 if raised and title else None)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(x=0.02)
    return figure, axes


def _legend(axes: Any, entries: int) -> None:
    axes.legend(frameon=False, ncols=min(entries, 4), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _save(figure: Any, path: str | Path) -> Path:
    target = Path(path)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, format="png", metadata={"Software": None})
    return target


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def select(
    metrics: Iterable[Mapping[str, Any]], keys: Sequence[str] | None = None
) -> dict[str, list[tuple[int, float]]]:
    """(update, value) of each metric drawn, in order of update; missing and non-numeric values are left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in metrics:
        for name, value in flat(record).items():
            if (
                name != "update"
                and isinstance(value, int | float)
                and not isinstance(value, bool)
                and math.isfinite(value)
            ):
                found.setdefault(name, []).append((int(record["update"]), float(value)))
    wanted = list(keys) if keys is not None else [name for name in found if any(word in name for word in SHOWN)]
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        what = f"no metric {', '.join(map(repr, missing))}" if missing else "nothing to draw"
        raise MnemonError(f"{what} in this run; it logged: {', '.join(found) or 'nothing'}")
    return {name: sorted(found[name]) for name in wanted}


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """y_i = mean(x_{max(0, i-window+1)} … x_i): trailing, so that no value is drawn before it was measured."""
    return [math.fsum(values[max(0, i - window + 1) : i + 1]) / min(window, i + 1) for i in range(len(values))]


# ── the terminal ─────────────────────────────────────────────────────────────────────────────────────────────────────

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bit of the dot in column c, row r of a braille character


def terminal_curve(
    values: Sequence[float | None],
    width: int = 60,
    height: int = 10,
    *,
    low: float | None = None,
    high: float | None = None,
    last: int | None = None,
) -> str:
    """A curve of braille dots with its scale, `height` + 2 lines of at most `width` characters, no line end at the end.

    values: one per update; None or NaN leaves a gap. low, high: the scale (None: from the values; values outside are
    drawn on the edge). last: the number under the right end (None: the index of the last value). More values than
    dots: each dot is the mean of those it stands for. Raises MnemonError for a size that cannot hold a curve.
    """
    finite = [v for v in values if v is not None and math.isfinite(v)]
    if not finite:
        return "(no values yet)"
    bottom, top = min(finite) if low is None else low, max(finite) if high is None else high
    if top <= bottom:
        bottom, top = bottom - 0.5, bottom + 0.5
    labels = [f"{top:.3g}", f"{bottom:.3g}"]
    margin = max(map(len, labels))
    columns = width - margin - 2
    if columns < 8 or height < 2:
        raise MnemonError(f"a curve needs more room than {width} x {height}: at least {margin + 10} x 2")
    dots = _dots(_resampled(values, columns * 2), bottom, top, height * 4)
    lines = []
    for row in range(height):
        label = labels[0] if row == 0 else labels[1] if row == height - 1 else ""
        cells = "".join(chr(0x2800 + _cell(dots, column, row)) for column in range(columns))
        lines.append(f"{label:>{margin}} {'┤' if label else '│'}{cells}".rstrip("\u2800"))
    right = str(len(values) - 1 if last is None else last)
    lines.append(" " * margin + " └" + "─" * columns)
    lines.append(" " * (margin + 2) + "0" + right.rjust(columns - 1))
    return "\n".join(lines)


def _resampled(values: Sequence[float | None], count: int) -> list[float | None]:
    """`count` values along the curve: means of buckets when there are more, points on the straight lines when fewer."""
    known = [v if v is not None and math.isfinite(v) else None for v in values]
    if len(known) > count:
        buckets = [known[i * len(known) // count : (i + 1) * len(known) // count] for i in range(count)]
        finite = [[v for v in bucket if v is not None] for bucket in buckets]
        return [math.fsum(bucket) / len(bucket) if bucket else None for bucket in finite]
    if len(known) == 1:
        return [known[0]] + [None] * (count - 1)
    result: list[float | None] = []
    for i in range(count):
        position = i * (len(known) - 1) / (count - 1)
        before = min(int(position), len(known) - 2)
        left, right, share = known[before], known[before + 1], position - before
        if left is None or right is None:
            result.append(left if share < 0.5 else right)
        else:
            result.append(left + share * (right - left))
    return result


def _dots(curve: Sequence[float | None], bottom: float, top: float, rows: int) -> set[tuple[int, int]]:
    """(column, row) of every dot, row 0 on top; neighbouring columns are joined by a vertical line."""
    dots: set[tuple[int, int]] = set()
    previous: int | None = None
    for column, value in enumerate(curve):
        if value is None:
            previous = None
            continue
        share = min(max((value - bottom) / (top - bottom), 0.0), 1.0)
        row = round((1 - share) * (rows - 1))
        step = 0 if previous is None or previous == row else (1 if row > previous else -1)
        start = row if previous is None or not step else previous + step
        dots.update((column, r) for r in range(min(start, row), max(start, row) + 1))
        previous = row
    return dots


def _cell(dots: set[tuple[int, int]], column: int, row: int) -> int:
    """The braille pattern of one character."""
    return sum(
        bit for c, bits in enumerate(_DOTS) for r, bit in enumerate(bits) if (column * 2 + c, row * 4 + r) in dots
    )
