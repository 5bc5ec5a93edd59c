"""Losses: pure functions beside their equations. Each returns one value per token; weights make the sum explicit.

    actor  = Σ_tokens weight · ( policy_loss + kl_coef · kl − entropy_coef · entropy )
    critic = Σ_tokens weight · value_coef · value_loss

There is no implicit mean anywhere: `weights` computes the per-token weights once, on the whole optimizer batch, before
micro-batches, padding and sharding exist, so none of these can change the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WeightMode = Literal["trajectory_mean", "step_mean", "token_mean", "row_mean", "constant"]
KLKind = Literal["k1", "k2", "k3"]


class Weighable(Protocol):
    """What `weights` needs to know of a training row."""

    @property
    def trajectory_id(self) -> str: ...
    @property
    def loss_mask(self) -> NDArray[np.uint8]: ...
    @property
    def spans(self) -> tuple[tuple[int, int], ...]: ...


def weights(
    rows: Sequence[Weighable], mode: WeightMode = "trajectory_mean", constant: float | None = None
) -> list[NDArray[np.float32]]:
    """The loss weight of every token of every row [T_row]; 0 where nothing was sampled.

    With n(·) the number of sampled tokens:

        trajectory_mean   1 / (N_trajectories · n(trajectory))   every trajectory equal, whatever its contexts or length
        step_mean         1 / (N_steps · n(step))                every policy call equal
        token_mean        1 / n(batch)                           every token equal (long trajectories dominate)
        row_mean          1 / (N_rows · n(row))                  every context equal (depends on packing)
        constant          1 / (N_trajectories · C)               no length bias inside a trajectory (Dr. GRPO)

    Args:
        rows: the whole optimizer batch, including rows that will be left out of the loss: they stay in denominators.
        constant: C of mode "constant", in tokens.

    Source: arXiv 2402.03300 (row_mean), 2503.14476 (token_mean), 2503.20783 (constant).
    """
    if mode not in get_args(WeightMode):
        raise ValueError(f"loss_weights must be one of {get_args(WeightMode)}, got {mode!r}")
    if mode == "constant" and (constant is None or constant <= 0):
        raise ValueError(f"loss_weights='constant' needs loss_constant > 0 (in tokens), got {constant}")
    counts = np.array([int(np.count_nonzero(row.loss_mask)) for row in rows], dtype=np.int64)
    per_trajectory: dict[str, int] = {}
    for row, count in zip(rows, counts, strict=True):
        per_trajectory[row.trajectory_id] = per_trajectory.get(row.trajectory_id, 0) + int(count)
    n_trajectories, n_steps = len(per_trajectory), sum(len(row.spans) for row in rows)
    out: list[NDArray[np.float32]] = []
    for row, count in zip(rows, counts, strict=True):
        mask = (np.asarray(row.loss_mask) != 0).astype(np.float64)
        if mode == "step_mean":
            token = np.zeros_like(mask)
            for start, stop in row.spans:
                token[start:stop] = 1.0 / (n_steps * (stop - start))
        elif mode == "trajectory_mean":
            token = mask / (n_trajectories * max(per_trajectory[row.trajectory_id], 1))
        elif mode == "token_mean":
            token = mask / max(int(counts.sum()), 1)
        elif mode == "row_mean":
            token = mask / (len(rows) * max(int(count), 1))
        else:
            token = mask / (n_trajectories * float(constant or 1.0))
        out.append((token * mask).astype(np.float32))
    return out


def clipped_surrogate(
    logp: Tensor,
    old_logp: Tensor,
    advantage: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's clipped objective per token, negated.

        ρ = exp(logp − old_logp)
        L = − min( ρ·A , clip(ρ, 1 − clip_low, 1 + clip_high)·A )
        dual clip c > 1, where A < 0:  L = min(L, −c·A)

    At ρ = 1 the gradient is −A·∇logp, that of REINFORCE. All tensors have one shape.

    Returns:
        (loss, ratio, clipped): `clipped` is True where the clip removes the token's gradient.

    Source: arXiv 1707.06347 eq. 7; asymmetric bounds arXiv 2503.14476; dual clip arXiv 1912.09729.
    """
    ratio = torch.exp(logp - old_logp)
    free = ratio * advantage
    bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantage
    loss = -torch.minimum(free, bounded)
    clipped = bounded < free
    if dual_clip is not None:
        ceiling = -dual_clip * advantage
        over = (advantage < 0) & (loss > ceiling)
        loss = torch.where(over, ceiling, loss)
        clipped = clipped | over
    return loss, ratio, clipped


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: KLKind = "k3") -> Tensor:
    """Estimates of KL(π ‖ π_ref) per sampled token, d = ref_logp − logp.

        k1 = −d                 unbiased; as a loss its expected gradient is zero on policy, so for logging
        k2 = d² / 2             its gradient is the unbiased gradient of the KL on policy
        k3 = exp(d) − d − 1     unbiased, never negative, low variance (the default of GRPO)

    Source: J. Schulman, "Approximating KL divergence" (2020); arXiv 2402.03300 eq. 4.
    """
    d = ref_logp - logp
    if kind == "k1":
        return -d
    if kind == "k2":
        return 0.5 * d * d
    if kind == "k3":
        return torch.exp(d) - d - 1.0
    raise ValueError(f"kl_kind must be one of {get_args(KLKind)}, got {kind!r}")


def token_logprobs(log_p: Tensor, targets: Tensor) -> Tensor:
    """log p(target): [N, V] log-probabilities, [N] targets → [N]."""
    return log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def entropy(log_p: Tensor) -> Tensor:
    """H = − Σ_v p_v · log p_v in nats: log-probabilities [..., V] → [...]."""
    return -(log_p.exp() * log_p).sum(dim=-1)


def value_loss(values: Tensor, returns: Tensor, old_values: Tensor | None = None, clip: float | None = None) -> Tensor:
    """Squared error of the critic per token.

        L = ½ (V − R)²                                              without clip
        L = ½ max( (V − R)² , (V_old + clamp(V − V_old, ±clip) − R)² )    with clip

    Source: arXiv 1707.06347; the clipped form is that of the OpenAI baselines code (see arXiv 2005.12729 §3).
    """
    loss = (values - returns) ** 2
    if clip is not None:
        if old_values is None:
            raise ValueError("a clipped value loss needs old_values")
        bounded = old_values + (values - old_values).clamp(-clip, clip)
        loss = torch.maximum(loss, (bounded - returns) ** 2)
    return 0.5 * loss
