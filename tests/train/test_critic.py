"""The critic and adapters: gradients against the plain equations, and who is left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemon.algos.losses import weights
from mnemon.train.batch import Row, place_gae
from mnemon.train.config import Lora, TrainConfig
from mnemon.train.trainer import Trainer

# PEFT asks transformers under a name that 5.23 renamed
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

MakeLM = Callable[..., nn.Module]
Gradients = Callable[..., list[Tensor]]
Close = Callable[..., None]


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"lr": 1e-3, "max_grad_norm": None, **changes})


# ── critic ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_returns(trainer: Trainer, rows: list[Row]) -> None:
    for r, v in zip(rows, trainer.values(rows), strict=True):
        r.values = v
    for key in {r.trajectory_id for r in rows}:
        place_gae([r for r in rows if r.trajectory_id == key], {}, terminal=float(key[-1]))


def test_values_under_autocast_have_the_precision_of_float32(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm(), config(precision="bfloat16"), critic="copy")
    assert trainer.critic is not None
    nn.init.normal_(trainer.critic.head.weight)
    values = torch.from_numpy(np.concatenate([v[r.sampled] for v, r in zip(trainer.values(rows), rows, strict=True)]))
    assert (values != values.bfloat16().float()).any()


def test_a_given_critic_is_trained_in_float32(lm: MakeLM, rows: list[Row]) -> None:
    given: Any = lm()
    trainer = Trainer(lm(), config(precision="bfloat16"), critic=given.model.bfloat16())
    with_returns(trainer, rows)
    trainer.step(rows)
    assert trainer.critic is not None
    assert {p.dtype for p in trainer.critic.trained()} == {torch.float32}


def test_critic_gradient_equals_the_plain_one(lm: MakeLM, rows: list[Row], close: Close) -> None:
    trainer = Trainer(lm(), config(value_coef=0.5, token_budget=30), critic="copy")
    critic = trainer.critic
    assert critic is not None
    nn.init.normal_(critic.head.weight)
    with_returns(trainer, rows)
    loss = torch.zeros(())
    for r, w in zip(rows, weights(rows), strict=True):
        ids = torch.from_numpy(r.input_ids)[None]
        value = critic.head(critic.trunk(input_ids=ids).last_hidden_state)[0, :, 0]
        assert r.values is not None
        assert r.returns is not None
        np.testing.assert_allclose(r.values[r.sampled], value[r.sampled - 1].detach().numpy(), atol=1e-5)
        for t in r.sampled:
            loss = loss + 0.5 * float(w[t]) * 0.5 * (value[t - 1] - float(r.returns[t])) ** 2
    expected = list(torch.autograd.grad(loss, critic.trained()))
    caught: list[Tensor] = []
    assert trainer.critic_optimizer is not None
    trainer.critic_optimizer.register_step_pre_hook(lambda *_: caught.extend(p.grad.clone() for p in critic.trained()))
    metrics = trainer.step(rows)
    close(caught, expected)
    assert metrics["value_loss"] > 0


def test_critic_learns_and_has_its_own_rate(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm(), config(lr=1e-3, max_grad_norm=1.0), critic="copy")
    assert trainer.critic_optimizer is not None
    assert trainer.critic_optimizer.param_groups[0]["lr"] == pytest.approx(1e-2)
    assert all(not v.any() for v in trainer.values(rows))  # the head starts at 0
    with_returns(trainer, rows)
    losses = [trainer.step(rows)["value_loss"] for _ in range(30)]
    assert losses[-1] < 0.1 * losses[0]


def test_shared_critic_leaves_the_actor_alone(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    lora = Lora(r=2, alpha=4, target_modules=("q_proj", "v_proj", "down_proj"))
    alone = Trainer(lm(), config(lora=lora, seed=1))
    torch.manual_seed(7)
    trainer = Trainer(lm(), config(lora=lora, lr=1e-3, max_grad_norm=1.0), critic="shared")
    with torch.no_grad():
        for a, b in zip(trainer.parameters, alone.parameters, strict=True):
            a.copy_(b)
    with_returns(trainer, rows)
    before = trainer.logprobs(rows)
    close(gradients(trainer, rows), gradients(alone, rows))
    base = [p for n, p in trainer.model.named_parameters() if "lora_" not in n]
    losses = [trainer.step(rows)["value_loss"] for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is None and not p.requires_grad for p in base)
    assert not np.allclose(before[0], trainer.logprobs(rows)[0])


# ── adapters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lora_trains_adapters_and_its_reference_is_the_base(lm: MakeLM, rows: list[Row]) -> None:
    base = lm()
    want = Trainer(copy.deepcopy(base), config()).logprobs(rows)
    trainer = Trainer(base, config(lora=Lora(r=2), kl_coef=0.1, lr=1e-2))
    assert trainer.reference is trainer.scorer
    assert {n.split(".")[-2] for n, p in trainer.model.named_parameters() if p.requires_grad} == {"default"}
    for _ in range(3):
        trainer.step(rows)
    for a, b, now in zip(trainer.reference_logprobs(rows), want, trainer.logprobs(rows), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert not np.allclose(a, now, atol=1e-4)
