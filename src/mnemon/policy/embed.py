"""A sentence-embedding model in this process (torch and transformers)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils.hub import cached_file

from mnemon.memory.embed import Vectors, check_texts
from mnemon.types import MnemonError

Pooling = Literal["mean", "cls"]


class LocalEmbedder:
    """A Hugging Face encoder as an embedder. Make one with `LocalEmbedder.load`.

        mean:  v = Σ_t mask_t · h_t / Σ_t mask_t        cls:  v = h_0        embedding = v / ‖v‖

    over the last hidden states h [T, d]. Texts longer than `max_tokens` are cut, and counted in `truncated`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, *, pooling: Pooling = "mean", max_tokens: int, batch: int = 32
    ) -> None:
        if tokenizer.pad_token_id is None:
            raise MnemonError(f"embedder {name}: its tokenizer has no padding token, so texts cannot be batched")
        tokenizer.padding_side = "right"
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.batch = batch
        self.truncated = 0
        self._id = f"{name}#{_digest(model, pooling, max_tokens)}"

    @classmethod
    def load(
        cls,
        path_or_hub: str | Path,
        *,
        revision: str | None = None,
        pooling: Pooling | None = None,
        max_tokens: int | None = None,
        batch: int = 32,
        device: str = "cpu",
    ) -> LocalEmbedder:
        """Load a model folder, or a model of the Hugging Face hub (``sentence-transformers/all-MiniLM-L6-v2``).

        pooling: None takes what the model's own ``1_Pooling/config.json`` says, else the mean. max_tokens: None takes
        the model's limit. Raises `MnemonError` when it cannot be loaded.
        """
        source = str(path_or_hub)
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            model = AutoModel.from_pretrained(source, revision=revision, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise MnemonError(
                f"embedder {source!r} cannot be loaded: {str(error).splitlines()[0]}. Give a folder with config.json, "
                "weights and tokenizer, or the name of a model on the hub (with network, or already downloaded)"
            ) from error
        limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None), max_tokens]
        return cls(
            model.to(device),
            tokenizer,
            Path(source).name,
            pooling=pooling or _own_pooling(source, revision),
            max_tokens=min(limit for limit in limits if limit),
            batch=batch,
        )

    @property
    def id(self) -> str:
        """The model's name and a digest of its weights and settings: two models of one name never mix."""
        return self._id

    @property
    def dim(self) -> int:
        return int(self.model.config.hidden_size)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Vectors:
        texts = check_texts(texts)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # less padding
        for start in range(0, len(texts), self.batch):
            chosen = by_length[start : start + self.batch]
            vectors[chosen] = self._encode([texts[i] for i in chosen])
        return vectors

    def _encode(self, texts: list[str]) -> Vectors:
        lengths = [len(ids) for ids in self.tokenizer(texts)["input_ids"]]
        self.truncated += sum(length > self.max_tokens for length in lengths)
        inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        hidden_NTD = self.model(**inputs).last_hidden_state
        if self.pooling == "cls":
            pooled_ND = hidden_NTD[:, 0]
        else:
            mask_NT1 = inputs["attention_mask"].unsqueeze(-1).to(hidden_NTD.dtype)
            pooled_ND = (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1)
        lengths_N1 = pooled_ND.norm(dim=1, keepdim=True)
        if not bool(torch.isfinite(lengths_N1).all()) or bool((lengths_N1 == 0).any()):
            raise MnemonError(f"embedder {self.id}: a vector is zero or not finite; are its weights intact?")
        vectors: Vectors = (pooled_ND / lengths_N1).float().cpu().numpy()
        return vectors


def _own_pooling(source: str, revision: str | None) -> Pooling:
    """What a sentence-transformers model says about itself; the mean where it says nothing."""
    file = cached_file(
        source,
        "1_Pooling/config.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if file is None:
        return "mean"
    config = json.loads(Path(file).read_text())
    modes = [
        name.removeprefix("pooling_mode_") for name, on in config.items() if on is True and "pooling_mode_" in name
    ]
    if isinstance(config.get("pooling_mode"), str):
        modes = [config["pooling_mode"]]
    known: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}
    if len(modes) != 1 or modes[0] not in known:
        raise MnemonError(f"embedder {source!r} pools by {modes or config}; only mean and cls are known here")
    return known[modes[0]]


def _digest(model: torch.nn.Module, pooling: str, max_tokens: int) -> str:
    """16 hex digits of the weights and the settings that change vectors."""
    digest = hashlib.blake2b(f"{pooling} {max_tokens}".encode(), digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
