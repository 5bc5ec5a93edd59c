"""Losses: hand-computed values, gradients, and the worked case of the weight modes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnemon.algos.losses import clipped_surrogate, entropy, kl_estimate, token_logprobs, value_loss, weights


@dataclass
class FakeRow:
    trajectory_id: str
    loss_mask: NDArray[np.uint8]
    spans: tuple[tuple[int, int], ...]


def row(trajectory: str, *steps: int, prompt: int = 2) -> FakeRow:
    """A row whose steps have the given numbers of sampled tokens, each behind `prompt` tokens."""
    mask: list[int] = []
    spans = []
    for n in steps:
        mask += [0] * prompt + [1] * n
        spans.append((len(mask) - n, len(mask)))
    return FakeRow(trajectory, np.array(mask, dtype=np.uint8), tuple(spans))


def shares(rows: list[FakeRow], mode: str, constant: float | None = None) -> dict[str, float]:
    out: dict[str, float] = {}
    for r, w in zip(rows, weights(rows, mode, constant), strict=True):  # type: ignore[arg-type]
        out[r.trajectory_id] = out.get(r.trajectory_id, 0.0) + float(w.sum())
        assert not w[r.loss_mask == 0].any()
    return out


WORKED = [row("A", 10), row("B", 10), row("B", 10), row("B", 10)]


@pytest.mark.parametrize(
    ("mode", "a", "b"),
    [
        ("trajectory_mean", 0.5, 0.5),
        ("token_mean", 0.25, 0.75),
        ("row_mean", 0.25, 0.75),
        ("step_mean", 0.25, 0.75),
        ("constant", 10 / 40, 30 / 40),
    ],
)
def test_worked_case(mode: str, a: float, b: float) -> None:
    got = shares(WORKED, mode, constant=20.0)  # constant: 10 tokens of 1/(2 trajectories · 20)
    assert got == pytest.approx({"A": a, "B": b})


def test_each_mode_by_hand() -> None:
    rows = [row("A", 2, 4), row("B", 1)]  # A: one row of two steps
    a, b = weights(rows, "trajectory_mean")
    assert a[a > 0] == pytest.approx([1 / 12] * 6)
    assert b[b > 0] == pytest.approx([1 / 2])
    a, b = weights(rows, "step_mean")
    assert a[a > 0] == pytest.approx([1 / 6] * 2 + [1 / 12] * 4)
    assert b[b > 0] == pytest.approx([1 / 3])
    a, b = weights(rows, "token_mean")
    assert a[a > 0] == pytest.approx([1 / 7] * 6)
    a, b = weights(rows, "row_mean")
    assert a[a > 0] == pytest.approx([1 / 12] * 6)
    assert b[b > 0] == pytest.approx([1 / 2])
    a, b = weights(rows, "constant", constant=5)
    assert a[a > 0] == pytest.approx([1 / 10] * 6)


@pytest.mark.parametrize("mode", ["trajectory_mean", "step_mean", "token_mean", "constant"])
def test_packing_changes_no_weight(mode: str) -> None:
    packed = weights([row("A", 2, 4), row("B", 1)], mode, 5.0)  # type: ignore[arg-type]
    apart = weights([row("A", 2), row("A", 4), row("B", 1)], mode, 5.0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.concatenate([w[w > 0] for w in packed]), np.concatenate([w[w > 0] for w in apart]))


def test_a_row_without_samples_keeps_others_finite() -> None:
    rows = [FakeRow("A", np.zeros(3, dtype=np.uint8), ()), row("B", 2)]
    for mode in ("trajectory_mean", "step_mean", "token_mean", "row_mean"):
        a, b = weights(rows, mode)  # type: ignore[arg-type]
        assert not a.any()
        assert np.isfinite(b).all()


def test_weight_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="loss_constant"):
        weights(WORKED, "constant")
    with pytest.raises(ValueError, match="one of"):
        weights(WORKED, "mean")  # type: ignore[arg-type]


def test_clipped_surrogate_by_hand() -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 5.0])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0, -1.0])
    loss, got, clipped = clipped_surrogate(ratio.log(), torch.zeros(6), advantage, 0.2, 0.3)
    torch.testing.assert_close(got, ratio)
    torch.testing.assert_close(loss, torch.tensor([-1.3, 1.5, -0.5, 0.8, -2.2, 5.0]))
    assert clipped.tolist() == [True, False, False, True, False, False]


def test_dual_clip_bounds_negative_advantages() -> None:
    loss, _, clipped = clipped_surrogate(
        torch.tensor([5.0, 2.0, 5.0]).log(), torch.zeros(3), torch.tensor([-1.0, -1.0, 1.0]), 0.2, 0.2, dual_clip=3.0
    )
    torch.testing.assert_close(loss, torch.tensor([3.0, 2.0, -1.2]))
    assert clipped.tolist() == [True, False, True]


def test_gradient_at_ratio_one_is_reinforce() -> None:
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    targets, advantage = torch.tensor([0, 3, 6, 2, 2]), torch.randn(5, dtype=torch.float64)
    logp = token_logprobs(torch.log_softmax(logits, -1), targets)
    loss, _, clipped = clipped_surrogate(logp, logp.detach(), advantage, 0.2, 0.2)
    (surrogate,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    (reinforce,) = torch.autograd.grad(-(advantage * logp).sum(), logits)
    torch.testing.assert_close(surrogate, reinforce)
    assert not clipped.any()


def test_a_clipped_token_has_no_gradient() -> None:
    logp = torch.tensor([0.5, -0.5], requires_grad=True)
    loss, _, clipped = clipped_surrogate(logp, torch.zeros(2), torch.tensor([1.0, -1.0]))
    loss.sum().backward()
    assert clipped.all()
    assert logp.grad is not None
    assert logp.grad.tolist() == [0.0, 0.0]


def test_kl_estimates_by_hand() -> None:
    logp, ref = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    assert kl_estimate(logp, ref, "k1").item() == pytest.approx(math.log(2))
    assert kl_estimate(logp, ref, "k2").item() == pytest.approx(math.log(2) ** 2 / 2)
    assert kl_estimate(logp, ref, "k3").item() == pytest.approx(0.5 - math.log(0.5) - 1)
    with pytest.raises(ValueError, match="kl_kind"):
        kl_estimate(logp, ref, "k4")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_kl_estimates_are_unbiased(kind: str) -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    expected = (p * (p / q).log()).sum()
    estimate = (p * kl_estimate(p.log(), q.log(), kind)).sum()  # type: ignore[arg-type]
    torch.testing.assert_close(estimate, expected)


def test_k2_gradient_is_the_gradient_of_the_kl() -> None:
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.randn(6, dtype=torch.float64), -1)
    log_p = torch.log_softmax(logits, -1)
    (exact,) = torch.autograd.grad((log_p.exp() * (log_p - ref)).sum(), logits, retain_graph=True)
    expectation = (log_p.detach().exp() * kl_estimate(log_p, ref, "k2")).sum()
    (estimated,) = torch.autograd.grad(expectation, logits)
    torch.testing.assert_close(estimated, exact)


def test_entropy_by_hand() -> None:
    log_p = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    assert entropy(log_p).tolist() == pytest.approx([1.5 * math.log(2), math.log(3)])


def test_value_loss_by_hand() -> None:
    values, returns, old = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0])
    torch.testing.assert_close(value_loss(values, returns), torch.tensor([0.5, 0.5]))
    # clipped value 1.5 is nearer than 2.0, so the unclipped error counts; clipped 0.5 is nearer than 0.0
    torch.testing.assert_close(value_loss(values, returns, old, 0.5), torch.tensor([0.5, 0.5]))
    # moving towards the return past the clip: error of the clipped value counts
    torch.testing.assert_close(
        value_loss(torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([3.0]), 0.5), torch.tensor([0.5 * 1.5**2])
    )
    with pytest.raises(ValueError, match="old_values"):
        value_loss(values, returns, clip=0.1)
