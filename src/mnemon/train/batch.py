"""Training rows: from what the policy sampled to tensors. Ids are never re-tokenised, realigned or cut.

One `Row` is one context: one contiguous token sequence that the policy actually saw. A trajectory gives 1..n rows.
Two consecutive policy calls share a row if and only if the later prompt starts with the earlier prompt and its sampled
tokens; otherwise the context was edited and a new row starts. Padding happens last, when weights and advantages are
already written, so it cannot change any statistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnemon.algos.advantages import gae
from mnemon.types import Finish, MnemonError, Step, Trajectory

Ids = NDArray[np.int64]
Mask = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(slots=True)
class Row:
    """One context of one trajectory, as arrays over its T tokens.

    `task_id` is the group key (the dataset item), `trajectory_id` the member. `context_index` orders the rows of the
    trajectory; `step_indices` are the policy calls in it, numbered as in `ordered_steps`, and `spans` their sampled
    tokens as half-open ranges. `agent` is the role that sampled it, `stage` and `probe` place it in the task.
    `input_ids` [T] are prompt and sampled tokens exactly as sent and returned; `loss_mask` [T] is 1 on sampled tokens
    only (the sampled stop token included); `old_logprobs` [T] are the sampler's, after temperature, 0 where the mask
    is 0. `advantages` [T] and `weight` [T] are None until written; with weight None the trainer computes it by its
    mode. `policy_version` is (lowest, highest) that sampled it, `finishes` has one entry per step. `ref_logprobs`,
    `values` and `returns` [T] are optional. `fingerprint` names tokenizer, template and retrieval settings.
    """

    task_id: str
    trajectory_id: str
    input_ids: Ids
    loss_mask: Mask
    old_logprobs: Floats
    context_index: int = 0
    step_indices: tuple[int, ...] = (0,)
    spans: tuple[tuple[int, int], ...] = ()
    stage: str = ""
    agent: str = ""
    probe: str = ""
    advantages: Floats | None = None
    weight: Floats | None = None
    policy_version: tuple[int, int] = (0, 0)
    finishes: tuple[Finish, ...] = ("stop",)
    ref_logprobs: Floats | None = None
    values: Floats | None = None
    returns: Floats | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        """Fill `spans` from the mask when not given (one step: all sampled tokens) and check every shape."""
        t = len(self.input_ids)
        for name in ("loss_mask", "old_logprobs", "advantages", "weight", "ref_logprobs", "values", "returns"):
            array = getattr(self, name)
            if array is not None and np.shape(array) != (t,):
                raise MnemonError(
                    f"Row.{name} of {self.trajectory_id} has shape {np.shape(array)}, but input_ids has {t} tokens: "
                    f"give one value per token."
                )
        if t == 0 or self.loss_mask[0]:
            raise MnemonError(f"Row of {self.trajectory_id} must start with at least one prompt token (mask 0).")
        if not self.spans:
            sampled = np.flatnonzero(self.loss_mask)
            self.spans = ((int(sampled[0]), int(sampled[-1]) + 1),) if sampled.size else ()

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def finish(self) -> Finish:
        """How its last policy call ended."""
        return self.finishes[-1]

    @property
    def sampled(self) -> NDArray[np.intp]:
        """Positions [n] of the sampled tokens."""
        return np.flatnonzero(self.loss_mask)


# ── trajectory -> rows ───────────────────────────────────────────────────────────────────────────────────────────────


def ordered_steps(trajectory: Trajectory) -> list[Step]:
    """All policy calls: ``trajectory.steps``, then those in ``trajectory.answers[i].turn.steps``, in order.

    `Row.step_indices` count in this list, so an index below ``len(trajectory.steps)`` is that of ``trajectory.steps``.
    """
    return [*trajectory.steps, *(step for answer in trajectory.answers for step in answer.turn.steps)]


def rows_from_trajectory(trajectory: Trajectory, roles: Iterable[str], fingerprint: str = "") -> list[Row]:
    """The rows of the policy calls whose `Step.role` is in `roles` (those of frozen roles are never emitted).

    Raises:
        MnemonError: a trained call has no token ids or log-probs (its endpoint returns text only).
    """
    trained = set(roles)
    chosen = [(i, step) for i, step in enumerate(ordered_steps(trajectory)) if step.role in trained]
    return rows_from_steps(chosen, trajectory.task_id, trajectory.id, fingerprint)


def rows_from_steps(
    steps: Sequence[tuple[int, Step]], task_id: str, trajectory_id: str, fingerprint: str = ""
) -> list[Row]:
    """Rows of the given (index, step) pairs, in order. See `rows_from_trajectory`."""
    runs: list[list[tuple[int, Step]]] = []
    for index, step in steps:
        _check_tokens(step, index, trajectory_id)
        if runs and _extends(runs[-1][-1][1], step):
            runs[-1].append((index, step))
        else:
            runs.append([(index, step)])
    return [_row(run, k, task_id, trajectory_id, fingerprint) for k, run in enumerate(runs)]


def _check_tokens(step: Step, index: int, trajectory_id: str) -> None:
    completion = step.completion
    if not completion.prompt_ids or not completion.token_ids:
        raise MnemonError(
            f"Step {index} ({step.role}) of {trajectory_id} has no token ids, so it cannot be trained on: its endpoint "
            f"returned text only. Such an endpoint can evaluate and serve; train with a local model or with a server "
            f"that returns token ids and log-probs (vLLM)."
        )
    if len(completion.logprobs) != len(completion.token_ids):
        raise MnemonError(
            f"Step {index} ({step.role}) of {trajectory_id} has {len(completion.token_ids)} sampled tokens but "
            f"{len(completion.logprobs)} log-probs: ask the endpoint for the log-prob of every sampled token."
        )


def _extends(before: Step, after: Step) -> bool:
    """True iff the later prompt starts with the earlier prompt and its sampled tokens, id for id."""
    if before.role != after.role or before.probe != after.probe:
        return False
    p, s = before.completion.prompt_ids, before.completion.token_ids
    q = after.completion.prompt_ids
    return len(q) >= len(p) + len(s) and q[: len(p)] == p and q[len(p) : len(p) + len(s)] == s


def _row(
    run: Sequence[tuple[int, Step]], context_index: int, task_id: str, trajectory_id: str, fingerprint: str
) -> Row:
    """Ids, mask and log-probs of one context, built in one loop."""
    ids: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    spans: list[tuple[int, int]] = []
    for _, step in run:
        completion = step.completion
        glue = completion.prompt_ids[len(ids) :]
        n = len(completion.token_ids)
        ids += [*glue, *completion.token_ids]
        mask += [0] * len(glue) + [1] * n
        logprobs += [0.0] * len(glue) + [float(x) for x in completion.logprobs]
        spans.append((len(ids) - n, len(ids)))
    versions = [step.completion.policy_version for _, step in run]
    first = run[0][1]
    return Row(
        task_id=task_id,
        trajectory_id=trajectory_id,
        input_ids=np.array(ids, dtype=np.int64),
        loss_mask=np.array(mask, dtype=np.uint8),
        old_logprobs=np.array(logprobs, dtype=np.float32),
        context_index=context_index,
        step_indices=tuple(index for index, _ in run),
        spans=tuple(spans),
        stage=str(first.stage),
        agent=first.role,
        probe=first.probe,
        policy_version=(min(versions), max(versions)),
        finishes=tuple(step.completion.finish for _, step in run),
        fingerprint=fingerprint,
    )


# ── writing credit into rows ─────────────────────────────────────────────────────────────────────────────────────────


def place_trajectory(rows: Sequence[Row], advantage: Mapping[str, float]) -> None:
    """Copy each trajectory's advantage to every sampled token of all its rows (keys: trajectory ids)."""
    for row in rows:
        row.advantages = (row.loss_mask != 0).astype(np.float32) * np.float32(advantage[row.trajectory_id])


def place_steps(rows: Sequence[Row], advantage: Mapping[str, Sequence[float] | Mapping[int, float]]) -> None:
    """Copy each step's advantage to its sampled tokens: ``advantage[trajectory_id][step_index]``."""
    for row in rows:
        row.advantages = np.zeros(len(row), dtype=np.float32)
        for index, (start, stop) in zip(row.step_indices, row.spans, strict=True):
            row.advantages[start:stop] = advantage[row.trajectory_id][index]


def place_gae(
    rows: Sequence[Row], step_rewards: Mapping[int, float], terminal: float, gamma: float = 1.0, lam: float = 1.0
) -> None:
    """GAE over one trajectory, across its contexts; writes `advantages` and `returns`.

    The sequence is every sampled token in order. A step's reward sits on its last token, `terminal` on the last sampled
    token of the trajectory. Every row needs `values` (see `Trainer.values`).
    """
    ordered = sorted(rows, key=lambda row: row.context_index)
    if len({row.trajectory_id for row in ordered}) > 1:
        raise MnemonError("place_gae takes the rows of one trajectory: group the rows by trajectory_id first.")
    rewards, values = [], []
    for row in ordered:
        if row.values is None:
            raise MnemonError(f"Row of {row.trajectory_id} has no values: set row.values from Trainer.values first.")
        reward = np.zeros(len(row))
        for index, (_, stop) in zip(row.step_indices, row.spans, strict=True):
            reward[stop - 1] += step_rewards.get(index, 0.0)
        rewards.append(reward[row.sampled])
        values.append(row.values[row.sampled])
    if not ordered:
        return
    flat = np.concatenate(rewards)
    flat[-1:] += terminal
    advantages, returns = gae(flat, np.concatenate(values), gamma, lam)
    offset = 0
    for row in ordered:
        at = row.sampled
        row.advantages = np.zeros(len(row), dtype=np.float32)
        row.returns = np.zeros(len(row), dtype=np.float32)
        row.advantages[at] = advantages[offset : offset + at.size]
        row.returns[at] = returns[offset : offset + at.size]
        offset += at.size


def mask_truncated(rows: Sequence[Row]) -> int:
    """Set the weight of calls that hit the length limit to 0; advantages and denominators stay as they are.

    Weights must be written before (see `mnemon.algos.losses.weights`). Returns the number of calls masked.
    """
    masked = 0
    for row in rows:
        if row.weight is None:
            raise MnemonError("mask_truncated needs row.weight: write losses.weights(rows, mode) into the rows first.")
        for finish, (start, stop) in zip(row.finishes, row.spans, strict=True):
            if finish == "length":
                row.weight[start:stop] = 0.0
                masked += 1
    return masked


# ── rows -> tensors ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Batch:
    """A right-padded micro-batch of B rows with N sampled tokens.

    Under causal attention no real token sees the padding on its right, so there is no attention mask. `input_ids`
    [B, T] leaves out each row's last token, which nothing is predicted from. `index` [N] points into the flattened
    [B·T] positions whose hidden state predicts `targets` [N]. `columns` are further values per sampled token [N].
    `live` is False for a batch that only keeps another process company.
    """

    input_ids: Tensor
    index: Tensor
    targets: Tensor
    columns: dict[str, Tensor]
    live: bool = True


COLUMNS = ("old_logprobs", "advantages", "ref_logprobs", "values", "returns")


def pad(
    rows: Sequence[Row],
    weights: Sequence[NDArray[Any]] | None = None,
    references: Sequence[Floats] | None = None,
    device: torch.device | str | None = None,
    live: bool = True,
) -> Batch:
    """Right-pad rows into one `Batch`.

    Columns are `COLUMNS` without those that any row lacks, "weight" from `weights`, and "ref_logprobs" from
    `references` where given ([T] per row).
    """
    sampled = [row.sampled for row in rows]
    width = max(max((int(at[-1]) for at in sampled if at.size), default=1), 1)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    for b, row in enumerate(rows):
        n = min(len(row), width)
        ids[b, :n] = row.input_ids[:n]
    index = np.concatenate([at - 1 + b * width for b, at in enumerate(sampled)])
    arrays: dict[str, Sequence[NDArray[Any] | None]] = {name: [getattr(r, name) for r in rows] for name in COLUMNS}
    if references is not None:
        arrays["ref_logprobs"] = references
    if weights is not None:
        arrays["weight"] = weights

    def tensor(per_row: Sequence[NDArray[Any]], dtype: type[np.generic]) -> Tensor:
        flat = np.concatenate([a[at] for a, at in zip(per_row, sampled, strict=True)]).astype(dtype)
        return torch.from_numpy(flat).to(device)

    columns = {}
    for name, per_row in arrays.items():
        present = [a for a in per_row if a is not None]
        if len(present) == len(rows):
            columns[name] = tensor(present, np.float32)
    return Batch(
        input_ids=torch.from_numpy(ids).to(device),
        index=torch.from_numpy(index).to(device),
        targets=tensor([row.input_ids for row in rows], np.int64),
        columns=columns,
        live=live,
    )


def micro_batches(rows: Sequence[Row], token_budget: int) -> list[list[int]]:
    """Indices of rows, sorted by length and cut so that B · longest ≤ token_budget (at least one row each)."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    out: list[list[int]] = []
    for i in order:
        if out and (len(out[-1]) + 1) * len(rows[i]) <= token_budget:
            out[-1].append(i)
        else:
            out.append([i])
    return out
