"""Forward passes that pay only for sampled tokens: log-probs, entropies and values at chosen positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 1 << 27
"""Largest [tokens, vocabulary] block of logits kept at once (512 MiB in float32); longer ones are recomputed backward."""


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


def token_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target]: [N, V], [N] -> [N], in float32."""
    return -nn.functional.cross_entropy(logits.float(), targets, reduction="none")


class Scorer(nn.Module):
    """Log-probs (and entropies) of given tokens under a causal language model.

    Where the model is a backbone and a plain output layer, the output layer runs on the sampled positions only.
    Whether that equals the model's own logits is checked once on a few tokens (some models scale or cap logits); else
    the full logits are computed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.fast = self._separable()

    @torch.no_grad()
    def _separable(self) -> bool:
        trunk, head = backbone(self.model), unwrap(self.model).get_output_embeddings()
        if trunk is None or head is None:
            return False
        device = head.weight.device
        training = self.model.training
        self.model.eval()
        ids = torch.arange(6, device=device).unsqueeze(0) % head.weight.shape[0]
        full = self.model(input_ids=ids, use_cache=False).logits
        short = head(trunk(input_ids=ids, use_cache=False).last_hidden_state)
        self.model.train(training)
        return full.shape == short.shape and torch.allclose(full, short, rtol=1e-4, atol=1e-5)

    def logits(self, input_ids: Tensor, index: Tensor) -> Tensor:
        """Logits [N, V] at the flattened positions `index` [N] of `input_ids` [B, T]."""
        if not self.fast:
            full: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
            return full.flatten(0, 1).index_select(0, index)
        hidden = self.hidden(input_ids, index)
        return self._head(hidden)

    def hidden(self, input_ids: Tensor, index: Tensor) -> Tensor:
        trunk = backbone(self.model)
        assert trunk is not None
        states: Tensor = trunk(input_ids=input_ids, use_cache=False).last_hidden_state
        return states.flatten(0, 1).index_select(0, index)

    def _head(self, hidden: Tensor) -> Tensor:
        out: Tensor = unwrap(self.model).get_output_embeddings()(hidden)
        return out

    def forward(
        self, input_ids: Tensor, index: Tensor, targets: Tensor, temperature: float = 1.0, want_entropy: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(log-probs [N], entropies [N] or None) of `targets` [N] at temperature, float32."""

        def score(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor | None]:
            logits = logits.float() if temperature == 1.0 else logits.float() / temperature
            if not want_entropy:
                return token_logprobs(logits, wanted), None
            log_p = torch.log_softmax(logits, dim=-1)
            picked = log_p.gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
            return picked, -(log_p.exp() * log_p).sum(-1)

        vocabulary = unwrap(self.model).get_output_embeddings()
        rows = CHUNK_ELEMENTS // int(vocabulary.weight.shape[0]) if vocabulary is not None else len(index)
        if not self.fast or len(index) <= rows:
            return score(self.logits(input_ids, index), targets)
        hidden = self.hidden(input_ids, index)
        parts = [
            checkpoint(lambda h, t: score(self._head(h), t), h, t, use_reentrant=False)
            for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
        ]
        entropies = torch.cat([p[1] for p in parts]) if want_entropy else None
        return torch.cat([p[0] for p in parts]), entropies


class Critic(nn.Module):
    """V(prefix): a backbone with a scalar head, started at 0; the value at a position precedes the token it predicts."""

    def __init__(self, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, index: Tensor) -> Tensor:
        """Values [N], float32."""
        states: Tensor = self.trunk(input_ids=input_ids, use_cache=False).last_hidden_state
        picked = states.flatten(0, 1).index_select(0, index)
        value: Tensor = self.head(picked.to(self.head.weight.dtype)).squeeze(-1)
        return value.float()
