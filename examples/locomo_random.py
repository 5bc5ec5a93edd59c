"""LoCoMo from end to end with a model that knows nothing: training, banks, every test question over a real server.

    MNEMON_DATA=/path/to/data python examples/locomo_random.py [--out FOLDER] [--write benchmarks/locomo_random]

needs locomo10.json in $MNEMON_DATA (or in a folder locomo there) and, beside `mnemon[train]`, `transformers[serving]`.
A Qwen3 of 4 M random weights with a byte-level tokenizer goes through the public commands: the manager is trained on
conv-26 with GRPO and with PPO, the answerer with PPO; the manager builds the bank of one test conversation; the trained
answerer is served by `transformers serve` and answers all test questions from raw-turn banks. That evaluation is killed
on the way (SIGKILL), run again, and run a third time when there is nothing left to ask. Wall times, counts and scores
go to --write as .json and .md, without any text of the data set. The scores say nothing about Memory-R1: random weights
write neither a valid call nor an answer.

Killed itself, this script goes on with the step that was not finished.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnemon.runs import RunFolder, atomic_write_json, atomic_write_text, read_jsonl, versions

TRAINED = {"writer-grpo": ("writer", "grpo"), "writer-ppo": ("writer", "ppo"), "reader-ppo": ("reader", "ppo")}
"""Run -> (role, algorithm)."""
ASKED, STARTED = b"[Request received]", b"Uvicorn running"
"""What `transformers serve --log-level info` writes for every request that reaches it, and when it starts."""


@dataclass(frozen=True)
class Size:
    """How much is done: set so that the 1,307 test questions take some 20 minutes on one CPU core."""

    k: int = 5
    reply: int = 12
    updates: int = 3
    groups: int = 2
    members: int = 2
    conversation: str = "conv-49"
    concurrency: int = 4
    kill_after: int = 200


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def training(run: str, data: Path, out: Path, size: Size) -> list[str]:
    """`mnemon` arguments that train one role for a few updates on the training conversation."""
    role, algo = TRAINED[run]
    source = ["--facts", "raw"] if role == "writer" else ["--writer", "turns"]
    return [
        *("train", "memory-r1", "--role", role, "--algo", algo, "--data", str(data), "--policy", str(out / "model")),
        *("--run", str(out / run), *source, "--k", str(size.k), "--max-reply", str(size.reply)),
        *("--updates", str(size.updates), "--groups", str(size.groups), "--members", str(size.members)),
        *("--lr", "1e-4", "--kl", "0", *(("--constant", "skip") if algo == "grpo" else ())),
    ]


def banks(data: Path, out: Path, size: Size) -> list[str]:
    """`mnemon` arguments: the random manager reads one test conversation, then its questions are asked."""
    model = str(out / "model")
    return [
        *("eval", "memory-r1", "--data", str(data), "--conversations", size.conversation, "--writer", model),
        *("--facts", "raw", "--reader", model, "--k", str(size.k), "--max-reply", str(size.reply)),
        *("--out", str(out / "bank")),
    ]


def questions(reader: str, data: Path, out: Path, size: Size) -> list[str]:
    """`mnemon` arguments: every test question, answered from banks that hold the turns as they are."""
    return [
        *("eval", "memory-r1", "--data", str(data), "--split", "test", "--writer", "turns", "--reader", reader),
        *("--k", str(size.k), "--max-reply", str(size.reply), "--concurrency", str(size.concurrency)),
        *("--out", str(out / "test")),
    ]


def served_model(out: Path) -> Path:
    """The trained answerer's weights."""
    return max((out / "reader-ppo" / "checkpoints").glob("step-*")) / "model"


# ── running them ─────────────────────────────────────────────────────────────────────────────────────────────────────


def tool(name: str) -> str:
    """A program of this Python environment."""
    return str(Path(sys.executable).with_name(name))


def spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command; what it says is appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as said:
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        return subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | quiet)


def cpu_seconds() -> float:
    """CPU time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Journal:
    """What was done, with its times: OUT/steps.json. A finished step is not done again."""

    out: Path
    words: dict[str, str]

    @property
    def steps(self) -> dict[str, Any]:
        file = self.out / "steps.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def keep(self, name: str, **facts: Any) -> None:
        atomic_write_json(self.out / "steps.json", self.steps | {name: facts})
        print(f"{name}: {json.dumps(facts)}", flush=True)

    def shown(self, command: list[str]) -> str:
        """The command without this machine's paths."""
        text = " ".join([Path(command[0]).name, *command[1:]])
        for long, short in self.words.items():
            text = text.replace(long, short)
        return text

    def run(self, name: str, command: list[str]) -> None:
        """Run a command to its end. Raises SystemExit where it fails."""
        if name in self.steps:
            return
        began, used = time.perf_counter(), cpu_seconds()
        log = self.out / "logs" / f"{name}.log"
        code = spawn(command, log).wait()
        if code:
            raise SystemExit(f"{name} failed with exit code {code}; the end of {log}:\n{log.read_text()[-2000:]}")
        wall = round(time.perf_counter() - began, 1)
        self.keep(name, command=self.shown(command), wall_s=wall, cpu_s=round(cpu_seconds() - used, 1))


@contextmanager
def serving(model: Path, journal: Journal) -> Iterator[str]:
    """Run `transformers serve` on a free port; gives the URL of its model, as `--reader` takes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [tool("transformers"), "serve", "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    command += ["--dtype", "float32", "--log-level", "info", str(model)]
    began = time.perf_counter()
    log = journal.out / "logs" / "serve.log"
    server = spawn(command, log)
    try:
        while not healthy(f"http://127.0.0.1:{port}/health"):
            if server.poll() is not None or time.perf_counter() - began > 120:
                raise SystemExit(f"the server does not answer; the end of {log}:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        ready = round(time.perf_counter() - began, 1)
        yield f"http://127.0.0.1:{port}/v1#{model}"
    finally:
        used = cpu_seconds()
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:  # nobody is served any more
            server.kill()
            server.wait()
    before = journal.steps.get("serve", {"wall_s": 0.0, "cpu_s": 0.0})
    wall = round(before["wall_s"] + time.perf_counter() - began, 1)
    cpu = round(before["cpu_s"] + cpu_seconds() - used, 1)
    shown = journal.shown(command).replace(port, "PORT")
    journal.keep("serve", command=shown, ready_s=ready, wall_s=wall, cpu_s=cpu)


def healthy(url: str) -> bool:
    """Whether the server answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def lines(file: Path, containing: bytes = b"") -> int:
    """Complete lines of a file that contain some bytes; 0 where there is no file."""
    return sum(containing in line for line in file.read_bytes().split(b"\n")[:-1]) if file.exists() else 0


def killed(journal: Journal, command: list[str], after: int) -> None:
    """Start the evaluation and kill it (SIGKILL) once so many answers are on the disk."""
    if "killed" in journal.steps:
        return
    began = time.perf_counter()
    answers = journal.out / "test" / "answers.jsonl"
    process = spawn(command, journal.out / "logs" / "killed.log")
    while lines(answers) < after:
        if process.poll() is not None:
            raise SystemExit(f"the evaluation ended with {process.returncode} before it could be killed: see logs/")
        time.sleep(0.1)
    used = cpu_seconds()
    process.kill()
    process.wait()
    wall = round(time.perf_counter() - began, 1)
    journal.keep("killed", wall_s=wall, cpu_s=round(cpu_seconds() - used, 1), answers=lines(answers))


def everything(data: Path, out: Path, size: Size) -> None:
    """All steps, each in processes of its own; finished ones are left out."""
    out.mkdir(parents=True, exist_ok=True)
    make = Path(__file__).with_name("make_random_model.py")
    journal = Journal(out, {str(out): "OUT", str(data): "$MNEMON_DATA", str(make.parent): "examples"})
    journal.run("model", [sys.executable, str(make), str(out / "model")])
    for run in TRAINED:
        begun = ["--resume"] if (out / run / "config.json").exists() else []
        journal.run(run, [tool("mnemon"), *training(run, data, out, size), *begun])
    journal.run("bank", [tool("mnemon"), *banks(data, out, size)])
    if "requests" in journal.steps:
        return
    with serving(served_model(out), journal) as url:
        log, command = out / "logs" / "serve.log", [tool("mnemon"), *questions(url, data, out, size)]
        killed(journal, command, size.kill_after)
        journal.run("rerun", command)
        asked = lines(log, ASKED)
        journal.run("third run", command)
        requests = {"until_all_answered": asked, "in_the_third_run": lines(log, ASKED) - asked}
        journal.keep("requests", **requests, server_starts=lines(log, STARTED))


# ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────────────


def trained(run: Path, model: Path) -> dict[str, Any]:
    """Updates, groups and optimizer steps of a training run, and how far its weights moved."""
    from safetensors.numpy import load_file

    records = [record for record in RunFolder(run).metrics() if record["phase"] == "train"]
    newest = max((run / "checkpoints").glob("step-*")) / "model" / "model.safetensors"
    before, after = load_file(model / "model.safetensors"), load_file(newest)
    steps = [record["trainer"] for record in records]
    return {
        "updates": len(records),
        "groups": sum(record["groups"] for record in records),
        "groups_constant": sum(record["groups"] - record["informative"] for record in records),
        "rows_trained": sum(record["rows"] for record in records),
        "optimizer_steps": sum(step.get("optimizer_steps", 0) for step in steps),
        "grad_norm": [step.get("grad_norm") for step in steps],
        "reward": [record["reward"] for record in records],
        "largest_weight_change": max(float(abs(after[name] - before[name]).max()) for name in after),
        "update_wall_s": [round(record["time"]["wall_s"], 1) for record in records],
    }


def figures(out: Path, size: Size) -> dict[str, Any]:
    """All figures of a finished run; nothing of the data set's text."""
    test, bank = (json.loads((out / name / "report.json").read_text(encoding="utf-8")) for name in ("test", "bank"))
    answers = read_jsonl(out / "test" / "answers.jsonl")
    return {
        "machine": {"cpus": os.cpu_count(), **versions(), "platform": platform.machine()},
        "size": asdict(size),
        "steps": Journal(out, {}).steps,
        "training": {run: trained(out / run, out / "model") for run in TRAINED},
        "bank": {
            "conversation": size.conversation,
            "writer": bank["work"]["writer"],
            "memory": bank["memory"]["tasks"],
            "questions": bank["counts"],
        },
        "test": {
            "counts": test["counts"],
            "lines": len(answers),
            "distinct": len({(answer["task"], answer["probe"]) for answer in answers}),
            **{name: test[name] for name in ("scores", "measures", "categories", "work")},
        },
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The figures as a page."""
    steps, size, machine = found["steps"], found["size"], found["machine"]
    page = [
        "# LoCoMo with random weights: the whole path",
        "",
        "`MNEMON_DATA=… python examples/locomo_random.py`. A Qwen3 of 4 M random weights with a byte-level tokenizer: "
        "the times and counts mean something, the scores do not.",
        "",
        f"To keep it short: {size['k']} memories per question, {size['reply']} tokens per reply, {size['updates']} "
        f"updates of {size['groups']} tasks x {size['members']} rollouts. One thread per process on a machine with "
        f"{machine['cpus']} CPU cores, shared with other work; torch {machine.get('torch')}.",
        "",
        *table(["step", "wall s", "CPU s"], [[n, s["wall_s"], s["cpu_s"]] for n, s in steps.items() if "wall_s" in s]),
        "",
        "## Training on conv-26",
        "",
        *table(["", *found["training"]], training_rows(found["training"])),
        "",
        "Where no member of a group writes a valid call or an answer, all get the same reward: GRPO leaves such a "
        "group out. PPO takes every trajectory: a manager's invalid reply costs 0.02, which moves its weights; an "
        "answerer that is always paid 0, by a critic that starts at 0, has a gradient of 0.",
        "",
        f"## Bank of {found['bank']['conversation']}",
        "",
        bank_line(found["bank"]),
        "",
        "## All test questions over `transformers serve`",
        "",
        resume_line(found),
        "",
        *category_table(found["test"]),
    ]
    return "\n".join(page) + "\n"


def training_rows(runs: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """A row per figure, a column per run."""

    def row(title: str, name: str, form: str) -> list[str]:
        values = [run[name] if isinstance(run[name], list) else [run[name]] for run in runs.values()]
        return [title, *(", ".join("–" if v is None else format(v, form) for v in each) for each in values)]

    return [
        row("updates", "updates", "d"),
        row("groups", "groups", "d"),
        row("of them without variance", "groups_constant", "d"),
        row("mean reward of each update", "reward", ".3f"),
        row("rows trained on", "rows_trained", "d"),
        row("optimizer steps", "optimizer_steps", ".0f"),
        row("gradient norm of each", "grad_norm", ".2g"),
        row("largest change of a weight", "largest_weight_change", ".1e"),
        row("wall s of each update", "update_wall_s", ".1f"),
    ]


def bank_line(bank: Mapping[str, Any]) -> str:
    """What the manager did."""
    work, entries = bank["writer"], sum(task["entries"] for task in bank["memory"].values())
    events = ", ".join(f"{name} {n}" for name, n in work["events"].items()) or "none"
    return (
        f"{work['inputs']} inputs of two turns, {work['calls'].get('writer', 0)} decisions, "
        f"{work['prompt_tokens']:,} prompt tokens, {work['seconds']:.0f} s; events: {events}; {entries} entries "
        f"stored. {bank['questions']['answered']} of {bank['questions']['asked']} questions answered on it."
    )


def resume_line(found: Mapping[str, Any]) -> str:
    """How the killed evaluation went on."""
    test, steps = found["test"], found["steps"]
    counts, requests = test["counts"], steps["requests"]
    wall = steps["killed"]["wall_s"] + steps["rerun"]["wall_s"]
    return (
        f"{counts['answered']:,} of {counts['asked']:,} questions answered in {wall:,.0f} s, {counts['failed']} "
        f"failed. Killed with {steps['killed']['answers']} answers on the disk, then run again: {test['lines']:,} "
        f"lines in answers.jsonl, {test['distinct']:,} different questions. The server received "
        f"{requests['until_all_answered']:,} requests, "
        f"{requests['until_all_answered'] - test['lines']} more than there are answers: those under way at the kill "
        f"(at most {found['size']['concurrency']}). A third run sent {requests['in_the_third_run']}."
    )


def category_table(test: Mapping[str, Any]) -> list[str]:
    """Categories under both sets of names: questions, scores, evidence among the memories shown."""
    names, scores, shown = test["categories"], test["scores"], test["measures"]["evidence_shown"]
    per_metric = {**scores, "evidence shown": shown}
    rows = []
    for category in next(iter(scores.values()))["categories"]:
        means = [summary["categories"].get(category) for summary in per_metric.values()]
        cells = ["–" if mean is None else f"{100 * mean['mean']:.2f}" for mean in means]
        n = next(iter(scores.values()))["categories"][category]["n"]
        rows.append([category, *(both.get(category, "") for both in names.values()), n, *cells])
    overall = [f"{100 * summary['micro']['mean']:.2f}" for summary in per_metric.values()]
    total = next(iter(scores.values()))["micro"]["n"]
    rows.append(["all", *("" for _ in names), total, *overall])
    return table(["category", *names, "n", *per_metric], rows)


def table(header: list[str], rows: list[list[Any]]) -> list[str]:
    """Markdown; None is a dash."""
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *cells]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/locomo-random"))
    parser.add_argument("--write", type=Path, help="path without suffix for the figures (default: OUT/figures)")
    options = parser.parse_args()
    data = os.environ.get("MNEMON_DATA", "")
    if not data:
        raise SystemExit("set MNEMON_DATA to the folder that holds LoCoMo (locomo10.json)")
    size, out = Size(), options.out.resolve()
    everything(Path(data).resolve(), out, size)
    found, target = figures(out, size), options.write or out / "figures"
    requests = found["steps"]["requests"]
    again = requests["until_all_answered"] - found["test"]["lines"]
    if not 0 <= again <= size.concurrency * requests["server_starts"] or requests["in_the_third_run"]:
        raise SystemExit(f"questions were asked twice: {again} requests more than answers")
    atomic_write_json(target.with_suffix(".json"), found)
    atomic_write_text(target.with_suffix(".md"), markdown(found))
    print(f"{target.with_suffix('.json')}\n{target.with_suffix('.md')}")


if __name__ == "__main__":
    main()
