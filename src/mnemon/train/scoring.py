"""Forward passes that pay only for sampled tokens: log-probs, entropies and values at chosen positions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mnemon.algos.losses import entropy, token_logprobs

CHUNK_ELEMENTS = 1 << 27
"""Largest [tokens, vocabulary] block of logits kept at once (512 MiB in float32); larger ones are recomputed."""


def unwrap(model: nn.Module) -> Any:
    """The transformers model inside a PEFT wrapper (its layers carry the adapters), or the model itself."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if callable(get_base) else model


def backbone(model: nn.Module) -> nn.Module | None:
    """The part that ends in hidden states, or None when the model has no separable one."""
    inner = unwrap(model)
    name = getattr(inner, "base_model_prefix", "")
    trunk = getattr(inner, name, None) if name else None
    return trunk if isinstance(trunk, nn.Module) and trunk is not inner else None


def _tail(trunk: nn.Module) -> list[nn.Module]:
    """Modules of the last layer whose output at one position depends on their input at that position only."""
    layers = getattr(trunk, "layers", None)
    last = layers[-1] if isinstance(layers, nn.ModuleList) and len(layers) else None
    attention = getattr(last, "self_attn", None)
    parts = [getattr(attention, "q_proj", None), getattr(attention, "o_proj", None), getattr(last, "mlp", None)]
    return [part for part in parts if isinstance(part, nn.Module)]


def _only_at(forward: Callable[[Tensor], Any], index: Tensor) -> Callable[[Tensor], Any]:
    """`forward` computed at the flattened positions `index` [N] of [B, T, d], 0 elsewhere."""

    def sparse(x: Tensor) -> Any:
        y = forward(x.flatten(0, 1).index_select(0, index).unsqueeze(0))
        if not isinstance(y, Tensor):  # a mixture of experts that also returns its routing: compute it everywhere
            return forward(x)
        out = y.new_zeros((x.shape[0] * x.shape[1], y.shape[-1]))
        return out.index_copy(0, index, y.squeeze(0)).view(*x.shape[:2], -1)

    return sparse


@contextlib.contextmanager
def sparse_tail(trunk: nn.Module, index: Tensor) -> Iterator[None]:
    """Inside, the last layer's position-wise modules skip positions that nothing will be read from.

    Exact at the positions `index`: what a last layer computes elsewhere reaches no output but its own. Keys and values
    are computed everywhere. Worth a tenth of the time in a model of two layers, nothing in one of forty.
    """
    parts = _tail(trunk)
    for part in parts:
        part.forward = _only_at(part.forward, index)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


class Scorer(nn.Module):
    """Log-probs (and entropies) of given tokens under a causal language model.

    Where the model is a backbone and a plain output layer, the output layer runs on the sampled positions only, and so
    does most of a small model's last layer. Whether that equals the model's own logits is checked once on a few tokens
    (some models scale or cap logits, some mix positions); else the full logits are computed. ``sparse=False`` computes
    the whole last layer: gradient checkpointing runs layers again in the backward pass, where the positions are gone.
    """

    def __init__(self, model: nn.Module, sparse: bool = True) -> None:
        super().__init__()
        self.model = model
        self.fast, self.sparse = False, False
        trunk, head = backbone(model), unwrap(model).get_output_embeddings()
        if trunk is not None and head is not None:
            self.fast = self._equal(trunk, head, sparse=False)
            few_layers = len(getattr(trunk, "layers", ())) <= 8
            self.sparse = sparse and self.fast and few_layers and self._equal(trunk, head, sparse=True)

    @torch.no_grad()
    def _equal(self, trunk: nn.Module, head: nn.Module, sparse: bool) -> bool:
        """Whether the short way gives the model's own logits, on two rows of six tokens."""
        device, training = next(self.model.parameters()).device, self.model.training
        self.model.eval()
        size = unwrap(self.model).get_input_embeddings().weight.shape[0]
        ids = (torch.arange(12, device=device) * 7 % size).view(2, 6)
        index = torch.tensor([1, 2, 5, 6, 9, 11], device=device)
        full = self.model(input_ids=ids, use_cache=False).logits.flatten(0, 1)[index]
        with sparse_tail(trunk, index) if sparse else contextlib.nullcontext():
            states = trunk(input_ids=ids, use_cache=False).last_hidden_state
        short = head(states.flatten(0, 1)[index])
        self.model.train(training)
        tolerance = 1e-5 if full.dtype == torch.float32 else 1e-2
        return full.shape == short.shape and torch.allclose(full, short, rtol=tolerance * 10, atol=tolerance)

    def hidden(self, input_ids: Tensor, index: Tensor) -> Tensor:
        """Last hidden states [N, d] at the flattened positions `index` [N] of `input_ids` [B, T]."""
        trunk = backbone(self.model)
        assert trunk is not None
        with sparse_tail(trunk, index) if self.sparse else contextlib.nullcontext():
            states: Tensor = trunk(input_ids=input_ids, use_cache=False).last_hidden_state
        return states.flatten(0, 1).index_select(0, index)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, d]."""
        out: Tensor = unwrap(self.model).get_output_embeddings()(hidden)
        return out

    def forward(
        self, input_ids: Tensor, index: Tensor, targets: Tensor, temperature: float = 1.0, want_entropy: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(log-probs [N], entropies [N] or None) of `targets` [N] at temperature, float32."""
        if not self.fast:
            full: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
            return _score(full.flatten(0, 1).index_select(0, index), targets, temperature, want_entropy)
        hidden = self.hidden(input_ids, index)
        vocabulary = int(unwrap(self.model).get_output_embeddings().weight.shape[0])
        rows = max(CHUNK_ELEMENTS // vocabulary, 1)
        if len(index) <= rows:
            return _score(self.head(hidden), targets, temperature, want_entropy)

        def part(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
            return _score(self.head(h), t, temperature, want_entropy)

        parts = [
            checkpoint(part, h, t, use_reentrant=False)
            for h, t in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
        ]
        entropies = torch.cat([p[1] for p in parts]) if want_entropy else None
        return torch.cat([p[0] for p in parts]), entropies


def _score(logits: Tensor, targets: Tensor, temperature: float, want_entropy: bool) -> tuple[Tensor, Tensor | None]:
    """log softmax(logits / temperature)[target] [N], and the entropy [N] of that distribution where wanted."""
    logits = logits.float() if temperature == 1.0 else logits.float() / temperature
    if not want_entropy:
        return -nn.functional.cross_entropy(logits, targets, reduction="none"), None
    log_p = torch.log_softmax(logits, dim=-1)
    return token_logprobs(log_p, targets).clone(), entropy(log_p)  # no view: FSDP hooks need an output of its own
