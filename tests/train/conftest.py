"""A model of a few thousand parameters, and rows made by hand or at random."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemon.train.batch import Row
from mnemon.train.trainer import Trainer

VOCAB = 29


def build_lm(seed: int = 0, layers: int = 2) -> nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=24,
        tie_word_embeddings=True,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return Qwen3ForCausalLM(config).eval()


def build_row(trajectory: str, mask: Sequence[int], seed: int = 0, context: int = 0) -> Row:
    """A row with random ids, old log-probs and advantages; one step per run of 1s."""
    rng = np.random.default_rng(seed)
    flags = np.array(mask, dtype=np.uint8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags, [0]])))
    spans = tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))
    size = len(flags)
    return Row(
        task_id=trajectory.split("#")[0],
        trajectory_id=trajectory,
        input_ids=rng.integers(0, VOCAB, size),
        loss_mask=flags,
        old_logprobs=(-3.4 + 0.2 * rng.normal(size=size)).astype(np.float32) * flags,
        advantages=rng.normal(size=size).astype(np.float32) * flags,
        context_index=context,
        step_indices=tuple(range(len(spans))),
        spans=spans,
        finishes=("stop",) * len(spans),
    )


def build_rows(trajectories: int = 6, seed: int = 0) -> list[Row]:
    """Trajectories of 1–3 rows of various lengths; some rows hold two steps."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(trajectories):
        for context in range(int(rng.integers(1, 4))):
            mask = [0] * int(rng.integers(2, 6)) + [1] * int(rng.integers(1, 7))
            if rng.random() < 0.5:
                mask += [0] * int(rng.integers(1, 3)) + [1] * int(rng.integers(1, 4))
            rows.append(build_row(f"t{t // 2}#{t % 2}", mask, seed=1000 * seed + 10 * t + context, context=context))
    return rows


def gradients_of(trainer: Trainer, rows: list[Row], method: str = "step") -> list[Tensor]:
    """The summed gradients of one update, caught before the optimizer uses them."""
    caught: list[Tensor] = []

    def catch(*_: Any) -> None:
        caught.extend(p.grad.clone() for p in trainer.parameters if p.grad is not None)

    handle = trainer.optimizer.register_step_pre_hook(catch)
    getattr(trainer, method)(rows)
    handle.remove()
    return caught


def assert_close(a: list[Tensor], b: list[Tensor], rtol: float = 1e-5) -> None:
    """Equal up to rtol of the largest entry of all."""
    assert len(a) == len(b) > 0
    scale = max(float(x.abs().max()) for x in b)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=rtol * scale)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lm() -> Callable[..., nn.Module]:
    return build_lm


@pytest.fixture
def row() -> Callable[..., Row]:
    return build_row


@pytest.fixture
def rows() -> list[Row]:
    return build_rows()


@pytest.fixture
def gradients() -> Callable[..., list[Tensor]]:
    return gradients_of


@pytest.fixture
def close() -> Callable[..., None]:
    return assert_close


os.environ.setdefault("OMP_NUM_THREADS", "1")
