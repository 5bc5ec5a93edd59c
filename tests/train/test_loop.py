"""The loop: runs that are killed and resumed, seeds, two processes, credit, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mnemon.agent import Agent, Ctx, Limits
from mnemon.cli import main
from mnemon.policy.base import EPISODE, Scripted, run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.recipes.memory_r1 import tiny
from mnemon.recipes.tiny_data import start_state
from mnemon.rewards import Reward
from mnemon.runs import RunFolder
from mnemon.tasks.script import script
from mnemon.train.batch import Row
from mnemon.train.config import TrainConfig
from mnemon.train.credit import Group, credit
from mnemon.train.loop import (
    LoopConfig,
    Problem,
    _check_logprobs,
    _check_unscorable,
    _collect,
    _rollouts_and_scores,
    train,
)
from mnemon.train.trainer import Trainer
from mnemon.types import Input, Message, MnemonError, Task

SRC = Path(__file__).resolve().parents[2] / "src"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SRC)}


def records(run: Path) -> list[dict[str, Any]]:
    """What was logged, cold start included, without the times."""
    found = [*RunFolder(run / "cold").metrics(), *RunFolder(run).metrics()]
    assert all("time" in record for record in found)
    return [{name: value for name, value in record.items() if name != "time"} for record in found]


def last_checkpoint(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"))


def assert_same(a: Any, b: Any) -> None:
    """Nested data with tensors: equal bit for bit."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def assert_same_run(one: Path, two: Path) -> None:
    """Logs, samples, weights, optimizer and generators."""
    assert records(one) == records(two)
    samples = [{p.name: p.read_text() for p in (run / "trajectories").iterdir()} for run in (one, two)]
    assert samples[0] == samples[1]
    a, b = last_checkpoint(one), last_checkpoint(two)
    assert a.name == b.name
    weights = "model/model.safetensors"
    assert (a / weights).read_bytes() == (b / weights).read_bytes()
    assert_same(*(torch.load(folder / "trainer.pt", weights_only=True) for folder in (a, b)))


# ── killed, repeated, shared ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(900)
def test_a_killed_run_ends_as_if_nothing_had_been(tiny_cold: Path, tmp_path: Path) -> None:
    """SIGKILL at chosen moments of cold start, updates, logging and checkpoints (see killed.py), then --resume."""
    command = [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path), str(tiny_cold)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    moments = done.stdout.split()
    assert len(moments) == 7
    for kind in ("grpo", "ppo"):
        trained = [r for r in records(tmp_path / kind / "whole") if r["phase"] == "train"]
        assert all(record["rows"] > 0 and record["trainer"]["grad_norm"] > 0 for record in trained)
    for moment in moments:
        assert_same_run(tmp_path / moment.split("/")[0] / "whole", tmp_path / moment)
        left = [p.name for p in (tmp_path / moment).rglob("*") if "writing-" in p.name or p.name.endswith(".tmp")]
        assert not left, moment


def train_small(run: Path, cold: Path, *more: str) -> int:
    size = ["--updates", "2", "--groups", "2", "--members", "3"]
    return main(["train", "memory-r1", "--policy", str(cold), "--run", str(run), *size, *more])


def test_the_same_seed_gives_the_same_run(tiny_cold: Path, tiny_run: Path, tmp_path: Path) -> None:
    assert train_small(tmp_path / "again", tiny_cold) == 0
    assert_same_run(tiny_run, tmp_path / "again")
    assert train_small(tmp_path / "other", tiny_cold, "--seed", "1") == 0
    assert records(tmp_path / "other") != records(tiny_run)


@pytest.mark.timeout(900)
def test_two_processes_train_as_one(tiny_cold: Path, tiny_run: Path, tmp_path: Path) -> None:
    """One run folder, a clean exit; the first update's figures are those of one process, later ones may drift."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
    size = ["--updates", "2", "--groups", "2", "--members", "3"]
    run = ["train", "memory-r1", "--policy", str(tiny_cold), "--run", str(tmp_path / "two"), *size]
    command = [*launch, "--rdzv_endpoint", "localhost:0", "-m", "mnemon.cli", "--", *run]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "terminate" not in done.stderr
    assert done.stderr.count("training 2/2") == 1  # one process speaks
    one, two = records(tiny_run), records(tmp_path / "two")
    assert [(r["phase"], r["update"]) for r in one] == [(r["phase"], r["update"]) for r in two]
    assert one[0] == two[0]
    a, b = one[1]["trainer"], two[1]["trainer"]
    assert a.keys() == b.keys()
    for name in a.keys() - {"approx_kl"}:  # which is 0 but for rounding
        assert b[name] == pytest.approx(a[name], rel=1e-5, abs=1e-7), name
    assert {k: v for k, v in one[1].items() if k != "trainer"} == {k: v for k, v in two[1].items() if k != "trainer"}
    assert (tmp_path / "two/checkpoints/step-00000002/meta.json").exists()


# ── resuming what cannot be resumed ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def copy(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


def test_a_finished_run_says_so(copy: Path, tiny_cold: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copy / "metrics.jsonl").read_bytes()
    assert train_small(copy, tiny_cold, "--resume") == 0
    assert "all 2 updates are done" in capsys.readouterr().err
    assert (copy / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_goes_on_with_more_updates(copy: Path, tiny_cold: Path) -> None:
    assert train_small(copy, tiny_cold, "--resume", "--updates", "3") == 0
    assert [r["update"] for r in records(copy) if r["phase"] == "train"] == [1, 2, 3]


@pytest.mark.parametrize("file", ["trainer.pt", "model/model.safetensors"])
def test_a_damaged_checkpoint(copy: Path, tiny_cold: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    """Of its right size, but with other bytes: a disk's fault, not that of a killed writer."""
    path = last_checkpoint(copy) / file
    path.write_bytes(b"\0" * path.stat().st_size)
    assert train_small(copy, tiny_cold, "--resume", "--updates", "3") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "is damaged" in said
    assert "delete it" in said


def test_an_incomplete_checkpoint_alone(copy: Path, tiny_cold: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (last_checkpoint(copy) / "trainer.pt").unlink()
    before = (copy / "metrics.jsonl").read_bytes()
    assert train_small(copy, tiny_cold, "--resume", "--updates", "3") == 2
    assert "none is complete" in capsys.readouterr().err
    assert (copy / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_of_other_prompts(copy: Path, tiny_cold: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta = last_checkpoint(copy) / "meta.json"
    content = json.loads(meta.read_text())
    content["extra"]["fingerprint"] = "another/one"
    meta.write_text(json.dumps(content))
    assert train_small(copy, tiny_cold, "--resume", "--updates", "3") == 2
    assert "other prompts, tools or retrieval settings" in capsys.readouterr().err


# ── credit ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def made(trajectory: str, tokens: Sequence[int] = (2,)) -> Row:
    """A row with one step per entry of `tokens`, each after one token of prompt."""
    mask = [flag for n in tokens for flag in (0, *[1] * n)]
    stops = np.cumsum([n + 1 for n in tokens])
    size = len(mask)
    return Row(
        task_id=trajectory.split("#")[0],
        trajectory_id=trajectory,
        input_ids=np.zeros(size, dtype=np.int64),
        loss_mask=np.array(mask, dtype=np.uint8),
        old_logprobs=np.zeros(size, dtype=np.float32),
        step_indices=tuple(range(len(tokens))),
        spans=tuple((int(stop) - n, int(stop)) for n, stop in zip(tokens, stops, strict=True)),
        finishes=("stop",) * len(tokens),
    )


def group(
    task: str, rewards: list[float | None], steps: list[list[float] | None] | None = None, tokens: Sequence[int] = (2,)
) -> Group:
    n = len(rewards)
    rows = [[made(f"{task}#{i}", tokens)] if r is not None else [] for i, r in enumerate(rewards)]
    errors = ["the judge failed" for r in rewards if r is None]
    return Group(rewards, [{}] * n, rows, {}, [], errors, steps or [None] * n)


PLAIN = LoopConfig(scale=False)


def placed(rows: list[Row]) -> dict[str, list[float]]:
    return {row.trajectory_id: np.round(row.advantages, 5).tolist() for row in rows if row.advantages is not None}


def test_grpo_compares_with_the_group_and_leaves_out_what_teaches_nothing() -> None:
    rows = credit([group("a", [1.0, 0.0, 0.5]), group("b", [1.0, 1.0])], None, PLAIN)  # type: ignore[arg-type]
    assert placed(rows) == {"a#0": [0, 0.5, 0.5], "a#1": [0, -0.5, -0.5], "a#2": [0, 0, 0]}


def test_an_unscorable_member_leaves_statistics_and_loss() -> None:
    rows = credit([group("a", [1.0, None, 0.0])], None, PLAIN)  # type: ignore[arg-type]
    assert placed(rows) == {"a#0": [0, 0.5, 0.5], "a#2": [0, -0.5, -0.5]}
    assert credit([group("a", [1.0, None])], None, PLAIN) == []  # type: ignore[arg-type]


def test_steps_are_compared_with_the_same_step_of_the_others() -> None:
    """Returns: (0.25 + 1, 0.25 + 0) and (0.25 + 0, 0.25 + 0); only the first steps differ."""
    steps: list[list[float] | None] = [[1.0, 0.0], [0.0, 0.0]]
    rows = credit([group("a", [0.25, 0.25], steps, (1, 2))], None, PLAIN)  # type: ignore[arg-type]
    assert placed(rows) == {"a#0": [0, 0.5, 0, 0, 0], "a#1": [0, -0.5, 0, 0, 0]}
    same: list[list[float] | None] = [[1.0, 0.0], [1.0, 0.0]]
    assert credit([group("a", [0.25, 0.25], same, (1, 2))], None, PLAIN) == []  # type: ignore[arg-type]


def test_a_member_whose_role_was_never_asked_has_no_rows() -> None:
    """Nothing was worth extracting: no policy call, no row, but a place in the statistics of the steps it has."""
    steps: list[list[float] | None] = [[1.0], [0.0], []]
    given = group("a", [0.0, 0.0, 0.0], steps)
    given.rows[2] = []
    assert placed(credit([given], None, PLAIN)) == {"a#0": [0, 0.5, 0.5], "a#1": [0, -0.5, -0.5]}  # type: ignore[arg-type]


def test_trajectory_and_step_terms_apart() -> None:
    """Totals (1, 0) give ±0.5; the first steps (0, 1) give ∓0.5, the second ones are equal."""
    steps: list[list[float] | None] = [[0.0, 3.0], [1.0, 3.0]]
    config = LoopConfig(scale=False, step_credit="separate")
    rows = credit([group("a", [1.0, 0.0], steps, (1, 2))], None, config)  # type: ignore[arg-type]
    assert placed(rows) == {"a#0": [0, 0.0, 0, 0.5, 0.5], "a#1": [0, 0.0, 0, -0.5, -0.5]}
    plain = credit([group("a", [1.0, None, 0.0])], None, config)  # type: ignore[arg-type]
    assert placed(plain) == {"a#0": [0, 0.5, 0.5], "a#2": [0, -0.5, -0.5]}
    missing: list[list[float] | None] = [[2.0], None, [0.0]]
    both = credit([group("a", [1.0, None, 0.0], missing)], None, config)  # type: ignore[arg-type]
    assert placed(both) == {"a#0": [0, 1.5, 1.5], "a#2": [0, -1.5, -1.5]}


def test_rounds_on_one_chunk_are_compared_as_one() -> None:
    """Member 0 read chunk 0 in two rounds (mean 1), member 1 in one (0); chunk 1 gave both 2."""
    steps: list[list[float] | None] = [[0.0, 2.0, 2.0], [0.0, 2.0]]
    given = group("a", [0.0, 0.0], steps)
    given.rows = [[made("a#0", (1, 1, 1))], [made("a#1", (1, 1))]]
    given.places = [[(0, 0, ""), (0, 0, ""), (0, 1, "")], [(0, 0, ""), (0, 1, "")]]
    rows = credit([given], None, LoopConfig(scale=False, step_credit="separate"))  # type: ignore[arg-type]
    assert placed(rows) == {"a#0": [0, 0.5, 0, 0.5, 0, 0], "a#1": [0, -0.5, 0, 0]}


def test_pooled_is_the_papers_baseline() -> None:
    """The worked episode of the rewards: r2 + γ r4 per chunk beside r1 + β r3 (see test_rewards_memory.py)."""
    steps: list[list[float] | None] = [[0.55, 0.0, 1.05], [1.1, 1.1, 1.1]]
    config = LoopConfig(step_credit="pooled", eps=1e-6)
    rows = credit([group("a", [0.7875, 0.4875], steps, (1, 1, 1))], None, config)  # type: ignore[arg-type]
    found = [np.round(row.advantages[row.sampled], 4).tolist() for row in rows if row.advantages is not None]
    assert found == [pytest.approx([-0.3215, -1.8373, 1.0564], abs=1e-4), pytest.approx([0.3675] * 3, abs=1e-4)]
    totals = credit([group("a", [1.0, 0.0], None, (1, 1))], None, LoopConfig(step_credit="pooled", scale=False))  # type: ignore[arg-type]
    assert placed(totals) == {"a#0": [0, 0.5, 0, 0.5], "a#1": [0, -0.5, 0, -0.5]}


def test_ppo_trains_on_every_scored_trajectory() -> None:
    """λ = γ = 1: the advantage of a token is the terminal reward minus its value."""
    trainer: Any = SimpleNamespace(values=lambda rows: [np.full(len(row), 0.25, dtype=np.float32) for row in rows])
    rows = credit([group("a", [1.0, None]), group("b", [0.0, 0.0])], trainer, LoopConfig(algo="ppo"))
    assert placed(rows) == {"a#0": [0, 0.75, 0.75], "b#0": [0, -0.25, -0.25], "b#1": [0, -0.25, -0.25]}
    assert all(np.array_equal(row.returns[1:], [1.0, 1.0]) for row in rows[:1] if row.returns is not None)


def test_too_many_unscorable_trajectories_stop_the_run() -> None:
    rewards: list[float | None] = [1.0] * 19
    _check_unscorable([group("a", [*rewards, None])], LoopConfig())
    with pytest.raises(MnemonError, match=r"2 of 21 trajectories.*limit 5%.*the judge failed.*resume"):
        _check_unscorable([group("a", [*rewards, None, None])], LoopConfig())


def test_a_prompt_that_does_not_fit_costs_its_trajectory_only() -> None:
    def shown(ctx: Ctx, given: Input) -> list[Message]:
        return [Message("user", given.text, pinned=True)]

    problem = Problem(
        writer=Agent("writer", shown, limits=Limits(window=3)),
        policy=Scripted(lambda messages, tools: "fine"),  # type: ignore[arg-type]
        tasks=lambda update, attempt: [],
        rewards=(Reward("one", 1.0, lambda trajectory: 1.0),),
    )
    tasks = [Task("short", (script("a b"),)), Task("long", (script("a b", "a b c d"),))]
    _, marks = run_sync(_rollouts_and_scores(problem, LoopConfig(members=2), 0, tasks))
    assert [[mark.total for mark in members] for members in marks] == [[1.0, 1.0], [None, None]]
    assert all("need 4 tokens, the window is 3" in mark.error for mark in marks[1])


def test_resampling_plays_no_task_twice_in_an_update() -> None:
    """The same task would get the same seeds, hence the same replies and trajectory ids."""
    played: list[tuple[int, str]] = []

    def tasks(update: int, attempt: int) -> list[Task]:
        return [Task(name, (script("a"),)) for name in (("x", "y", "y"), ("y", "z"), ("x", "z"))[attempt]]

    def shown(ctx: Ctx, given: Input) -> None:
        key = EPISODE.get()
        assert key is not None
        played.append((key.member, key.task))

    problem = Problem(
        writer=Agent("writer", shown),
        policy=Scripted(lambda messages, tools: ""),  # type: ignore[arg-type]
        tasks=tasks,
        rewards=(Reward("same", 1.0, lambda trajectory: 1.0),),
    )
    groups, _ = _collect(problem, LoopConfig(groups=3, members=2, constant="resample"), 0)
    assert len(groups) == 3
    assert sorted(played) == [(member, task) for member in (0, 1) for task in "xyz"]


@pytest.mark.parametrize(("autocast", "off", "fits"), [(False, 0.01, True), (False, 0.03, False), (True, 0.03, True)])
def test_the_samplers_logprobs_are_compared_with_the_trainers(autocast: bool, off: float, fits: bool) -> None:
    rows = [made("a#0"), made("a#1")]
    trainer: Any = SimpleNamespace(
        autocast=autocast, logprobs=lambda rows: [np.array([0, off, -off], dtype=np.float32) for _ in rows]
    )
    if fits:
        _check_logprobs(trainer, rows)
    else:
        with pytest.raises(MnemonError, match=r"differ from the trainer's by 0\.030 \(limit 0\.02\)"):
            _check_logprobs(trainer, rows)


def test_a_policy_samples_as_its_trainer_computes(tiny_cold: Path, tmp_path: Path) -> None:
    """Under bfloat16 autocast, also where the weights are kept in float32; a sharded model cannot be sampled."""
    model, tokenizer = tiny.open_model(str(tiny_cold))
    policy = LocalPolicy(model, tokenizer, max_tokens=24)
    problem = Problem(
        writer=tiny.tiny_manager(),
        policy=policy,
        tasks=lambda update, attempt: tiny.training_tasks(tiny.TinySettings(length=2), update, attempt)[:2],
        rewards=(Reward("length", 1.0, lambda t: float(len(t.steps[0].completion.token_ids))),),
        start=start_state,
    )
    config = LoopConfig(updates=1, groups=2, members=4)
    with RunFolder(tmp_path / "run").start({}, seed=0) as run:
        with pytest.raises(MnemonError, match="sample from whole ones"):
            train(problem, SimpleNamespace(config=TrainConfig(fsdp=True)), config, run, tokenizer)  # type: ignore[arg-type]
        train(problem, Trainer(model, TrainConfig(precision="bfloat16")), config, run, tokenizer)
        assert policy.autocast is torch.bfloat16
        figures = run.metrics()[0]["trainer"]
    assert abs(figures["ratio"] - 1) < 0.01
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"updates": 0}, "updates must be at least 1, got 0"),
        ({"members": 1}, "at least 2, or use algo='ppo'"),
        ({"algo": "dapo"}, r"algo must be one of \('grpo', 'ppo'\), got 'dapo'"),
        ({"constant": "drop"}, "constant must be one of"),
        ({"ddof": 2}, "ddof must be one of"),
        ({"lam": 1.5}, "lam must be between 0 and 1, got 1.5"),
        ({"resample_rounds": -1}, "at least 0"),
        ({"step_credit": "each"}, "step_credit must be one of"),
        ({"algo": "ppo", "step_credit": "pooled"}, "is a choice of GRPO"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MnemonError, match=said):
        LoopConfig(**settings)
    LoopConfig(members=1, algo="ppo")
