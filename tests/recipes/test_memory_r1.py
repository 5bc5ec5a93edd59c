"""How a Memory-R1 run is described, resumed, given its tasks and measured, without training anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemon.policy.base import Scripted
from mnemon.policy.open import Opened
from mnemon.recipes.memory_r1 import locomo as real
from mnemon.recipes.memory_r1 import run as recipe
from mnemon.recipes.memory_r1.options import TrainOptions
from mnemon.recipes.memory_r1.tiny import TinySettings
from mnemon.runs import RunFolder
from mnemon.tasks.locomo import TRAIN
from mnemon.train import launch
from mnemon.train.config import TrainConfig
from mnemon.train.loop import LoopConfig
from mnemon.types import Answer, MnemonError, Probe, Task, Trajectory, Turn

# ── what a run is compared with when it is resumed ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ["writer", "reader"])
def test_a_tiny_run_is_resumed_with_the_settings_of_its_role(role: Any, tmp_path: Path) -> None:
    options = TrainOptions(role=role)
    settings, plain = recipe.tiny_settings(options), TinySettings()
    described = recipe._settings(options, settings)
    loop, rl = (plain.loop, plain.rl) if role == "writer" else (plain.reader_loop, plain.reader_rl)
    assert (described["loop"]["updates"], described["train"]["lr"]) == (loop.updates, rl.lr)
    assert described["cold_updates"] == (plain.cold_updates if role == "writer" else plain.reader_cold_updates)

    faster: dict[str, Any] = {"rl" if role == "writer" else "reader_rl": TrainConfig(lr=1.0)}
    other: dict[str, Any] = {"reader_rl" if role == "writer" else "rl": TrainConfig(lr=1.0)}
    with RunFolder(tmp_path / "run").start(described, seed=0):
        pass
    with RunFolder(tmp_path / "run").start(recipe._settings(options, replace(settings, **other)), seed=0, resume=True):
        pass
    with pytest.raises(MnemonError, match=r"train\.lr: .* there, 1\.0 here"):
        RunFolder(tmp_path / "run").start(recipe._settings(options, replace(settings, **faster)), seed=0, resume=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    turns = [{"speaker": "Ana", "dia_id": f"D1:{i}", "text": f"I visited place {i}."} for i in range(1, 8)]
    asked = [
        {"question": f"Where was Ana, {i}?", "answer": f"place {i}", "evidence": [f"D1:{i}"], "category": 4}
        for i in range(1, 8)
    ]
    spoken = {"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": turns}
    content = {"sample_id": TRAIN[0], "qa": asked, "conversation": {"speaker_a": "Ana", "speaker_b": "Ben", **spoken}}
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps([content]))
    return file


def described_by(monkeypatch: pytest.MonkeyPatch, options: TrainOptions) -> Mapping[str, Any]:
    """What the run's folder is opened with; no model may have been loaded by then."""

    class Opened(Exception):
        pass

    seen: list[Mapping[str, Any]] = []

    def opened(folder: Path, described: Mapping[str, Any], **rest: Any) -> None:
        seen.append(described)
        raise Opened

    monkeypatch.setattr(recipe, "opened", opened)
    with pytest.raises(Opened):
        recipe.start(options)
    return seen[0]


def test_what_changes_a_real_run_is_in_its_description(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is not looked for before the folder is known to be free: this one does not exist."""
    plain = TrainOptions(data=data, policy="/there/is/no/model")
    first = described_by(monkeypatch, plain)
    changes: list[dict[str, Any]] = [
        {"max_prompt": 100}, {"max_reply": 7}, {"k": 3}, {"distill": False}, {"train_questions": 2}, {"facts": "raw"},
    ]  # fmt: skip
    for change in changes:
        for role in ("writer", "reader"):
            options = replace(plain, role=role, **change)
            assert described_by(monkeypatch, options) != described_by(monkeypatch, replace(plain, role=role)), change
    assert described_by(monkeypatch, plain) == first


def test_a_partner_that_was_trained_further_is_another_partner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partner, model = tmp_path / "manager", tmp_path / "model"
    model.mkdir()

    def checkpoint(step: int) -> None:
        folder = partner / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"step": step, "extra": {}, "files": {}}))

    checkpoint(1)
    options = TrainOptions(role="reader", writer=str(partner), policy=str(model), run=tmp_path / "run")
    first = described_by(monkeypatch, options)
    assert first["checkpoints"] == {"writer": str(partner / "checkpoints/step-00000001/model")}
    checkpoint(2)
    assert described_by(monkeypatch, options) != first
    assert "checkpoints" not in described_by(monkeypatch, replace(options, writer="oracle"))


def test_a_model_in_two_roles_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def opening(spec: str, **settings: Any) -> Opened:
        loaded.append(spec)
        return Opened(Scripted(lambda messages, tools: ""), spec, None, {})

    monkeypatch.setattr(launch, "open_policy", opening)
    frozen = launch.Frozen(tmp_path, "some/model", 16)
    for spec, role in ((None, "extractor"), ("other/model", "reader"), ("some/model", "manager")):
        frozen.open(spec, role)
    assert loaded == ["some/model", "other/model"]


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("settings", [{"constant": "skip"}, {"constant": "resample", "algo": "ppo"}])
def test_every_task_comes_once_before_any_comes_twice(settings: dict[str, Any]) -> None:
    tasks = [Task(str(i), ()) for i in range(7)]
    pick = launch.in_turn(tasks, LoopConfig(groups=3, **settings))
    given = [task.id for update in range(14) for task in pick(update, 0)]
    assert sorted(given[:7]) == sorted(task.id for task in tasks)
    counts = {name: given.count(name) for name in set(given)}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_resampled_tasks_go_on_from_where_the_update_began() -> None:
    tasks = [Task(str(i), ()) for i in range(12)]
    pick = launch.in_turn(tasks, LoopConfig(groups=4, constant="resample", resample_rounds=2))
    given = [task.id for attempt in range(3) for task in pick(0, attempt)]
    assert sorted(given) == sorted(task.id for task in tasks)


@pytest.mark.parametrize("role", ["writer", "reader"])
def test_few_training_questions(data: Path, role: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = TrainOptions(role=role, data=data, policy="some/model", run=tmp_path / "run", dry_run=True)
    recipe.start(replace(options, train_questions=3))
    assert ("3 tasks" if role == "writer" else "3 questions") in capsys.readouterr().out


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def played(answer: str, error: str = "") -> Trajectory:
    probe = Probe("q", "?", ("yes",))
    given = [] if error else [Answer(probe, answer, Turn(answer, ()))]
    return Trajectory(Task("t", (), (probe,)), 0, answers=given, before=given, error=error)


def test_a_lost_validation_task_is_left_out_and_counted() -> None:
    assert real.measured([[played("yes")], [played("no")]]) == {"validation": 0.5}
    lost = played("", "the server is down")
    assert real.measured([[played("yes")], [lost]], before=True) == {
        "validation": 1.0,
        "validation_before": 1.0,
        "validation_lost": 1.0,
    }
    with pytest.raises(MnemonError, match=r"none of 1 validation tasks could be played.*the server is down"):
        real.measured([[lost]])


# ── several processes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_processes_wait_for_the_first_ones_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes, NCCL's own patience, may be less than an evaluation takes."""
    given: list[Any] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: given.append(timeout))
    launch.join_processes()
    assert given[0] >= timedelta(hours=6)
