"""The cold start: batches, its log, and going on after a break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mnemon.runs import RunFolder
from mnemon.train.batch import Row
from mnemon.train.config import TrainConfig
from mnemon.train.sft import fit, length_buckets
from mnemon.train.trainer import Trainer
from mnemon.types import MnemonError


class Tokens:
    """A tokenizer as far as a checkpoint needs one."""

    def save_pretrained(self, save_directory: str) -> None:
        Path(save_directory, "tokenizer.json").write_text("{}")


class Broken(Exception):
    pass


def batches_of(rows: list[Row], n: int) -> list[list[Row]]:
    return [[rows[i % len(rows)], rows[(2 * i + 1) % len(rows)]] for i in range(n)]


def run_fit(
    folder: Path, lm: Callable[..., nn.Module], batches: list[list[Row]], stop: int | None = None, **settings: int
) -> list[Any]:
    """`fit` in a folder, broken off at the `stop`-th update; the records without their times."""
    trainer = Trainer(lm(), TrainConfig(lr=1e-2, schedule="cosine", total_steps=len(batches)))
    plain, calls = trainer.sft, [0]

    def sft(rows: Any) -> dict[str, float]:
        calls[0] += 1
        if calls[0] == stop:
            raise Broken
        return plain(rows)

    trainer.sft = sft  # type: ignore[method-assign]
    run = RunFolder(folder)
    with run.start({}, resume=run.config_file.exists()):
        fit(trainer, batches, run, Tokens(), **settings)
    return [{name: value for name, value in record.items() if name != "time"} for record in run.metrics()]


def test_buckets_hold_every_row_once_in_batches_of_like_length(row: Callable[..., Row]) -> None:
    rows = [row(f"t#{i}", [0] * (1 + i % 13) + [1], seed=i) for i in range(103)]
    batches = length_buckets(rows, 8, seed=3)
    assert sorted(id(r) for batch in batches for r in batch) == sorted(map(id, rows))
    assert sorted(map(len, batches)) == [7] + [8] * 12
    assert all(max(map(len, batch)) - min(map(len, batch)) <= 2 for batch in batches)
    assert [[r.trajectory_id for r in b] for b in batches] == [
        [r.trajectory_id for r in b] for b in length_buckets(rows, 8, seed=3)
    ]
    assert length_buckets(rows, 8, seed=4) != batches


@pytest.mark.parametrize("stop", [2, 6, 10])
def test_a_broken_off_cold_start_goes_on_as_if_nothing_had_been(
    tmp_path: Path, lm: Callable[..., nn.Module], rows: list[Row], stop: int
) -> None:
    """Checkpoints every 4, records every 3 updates: the losses since the last record must be in the checkpoint."""
    batches = batches_of(rows, 10)
    whole = run_fit(tmp_path / "whole", lm, batches, checkpoint_every=4, log_every=3)
    assert [record["update"] for record in whole] == [3, 6, 9, 10]
    with pytest.raises(Broken):
        run_fit(tmp_path / "broken", lm, batches, stop, checkpoint_every=4, log_every=3)
    assert run_fit(tmp_path / "broken", lm, batches, checkpoint_every=4, log_every=3) == whole
    weights = [tmp_path / name / "checkpoints/step-00000010/model/model.safetensors" for name in ("whole", "broken")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_record_is_the_mean_since_the_one_before(
    tmp_path: Path, lm: Callable[..., nn.Module], rows: list[Row]
) -> None:
    batches = batches_of(rows, 5)
    each = run_fit(tmp_path / "each", lm, batches, log_every=1)
    pairs = run_fit(tmp_path / "pairs", lm, batches, log_every=2)
    losses = [record["loss"] for record in each]
    assert [record["loss"] for record in pairs] == [sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]]
    assert len(list((tmp_path / "each" / "checkpoints").iterdir())) == 1


def test_a_finished_cold_start_is_left_alone(tmp_path: Path, lm: Callable[..., nn.Module], rows: list[Row]) -> None:
    batches = batches_of(rows, 3)
    first = run_fit(tmp_path, lm, batches)
    assert run_fit(tmp_path, lm, batches, stop=1) == first


def test_damaged_checkpoints_are_no_new_beginning(
    tmp_path: Path, lm: Callable[..., nn.Module], rows: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    batches = batches_of(rows, 3)
    run_fit(tmp_path, lm, batches)
    (tmp_path / "checkpoints/step-00000003/trainer.pt").write_bytes(b"cut")
    with pytest.raises(MnemonError, match=r"none is complete.*delete them to start from the beginning"):
        run_fit(tmp_path, lm, batches)
    assert "wrong size" in caplog.text
