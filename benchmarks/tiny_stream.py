"""The tiny stream, three seeds: cold start, GRPO, and the scoreboard of Mem-α on the untouched test split.

    python benchmarks/tiny_stream.py [--seeds 0 1 2] [--streams 300] [--runs runs/tiny_stream]

Writes benchmarks/tiny_stream.json and .md: accuracy over stream lengths (6 chunks = training, 78 = 13 times, 240 = 40
times) and unseen templates, per dimension, invalid calls, prompt length, seconds per chunk, tokens kept against tokens
read, all scripted policies and baselines, and the CPU-seconds of the process (one thread, cold start included,
measuring excluded). The last checkpoint is measured; nothing is selected. A finished seed is not trained again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mnemon.policy.local import LocalPolicy
from mnemon.recipes.mem_alpha.tiny import REPLY_TOKENS, TinySettings, cold_start, open_model, train_writer
from mnemon.recipes.mem_alpha.tiny_eval import LENGTHS, chunk_seconds, cold_figures, measure, rows_of
from mnemon.runs import RunFolder
from mnemon.tasks.tiny_stream import words
from mnemon.tasks.tiny_stream.questions import DIMENSIONS

HERE = Path(__file__).parent
SHORT, LONG, LONGEST = (f"L={n}" for n in LENGTHS)


def timed(note: Path, work: Callable[[], Any]) -> float:
    """CPU-seconds of some work, which is done once: then they stand in the note."""
    if not note.exists():
        started = time.process_time()
        work()
        note.write_text(json.dumps({"cpu_s": time.process_time() - started}))
    return float(json.loads(note.read_text())["cpu_s"])


def trained(seed: int, runs: Path) -> tuple[Path, Path, float, float]:
    """(cold start, run, CPU-seconds of each), trained where they are not there yet."""
    before, folder = runs / f"seed{seed}_cold", runs / f"seed{seed}"
    settings = TinySettings(seed=seed)

    def learn() -> None:
        with RunFolder(folder).start({"benchmark": "tiny stream", "seed": seed}, seed=seed) as run:
            train_writer(run, settings, str(before))

    cold = timed(runs / f"seed{seed}_cold.json", lambda: cold_start(before, settings))
    total = timed(runs / f"seed{seed}.json", learn)
    measuring = sum(r["time"]["cpu_s"] for r in RunFolder(folder).metrics() if r["phase"] == "eval")
    return before, folder, cold, total - measuring


def one_seed(seed: int, runs: Path, streams: int) -> dict[str, Any]:
    """Train one seed (if it is not there yet) and measure it."""
    before, folder, cold, learning = trained(seed, runs)
    found: dict[str, Any] = {"seed": seed, "cold_cpu_s": cold, "rl_cpu_s": learning}
    found["curve"] = curve(folder, found["cold_cpu_s"])
    for name, source, temperature in (
        ("cold start", before, 0.0),
        ("cold start, sampled", before, 1.0),
        ("trained", folder, 0.0),
        ("trained, sampled", folder, 1.0),
    ):
        found[name] = measure(opened(source, temperature), streams, scripted=False)["this agent"]
    found["cold requirements"] = cold_figures(opened(before, 1.0))
    found["chunk_cpu_s"] = {n: chunk_seconds(opened(folder, 0.0), n, max(1, 120 // n)) for n in LENGTHS}
    return found


def opened(source: Path, temperature: float) -> LocalPolicy:
    """The model of a run, at a temperature."""
    model, tokenizer = open_model(str(source))
    return LocalPolicy(model, tokenizer, temperature=temperature, max_tokens=REPLY_TOKENS)


def curve(folder: Path, cold: float) -> list[list[float]]:
    """[CPU-seconds so far, validation accuracy, refused calls per call] at each evaluation."""
    points, spent = [], cold
    for record in RunFolder(folder).metrics():
        if record["phase"] == "train":
            spent += record["time"]["cpu_s"]
        else:
            points.append([round(spent, 1), round(record["validation"], 4), round(record["invalid"], 4)])
    return points


def requirements(row: dict[str, Any], scripted: dict[str, Any]) -> dict[str, Any]:
    """What is required, measured."""
    trained = row["trained"]
    rivals = {
        "cold start": row["cold start"], "cold start, sampled": row["cold start, sampled"],
        "demonstrator": scripted["demonstrator"], "always insert": scripted["always insert"],
    }  # fmt: skip
    percent = lambda value: round(100 * value, 1)  # noqa: E731
    best = max(of[SHORT]["accuracy"] for of in rivals.values())
    gains = {}
    for name in DIMENSIONS:
        rival = max(of[SHORT]["dimensions"][name][0] for of in rivals.values())
        share = trained[SHORT]["dimensions"][name][0]
        gains[f"{name}: accuracy (gain over the best)"] = f"{percent(share)} ({percent(share - rival):+})"
    accuracy = {name: trained[name]["accuracy"] for name in (SHORT, LONG, LONGEST)}
    seconds = row["chunk_cpu_s"]
    seconds = {int(n): value for n, value in seconds.items()}
    return {
        "accuracy at 6 chunks, %": percent(accuracy[SHORT]),
        "gain over the best of cold start (greedy, sampled), demonstrator and always insert, points (required 40)": (
            percent(accuracy[SHORT] - best)
        ),
        **gains,
        "calls refused at 6 chunks, % (required below 1)": round(100 * trained[SHORT]["invalid_share"], 2),
        "calls refused at 78 / 240 chunks, %": " / ".join(
            str(round(100 * trained[name]["invalid_share"], 2)) for name in (LONG, LONGEST)
        ),
        "13 times the length: points lost (at most 8)": percent(accuracy[SHORT] - accuracy[LONG]),
        "40 times the length: points lost": percent(accuracy[SHORT] - accuracy[LONGEST]),
        "longest prompt at 6 / 78 / 240 chunks, tokens": " / ".join(
            str(trained[name]["longest_prompt"]) for name in (SHORT, LONG, LONGEST)
        ),
        "mean prompt at 6 / 78 / 240 chunks, tokens": " / ".join(
            str(trained[name]["mean_prompt"]) for name in (SHORT, LONG, LONGEST)
        ),
        "CPU-s per chunk, one stream at a time, at 6 / 78 / 240 chunks": " / ".join(
            f"{seconds[n]:.3f}" for n in LENGTHS
        ),
        "CPU-s per chunk at 240 chunks over that at 78 (at most 1.3)": round(
            seconds[LENGTHS[2]] / seconds[LENGTHS[1]], 2
        ),
        "tokens kept / read at 78 chunks": " / ".join(
            f"{trained[LONG][name]:.0f}" for name in ("memory_tokens", "input_tokens")
        ),
        "CPU-s, cold start + RL": f"{row['cold_cpu_s']:.0f} + {row['rl_cpu_s']:.0f}",
        "CPU-s until validation is 40 points above the best": next(
            (p[0] for p in row["curve"] if p[1] >= best + 0.4), None
        ),
        "cold start: calls refused for their form, % (sampled)": round(100 * row["cold requirements"]["malformed"], 2),
        "cold start: exact thoughts, %": percent(row["cold requirements"]["exact_thoughts"]),
        "cold start: exact texts, %": percent(row["cold requirements"]["exact_texts"]),
    }


def markdown(result: dict[str, Any]) -> str:
    """The tables of the report."""
    scripted, seeds = result["scripted"], result["seeds"]
    everybody = {f"{name} (scripted)": sets for name, sets in scripted.items()}
    for row in seeds:
        for which in ("cold start", "cold start, sampled", "trained", "trained, sampled"):
            everybody[f"**{which}, seed {row['seed']}**"] = row[which]
    header, rows = rows_of(everybody)
    lines = ["# Tiny stream: Mem-α's writer, GRPO", "", f"`{result['command']}`", ""]
    lines += [
        f"Answers right in %, test split, {result['streams']} streams of six chunks (± standard error over streams); "
        "the dimensions are those of L=6.",
        "",
        "| " + " | ".join(header) + " |",
        "|---|" + "--:|" * (len(header) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "| requirement | " + " | ".join(f"seed {row['seed']}" for row in seeds) + " |",
        "|---|" + "--:|" * len(seeds),
    ]
    for title in result["requirements"][0]:
        lines.append(f"| {title} | " + " | ".join(str(r[title]) for r in result["requirements"]) + " |")
    lines += ["", f"Machine: {result['machine']}. L=78 is 13 times, L=240 is 40 times the training length."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny_stream"))
    parser.add_argument("--out", type=Path, default=HERE / "tiny_stream.json")
    parser.add_argument("--train-only", action="store_true", help="train the seeds, measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.train_only:
        for seed in options.seeds:
            trained(seed, options.runs)
        return
    scripted = measure(None, options.streams)
    seeds = [one_seed(seed, options.runs, options.streams) for seed in options.seeds]
    result = {
        "command": "python benchmarks/tiny_stream.py --seeds " + " ".join(map(str, options.seeds)),
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "streams": options.streams,
        "vocabulary": len(words.vocabulary()),
        "requirements": [requirements(row, scripted) for row in seeds],
        "seeds": seeds,
        "scripted": scripted,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
