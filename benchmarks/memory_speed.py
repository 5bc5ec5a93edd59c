"""Microseconds of memory operations on a bank of 1,000 entries, one thread.

    python benchmarks/memory_speed.py             # prints, and writes memory_speed.json and .md beside this file

Entries are sentences of 8 to 20 words, drawn from 3,000 words by Zipf's law; a query has 6 to 12 words. Every call is
timed alone; the figure is the median over all calls of a run, then the median of five runs (p99 likewise). `add`,
`update` and `delete` write to a section with limits on entries and tokens, the slower case. `first write of a fork`
copies what the fork shared. `search` finds the index up to date; `search after a write` brings it up to date first;
`index` builds it from nothing. k is the number of entries retrieved.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mnemon.memory.memory import Memory, Section
from mnemon.memory.retrieve import Lexical

ENTRIES, CALLS, RUNS = 1000, 1000, 5
GOALS = {"add": 50, "update": 50, "delete": 50, "read": 50, "fork": 50, "search, k=5": 500, "search, k=60": 500}
"""Medians in microseconds that the operations have to stay below."""

Timed = Iterator[tuple[Callable[[], object], Callable[[], object]]]
"""Pairs of an untimed preparation and the call that is timed."""


def sentences(rng: random.Random, count: int, least: int, most: int) -> list[str]:
    """Sentences of `least` to `most` words, word r of 3,000 being drawn with weight 1 / r."""
    words = [f"word{r}" for r in range(1, 3001)]
    weights = [1 / r for r in range(1, 3001)]
    return [" ".join(rng.choices(words, weights, k=rng.randint(least, most))) for _ in range(count)]


def bank(texts: list[str]) -> Memory:
    """A memory of these entries in a section that limits entries and tokens."""
    memory = Memory([Section("facts", max_entries=10 * len(texts), max_tokens=1000 * len(texts))])
    for i, text in enumerate(texts):
        memory.add(text, owner=("Ana", "Ben")[i % 2], time=f"day {i}", source=(f"D1:{i}",))
    return memory


def nothing() -> None:
    """No preparation."""


def cases(seed: int, entries: int, calls: int) -> Iterator[tuple[str, Timed]]:
    """Every operation with its calls; each case has a bank of its own."""
    rng = random.Random(seed)
    texts, more, queries = sentences(rng, entries, 8, 20), sentences(rng, calls, 8, 20), sentences(rng, calls, 6, 12)
    ids = [rng.randint(1, entries) for _ in range(calls)]
    lexical = Lexical()

    memory = bank(texts)
    yield "read", ((nothing, lambda i=i, m=memory: m.read(i)) for i in ids)
    yield "fork", ((nothing, memory.fork) for _ in range(calls))

    memory = bank(texts)
    shuffled = rng.sample(range(1, entries + 1), entries)
    yield "add", ((nothing, lambda t=t, m=memory: m.add(t, owner="Ana", time="day 0", source=("s",))) for t in more)
    yield (
        "update",
        ((nothing, lambda i=i, t=t, m=memory: m.update(i, f"{t} {i}")) for i, t in zip(shuffled, more, strict=False)),
    )
    yield "delete", ((nothing, lambda i=i, m=memory: m.delete(i)) for i in shuffled[:calls])

    memory = bank(texts)

    def forked() -> Timed:
        for text in more:
            box: list[Memory] = []
            yield (lambda b=box: b.append(memory.fork())), (lambda b=box, t=text: b[0].add(t))

    yield "first write of a fork", forked()
    for k in (5, 60):
        memory.prepare(lexical)
        yield f"search, k={k}", ((nothing, lambda q=q, k=k, m=memory: m.search(q, k, lexical)) for q in queries)
    yield (
        "search after a write, k=5",
        (
            (lambda i=i, t=t, m=memory: m.update(i, f"{t} {i}"), lambda q=q, m=memory: m.search(q, 5, lexical))
            for i, t, q in zip(shuffled, more, queries, strict=False)
        ),
    )
    fresh = [bank(texts) for _ in range(3)]
    yield "index", ((nothing, lambda m=m: m.prepare(lexical)) for m in fresh)


def measure(entries: int = ENTRIES, calls: int = CALLS, runs: int = RUNS) -> dict[str, dict[str, float]]:
    """Operation -> median and 99th percentile in microseconds, each the median over the runs."""
    medians: dict[str, list[float]] = {}
    tails: dict[str, list[float]] = {}
    for run in range(runs):
        for name, timed in cases(run, entries, calls):
            spent = []
            for prepare, call in timed:
                prepare()
                started = time.perf_counter_ns()
                call()
                spent.append((time.perf_counter_ns() - started) / 1000)
            spent.sort()
            medians.setdefault(name, []).append(statistics.median(spent))
            tails.setdefault(name, []).append(spent[int(0.99 * (len(spent) - 1))])
    return {
        name: {"p50_us": round(statistics.median(medians[name]), 2), "p99_us": round(statistics.median(tails[name]), 2)}
        for name in medians
    }


def page(found: dict[str, dict[str, float]]) -> str:
    """The figures as a table."""
    lines = [
        f"# Memory operations on {ENTRIES:,} entries",
        "",
        "`python benchmarks/memory_speed.py`, one thread; microseconds per call, median of "
        f"{RUNS} runs of {CALLS:,} calls.",
        "",
        "| operation | p50 | p99 | goal for p50 |",
        "|---|---|---|---|",
    ]
    for name, at in found.items():
        goal = f"< {GOALS[name]}" if name in GOALS else ""
        lines.append(f"| {name} | {at['p50_us']:,.1f} | {at['p99_us']:,.1f} | {goal} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write; fails when a goal is missed."""
    found = measure()
    folder = Path(__file__).parent
    record = {
        "python": platform.python_version(),
        "entries": ENTRIES,
        "calls": CALLS,
        "runs": RUNS,
        "operations": found,
    }
    (folder / "memory_speed.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (folder / "memory_speed.md").write_text(page(found), "utf-8")
    print(page(found))
    missed = [name for name, goal in GOALS.items() if found[name]["p50_us"] >= goal]
    if missed:
        raise SystemExit(f"slower than the goal: {', '.join(missed)}")


if __name__ == "__main__":
    main()
