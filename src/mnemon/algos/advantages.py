"""Credit: from rewards to advantages. Pure numpy; every statistic is over trajectories, one value each.

Group statistics are computed before any training row exists, so a trajectory with more contexts never weighs more in
the baseline, and padding or sharding cannot change an advantage. A member without a usable reward (``None`` or nan:
its judge or endpoint failed) is left out of the statistics and gets 0; `scored` tells which members count, so that the
caller can drop the others from the loss and count them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Rewards = Sequence[float | None] | NDArray[np.floating]


def _array(rewards: Rewards) -> Floats:
    """float64 copy [G] in which None has become nan."""
    return np.array([np.nan if r is None else float(r) for r in rewards], dtype=np.float64)


def scored(rewards_G: Rewards) -> NDArray[np.bool_]:
    """True [G] where a member has a finite reward; the others are unscorable: no statistics, no loss, only counted."""
    return np.isfinite(_array(rewards_G))


def is_dead(rewards_G: Rewards) -> bool:
    """True when a group teaches nothing: fewer than two scored members, or all scored rewards equal."""
    values = _array(rewards_G)
    values = values[np.isfinite(values)]
    return bool(values.size < 2 or values.max() == values.min())


def grpo(rewards_G: Rewards, ddof: int = 1, eps: float = 1e-4, scale: bool = True) -> Floats:
    """Group-relative advantage of each trajectory of one task.

        A_i = (r_i − mean(r)) / (std_ddof(r) + eps)        scale=True
        A_i =  r_i − mean(r)                               scale=False

    Args:
        rewards_G: one return per trajectory [G]; None or nan = unscorable (excluded, advantage 0).
        ddof: 1 divides the variance by n − 1 (sample), 0 by n (population).
        eps: added to the standard deviation.
        scale: False keeps the centring only (Dr. GRPO, arXiv 2503.20783: dividing by std favours very easy and very
            hard groups).

    Returns:
        advantages [G]. A group with one scored member, or with equal rewards, gets exactly 0.

    Source: GRPO, arXiv 2402.03300 §4.1.2. Rewards (1, 0) give ±0.707 with ddof=1 and ±1 with ddof=0 (eps 0).
    """
    if ddof not in (0, 1):
        raise ValueError(f"ddof must be 0 or 1, got {ddof}")
    values = _array(rewards_G)
    out = np.zeros_like(values)
    if is_dead(values):
        return out
    keep = np.isfinite(values)
    centred = values[keep] - values[keep].mean()
    out[keep] = centred / (values[keep].std(ddof=ddof) + eps) if scale else centred
    return out


def centered(rewards_G: Rewards) -> Floats:
    """A_i = r_i − mean(r): `grpo` without the division."""
    return grpo(rewards_G, scale=False)


def leave_one_out(rewards_G: Rewards) -> Floats:
    """A_i = r_i − mean of the other members = n/(n−1) · (r_i − mean(r)) (RLOO, arXiv 2402.14740)."""
    n = int(scored(rewards_G).sum())
    return centered(rewards_G) * (n / (n - 1)) if n > 1 else np.zeros(len(rewards_G))


def pooled_steps(
    returns_G_S: Sequence[Rewards], ddof: int = 1, eps: float = 1e-6, scale: bool = True, singleton_raw: bool = False
) -> list[Floats]:
    """One baseline for all steps of all trajectories of a group, pooled (ragged [G][S_i]).

        A_is = (r_is − mean over all i,s) / (std over all i,s + eps)

    A trajectory with more steps weighs more in this baseline: it reproduces the released code of Mem-alpha (arXiv
    2509.25911) and is otherwise not recommended. ``singleton_raw=True`` also reproduces that code's treatment of a
    group of one value (mean 0, std 1: the raw reward becomes the advantage); False gives 0.
    """
    sizes = [len(returns) for returns in returns_G_S]
    flat = np.concatenate([_array(returns) for returns in returns_G_S]) if sizes else np.zeros(0)
    if singleton_raw and np.isfinite(flat).sum() == 1:
        pooled = np.nan_to_num(flat / (1.0 + eps) if scale else flat)
    else:
        pooled = grpo(flat, ddof, eps, scale)
    return list(np.split(pooled, np.cumsum(sizes)[:-1])) if sizes else []


def positional_steps(
    returns_G_S: Sequence[Rewards], ddof: int = 1, eps: float = 1e-6, scale: bool = True
) -> list[Floats]:
    """Step advantages against the same step index of the other trajectories (ragged [G][S_i]).

        A_is = (r_is − mean over i' of r_i's) / (std over i' of r_i's + eps),   i' = members that have a step s

    A step that no other member reached gets 0.
    """
    out = [np.zeros(len(returns)) for returns in returns_G_S]
    for s in range(max((len(returns) for returns in returns_G_S), default=0)):
        members = [i for i, returns in enumerate(returns_G_S) if s < len(returns)]
        column = grpo([returns_G_S[i][s] for i in members], ddof, eps, scale)
        for i, advantage in zip(members, column, strict=True):
            out[i][s] = advantage
    return out


def separate_steps(
    totals_G: Rewards,
    steps_G_S: Sequence[Rewards],
    places_G_S: Sequence[Sequence[Hashable]] | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
    scale: bool = True,
) -> list[Floats]:
    """Trajectory and step terms, each normalised in a group of its own, then added (ragged [G][S_i]).

        A_is = (R_i − mean over i' of R_i') / (std + eps)  +  (r_ip − mean over i' of r_i'p) / (std + eps)

    with r_ip the mean of i's step rewards at the place p of step s (`places_G_S`, e.g. the input that was read; without
    it the step's index), i' = members that have a step at p. A place that no other member reached adds 0. As GiGPO
    (arXiv 2505.10978) adds its episode and step advantages.
    """
    trajectory = grpo(totals_G, ddof, eps, scale)
    places = places_G_S or [range(len(steps)) for steps in steps_G_S]
    means: dict[Hashable, dict[int, list[float | None]]] = {}
    for i, (steps, where) in enumerate(zip(steps_G_S, places, strict=True)):
        for value, place in zip(steps, where, strict=True):
            means.setdefault(place, {}).setdefault(i, []).append(value)
    out = [np.full(len(steps), trajectory[i]) for i, steps in enumerate(steps_G_S)]
    for place, members in means.items():
        column = grpo([float(_array(values).mean()) for values in members.values()], ddof, eps, scale)
        for i, advantage in zip(members, column, strict=True):
            out[i] += advantage * np.array([other == place for other in places[i]])
    return out


def gae(rewards_T: ArrayLike, values_T: ArrayLike, gamma: float = 1.0, lam: float = 1.0) -> tuple[Floats, Floats]:
    """Generalised advantage estimation over one whole trajectory.

        δ_t = r_t + γ·V_{t+1} − V_t ,  V_T = 0
        A_t = Σ_{k≥t} (γλ)^{k−t} δ_k ,  return_t = A_t + V_t

    The sequence is every sampled token of the trajectory in order, across context boundaries; only its end is terminal.
    V_t is the critic's value before token t is chosen.

    Args:
        rewards_T, values_T: [T].

    Returns:
        (advantages [T], returns [T]), not whitened (see `whiten`).

    Source: arXiv 1506.02438, eq. 16.
    """
    rewards = np.asarray(rewards_T, dtype=np.float64)
    values = np.asarray(values_T, dtype=np.float64)
    if rewards.shape != values.shape or rewards.ndim != 1:
        raise ValueError(f"rewards and values must be one sequence each, got shapes {rewards.shape} and {values.shape}")
    following = np.append(values[1:], 0.0)
    deltas = rewards + gamma * following - values
    advantages = np.zeros_like(deltas)
    running = 0.0
    for t in range(len(deltas) - 1, -1, -1):
        running = deltas[t] + gamma * lam * running
        advantages[t] = running
    return advantages, advantages + values


def whiten(advantages_N: ArrayLike, eps: float = 1e-8) -> Floats:
    """(A − mean(A)) / (std(A) + eps) over all given values (population std). Never applied implicitly."""
    values = np.asarray(advantages_N, dtype=np.float64)
    if values.size == 0:
        return values
    out: Floats = (values - values.mean()) / (values.std() + eps)
    return out
