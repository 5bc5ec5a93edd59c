"""Checkpoints: a resumed run equals an uninterrupted one, and no crash or full disk leaves anything half-written."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnemon.train import checkpoint
from mnemon.train.batch import Row
from mnemon.train.checkpoint import complete, load_latest, save
from mnemon.train.config import Lora, TrainConfig
from mnemon.train.trainer import Trainer
from mnemon.types import MnemonError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
MakeLM = Callable[..., nn.Module]
SETTINGS = TrainConfig(lr=1e-2, minibatch=2, kl_coef=0.05, warmup=3)


class FakeTokenizer:
    def save_pretrained(self, save_directory: str) -> None:
        (Path(save_directory) / "tokenizer.json").write_text("{}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize("critic", [None, "copy"])
def test_resume_equals_an_uninterrupted_run(lm: MakeLM, rows: list[Row], tmp_path: Path, critic: Any) -> None:
    for r in rows:
        r.returns = r.advantages
    whole = Trainer(lm(), SETTINGS, critic=critic)
    whole.step(rows)
    save(tmp_path, 1, whole, FakeTokenizer(), extra={"cursor": [3, "x"]})
    drawn = draws()
    straight = [whole.step(rows) for _ in range(2)]

    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    found = load_latest(tmp_path)
    assert found is not None
    assert (found.step, found.extra, found.config["lr"]) == (1, {"cursor": [3, "x"]}, 1e-2)
    resumed = Trainer(lm(seed=4), SETTINGS, critic=critic)
    found.restore(resumed)
    assert draws() == drawn
    again = [resumed.step(rows) for _ in range(2)]
    for a, b in zip(straight, again, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters, resumed.parameters, strict=True))


def test_the_model_folder_is_a_pretrained_model(lm: MakeLM, rows: list[Row], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    trainer = Trainer(lm(), TrainConfig(lr=1e-2))
    trainer.step(rows)
    path = save(tmp_path, 7, trainer, FakeTokenizer())
    assert path.name == "step-00000007"
    assert (path / "model" / "tokenizer.json").exists()
    loaded = AutoModelForCausalLM.from_pretrained(path / "model")
    ids = torch.arange(8)[None]
    torch.testing.assert_close(loaded(input_ids=ids).logits, trainer.model(input_ids=ids).logits, rtol=0, atol=0)


@pytest.mark.parametrize("critic", [None, "shared"])
def test_adapters_are_saved_alone(lm: MakeLM, rows: list[Row], tmp_path: Path, critic: Any) -> None:
    for r in rows:
        r.returns = r.advantages
    settings = TrainConfig(lr=1e-2, lora=Lora(r=2))
    trainer = Trainer(lm(), settings, critic=critic)
    trainer.step(rows)
    path = save(tmp_path, 1, trainer)
    assert (path / "model" / "adapter_model.safetensors").exists()
    assert not list((path / "model").glob("model*.safetensors"))
    found = load_latest(tmp_path)
    assert found is not None
    resumed = Trainer(lm(), settings, critic=critic)
    found.restore(resumed)
    a, b = trainer.step(rows), resumed.step(rows)
    assert a["loss"] == b["loss"]
    assert a.get("value_loss") == b.get("value_loss")
    assert all(torch.equal(p, q) for p, q in zip(trainer.parameters, resumed.parameters, strict=True))


def test_another_model_is_refused(lm: MakeLM, rows: list[Row], tmp_path: Path) -> None:
    save(tmp_path, 1, Trainer(lm(), SETTINGS))
    found = load_latest(tmp_path)
    assert found is not None
    with pytest.raises(MnemonError, match="does not fit the model"):
        found.restore(Trainer(lm(layers=3), SETTINGS))


def test_old_ones_are_pruned(lm: MakeLM, tmp_path: Path) -> None:
    trainer = Trainer(lm(), TrainConfig())
    for step in (1, 2, 10):
        save(tmp_path, step, trainer, keep_last=2)
    assert names(tmp_path) == ["step-00000002", "step-00000010"]
    with pytest.raises(MnemonError, match="keep_last"):
        save(tmp_path, 11, trainer, keep_last=0)


def test_a_step_saved_again_replaces_the_older(lm: MakeLM, tmp_path: Path) -> None:
    trainer = Trainer(lm(), TrainConfig())
    save(tmp_path, 3, trainer, extra={"try": 1})
    save(tmp_path, 3, trainer, extra={"try": 2})
    found = load_latest(tmp_path)
    assert found is not None
    assert found.extra == {"try": 2}


def test_nothing_saved_yet(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "absent") is None


@pytest.mark.parametrize("damage", ["meta", "json", "truncate", "remove"])
def test_damaged_ones_are_ignored(lm: MakeLM, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer(lm(), TrainConfig())
    save(tmp_path, 1, trainer)
    bad = save(tmp_path, 2, trainer)
    if damage == "meta":
        (bad / "meta.json").unlink()
    elif damage == "json":
        (bad / "meta.json").write_text(json.dumps({"step": 2}))
    elif damage == "truncate":
        with open(bad / "trainer.pt", "r+b") as file:
            file.truncate(100)
    else:
        (bad / "model" / "model.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        found = load_latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step-00000002" in caplog.text


def test_what_a_killed_writer_left_is_ignored_and_swept(lm: MakeLM, tmp_path: Path) -> None:
    trainer = Trainer(lm(), TrainConfig())
    save(tmp_path, 1, trainer)
    left = tmp_path / ".writing-step-00000002-123"
    (left / "model").mkdir(parents=True)
    (left / "model" / "model.safetensors").write_bytes(b"half")
    assert [c.step for c in complete(tmp_path)] == [1]
    save(tmp_path, 2, trainer)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["torch.save", "fsync", "model", "meta"])
def test_a_full_disk(lm: MakeLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    trainer = Trainer(lm(), TrainConfig())
    save(tmp_path, 1, trainer)
    if where == "torch.save":
        monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    elif where == "fsync":
        monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    elif where == "meta":
        monkeypatch.setattr(Path, "write_text", full_disk)
    else:
        monkeypatch.setattr(trainer.model, "save_pretrained", full_disk)
    with pytest.raises(MnemonError, match=r"disk is full.*step-00000002.*untouched.*keep_last"):
        save(tmp_path, 2, trainer)
    monkeypatch.undo()
    assert names(tmp_path) == ["step-00000001"]
    found = load_latest(tmp_path)
    assert found is not None
    found.restore(trainer)


def test_wrapped_disk_errors_are_known() -> None:
    from safetensors import SafetensorError

    assert checkpoint._full(SafetensorError("I/O error: No space left on device (os error 28)"))
    wrapped = RuntimeError("writer failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert checkpoint._full(wrapped)
    assert not checkpoint._full(OSError(errno.EACCES, "denied"))


def test_a_folder_that_cannot_be_written(lm: MakeLM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MnemonError, match="could not be written"):
        save(tmp_path / "file" / "run", 1, Trainer(lm(), TrainConfig()))


WRITER = """
import sys
sys.path[:0] = [{src!r}, {tests!r}]
from conftest import build_lm
from mnemon.train.checkpoint import save
from mnemon.train.config import TrainConfig
from mnemon.train.trainer import Trainer
trainer = Trainer(build_lm(), TrainConfig())
step = 0
while True:
    step += 1
    save({folder!r}, step, trainer, keep_last=2)
    print(step, flush=True)
"""


def test_kill_at_any_moment_leaves_a_checkpoint(tmp_path: Path) -> None:
    """A real writer is killed several times at random moments; a complete checkpoint is always there."""
    here = Path(__file__).resolve().parent
    folder = tmp_path / "run"
    code = WRITER.format(src=str(here.parents[1] / "src"), tests=str(here), folder=str(folder))
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(3):
        writer.stdout.readline()
    time.sleep(random.Random(os.getpid()).random() * 0.05)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    found = complete(folder)
    assert found
    assert found[0].step >= 3
    torch.load(found[0].path / "trainer.pt", weights_only=True)
