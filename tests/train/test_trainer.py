"""The trainer: gradients against a plain reference loss, invariances, skipping, schedules and resuming."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemon.algos.losses import weights
from mnemon.train.batch import Row
from mnemon.train.config import TrainConfig
from mnemon.train.trainer import Trainer
from mnemon.types import MnemonError

# PEFT asks transformers under a name that 5.23 renamed
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

MakeLM = Callable[..., nn.Module]
MakeRow = Callable[..., Row]
Gradients = Callable[..., list[Tensor]]
Close = Callable[..., None]


def teacher_forced(model: Any, row: Row, temperature: float = 1.0) -> Tensor:
    """Log-probs [T] of one unpadded row from the model's own full logits; position 0 is 0."""
    ids = torch.from_numpy(row.input_ids).unsqueeze(0)
    logits = model(input_ids=ids).logits[0, :-1] / temperature
    logp = torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None]).squeeze(-1)
    return torch.cat([torch.zeros(1), logp])


def plain_loss(model: Any, rows: list[Row], config: TrainConfig, reference: Any = None) -> Tensor:
    """The whole loss, row by row and token by token, as the equations say."""
    total = torch.zeros(())
    for row, weight in zip(rows, weights(rows, config.loss_weights, config.loss_constant), strict=True):
        logp = teacher_forced(model, row, config.temperature)
        ref = teacher_forced(reference, row, config.temperature).detach() if reference is not None else None
        assert row.advantages is not None
        for t in row.sampled:
            ratio = torch.exp(logp[t] - float(row.old_logprobs[t]))
            a = float(row.advantages[t])
            bounded = torch.clamp(ratio, 1 - config.clip_low, 1 + config.clip_high)
            term = -torch.minimum(ratio * a, bounded * a)
            if ref is not None:
                d = ref[t] - logp[t]
                term = term + config.kl_coef * (torch.exp(d) - d - 1)
            total = total + float(weight[t]) * term
    return total


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"lr": 1e-3, "max_grad_norm": None, **changes})


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["trajectory_mean", "step_mean", "token_mean", "row_mean", "constant"])
def test_loss_and_gradient_equal_the_plain_ones(
    lm: MakeLM, rows: list[Row], mode: Any, gradients: Gradients, close: Close
) -> None:
    settings = config(loss_weights=mode, loss_constant=9.0, clip_high=0.3, temperature=0.7, token_budget=30)
    trainer = Trainer(lm(), settings)
    loss = plain_loss(trainer.model, rows, settings)
    expected = list(torch.autograd.grad(loss, trainer.parameters))
    assert trainer.scorer.fast
    assert trainer.scorer.sparse
    close(gradients(trainer, rows), expected)
    metrics = Trainer(lm(), settings).step(rows)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["tokens"] == sum(int(r.loss_mask.sum()) for r in rows)
    norm = float(torch.sqrt(torch.stack([(g**2).sum() for g in expected]).sum()))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_kl_to_a_reference(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    settings = config(kl_coef=0.1)
    reference = lm(seed=5)
    trainer = Trainer(lm(), settings, reference=reference)
    expected = list(torch.autograd.grad(plain_loss(trainer.model, rows, settings, reference), trainer.parameters))
    close(gradients(trainer, rows), expected)
    got = trainer.reference_logprobs(rows)
    for r, array in zip(rows, got, strict=True):
        want = teacher_forced(reference, r).detach().numpy() * r.loss_mask
        np.testing.assert_allclose(array, want, atol=1e-5)


def test_own_reference_is_the_start(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm(), config(kl_coef=0.1, lr=1e-2))
    before = trainer.logprobs(rows)
    assert trainer.step(rows)["kl"] == pytest.approx(0.0, abs=1e-6)
    for start, now in zip(before, trainer.reference_logprobs(rows), strict=True):
        np.testing.assert_allclose(now, start, atol=1e-6)
    assert trainer.step(rows)["kl"] > 1e-4


def test_entropy_bonus(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    trainer = Trainer(lm(), config(entropy=0.5, temperature=1.3))
    loss = plain_loss(trainer.model, rows, trainer.config)
    expected_entropy = []
    for r, weight in zip(rows, weights(rows), strict=True):
        logits = trainer.model(input_ids=torch.from_numpy(r.input_ids)[None]).logits[0] / 1.3
        p = torch.distributions.Categorical(logits=logits)
        at = torch.from_numpy(r.sampled)
        loss = loss - 0.5 * (torch.from_numpy(weight)[at] * p.entropy()[at - 1]).sum()
        expected_entropy += p.entropy()[at - 1].tolist()
    expected = list(torch.autograd.grad(loss, trainer.parameters))
    close(gradients(trainer, rows), expected)
    metrics = Trainer(lm(), trainer.config).step(rows)
    assert metrics["entropy"] == pytest.approx(np.mean(expected_entropy), rel=1e-4)


def test_on_policy_gradient_is_reinforce(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    trainer = Trainer(lm(), config())
    for r, logp in zip(rows, trainer.logprobs(rows), strict=True):
        r.old_logprobs = logp
    reinforce = torch.zeros(())
    for r, weight in zip(rows, weights(rows), strict=True):
        assert r.advantages is not None
        logp_T = teacher_forced(trainer.model, r)
        reinforce = reinforce - (torch.from_numpy(weight * r.advantages) * logp_T).sum()
    expected = list(torch.autograd.grad(reinforce, trainer.parameters))
    close(gradients(trainer, rows), expected)
    metrics = Trainer(lm(), config()).step(rows)
    assert metrics["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert metrics["clip_fraction"] == 0.0
    assert metrics["approx_kl"] == pytest.approx(0.0, abs=1e-6)


# ── invariances ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("budget", [1, 17, 40, 10_000])
def test_micro_batches_and_padding_change_nothing(
    lm: MakeLM, rows: list[Row], budget: int, gradients: Gradients, close: Close
) -> None:
    want = gradients(Trainer(lm(), config(token_budget=60)), rows)
    close(gradients(Trainer(lm(), config(token_budget=budget)), rows), want)


def test_row_order_changes_nothing(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    want = gradients(Trainer(lm(), config()), rows)
    close(gradients(Trainer(lm(), config()), rows[::-1]), want)


def split(row: Row) -> list[Row]:
    """The unpacked form: one row per step, each with the whole prefix as its prompt."""
    out = []
    for k, (start, stop) in enumerate(row.spans):
        mask = np.zeros(stop, dtype=np.uint8)
        mask[start:stop] = 1
        piece = Row(row.task_id, row.trajectory_id, row.input_ids[:stop], mask, row.old_logprobs[:stop] * mask)
        assert row.advantages is not None
        piece.advantages, piece.context_index = row.advantages[:stop] * mask, 10 * row.context_index + k
        out.append(piece)
    return out


@pytest.mark.parametrize("mode", ["trajectory_mean", "step_mean", "token_mean", "constant"])
def test_packing_changes_nothing(lm: MakeLM, rows: list[Row], mode: Any, gradients: Gradients, close: Close) -> None:
    apart = [piece for r in rows for piece in split(r)]
    assert len(apart) > len(rows)
    settings = config(loss_weights=mode, loss_constant=5.0)
    close(gradients(Trainer(lm(), settings), rows), gradients(Trainer(lm(), settings), apart))


def test_rows_of_weight_zero_change_nothing(
    lm: MakeLM, rows: list[Row], row: MakeRow, gradients: Gradients, close: Close
) -> None:
    for r, w in zip(rows, weights(rows), strict=True):
        r.weight = w
    want = gradients(Trainer(lm(), config()), rows)
    extra = row("pad#0", [0, 1, 1, 1])
    extra.weight = np.zeros(4, dtype=np.float32)
    close(gradients(Trainer(lm(), config()), [*rows, extra]), want)


def test_rows_without_signal_are_skipped_exactly(
    lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close
) -> None:
    dead = {rows[0].trajectory_id, rows[-1].trajectory_id}
    for r in rows:
        if r.trajectory_id in dead:
            r.advantages = np.zeros(len(r), dtype=np.float32)
    trainer = Trainer(lm(), config())
    expected = list(torch.autograd.grad(plain_loss(trainer.model, rows, config()), trainer.parameters))
    close(gradients(trainer, rows), expected)  # the dead ones stay in the denominators
    metrics = trainer.step(rows)
    assert metrics["rows_skipped"] == sum(r.trajectory_id in dead for r in rows)
    assert Trainer(lm(), config(entropy=0.1)).step(rows)["rows_skipped"] == 0


def test_a_batch_without_any_signal_is_a_step_with_zero_gradient(lm: MakeLM, rows: list[Row]) -> None:
    """Momentum goes on as if the zero gradients had been computed."""
    silent = [copy.deepcopy(r) for r in rows]
    for r in silent:
        r.advantages = np.zeros(len(r), dtype=np.float32)
    skipping, computing = Trainer(lm(), config()), Trainer(lm(), config(entropy=1e-30))
    for trainer in (skipping, computing):
        trainer.step(rows)
        trainer.step(silent)
    for a, b in zip(skipping.parameters, computing.parameters, strict=True):
        torch.testing.assert_close(a, b)


def test_long_rows_leave_the_loss_but_not_the_denominators(
    lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close
) -> None:
    limit = int(np.median([len(r) for r in rows]))
    trainer = Trainer(lm(), config(max_row_tokens=limit))
    masked = copy.deepcopy(rows)
    for r, w in zip(masked, weights(rows), strict=True):
        r.weight = w if len(r) <= limit else np.zeros_like(w)
    close(gradients(trainer, rows), gradients(Trainer(lm(), config()), masked))
    assert trainer.step(rows)["rows_dropped"] == sum(len(r) > limit for r in rows) > 0


def test_full_logits_give_the_same(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    want = gradients(Trainer(lm(), config(entropy=0.1)), rows)
    for fast, sparse in ((False, False), (True, False)):
        trainer = Trainer(lm(), config(entropy=0.1))
        trainer.scorer.fast, trainer.scorer.sparse = fast, sparse
        close(gradients(trainer, rows), want)


def test_scaled_logits_are_noticed(rows: list[Row]) -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = GraniteForCausalLM(GraniteConfig(vocab_size=29, num_key_value_heads=1, logits_scaling=4.0, **shape)).eval()
    trainer = Trainer(model, config())
    assert not trainer.scorer.fast
    for r, got in zip(rows, trainer.logprobs(rows), strict=True):
        np.testing.assert_allclose(got, teacher_forced(model, r).detach().numpy() * r.loss_mask, atol=1e-5)


def test_large_vocabularies_are_scored_in_chunks(
    lm: MakeLM, rows: list[Row], monkeypatch: pytest.MonkeyPatch, gradients: Gradients, close: Close
) -> None:
    want = gradients(Trainer(lm(), config(entropy=0.1)), rows)
    monkeypatch.setattr("mnemon.train.scoring.CHUNK_ELEMENTS", 29 * 4)
    close(gradients(Trainer(lm(), config(entropy=0.1)), rows), want)


def test_gradient_checkpointing_changes_nothing(
    lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close
) -> None:
    want = gradients(Trainer(lm(), config()), rows)
    close(gradients(Trainer(lm(), config(gradient_checkpointing=True)), rows), want)


def test_bfloat16_is_near_float32(lm: MakeLM, rows: list[Row]) -> None:
    want = Trainer(lm(), config()).logprobs(rows)
    trainer = Trainer(lm(), config(precision="bfloat16"))
    for a, b in zip(trainer.logprobs(rows), want, strict=True):
        np.testing.assert_allclose(a, b, atol=0.15)
    assert np.isfinite(trainer.step(rows)["loss"])
    assert all(p.dtype == torch.float32 for p in trainer.parameters)


def test_half_precision_parameters_are_trained_in_float32(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm().to(torch.bfloat16), config())
    assert {p.dtype for p in trainer.parameters} == {torch.float32}


# ── passes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_minibatches_are_even_sets_of_whole_trajectories(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm(), config(minibatch=4, epochs=2))
    sets = [{rows[i].trajectory_id for i in part} for part in trainer._minibatches(rows)]
    assert [len(s) for s in sets] == [3, 3]  # six trajectories: nothing dropped, no small rest
    assert not sets[0] & sets[1]
    assert trainer.step(rows)["optimizer_steps"] == 4
    assert (trainer.updates, trainer.optimizer_steps) == (1, 4)


def test_explicit_weights_are_used_as_they_are(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    settings = config(loss_weights="token_mean")
    want = gradients(Trainer(lm(), settings), rows)
    for r, w in zip(rows, weights(rows, "token_mean"), strict=True):
        r.weight = w
    close(gradients(Trainer(lm(), config()), rows), want)


def test_adamw_step_by_hand(lm: MakeLM, rows: list[Row], gradients: Gradients) -> None:
    """The first AdamW step moves by lr·sign(g) (small eps), and decays matrices only."""
    trainer = Trainer(lm(), config(lr=0.01, warmup=2, weight_decay=0.1, eps=1e-30))
    before = [p.detach().clone() for p in trainer.parameters]
    grads = gradients(trainer, rows)
    for p, start, g in zip(trainer.parameters, before, grads, strict=True):
        decay = 0.1 if p.ndim >= 2 else 0.0
        sure = g.abs() > 1e-12
        want = start * (1 - 0.005 * decay) - 0.005 * torch.sign(g)
        torch.testing.assert_close(p.detach()[sure], want[sure], rtol=1e-5, atol=1e-6)


def test_gradient_norm_is_clipped(lm: MakeLM, rows: list[Row], gradients: Gradients) -> None:
    got = gradients(Trainer(lm(), config(max_grad_norm=1e-3)), rows)
    assert float(torch.sqrt(torch.stack([(g**2).sum() for g in got]).sum())) == pytest.approx(1e-3, rel=1e-3)


# ── supervised ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sft_is_a_weighted_mean(lm: MakeLM, rows: list[Row], gradients: Gradients, close: Close) -> None:
    rng = np.random.default_rng(0)
    for r in rows[1:]:
        r.weight = rng.random(len(r)).astype(np.float32)
    rows[0].weight = None
    trainer = Trainer(lm(), config(temperature=0.5, token_budget=25))
    top, bottom = torch.zeros(()), 0.0
    for r in rows:
        w = (r.weight if r.weight is not None else np.ones(len(r), np.float32)) * r.loss_mask
        top = top - (torch.from_numpy(w) * teacher_forced(trainer.model, r)).sum()
        bottom += float(w.sum())
    expected = list(torch.autograd.grad(top / bottom, trainer.parameters))
    close(gradients(trainer, rows, "sft"), expected)
    assert Trainer(lm(), config()).sft(rows)["loss"] == pytest.approx(top.item() / bottom, rel=1e-5)


def test_sft_learns(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm(), config(lr=3e-2, max_grad_norm=1.0))
    losses = [trainer.sft(rows)["loss"] for _ in range(60)]
    assert losses[-1] < 0.3 < 2.0 < losses[0]


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_lack_something(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm(), config())
    with pytest.raises(MnemonError, match="no rows"):
        trainer.step([])
    with pytest.raises(MnemonError, match="positive weight"):
        trainer.sft([])
    with pytest.raises(MnemonError, match="kl_coef"):
        trainer.reference_logprobs(rows)
    with pytest.raises(MnemonError, match="no critic"):
        trainer.values(rows)
    with pytest.raises(MnemonError, match="returns"):
        Trainer(lm(), config(), critic="copy").step(rows)
    with pytest.raises(MnemonError, match="needs LoRA"):
        Trainer(lm(), config(), critic="shared")
    rows[0].weight = np.ones(len(rows[0]), dtype=np.float32)
    with pytest.raises(MnemonError, match="Some rows have weights"):
        trainer.step(rows)
    rows[0].advantages = None
    with pytest.raises(MnemonError, match="advantages"):
        trainer.step(rows)


def test_a_bad_gradient_leaves_the_weights(lm: MakeLM, rows: list[Row]) -> None:
    trainer = Trainer(lm(), config(max_grad_norm=1.0))
    before = [p.detach().clone() for p in trainer.parameters]
    assert rows[0].advantages is not None
    rows[0].advantages[rows[0].sampled[0]] = np.nan
    with pytest.raises(MnemonError, match="not finite"):
        trainer.step(rows)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True))


# ── resuming ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("critic", [None, "copy"])
def test_resume_is_bit_for_bit(lm: MakeLM, rows: list[Row], critic: Any) -> None:
    settings = config(minibatch=2, epochs=2, kl_coef=0.05, schedule="cosine", total_steps=6, warmup=2)

    def start() -> Trainer:
        return Trainer(lm(), settings, critic=critic)

    whole = start()
    for r in rows:
        r.returns = r.advantages
    for _ in range(2):
        whole.step(rows)
    saved = copy.deepcopy(whole.state_dict())
    straight = [whole.step(rows) for _ in range(2)]
    resumed = Trainer(lm(seed=3), settings, critic=critic)
    resumed.load_state_dict(saved)
    again = [resumed.step(rows) for _ in range(2)]
    for a, b in zip(straight, again, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    for p, q in zip(whole.parameters, resumed.parameters, strict=True):
        assert torch.equal(p, q)


def test_a_state_of_another_kind_is_refused(lm: MakeLM, rows: list[Row]) -> None:
    plain = Trainer(lm(), config()).state_dict()
    with pytest.raises(MnemonError, match="critic"):
        Trainer(lm(), config(), critic="copy").load_state_dict(plain)
    with pytest.raises(MnemonError, match="reference"):
        Trainer(lm(), config(kl_coef=0.1)).load_state_dict(plain)


# ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [0, 1])
def test_learns_to_copy_one_bit(lm: MakeLM, seed: int) -> None:
    """Policy gradient alone: the reward is 1 when the sampled token repeats the one bit of the prompt."""
    trainer = Trainer(lm(seed=seed), config(lr=1e-2, max_grad_norm=1.0))
    generator = torch.Generator().manual_seed(seed)
    accuracy = 0.0
    for _ in range(60):
        bits = torch.arange(64) % 2
        prompts = torch.stack([bits + 3, torch.full((64,), 7)], dim=1)
        with torch.no_grad():
            logp = torch.log_softmax(trainer.model(input_ids=prompts).logits[:, -1], -1)
        sampled = torch.multinomial(logp.exp(), 1, generator=generator)
        reward = (sampled[:, 0] == bits + 3).float()
        accuracy = float(reward.mean())
        batch = []
        for i in range(64):
            ids = torch.cat([prompts[i], sampled[i]]).numpy()
            old = np.array([0, 0, float(logp[i, sampled[i, 0]])], dtype=np.float32)
            r = Row(f"b{i % 2}", f"b{i % 2}#{i}", ids, np.array([0, 0, 1], dtype=np.uint8), old)
            group = reward[i % 2 :: 2]
            r.advantages = r.loss_mask * np.float32((reward[i] - group.mean()) / (group.std() + 1e-4))
            batch.append(r)
        trainer.step(batch)
    assert accuracy > 0.9
