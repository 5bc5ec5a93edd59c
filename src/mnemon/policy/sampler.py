"""Sampling a batch of replies from a Hugging Face causal language model: token ids in, token ids and log-probs out.

For a prompt x and a temperature τ > 0 the t-th token is drawn from

    p(y | x, y₁ … yₜ₋₁) = softmax(logits / τ),      logprob = log_softmax(logits / τ)[y]

by inverting the cumulative distribution at a uniform number that comes from the row's own generator. There is no
top-p, top-k or penalty, so the log-probabilities are those of the distribution sampled from, and a reply does not
depend on who else is in the batch (beyond float noise in the logits). τ = 0 takes the most likely token and reports
log-probabilities at τ = 1.

What makes a batch cheap: the first tokens that all prompts share are read once, equal prompts are read once, prompts
are read together with others of their length, the cache is written in place, and finished rows leave the batch. This
needs attention over the whole context computed by ``sdpa``; other models (sliding windows, linear attention, other
kernels) are sampled with the library's own cache and masks, and only lose the sharing and the grouping by length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from mnemon.types import MnemonError

PREFILL_TOKENS, PREFILL_TOKENS_CPU = 1 << 15, 1 << 10
"""Tokens read in one forward pass: many for an accelerator; few on a CPU, where similar lengths and caches matter."""
MASK_BUDGET = 1 << 28
"""Most entries of one forward pass's attention mask (rows x new tokens x length)."""
KEEP_ROWS = 0.8
"""Finished rows are dropped once no more than this share of the rows still runs."""

Prompt = tuple[int, ...]
Reply = tuple[list[int], list[float]]


class _Buffer(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, capacity, dim], written in place.

    `window` says which rows the next forward pass is about, `length` how many columns are filled; `update` writes
    behind them and returns views of these rows.
    """

    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows, self.capacity, self.length = rows, capacity, 0
        self.window = slice(None)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = self._room(key_states), self._room(value_states)
        self.is_initialized = True

    def _room(self, states: Tensor) -> Tensor:
        """Zeros, because columns of padding are never written, and 0 x NaN would be NaN; in the precision in which
        attention reads them, so that autocast does not cast the whole cache at every token.
        """
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        return states.new_zeros((self.rows, states.shape[1], self.capacity, states.shape[3]), dtype=dtype)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[self.window, :, start : self.length] = key_states
        self.values[self.window, :, start : self.length] = value_states
        return self.keys[self.window, :, : self.length], self.values[self.window, :, : self.length]

    def share(self, columns: int) -> None:
        """Give every row the first columns of row 0."""
        self.keys[1:, :, :columns] = self.keys[:1, :, :columns]
        self.values[1:, :, :columns] = self.values[:1, :, :columns]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.keys, self.values = self.keys.index_select(0, beam_idx), self.values.index_select(0, beam_idx)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


def full_attention(model: Any) -> bool:
    """Whether every layer attends to the whole context through ``sdpa``, so that masks and cache can be ours."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    sliding = not kinds and getattr(config, "sliding_window", None) is not None
    return kinds <= {"full_attention"} and not sliding and config._attn_implementation == "sdpa"


def device_of(model: Any) -> torch.device:
    """Where the model's weights are."""
    device: torch.device = next(model.parameters()).device
    return device


def uniforms(seeds: Sequence[int], limits: Sequence[int]) -> Tensor:
    """Uniform numbers [B, max(limits)] in [0, 1); row b comes from a generator seeded with seeds[b] alone."""
    out = torch.zeros((len(seeds), max(limits)), dtype=torch.float64)
    generator = torch.Generator()
    for row, seed, limit in zip(out, seeds, limits, strict=True):
        generator.manual_seed(seed)
        row[:limit].uniform_(generator=generator)
    return out


def invert(logp: Tensor, uniform: Tensor) -> Tensor:
    """The token [R] at which the cumulative distribution of `logp` [R, V] passes `uniform` [R] in [0, 1)."""
    total = logp.exp().cumsum(-1, dtype=torch.float64)
    point = uniform[:, None] * total[:, -1:]
    return torch.searchsorted(total, point, right=True)[:, 0].clamp(max=logp.shape[-1] - 1)


def shared_prefix(prompts: Sequence[Prompt]) -> int:
    """How many first tokens all prompts have in common, leaving each at least one of its own."""
    low, high = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


def _forward(model: Any, cache: Any, ids: Tensor, positions: Tensor | None, mask: Tensor | None) -> Tensor:
    """Logits [rows, V] behind the last of `ids` [rows, n], whose keys and values join the cache."""
    before = cache.get_seq_length()
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    if cache.get_seq_length() != before + ids.shape[1]:
        raise MnemonError(f"{type(model).__name__} does not use the key-value cache it is given: it cannot be sampled")
    logits: Tensor = out.logits[:, -1]
    return logits


def _left_padded(prompts: Sequence[Prompt], skip: int, device: torch.device) -> Tensor:
    """The prompts behind their first `skip` tokens as ids [rows, width], padded on the left (any id: it is masked)."""
    width = max(map(len, prompts)) - skip
    return torch.tensor([[0] * (width + skip - len(p)) + list(p[skip:]) for p in prompts], device=device)


def _chunks(lengths: list[int], shared: int, tokens: int) -> list[slice]:
    """Rows (sorted by length) read in one forward pass: similar lengths, bounded tokens and mask."""
    chunks, start = [], 0
    for row, length in enumerate(lengths):
        size = (row + 1 - start) * (length - shared)
        if row > start and (size > tokens or size * lengths[-1] > MASK_BUDGET):
            chunks.append(slice(start, row))
            start = row
    return [*chunks, slice(start, len(lengths))]


def _point(layers: Sequence[_Buffer], rows: slice, column: int) -> None:
    """Point the next forward pass at these rows and this column of the cache."""
    for layer in layers:
        layer.window, layer.length = rows, column


def prefill(model: Any, prompts: Sequence[Prompt], new: int) -> tuple[Any, Tensor, Tensor | None]:
    """Read prompts that all differ, sorted by length, leaving room for `new` tokens.

    The columns of the cache are [shared first tokens | padding | rest of the prompt | room]. Returns the cache, the
    last logits [U, V], and the mask [U, capacity] of its columns: additive, None where nothing is padded (boolean for
    a model that makes its own masks).
    """
    device, lengths = device_of(model), [len(p) for p in prompts]
    longest = lengths[-1]
    length = torch.tensor(lengths, device=device)[:, None]  # [U, 1]
    shared = shared_prefix(prompts) if len(prompts) > 1 and full_attention(model) else 0
    column = torch.arange(longest + new, device=device)
    valid = (column < shared) | (column >= longest + shared - length)  # [U, capacity]
    if not full_attention(model):
        cache: Any = DynamicCache(config=model.config)
        positions = (column[:longest] - (longest - length)).clamp(min=0)
        return cache, _forward(model, cache, _left_padded(prompts, 0, device), positions, valid[:, :longest]), valid
    layers = [_Buffer(len(prompts), longest + new) for _ in range(model.config.get_text_config().num_hidden_layers)]
    cache = Cache(layers=list(layers))
    if shared:
        _point(layers, slice(0, 1), 0)
        _forward(model, cache, torch.tensor([prompts[0][:shared]], device=device), None, None)
        for layer in layers:
            layer.share(shared)
    bias = torch.zeros(valid.shape, device=device, dtype=model.dtype).masked_fill_(~valid, -torch.inf)
    logits = []
    for rows in _chunks(lengths, shared, PREFILL_TOKENS_CPU if device.type == "cpu" else PREFILL_TOKENS):
        width = lengths[rows.stop - 1] - shared
        start = longest - width
        positions = (column[:width] + length[rows] - width).clamp(min=0)
        mask = bias[rows, None, :longest].repeat(1, width, 1)
        mask[:, :, start:] += torch.full((width, width), -torch.inf, device=device, dtype=bias.dtype).triu_(1)
        mask.diagonal(start, 1, 2).zero_()  # padding sees itself, so that no softmax is empty
        causal = shared == 0 and lengths[rows.start] == longest
        _point(layers, rows, start)
        ids = _left_padded(prompts[rows], shared, device)
        logits.append(_forward(model, cache, ids, positions, None if causal else mask[:, None]))
    _point(layers, slice(None), longest)
    return cache, torch.cat(logits), None if lengths[0] == longest else bias


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    seeds: Sequence[int],
    limits: Sequence[int],
    stop_ids: Collection[int],
    temperature: float = 1.0,
) -> list[Reply]:
    """For each prompt its sampled ids [T] (the stop token included) and their log-probabilities [T].

    A reply ends with one of `stop_ids` or after limits[b] tokens. Call it without gradients and in evaluation mode.
    """
    device, new, own_masks = device_of(model), max(limits), full_attention(model)
    unique = sorted({tuple(p) for p in prompts}, key=lambda p: (len(p), p))
    place = {p: i for i, p in enumerate(unique)}
    places = [place[tuple(p)] for p in prompts]
    order = sorted(range(len(prompts)), key=places.__getitem__)
    rows = torch.tensor(order, device=device)  # [R] the requests that are in the batch
    copies = torch.tensor([places[i] for i in order], device=device)
    positions = torch.tensor([len(prompts[i]) for i in order], device=device)
    cache, logits, mask = prefill(model, unique, new)
    if len(unique) < len(prompts):
        cache.reorder_cache(copies)
        logits, mask = logits[copies], None if mask is None else mask[copies]
    length = cache.get_seq_length()
    uniform = uniforms(seeds, limits).to(device) if temperature else None
    stops = torch.tensor(sorted(stop_ids), device=device, dtype=torch.long)
    count = torch.tensor(limits, device=device)  # [B] tokens of each reply, lowered when a stop token ends it
    tokens = torch.zeros((len(prompts), new), dtype=torch.long, device=device)
    logprobs = torch.zeros((len(prompts), new), device=device)
    running = torch.ones(len(prompts), dtype=torch.bool, device=device)  # [R]
    for step in range(new):
        logp = torch.log_softmax(logits.float() / (temperature or 1.0), -1)  # [R, V]
        token = logp.argmax(-1) if uniform is None else invert(logp, uniform[rows, step])
        tokens[rows, step] = token
        logprobs[rows, step] = logp.gather(-1, token[:, None])[:, 0]
        ended = running & (torch.isin(token, stops) | (count[rows] == step + 1))
        count[rows[ended]] = step + 1
        running &= ~ended
        alive = int(running.sum())
        if alive == 0:
            break
        if alive <= KEEP_ROWS * len(running):
            keep = running.nonzero()[:, 0]
            cache.reorder_cache(keep)
            rows, running, token, positions = rows[keep], running[keep], token[keep], positions[keep]
            mask = None if mask is None else mask[keep]
        seen = None if mask is None else mask[:, : length + step + 1]
        if seen is not None and own_masks:
            seen = seen[:, None, None]
        logits = _forward(model, cache, token[:, None], positions[:, None], seen)
        positions = positions + 1
    replies = zip(tokens.tolist(), logprobs.tolist(), count.tolist(), strict=True)
    return [(ids[:n], logps[:n]) for ids, logps, n in replies]
