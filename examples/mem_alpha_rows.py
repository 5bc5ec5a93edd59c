"""Mem-α on rows of LoCoMo and XQuAD with a model that knows nothing: rows, training, evaluation, by the real commands.

    MNEMON_DATA=/path/to/data python examples/mem_alpha_rows.py [--out FOLDER] [--write benchmarks/mem_alpha_rows]

needs locomo10.json and xquad.en.json somewhere in $MNEMON_DATA and `mnemon[train]`. A Qwen3 of random weights with a
byte-level tokenizer is trained for a few updates on the training rows of both, then it reads the test streams, and so
does a writer that stores every chunk as it stands; the same random model answers. A rerun of the evaluation asks
nothing. Counts, times and scores go to --write as .json and .md, without any text of the data sets. The scores say
nothing about Mem-α: random weights write no valid call and no answer.

Killed, this script goes on with the step that was not finished.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from locomo_random import Journal, lines, table, tool, trained

from mnemon.runs import RunFolder, atomic_write_json, atomic_write_text, versions
from mnemon.tasks.rows import SPLITS, read_rows

FILES = {"locomo": "locomo10.json", "xquad": "xquad.en.json"}
"""Dataset -> its original file."""
REPORTS = {"trained": "the trained writer", "chunks": "every chunk as it stands, 2 shown"}


@dataclass(frozen=True)
class Size:
    """How much is done: set so that all of it takes some minutes on one CPU core."""

    layers: int = 2
    width: int = 64
    chunk_tokens: int = 512
    row_chunks: int = 4
    questions: int = 5
    updates: int = 3
    groups: int = 3
    members: int = 4
    prompt: int = 12000
    reply: int = 48
    answer: int = 12


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def building(dataset: str, file: Path, out: Path, size: Size) -> list[str]:
    """`mnemon` arguments that make rows of a file; XQuAD, which is one test file, is dealt to the splits by article."""
    more = ["--deal", "--row-chunks", str(size.row_chunks)] if dataset == "xquad" else []
    return [
        *("data", "build", dataset, str(file), "--out", str(out / f"{dataset}.jsonl"), *more),
        *("--chunk-tokens", str(size.chunk_tokens), "--questions", str(size.questions)),
    ]


def training(out: Path, size: Size) -> list[str]:
    """`mnemon` arguments: a few updates of the writer on the training rows of both; the judge is switched off."""
    return [
        *("train", "mem-alpha", "--policy", str(out / "model"), *data(out), "--run", str(out / "run"), "--gamma", "0"),
        *("--updates", str(size.updates), "--groups", str(size.groups), "--members", str(size.members)),
        *("--questions", "3", "--max-prompt", str(size.prompt), "--max-reply", str(size.reply), "--lr", "1e-4"),
    ]


def evaluating(name: str, out: Path, size: Size) -> list[str]:
    """`mnemon` arguments: a writer reads the test streams, the random model answers."""
    writer = ["chunks", "--k", "2"] if name == "chunks" else [str(out / "run")]
    return [
        *("eval", "mem-alpha", *data(out), "--writer", *writer, "--reader", str(out / "model")),
        *("--max-reply", str(size.answer if name == "chunks" else size.reply), "--out", str(out / name)),
    ]


def data(out: Path) -> list[str]:
    """The options that name both row files."""
    return [word for dataset in FILES for word in ("--data", str(out / f"{dataset}.jsonl"))]


def everything(files: Mapping[str, Path], out: Path, size: Size) -> None:
    """All steps, each in a process of its own; finished ones are left out."""
    out.mkdir(parents=True, exist_ok=True)
    make = Path(__file__).with_name("make_random_model.py")
    sources = {str(file): f"$MNEMON_DATA/…/{file.name}" for file in files.values()}
    journal = Journal(out, {str(out): "OUT", **sources, str(make.parent): "examples"})
    shape = ["--layers", str(size.layers), "--width", str(size.width), "--vocabulary", "1"]
    journal.run("model", [sys.executable, str(make), str(out / "model"), *shape])
    for dataset, file in files.items():
        journal.run(f"rows of {dataset}", [tool("mnemon"), *building(dataset, file, out, size)])
    begun = ["--resume"] if (out / "run" / "config.json").exists() else []
    journal.run("training", [tool("mnemon"), *training(out, size), *begun])
    for name in REPORTS:
        journal.run(f"evaluation: {name}", [tool("mnemon"), *evaluating(name, out, size)])
    before = lines(out / "trained" / "answers.jsonl")
    journal.run("rerun", [tool("mnemon"), *evaluating("trained", out, size)])
    if lines(out / "trained" / "answers.jsonl") != before:
        raise SystemExit("the rerun asked again")


# ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(file: Path) -> dict[str, Any]:
    """Counts of a row file by split."""
    rows = read_rows(file)
    found = {}
    for split in SPLITS:
        held = [row for row in rows if row.split == split]
        found[split] = {
            "rows": len(held),
            "chunks": sum(len(row.chunks) for row in held),
            "questions": sum(len(row.probes) for row in held),
            "tokens": sum(row.tokens for row in held),
        }
    return found


def figures(out: Path, size: Size) -> dict[str, Any]:
    """All figures of a finished run; nothing of the data sets' text."""
    reports = {name: json.loads((out / name / "report.json").read_text(encoding="utf-8")) for name in REPORTS}
    records = [record for record in RunFolder(out / "run").metrics() if record["phase"] == "train"]
    return {
        "machine": {"cpus": os.cpu_count(), **versions(), "platform": platform.machine()},
        "size": asdict(size),
        "steps": Journal(out, {}).steps,
        "rows": {dataset: rows_of(out / f"{dataset}.jsonl") for dataset in FILES},
        "training": {
            **trained(out / "run", out / "model"),
            "terms": [record["terms"] for record in records],
            "tools": [record["tools"] for record in records],
            "events": [record["events"] for record in records],
            "unscorable": sum(record["unscorable"] for record in records),
        },
        "reports": {
            name: {part: report[part] for part in ("counts", "streams", "work", "failures")}
            for name, report in reports.items()
        },
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The figures as a page."""
    size, machine, run = found["size"], found["machine"], found["training"]
    steps = [[name, f"`{s['command']}`", s["wall_s"], s["cpu_s"]] for name, s in found["steps"].items()]
    rows = [
        [dataset, split, *counts.values()]
        for dataset, splits in found["rows"].items()
        for split, counts in splits.items()
    ]
    page = [
        "# Mem-α on rows of LoCoMo and XQuAD with random weights: the whole path",
        "",
        "`MNEMON_DATA=… python examples/mem_alpha_rows.py`. A Qwen3 of random weights with a byte-level tokenizer: the "
        "times and counts mean something, the scores do not.",
        "",
        f"To keep it short: chunks of at most {size['chunk_tokens']} words, {size['questions']} questions per stream, "
        f"{size['updates']} updates of {size['groups']} streams x {size['members']} rollouts, {size['reply']} tokens "
        f"per reply; no judge (a random one cannot be read). One thread per process on a machine with "
        f"{machine['cpus']} CPU cores, shared with other work; torch {machine.get('torch')}.",
        "",
        *table(["step", "command", "wall s", "CPU s"], steps),
        "",
        "## Rows",
        "",
        *table(["dataset", "split", "rows", "chunks", "questions", "tokens (words)"], rows),
        "",
        "## Training",
        "",
        *table(["", "of each update"], update_rows(run)),
        "",
        f"{run['groups']} groups, {run['groups_constant']} of them without variance (left out), {run['rows_trained']} "
        f"rows trained on, {run['optimizer_steps']:.0f} optimizer steps, largest change of a weight "
        f"{run['largest_weight_change']:.1e}, {run['unscorable']} trajectories that could not be scored. What varies "
        "among random writers is whether a reply holds the token that opens a call: such a call cannot be read and is "
        "refused. Term valid_calls is a sum over chunks.",
    ]
    for name, title in REPORTS.items():
        page += ["", f"## Test streams: {title}", "", *report_lines(found["reports"][name])]
    return "\n".join(page) + "\n"


def update_rows(run: Mapping[str, Any]) -> list[list[Any]]:
    """A row per figure of the training log, its values update by update."""

    def shown(values: list[Any], form: str) -> str:
        return ", ".join("–" if value is None else format(value, form) for value in values)

    names = dict.fromkeys(name for terms in run["terms"] for name in terms)
    refused = [sum(n for event, n in events.items() if event.startswith("refused:")) for events in run["events"]]
    return [
        ["mean reward", shown(run["reward"], ".3f")],
        *([f"reward term {name}", shown([t.get(name) for t in run["terms"]], ".2f")] for name in names),
        ["tool calls", shown([sum(tools.values()) for tools in run["tools"]], "d")],
        ["of them refused", shown(refused, "d")],
        ["gradient norm", shown(run["grad_norm"], ".2g")],
        ["wall s", shown(run["update_wall_s"], ".1f")],
    ]


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Counts, and a table per source and stream length."""
    counts, streams, work = report["counts"], report["streams"], report["work"]["writer"]
    header = ["streams", "questions", "metric", "score", "tokens read (words)", "kept", "kept / read"]

    def row(name: str, part: Mapping[str, Any]) -> list[Any]:
        score = part["by_question"]
        low, high = score["interval"] or (None, None)
        interval = "" if low is None else f" [{100 * low:.2f}, {100 * high:.2f}]"
        cells = [part["streams"], part["questions"], ", ".join(part["scorers"]), f"{100 * score['mean']:.2f}{interval}"]
        return [name, *cells, f"{part['input_tokens']:,}", f"{part['memory_tokens']:,}", f"{100 * part['share']:.0f} %"]

    calls = ", ".join(f"{name} {n}" for name, n in streams["calls"]["tools"].items()) or "none"
    refused = ", ".join(f"{name} {n}" for name, n in streams["calls"]["refused"].items()) or "none"
    return [
        f"{counts['answered']} of {counts['asked']} questions answered, {counts['failed']} failed; {work['inputs']} "
        f"chunks read, {work['prompt_tokens']:,} prompt tokens. Calls: {calls}; refused: "
        f"{refused}; chunks without a call: {streams['calls']['inputs_without_a_call']}.",
        "",
        *table(["source", *header], [row(name, part) for name, part in streams["sources"].items()]),
        "",
        *table(["stream length", *header], [row(name, part) for name, part in streams["lengths"].items()]),
    ]


def found_under(folder: Path) -> dict[str, Path]:
    """The original files somewhere in a folder. SystemExit where one is missing."""
    found = {dataset: next(iter(sorted(folder.rglob(name))), None) for dataset, name in FILES.items()}
    missing = [FILES[dataset] for dataset, file in found.items() if file is None]
    if missing:
        raise SystemExit(f"{folder} holds no {' and no '.join(missing)}")
    return {dataset: file for dataset, file in found.items() if file is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/mem-alpha-rows"))
    parser.add_argument("--write", type=Path, help="path without suffix for the figures (default: OUT/figures)")
    options = parser.parse_args()
    folder = os.environ.get("MNEMON_DATA", "")
    if not folder:
        raise SystemExit("set MNEMON_DATA to the folder that holds LoCoMo (locomo10.json) and XQuAD (xquad.en.json)")
    size, out = Size(), options.out.resolve()
    everything(found_under(Path(folder).resolve()), out, size)
    found, target = figures(out, size), options.write or out / "figures"
    atomic_write_json(target.with_suffix(".json"), found)
    atomic_write_text(target.with_suffix(".md"), markdown(found))
    print(f"{target.with_suffix('.json')}\n{target.with_suffix('.md')}")


if __name__ == "__main__":
    main()
