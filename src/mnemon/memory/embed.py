"""Embedders: texts to unit vectors. An embedder that fails raises; it never returns a zero vector. No torch.

The model that runs in this process is `mnemon.policy.embed.LocalEmbedder`.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import httpx2
import numpy as np
from numpy.typing import NDArray

from mnemon.endpoint import Endpoint, EndpointError, Usage, split_url
from mnemon.types import MnemonError

Vectors = NDArray[np.float32]


@runtime_checkable
class Embedder(Protocol):
    """``embed(texts) -> [n, dim]``: one L2-normalised float32 row per text, in the order given.

    `id` names the model and whatever else changes its vectors; it is recorded with every vector, and vectors of
    different ids are never compared. Blank texts and a bare string are refused with `MnemonError`.
    """

    @property
    def id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def __call__(self, texts: Sequence[str]) -> Vectors: ...


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; raises `MnemonError` for a bare string and for texts that say nothing."""
    if isinstance(texts, str):
        raise MnemonError("an embedder takes a list of texts, not one text: write embed([text])")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise MnemonError(f"text {index} to embed is {text!r}: it says nothing, so it has no vector; leave it out")
    return list(texts)


def normalise(vectors: Any, source: str) -> Vectors:
    """Rows [n, d] divided by their lengths; raises `EndpointError` for a row that is not finite or has no length."""
    try:
        rows = np.asarray(vectors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EndpointError(f"{source}: the embeddings are not rows of numbers of one length ({error})") from error
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise EndpointError(f"{source}: the embeddings have shape {rows.shape}, not [texts, dimensions]")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise EndpointError(f"{source}: the embedding of text {bad[0]} is zero or not finite")
    unit: Vectors = (rows / lengths).astype(np.float32)
    return unit


class HttpEmbedder:
    """``/v1/embeddings`` of an OpenAI-compatible server.

    base_url: with or without ``/v1``. model: the server's name for it, which is also `id`. batch: most texts per call.
    dimensions: asks the server for shorter vectors (models that know how); then part of `id`.
    api_key, timeout (seconds), retries, backoff, transport: as for `mnemon.policy.http.HttpPolicy`.
    Raises `EndpointError`.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        dimensions: int | None = None,
        batch: int = 64,
        timeout: float = 60.0,
        retries: int = 4,
        backoff: float = 0.5,
        transport: httpx2.MockTransport | None = None,
    ) -> None:
        if not model or batch < 1:
            raise MnemonError("HttpEmbedder needs the model's name (it is recorded with every vector) and batch >= 1")
        self.endpoint = Endpoint(base_url, api_key, timeout, retries, backoff=backoff, transport=transport)
        self.model = model
        self.dimensions = dimensions
        self.batch = batch
        self._dim = dimensions

    @classmethod
    def from_url(cls, url: str, **options: Any) -> HttpEmbedder:
        """One string for a command line: ``http://host:8000/v1#model-name``."""
        base, model = split_url(url)
        return cls(base, model or "", **options)

    @property
    def id(self) -> str:
        return self.model if self.dimensions is None else f"{self.model}:{self.dimensions}"

    @property
    def dim(self) -> int:
        """Dimensions of the vectors; asks the server once when nothing was embedded yet."""
        if self._dim is None:
            self(["dimension"])
        assert self._dim is not None
        return self._dim

    @property
    def usage(self) -> Usage:
        """Calls, retries, tokens and seconds so far."""
        return self.endpoint.usage

    def __call__(self, texts: Sequence[str]) -> Vectors:
        texts = check_texts(texts)
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        parts = [self._ask(texts[start : start + self.batch]) for start in range(0, len(texts), self.batch)]
        return np.concatenate(parts)

    def _ask(self, texts: list[str]) -> Vectors:
        body: dict[str, Any] = {"model": self.model, "input": texts}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        reply = self.endpoint.post_now("/embeddings", body)
        where = self.endpoint.address("/embeddings")
        data = reply.get("data")
        if not isinstance(data, list) or not all(isinstance(row, dict) and "embedding" in row for row in data):
            raise EndpointError(f"{where}: the reply holds no embeddings; does the server know {self.model!r}?", 200)
        rows = {row.get("index", i): row["embedding"] for i, row in enumerate(data)}
        if sorted(rows) != list(range(len(texts))):
            raise EndpointError(f"{where}: {len(data)} embeddings came back for {len(texts)} texts", 200)
        vectors = normalise([rows[i] for i in range(len(texts))], where)
        if self._dim is None:
            self._dim = vectors.shape[1]
        if vectors.shape[1] != self._dim:
            raise EndpointError(f"{where}: the vectors have {vectors.shape[1]} dimensions, not {self._dim}", 200)
        return vectors


class HashEmbedder:
    """A test double and a baseline: hashed character n-grams. Deterministic, any language, knows no meaning.

        v_j = 1[j = 0] + Σ over n-grams g of the text with slot(g) = j of sign(g) · √count(g),   embedding = v / ‖v‖

    slot(g) in 1 … dim − 1 and sign(g) come from a hash of g. The text is NFKC-normalised and case-folded, its white
    space joined, a space put before and after; n-grams have `sizes` characters. Component 0 keeps v from being zero.
    """

    def __init__(self, dim: int = 256, sizes: Sequence[int] = (2, 3)) -> None:
        if dim < 2 or not sizes or min(sizes) < 1:
            raise MnemonError("HashEmbedder: dim must be at least 2, and sizes at least one n-gram length >= 1")
        self._dim = dim
        self.sizes = tuple(sizes)

    @property
    def id(self) -> str:
        return f"hash-{self._dim}-{'.'.join(map(str, self.sizes))}"

    @property
    def dim(self) -> int:
        return self._dim

    def __call__(self, texts: Sequence[str]) -> Vectors:
        texts = check_texts(texts)
        rows = np.zeros((len(texts), self._dim), dtype=np.float64)
        rows[:, 0] = 1.0
        for row, text in zip(rows, texts, strict=True):
            padded = f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} "
            grams = Counter(padded[i : i + n] for n in self.sizes for i in range(len(padded) - n + 1))
            for gram, count in grams.items():
                code = _hash(gram)
                row[1 + (code >> 1) % (self._dim - 1)] += (1.0 if code & 1 else -1.0) * count**0.5
        return normalise(rows, self.id)


@lru_cache(maxsize=65536)
def _hash(gram: str) -> int:
    """64 bits, the same on every machine (`hash` is not)."""
    return int.from_bytes(hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class CachedEmbedder:
    """An embedder that remembers the vectors of the `size` texts used last. Safe to share between threads."""

    def __init__(self, embedder: Embedder, size: int = 10_000) -> None:
        if size < 1:
            raise MnemonError("CachedEmbedder: size must be at least 1")
        self.embedder = embedder
        self.size = size
        self.hits = 0
        self.misses = 0
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = Lock()

    @property
    def id(self) -> str:
        return self.embedder.id

    @property
    def dim(self) -> int:
        return self.embedder.dim

    def __call__(self, texts: Sequence[str]) -> Vectors:
        texts = check_texts(texts)
        if not texts:
            return self.embedder(texts)
        with self._lock:
            found = {text: self._vectors[text] for text in texts if text in self._vectors}
            for text in found:
                self._vectors.move_to_end(text)
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            found |= dict(zip(new, self.embedder(new), strict=True))
        with self._lock:
            self.hits += len(texts) - len(new)
            self.misses += len(new)
            for text in new:
                self._vectors[text] = found[text].copy()
            while len(self._vectors) > self.size:
                self._vectors.popitem(last=False)
        return np.stack([found[text] for text in texts])
