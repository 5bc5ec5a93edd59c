"""Mem-α's conclusions in miniature: the ablations of its reward, flat memory, long context, errors, one stream.

    python benchmarks/stream_claims.py train PART --seed S   # one ablation (resumable), from the seed's cold start
    python benchmarks/stream_claims.py measure               # figures of the finished runs -> stream_claims.json
    python benchmarks/stream_claims.py write                 # docs/claims_mem_alpha.md and its plot

The writers with the default reward (β .05, γ .1) and the figures beside which everything stands are those of
benchmarks/tiny_stream.py, which runs first. PART is one of the names in `PARTS`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnemon.policy.base import run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.recipes.mem_alpha import tiny
from mnemon.recipes.mem_alpha.tiny_eval import boards, figures
from mnemon.runs import RunFolder
from mnemon.types import JSON

HERE = Path(__file__).parent
RUNS, WRITERS = Path("runs/stream_claims"), Path("runs/tiny_stream")
SEEDS = (0, 1, 2)
PARTS: dict[str, dict[str, Any]] = {
    "beta_0": {"beta": 0.0},
    "beta_0.2": {"beta": 0.2},
    "beta_0.4": {"beta": 0.4},
    "gamma_0": {"gamma": 0.0},
    "validity_0": {"validity": 0.0},
}
"""The default reward with one weight changed (arXiv 2509.25911 §4.4 varies beta and gamma)."""
SETS = ("L=6", "L=78")


def folder_of(part: str, seed: int) -> Path:
    """Where the run of a part lies; "default" is the writer of benchmarks/tiny_stream.py."""
    return WRITERS / f"seed{seed}" if part == "default" else RUNS / f"{part}_{seed}"


def train_part(part: str, seed: int) -> None:
    """One ablation; a finished one returns at once."""
    folder = folder_of(part, seed)
    there = (folder / "config.json").exists()
    started = time.process_time()
    settings = replace(tiny.TinySettings(seed=seed), **PARTS[part])
    with RunFolder(folder).start({"stream claims": part, "seed": seed}, seed=seed, resume=there) as run:
        found = tiny.train_writer(run, settings, str(WRITERS / f"seed{seed}_cold"))
    print(part, seed, found, f"{time.process_time() - started:.0f} CPU-s")


def opened(source: Path) -> LocalPolicy:
    """The greedy writer of a run."""
    model, tokenizer = tiny.open_model(str(source))
    return LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=tiny.REPLY_TOKENS)


def finished(folder: Path) -> bool:
    """Whether a run went to its last update."""
    records = RunFolder(folder).metrics() if (folder / "metrics.jsonl").exists() else []
    return bool(records) and records[-1]["update"] >= tiny.TinySettings().loop.updates


def measure(streams: int = 200) -> JSON:
    """{"ablations": part -> seed -> set -> figures, "stream": one stream before and after}."""
    sets = {name: tasks for name, tasks in boards(streams, "test").items() if name in SETS}
    found: JSON = {}
    for part in ("default", *PARTS):
        for seed in SEEDS:
            if finished(folder_of(part, seed)):
                policy = opened(folder_of(part, seed))
                row = {name: figures(run_sync(tiny.play(policy, tasks))) for name, tasks in sets.items()}
                found.setdefault(part, {})[str(seed)] = row
    return {"streams": streams, "ablations": found, "stream": one_stream()}


def one_stream(number: int = 3) -> JSON:
    """A test stream as the first seed's writer keeps it before and after training: calls per chunk, memory, answers."""
    task = boards(number + 1, "test")["L=6"][number]
    chunks = [chunk.text for chunk in task.meta["stream"].chunks]
    found: JSON = {"task": task.id, "chunks": chunks}
    for who, source in (("before", WRITERS / "seed0_cold"), ("after", WRITERS / "seed0")):
        [played] = run_sync(tiny.play(opened(source), [task]))
        calls = [[f"{o.kind} {o.entry.section}: {o.entry.text}" for o in turn.operations] for turn in played.turns]
        memory = {name: [e.text for e in played.state.memory.entries(name)] for name in played.state.memory.sections}
        answers = [[a.probe.question, a.text, " / ".join(a.probe.answers)] for a in played.answers]
        found[who] = {"calls": calls, "memory": memory, "answers": answers}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "measure", "write"))
    parser.add_argument("part", nargs="?", choices=sorted(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--streams", type=int, default=200, help="streams of six chunks (fewer of longer ones)")
    options = parser.parse_args()
    if options.what == "train" and options.part is None:
        parser.error(f"train which part? One of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    file = HERE / "stream_claims.json"

    def write() -> None:
        from stream_claims_report import write as report

        report(json.loads((HERE / "tiny_stream.json").read_text()), json.loads(file.read_text()))

    jobs: dict[str, Callable[[], object]] = {
        "train": lambda: train_part(options.part, options.seed),
        "measure": lambda: file.write_text(json.dumps(measure(options.streams), indent=1) + "\n"),
        "write": write,
    }
    jobs[options.what]()


if __name__ == "__main__":
    main()
