"""Dense ranking against cosines computed one by one, with a small deterministic embedder."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnemon.memory.dense import Dense
from mnemon.memory.retrieve import Hybrid, Lexical, rank
from mnemon.types import MnemonError


class HashEmbedder:
    """A unit vector per text, from its hash; counts its calls and texts."""

    def __init__(self, width: int = 8) -> None:
        self.id = f"hash-{width}"
        self.dim = width
        self.calls: list[int] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(len(texts))
        rows = []
        for text in texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            row = np.random.default_rng(seed).normal(size=self.dim)
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, dtype=np.float32)


changes_strategy = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove", "copy", "search"]), st.integers(0, 6), st.sampled_from("abcdef")
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(changes_strategy)
def test_equals_brute_force_after_any_changes(changes: list[tuple[str, int, str]]) -> None:
    embedder = HashEmbedder()
    indexes = [Dense(embedder).index(), Dense(embedder).index()]
    texts: list[dict[int, str]] = [{}, {}]
    now = 0
    for kind, i, text in changes:
        if kind == "add":
            indexes[now].add(i, text)
            texts[now][i] = text
        elif kind == "remove" and i in texts[now]:
            indexes[now].remove(i)
            del texts[now][i]
        elif kind == "copy":
            indexes[1 - now], texts[1 - now] = indexes[now].copy(), dict(texts[now])
            now = i % 2
        else:
            indexes[now].search("a", 1)
    query = embedder(["query"])[0]
    for index, documents in zip(indexes, texts, strict=True):
        cosine = {i: float(embedder([text])[0] @ query) for i, text in documents.items()}
        found = index.search("query", 99)
        assert len(index) == len(documents)
        assert dict(found) == pytest.approx({i: s for i, s in cosine.items() if s > 1e-6}, abs=2e-6)
        assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))  # equal texts tie, lower id first
        assert {i for i, _ in index.search("query", 99, all=True)} == set(documents)


def test_texts_are_embedded_once_and_together() -> None:
    embedder = HashEmbedder()
    index = Dense(embedder).index()
    for i in range(5):
        index.add(i, f"text {i}")
    assert embedder.calls == []
    index.search("q", 3)
    assert embedder.calls == [5, 1]
    other = index.copy()
    other.add(9, "new")
    other.search("q", 3)
    assert embedder.calls == [5, 1, 1, 1]
    assert index.search("q", 0) == []


def test_blank_texts_have_no_vector() -> None:
    embedder = HashEmbedder()
    index = Dense(embedder, document_prefix="passage: ").index()
    index.add(1, "rome")
    index.add(2, "  ")
    index.add(3, "was something")
    index.add(3, "")
    assert embedder.calls == []
    other = index.copy()
    other.remove(2)
    assert index.search(" ", 9) == []
    assert index.search("", 9, all=True) == [(1, 0.0), (2, 0.0), (3, 0.0)]
    assert {i for i, _ in other.search("q", 9, all=True)} == {1, 3}
    assert len(other) == 2


def test_prefixes_belong_to_the_id_and_to_the_texts() -> None:
    embedder = HashEmbedder()
    plain, prefixed = Dense(embedder), Dense(embedder, query_prefix="query: ", document_prefix="passage: ")
    assert plain.id != prefixed.id
    assert rank(prefixed, "passage: x", ["x"], 1) != rank(plain, "x", ["x"], 1)
    assert rank(Dense(embedder, query_prefix="d", document_prefix="d"), "x", ["x"], 1) == [(0, 1.0)]


def test_hybrid_with_lexical() -> None:
    fused = Hybrid((Lexical(), Dense(HashEmbedder())))
    assert rank(fused, "rome", ["paris", "rome"], 1)[0] == (1, pytest.approx(2 / 61))
    assert "hash-8" in fused.id
    assert "lexical" in fused.id


def test_broken_embedders_are_named() -> None:
    class Zero(HashEmbedder):
        def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.zeros((len(texts), 4), dtype=np.float32)

    class Short(HashEmbedder):
        def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return super().__call__(texts)[:-1]

    with pytest.raises(MnemonError, match="not of length 1"):
        rank(Dense(Zero()), "q", ["a"], 1)
    with pytest.raises(MnemonError, match=r"shape \(1, 8\) for 2 texts"):
        rank(Dense(Short()), "q", ["a", "b"], 1)
    embedder = HashEmbedder()
    index = Dense(embedder).index()
    index.add(1, "a")
    index.search("q", 1)
    embedder.dim = 4
    index.add(2, "b")
    with pytest.raises(MnemonError, match="4 numbers per text, before 8"):
        index.search("q", 1)
