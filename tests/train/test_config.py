"""Settings: errors that name the field, and the schedule by hand."""

from __future__ import annotations

from typing import Any

import pytest

from mnemon.train.config import Lora, TrainConfig, lr_factor
from mnemon.types import MnemonError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.0),
        ("critic_lr", -1.0),
        ("betas", (0.9, 1.0)),
        ("clip_low", 1.0),
        ("dual_clip", 1.0),
        ("kl_coef", -0.1),
        ("kl_kind", "k9"),
        ("schedule", "step"),
        ("loss_weights", "mean"),
        ("epochs", 0),
        ("minibatch", 0),
        ("precision", "float16"),
        ("temperature", 0.0),
        ("max_row_tokens", 0),
    ],
)
def test_configuration_errors_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(MnemonError, match=field):
        TrainConfig(**{field: value})


def test_settings_that_need_another() -> None:
    with pytest.raises(MnemonError, match="loss_constant"):
        TrainConfig(loss_weights="constant")
    with pytest.raises(MnemonError, match="total_steps"):
        TrainConfig(schedule="cosine")
    with pytest.raises(MnemonError, match=r"lora\.r"):
        Lora(r=0)


def test_lr_factor() -> None:
    warm = TrainConfig(warmup=4)
    assert [lr_factor(u, warm) for u in (0, 1, 3, 4, 99)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    linear = TrainConfig(schedule="linear", warmup=2, total_steps=6)
    assert [lr_factor(u, linear) for u in (2, 4, 6, 9)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    cosine = TrainConfig(schedule="cosine", total_steps=4)
    assert [lr_factor(u, cosine) for u in (0, 1, 2, 4)] == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.0], abs=1e-9)
