"""The start of the stream's tiny model: attention that finds where *two* neighbouring words stood before.

A memory of many entries is recited word by word; one word ("Oslo") occurs in several of them, two neighbouring words
("Ben Oslo") hardly ever. `pair_init` therefore extends `mnemon.policy.tiny.induction_init`: it is an initialisation
only, every weight is trained.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def _orthogonal(size: int, generator: torch.Generator) -> Tensor:
    q: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return q


@torch.no_grad()
def pair_init(model: Any, seed: int = 0, copy: float = 0.6, second: float = 1.4) -> None:
    """First layer: half of the heads look one word back, half two. Last layer: half match one word, half both.

    First layer, position i: as in `induction_init`, with rotary frequencies ω_f and keys turned ahead by n·ω_f, the
    score of position j is Σ_f cos(ω_f (i − j − n)), largest at j = i − n. Values and outputs copy a random half of that
    word's coordinates into a place of their own: h_i = x_i + R₁ x_{i−1} + R₂ x_{i−2}. Last layer: queries read x_i (and
    R₁ᵀh_i = x_{i−1}), keys R₁ᵀh_j = x_{j−1} (and R₂ᵀh_j = x_{j−2}), so that i attends to what followed earlier.
    Coordinate 0 of the embeddings is their constant one.
    """
    generator = torch.Generator().manual_seed(seed + 77)
    config = model.config
    width, heads, dim = config.hidden_size, config.num_attention_heads, config.head_dim
    half, near = dim // 2, heads // 2
    frequencies = 10000.0 ** (-torch.arange(half) / half)
    places = [_orthogonal(width, generator), _orthogonal(width, generator)]  # R₁, R₂
    first, last = model.model.layers[0].self_attn, model.model.layers[-1].self_attn
    noise = 0.02
    for projection in (first.q_proj, first.k_proj):
        projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator) * noise * 0.25)
    first.v_proj.weight.zero_()
    first.o_proj.weight.zero_()
    for back, group in ((1, range(near)), (2, range(near, heads))):
        for head in group:
            for f in range(3):  # the three highest frequencies; a pair is (f, f + half)
                angle = float(frequencies[f]) * back
                first.q_proj.weight[head * dim + f, 0] = 1.0
                first.k_proj.weight[head * dim + f, 0] = math.cos(angle)
                first.k_proj.weight[head * dim + f + half, 0] = math.sin(angle)
        rows = torch.cat([torch.arange(head * dim, (head + 1) * dim) for head in group])
        reading = _orthogonal(width, generator)[: len(rows)]
        values = reading.clone()
        values[:, 0] = 0.0
        first.v_proj.weight[rows] = copy * values
        first.o_proj.weight[:, rows] = copy * places[back - 1] @ reading.T
    low = torch.cat([torch.arange(4, half), torch.arange(4, half) + half])  # slow pairs: content, not position
    queries = torch.randn(heads * dim, width, generator=generator) * noise
    keys = torch.randn(heads * dim, width, generator=generator) * noise
    for head in range(heads):
        reading = _orthogonal(width, generator)[: len(low)]
        reading[:, 0] = 0.0
        one = len(low) if head < near else len(low) // 2
        at, more = head * dim + low[:one], head * dim + low[one:]
        queries[at], keys[at] = reading[:one], reading[:one] @ places[0].T
        queries[more] = second * reading[one:] @ places[0].T
        keys[more] = second * reading[one:] @ places[1].T
    last.q_proj.weight.copy_(queries)
    last.k_proj.weight.copy_(keys)
