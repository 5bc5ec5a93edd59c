"""Runs that are killed (SIGKILL) at chosen moments and resumed, each in a fork. Started by test_loop.py.

    python killed.py FOLDER COLD

FOLDER/<kind>/whole is an undisturbed run, FOLDER/<kind>/<moment> one that was killed there and resumed; COLD is a cold
start that the reinforcement learning begins from. Prints one line per run that was killed.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import mnemon.recipes.memory_r1.run as recipe
from mnemon.cli import main
from mnemon.runs import RunFolder
from mnemon.train import checkpoint, sft
from mnemon.train.trainer import Trainer

torch.set_num_threads(1)
plain_settings = recipe.tiny_settings


def small(options):
    """Evaluations and checkpoints every two updates, few of everything."""
    settings = plain_settings(options)
    loop = replace(settings.loop, checkpoint_every=2, eval_every=2, keep_last=1)
    return replace(settings, validation=4, length=3, cold_batch=8, loop=loop)


recipe.tiny_settings = small
recipe.tiny.REPLY_TOKENS = 16
sft.fit.__kwdefaults__.update(checkpoint_every=4, log_every=3)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: object, name: str, count: int, after: bool = False) -> Callable[[], None]:
    """A trap: die at the `count`-th call of owner.name, before or after it."""

    def set_trap() -> None:
        plain, calls = getattr(owner, name), [0]

        def trapped(*args, **kwargs):
            calls[0] += 1
            if calls[0] == count and not after:
                die()
            result = plain(*args, **kwargs)
            if calls[0] == count:
                die()
            return result

        setattr(owner, name, trapped)

    return set_trap


def torn_line() -> None:
    """Die when half of the third record is on the disk."""
    plain, calls = RunFolder.log, [0]

    def log(self, record):
        calls[0] += 1
        if calls[0] == 3:
            with self.metrics_file.open("ab") as file:
                file.write(b'{"update": 2, "phase": "tra')
            die()
        plain(self, record)

    RunFolder.log = log


MOMENTS = {
    "cold": {
        "after_a_checkpoint": at_call(Trainer, "sft", 6),
        "between_log_and_checkpoint": at_call(RunFolder, "log", 3, after=True),
        "writing_the_last_checkpoint": at_call(checkpoint, "_write", 3, after=True),
    },
    "grpo": {
        "with_a_torn_line": torn_line,
        "writing_a_checkpoint": at_call(checkpoint, "_write", 2, after=True),
        "removing_the_old_checkpoint": at_call(checkpoint.shutil, "rmtree", 1),
    },
    "ppo": {"between_checkpoints": at_call(Trainer, "step", 3, after=True)},
}


def in_a_fork(work: Callable[[], int]) -> int:
    """The exit code of `work` in a child process, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = work()
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(folder: Path, kind: str, cold: str, *more: str) -> int:
    if kind == "cold":
        size = ["--cold-updates", "9", "--updates", "1", "--groups", "1", "--members", "2"]
    else:
        size = ["--policy", cold, "--updates", "4", "--groups", "2", "--members", "3", "--algo", kind]
    return main(["train", "memory-r1", "--run", str(folder), *size, *more])


def killed(folder: Path, kind: str, cold: str, trap: Callable[[], None]) -> int:
    trap()
    return run(folder, kind, cold)


def everything(out: Path, cold: str) -> None:
    for kind, moments in MOMENTS.items():
        assert in_a_fork(lambda: run(out / kind / "whole", kind, cold)) == 0  # noqa: B023
        for moment, trap in moments.items():
            folder = out / kind / moment
            assert in_a_fork(lambda: killed(folder, kind, cold, trap)) == -signal.SIGKILL, moment  # noqa: B023
            assert in_a_fork(lambda: run(folder, kind, cold, "--resume")) == 0, moment  # noqa: B023
            print(f"{kind}/{moment}", flush=True)


everything(Path(sys.argv[1]), sys.argv[2])
