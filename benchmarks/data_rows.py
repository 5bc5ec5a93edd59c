"""Task rows of every dataset under $MNEMON_DATA: built, validated, read back, made tasks, and checked for leaks.

    MNEMON_DATA=... python benchmarks/data_rows.py

writes data_rows.json and .md beside this file: counts only, no text of the data.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnemon.cli.data_build import Line, count, titled
from mnemon.memory.count import BYTES, WORDS, TokenCounter
from mnemon.tasks.rows import Row, leaks, read_rows, to_task, write_rows
from mnemon.tasks.rows.build import Options, build, found_in

SETTINGS: tuple[tuple[TokenCounter, int], ...] = ((WORDS, 2048), (BYTES, 2048))


@dataclass(frozen=True)
class Measured:
    """One dataset: its counts, its questions by answer type, and the most frequent remarks on its files."""

    line: Line
    answers: dict[str, int]
    evidence: int
    dimension: str


def measure(data: Path, counter: TokenCounter, chunk_tokens: int) -> tuple[list[Measured], list[Row]]:
    """Build everything in `data` with these chunks; every row goes through a file and becomes a task."""
    measured, rows = [], []
    options = Options(chunk_tokens, counter)
    with tempfile.TemporaryDirectory() as folder:
        for name, files, title in titled(found_in(data)):
            built = build(name, files, options)
            out = Path(folder) / f"{title}.jsonl"
            write_rows(out, built.rows)
            read = read_rows(out)
            if read.rows != built.rows:
                raise SystemExit(f"{title}: rows read back differ from those written")
            for row in read:
                to_task(row, judged=True)
            probes = [probe for row in read for probe in row.probes]
            answers = dict(sorted(Counter(probe.answer_type for probe in probes).items()))
            found = sum(bool(probe.evidence) for probe in probes)
            measured.append(Measured(count(title, built), answers, found, read[0].dimension))
            rows += read
    return measured, rows


def page(results: Sequence[tuple[TokenCounter, int, list[Measured], Counter[str]]]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Task rows of the published files",
        "",
        "`MNEMON_DATA=… python benchmarks/data_rows.py`; counts only.",
        "",
    ]
    for counter, size, measured, found in results:
        lines += [f"## Chunks of at most {size:,} {counter.name}", ""]
        lines.append(
            "| dataset | rows: train / validation / test | segments | chunks | questions | with evidence | tokens "
            "| largest chunk | fields mended | left out |"
        )
        lines.append("|---|---|" + "--:|" * 8)
        for m in measured:
            one = m.line
            sizes = (
                one.segments,
                one.chunks,
                one.probes,
                m.evidence,
                one.tokens,
                one.largest,
                one.mended,
                one.left_out,
            )
            cells = " | ".join(f"{n:,}" for n in sizes)
            lines.append(f"| {one.name} | {one.train} / {one.validation} / {one.test} | {cells} |")
        rows, chunks, probes, tokens = (
            sum(getattr(m.line, name) for m in measured) for name in ("rows", "chunks", "probes", "tokens")
        )
        lines += ["", f"{rows:,} rows, {chunks:,} chunks, {probes:,} questions, {tokens:,} tokens."]
        shared = (
            ", ".join(f"{n} {what}{'s' * (n > 1 and what != 'labels')}" for what, n in sorted(found.items())) or "none"
        )
        lines += [f"Shared by two splits, over all datasets together: {shared}.", ""]
    lines += ["Questions by answer type:", ""]
    for m in results[0][2]:
        lines.append(f"- {m.line.name} ({m.dimension}): " + ", ".join(f"{n:,} {kind}" for kind, n in m.answers.items()))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=os.environ.get("MNEMON_DATA"), help="folder with one sub-folder per dataset")
    parser.add_argument("--write", type=Path, default=Path(__file__).with_suffix(""), help="files to write, no ending")
    given = parser.parse_args()
    if not given.data:
        parser.error("set MNEMON_DATA or give --data: the folder that holds the datasets")
    results = []
    record: dict[str, Any] = {}
    for counter, size in SETTINGS:
        measured, rows = measure(Path(given.data), counter, size)
        found = Counter(leak.what for leak in leaks(rows))
        results.append((counter, size, measured, found))
        record[f"{counter.name} {size}"] = {"datasets": [asdict(m) for m in measured], "leaks": dict(found)}
    given.write.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = page(results)
    given.write.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
