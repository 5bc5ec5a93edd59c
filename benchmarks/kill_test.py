"""Kill a training run again and again (SIGKILL at random moments), resume it, and compare it with an undisturbed one.

    python benchmarks/kill_test.py [--kills 20] [--algo grpo] [--seed 0] [--write benchmarks/kill_test.json]

Both runs are `mnemon train memory-r1` from scratch: cold start, reinforcement learning, evaluations, checkpoints. They
must end with the same records in metrics.jsonl (apart from "time"), the same sample trajectories and the same weights,
bit for bit. A command is killed a random time after it has logged a random number of records, so that every part of a
run is hit and the run gets on. Every command is a process of its own (a fork, which saves the imports).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import torch

from mnemon.cli import main
from mnemon.policy.open import newest_checkpoint
from mnemon.runs import RunFolder, atomic_write_json, versions

SIZE = ["--cold-updates", "40", "--updates", "12", "--groups", "3", "--members", "3"]


def command(run: Path, algo: str, seed: int) -> int:
    """Start or resume the run in a process of its own; the process id."""
    resume = ["--resume"] if (run / "config.json").exists() else []
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        said = os.open(run.parent / f"{run.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 2)
        arguments = ["--run", str(run), *SIZE, "--algo", algo, "--seed", str(seed), *resume]
        os._exit(main(["train", "memory-r1", *arguments]))
    return child


def finish(process: int, run: Path) -> None:
    """Wait for a process that must end well."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code != 0:
        failed(run, code)


def failed(run: Path, code: int) -> NoReturn:
    """End, with what the run said."""
    raise SystemExit(f"the run left with {code}:\n{(run.parent / f'{run.name}.log').read_text()}")


def logged(run: Path) -> int:
    """Records on the disk, cold start included."""
    files = (run / "cold" / "metrics.jsonl", run / "metrics.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def where(run: Path) -> str:
    """What the run was doing when it was killed: its phase and the last record of it."""
    for folder, phase in ((run, "rl"), (run / "cold", "cold start")):
        for work in (folder / "checkpoints").glob(".writing-*"):
            return f"{phase}, in {'removing' if '-old-' in work.name else 'writing'} a checkpoint"
    records = RunFolder(run).metrics()
    if records:
        return f"rl, after the record of update {records[-1]['update']}"
    cold = RunFolder(run / "cold").metrics()
    if newest_checkpoint(run / "cold"):
        return "rl, before its first record"
    return f"cold start, after the record of update {cold[-1]['update'] if cold else 0}"


def killed(run: Path, algo: str, seed: int, rng: random.Random) -> str | None:
    """Start or resume, and kill; what was hit, or None when the run was faster."""
    process, goal, wait = command(run, algo, seed), logged(run) + rng.randint(0, 7), rng.uniform(0.0, 1.5)
    ended = 0
    while not ended and logged(run) < goal:
        time.sleep(0.02)
        ended, status = os.waitpid(process, os.WNOHANG)
    if not ended:
        time.sleep(wait)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        failed(run, code)
    return where(run) if code else None


def content(run: Path) -> dict[str, Any]:
    """All that two runs must share."""
    found = newest_checkpoint(run)
    if found is None:
        raise SystemExit(f"{run} holds no checkpoint")
    records = [*RunFolder(run / "cold").metrics(), *RunFolder(run).metrics()]
    return {
        "metrics": [{name: value for name, value in record.items() if name != "time"} for record in records],
        "samples": {p.name: p.read_text() for p in sorted((run / "trajectories").iterdir())},
        "weights": (found[0] / "model" / "model.safetensors").read_bytes(),
    }


def soak() -> None:
    """Parse, run, compare, write."""
    parser = argparse.ArgumentParser(description="Kill a run again and again, resume it, compare.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--algo", default="grpo", choices=["grpo", "ppo"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rng = random.Random(f"kill/{options.algo}/{options.seed}")
    hit: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        finish(command(whole, options.algo, options.seed), whole)
        a, equal, runs = content(whole), {}, 0
        while len(hit) < options.kills:  # a run that ended before the last kill is compared, and another one begun
            runs += 1
            broken = Path(folder) / f"broken{runs}"
            while len(hit) < options.kills and (there := killed(broken, options.algo, options.seed, rng)) is not None:
                hit.append(there)
                print(f"kill {len(hit)}: {there}", file=sys.stderr, flush=True)
            finish(command(broken, options.algo, options.seed), broken)
            b = content(broken)
            equal[broken.name] = {name: a[name] == b[name] for name in a}
    asked = f"--kills {options.kills} --algo {options.algo} --seed {options.seed}"
    result = {
        "command": f"python benchmarks/kill_test.py {asked}",
        "versions": {**versions(), "platform": platform.machine()},
        "training": " ".join(SIZE),
        "kills": len(hit),
        "runs": runs,
        "killed": hit,
        "records": len(a["metrics"]),
        "updates_with_gradient": sum(record.get("rows", 0) > 0 for record in a["metrics"]),
        "equal": equal,
    }
    print(json.dumps({k: v for k, v in result.items() if k != "killed"}, indent=1))
    if options.write is not None:
        atomic_write_json(options.write, result)
    sys.exit(0 if all(all(found.values()) for found in equal.values()) else 1)


if __name__ == "__main__":
    soak()
