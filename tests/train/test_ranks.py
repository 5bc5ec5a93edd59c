"""Two processes (torchrun, gloo): the same gradients, losses and checkpoints as one."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnemon.algos.losses import weights
from mnemon.train.batch import Row
from mnemon.train.config import TrainConfig
from mnemon.train.ranks import check_world, gather, shards
from mnemon.train.trainer import Trainer
from mnemon.types import MnemonError

MakeLM = Callable[..., nn.Module]

WORKER = """
import os
import sys
sys.path[:0] = [{src!r}, {tests!r}]
import torch
import torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
from test_ranks import distributed
distributed({out!r})
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # gloo's threads sometimes abort an interpreter that is shutting down, after all work is done
"""


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(
        **{"lr": 1e-2, "kl_coef": 0.1, "entropy": 0.01, "token_budget": 30, "max_grad_norm": None, **changes}
    )


def uneven(rows: list[Row]) -> list[Row]:
    """Make one process's share much larger, so that a sharded model needs dummy batches."""
    return [r for r in rows if r.trajectory_id in (rows[0].trajectory_id, rows[-1].trajectory_id)] + rows[:1] * 4


def run(trainer: Trainer, rows: list[Row]) -> dict[str, Any]:
    """Two updates of RL and one supervised; whole gradients, metrics and scores."""
    caught: list[torch.Tensor] = []

    def catch(*_: Any) -> None:
        for p in trainer.parameters:
            assert p.grad is not None
            full = getattr(p.grad, "full_tensor", None)
            caught.append((full() if full is not None else p.grad).clone())

    handle = trainer.optimizer.register_step_pre_hook(catch)
    metrics = [trainer.step(rows), trainer.step(uneven(rows)), trainer.sft(rows)]
    handle.remove()
    return {"gradients": caught, "metrics": metrics, "scores": [torch.from_numpy(s) for s in trainer.logprobs(rows)]}


def distributed(out: str) -> None:
    """Runs in every process; rank 0 writes what the parent compares."""
    import torch.distributed as dist

    from conftest import build_lm, build_rows
    from mnemon.train.checkpoint import load_latest, save

    rank, results = dist.get_rank(), {}
    for fsdp in (False, True):
        trainer = Trainer(build_lm(seed=0 if fsdp else rank), settings(fsdp=fsdp, world_size=2))
        results["fsdp" if fsdp else "plain"] = run(trainer, build_rows())
        folder = f"{out}/run-{fsdp}"
        save(folder, 1, trainer)
        straight = trainer.step(build_rows())["loss"]
        found = load_latest(folder)
        assert found is not None
        resumed = Trainer(build_lm(), settings(fsdp=fsdp, world_size=2))
        found.restore(resumed)
        results[f"resume-{fsdp}"] = (straight, resumed.step(build_rows())["loss"])
        if fsdp:
            whole = trainer.state_dict(weights=True)["model"]
            counts = gather([len(whole)])
            results["state"] = counts
    results["gathered"] = [r.trajectory_id for r in gather(build_rows()[rank : rank + 2])]
    if rank == 0:
        torch.save(results, f"{out}/results.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("ranks")
    here = Path(__file__).resolve().parent
    script = out / "worker.py"
    script.write_text(WORKER.format(src=str(here.parents[1] / "src"), tests=str(here), out=str(out)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    done = subprocess.run(
        [*command, "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out / "results.pt", weights_only=True)


@pytest.mark.parametrize("kind", ["plain", "fsdp"])
def test_two_processes_equal_one(results: Any, lm: MakeLM, rows: list[Row], kind: str) -> None:
    one, two = run(Trainer(lm(), settings()), rows), results[kind]
    assert len(one["gradients"]) == len(two["gradients"]) > 0
    n = len(one["gradients"]) // 3
    for update in range(3):
        a, b = (torch.cat([g.flatten() for g in r["gradients"][update * n : (update + 1) * n]]) for r in (one, two))
        error = float((a - b).norm() / a.norm())
        assert error < (1e-5 if update == 0 else 1e-4)  # later updates start from weights that differ in rounding
    for a, b in zip(one["metrics"], two["metrics"], strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"seconds"}:
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-5), name
    for s, t in zip(one["scores"], two["scores"], strict=True):
        torch.testing.assert_close(s, t, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fsdp", [False, True])
def test_resume_under_two_processes(results: Any, fsdp: bool) -> None:
    straight, again = results[f"resume-{fsdp}"]
    assert straight == pytest.approx(again, rel=1e-6)


def test_only_rank_0_holds_the_whole_state(results: Any) -> None:
    first, second = results["state"]
    assert first > 0
    assert second == 0


def test_gather_keeps_rank_order(results: Any, rows: list[Row]) -> None:
    ids = [r.trajectory_id for r in rows]
    assert results["gathered"] == ids[0:2] + ids[1:3]


@pytest.mark.parametrize("size", [1, 2, 8])
def test_shards_sum_to_the_whole(lm: MakeLM, rows: list[Row], size: int) -> None:
    """Gradients of the parts, with weights from the whole batch, add up to those of one process."""
    for r, w in zip(rows, weights(rows), strict=True):
        r.weight = w
    before = [copy.deepcopy(r.advantages) for r in rows]
    parts = shards(rows, size)
    assert sorted(i for part in parts for i in part) == list(range(len(rows)))
    owner = {rows[i].trajectory_id: k for k, part in enumerate(parts) for i in part}
    assert all(owner[rows[i].trajectory_id] == k for k, part in enumerate(parts) for i in part)

    def gradient(chosen: list[Row]) -> torch.Tensor:
        trainer = Trainer(lm(), TrainConfig(max_grad_norm=None))
        caught: list[torch.Tensor] = []
        trainer.optimizer.register_step_pre_hook(
            lambda *_: caught.extend(p.grad.flatten() for p in trainer.parameters if p.grad is not None)
        )
        trainer.step(chosen)
        return torch.cat(caught)

    total = sum((gradient([rows[i] for i in part]) for part in parts if part), torch.zeros(()))
    torch.testing.assert_close(total, gradient(rows), rtol=1e-4, atol=1e-6)
    for r, a in zip(rows, before, strict=True):
        np.testing.assert_array_equal(r.advantages, a)  # bit-equal whatever the number of shards


def test_world_size_is_asserted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_world(None) == 1
    with pytest.raises(MnemonError, match="torchrun --nproc_per_node 2"):
        check_world(2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MnemonError, match="init_process_group"):
        check_world(None)
