"""Several processes (torchrun): who trains what, and how gradients become those of one process.

Every process holds the same rows in the same order and computes the same weights; each then trains its own
trajectories, and gradients are summed. Since the loss is a weighted sum, the result is that of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mnemon.train.batch import Row
from mnemon.types import MnemonError

T = TypeVar("T")


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) outside torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_world(expected: int | None) -> int:
    """The number of processes, after checking it against the launcher's and the configured one.

    Some launchers silently start one process when several were asked for.
    """
    size = world()[1]
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != size:
        raise MnemonError(
            f"The launcher set WORLD_SIZE={launched}, but {size} process(es) joined: call "
            f"torch.distributed.init_process_group before making the trainer, or start without a launcher."
        )
    if expected is not None and expected != size:
        raise MnemonError(
            f"world_size={expected} was configured, but {size} process(es) run: start with "
            f"'torchrun --nproc_per_node {expected} ...' or change world_size."
        )
    return size


def shards(rows: Sequence[Row], size: int) -> list[list[int]]:
    """Indices of rows for each of `size` processes: whole trajectories, longest first, to the least loaded."""
    members: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(row.trajectory_id, []).append(i)
    cost = {key: sum(len(rows[i]) for i in indices) for key, indices in members.items()}
    out: list[list[int]] = [[] for _ in range(size)]
    load = [0] * size
    for key in sorted(members, key=lambda k: -cost[k]):
        rank = load.index(min(load))
        out[rank] += members[key]
        load[rank] += cost[key]
    return out


@torch.no_grad()
def fill_gradients(parameters: Sequence[Tensor], known: Iterable[Tensor]) -> list[Tensor]:
    """Give zeros to parameters without a gradient that were trained before (`known`) or have one on another process.

    So processes, and batches in which nothing had to be computed, behave alike. Returns the parameters that have one.
    """
    trained = {id(p) for p in known}
    has = torch.tensor([p.grad is not None or id(p) in trained for p in parameters], dtype=torch.float32)
    if world()[1] > 1 and parameters:
        has = has.to(parameters[0].device)
        dist.all_reduce(has, op=dist.ReduceOp.MAX)
    chosen = [p for p, flag in zip(parameters, has.tolist(), strict=True) if flag]
    for p in chosen:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    return chosen


@torch.no_grad()
def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Sum gradients over processes, in place."""
    if world()[1] == 1 or not parameters:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    for p, piece in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        assert p.grad is not None
        p.grad.copy_(piece.view_as(p))


@torch.no_grad()
def broadcast_parameters(module: nn.Module) -> None:
    """Give every process the parameters and buffers of rank 0."""
    if world()[1] > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.data, src=0)


def gather(items: Sequence[T]) -> list[T]:
    """All processes' items in rank order, on every process (rows of rollouts that were split over processes)."""
    size = world()[1]
    if size == 1:
        return list(items)
    out: list[list[T] | None] = [None] * size
    dist.all_gather_object(out, list(items))
    return [item for part in out for item in part or []]


def barrier() -> None:
    """Wait for every process."""
    if world()[1] > 1:
        dist.barrier()
