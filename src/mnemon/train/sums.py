"""Sums of per-token quantities over micro-batches and processes, read once per update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mnemon.train.ranks import world


class Sums:
    """Keeps sums on the device until `total`, so that no micro-batch waits for the device."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.parts: dict[str, list[Tensor]] = {name: [torch.zeros((), device=device)] for name in names}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.parts[name].append(value.detach().sum())

    def total(self) -> dict[str, float]:
        """Sums over micro-batches and processes (a collective call)."""
        flat = torch.stack([torch.stack(part).double().sum() for part in self.parts.values()])
        if world()[1] > 1:
            torch.distributed.all_reduce(flat)
        return dict(zip(self.parts, flat.tolist(), strict=True))


def metrics(sums: Sums, norms: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Per-token means, and means over optimizer steps (loss and gradient norms)."""
    totals = sums.total()
    tokens, loss = totals.pop("tokens"), totals.pop("loss")
    out = {name: value / max(tokens, 1.0) for name, value in totals.items()}
    for name in norms[0]:
        out[name] = float(torch.stack([norm[name] for norm in norms]).mean())
    return out | {"loss": loss / len(norms), "tokens": tokens, "optimizer_steps": float(len(norms))}
