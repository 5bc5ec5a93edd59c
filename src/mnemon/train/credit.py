"""Credit in the loop: from the rewards of groups to the advantages in their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mnemon.algos.advantages import grpo, is_dead, pooled_steps, positional_steps, separate_steps
from mnemon.train.batch import Row, place_gae, place_steps, place_trajectory
from mnemon.train.config import LoopConfig
from mnemon.train.trainer import Trainer


@dataclass(slots=True)
class Group:
    """What one group left behind, as plain data (it may come from another process)."""

    rewards: list[float | None]
    terms: list[dict[str, float]]
    rows: list[list[Row]]
    events: dict[str, int]
    right: list[float]
    errors: list[str]
    steps: list[list[float] | None]
    places: list[list[tuple[int, int, str]]] = field(default_factory=list)
    """Where each member's steps stand: (stage, input, probe), in order. Empty: every step is an input of its own."""

    tools: dict[str, int] = field(default_factory=dict)
    """The trained role's tool calls by name, run or refused."""

    @property
    def dead(self) -> bool:
        """Whether the group teaches nothing: every member (and step) got the same."""
        known = [steps for steps in self.steps if steps is not None]
        return is_dead(self.rewards) and all(steps == known[0] for steps in known)


def credit(groups: Sequence[Group], trainer: Trainer, config: LoopConfig) -> list[Row]:
    """Write advantages into the rows of all groups and return the rows that are trained on.

    GRPO: one advantage per trajectory, on every sampled token, or one per step where a reward is per step; groups
    without variance are left out. With total R_i of the trajectory terms and r_is of the step terms:

        joint      A_is = grpo over i' of (R_i' + r_i's)                       (all members read the same inputs)
        separate   A_is = grpo over i' of R_i'  +  grpo over i' of r_i's
        pooled     A_is = grpo over all i', s' of (R_i' + r_i's')              (arXiv 2509.25911's code)

    PPO: GAE from the critic's values, every scored trajectory.
    """
    if config.algo == "ppo":
        return _ppo(groups, trainer, config)
    rows: list[Row] = []
    for group in groups:
        if config.step_credit == "pooled" or any(steps is not None for steps in group.steps):
            rows += _by_step(group, config)
            continue
        if is_dead(group.rewards):
            continue
        advantages = grpo(group.rewards, config.ddof, config.eps, config.scale)
        for members, advantage in zip(group.rows, advantages, strict=True):
            place_trajectory(members, {row.trajectory_id: float(advantage) for row in members})
            rows += members
    return rows


def _by_step(group: Group, config: LoopConfig) -> list[Row]:
    """Rows whose advantage is 0 everywhere stay: they count in the denominators, and the trainer skips their
    computation. A group without any other is left out.
    """
    scored = [i for i, total in enumerate(group.rewards) if total is not None]
    given = [group.steps[i] for i in scored]
    sizes = [sum(len(row.step_indices) for row in group.rows[i]) for i in scored]
    steps = [[0.0] * n if parts is None else parts for parts, n in zip(given, sizes, strict=True)]
    totals = [group.rewards[i] or 0.0 for i in scored]
    shape: dict[str, Any] = {"ddof": config.ddof, "eps": config.eps, "scale": config.scale}
    if config.step_credit == "separate":
        places = [group.places[i] for i in scored] if group.places else None
        advantages = separate_steps(totals, steps, places, **shape)
    else:
        returns = [[total + step for step in parts] for total, parts in zip(totals, steps, strict=True)]
        advantages = (pooled_steps if config.step_credit == "pooled" else positional_steps)(returns, **shape)
    rows: list[Row] = []
    for i, values in zip(scored, advantages, strict=True):
        if not group.rows[i]:  # the trained role was never asked
            continue
        indices = sorted(index for row in group.rows[i] for index in row.step_indices)
        place_steps(group.rows[i], {group.rows[i][0].trajectory_id: dict(zip(indices, values.tolist(), strict=True))})
        rows += group.rows[i]
    if not any(np.any(row.advantages) for row in rows):
        return []
    return rows


def _ppo(groups: Sequence[Group], trainer: Trainer, config: LoopConfig) -> list[Row]:
    members = [
        (rows, total, steps)
        for group in groups
        for rows, total, steps in zip(group.rows, group.rewards, group.steps, strict=True)
        if rows and total is not None
    ]
    flat = [row for rows, _, _ in members for row in rows]
    for row, values in zip(flat, trainer.values(flat) if flat else [], strict=True):
        row.values = values
    for rows, total, steps in members:
        by_step = (
            {} if steps is None else dict(zip(sorted(i for r in rows for i in r.step_indices), steps, strict=True))
        )
        place_gae(rows, by_step, total or 0.0, config.gamma, config.lam)
    return flat
