"""Embedders: unit rows, ids, batches, failures that raise, and a cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.endpoint import EndpointError
from mnemon.memory.embed import CachedEmbedder, Embedder, HashEmbedder, HttpEmbedder, Vectors, normalise
from mnemon.types import MnemonError

SAYING = st.text(min_size=1).filter(lambda text: text.strip())


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MNEMON_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def rows(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [{"index": i, "embedding": [3.0 * len(text), 4.0 * len(text)]} for i, text in enumerate(texts)]


def serving(reply: Callable[[Sequence[str]], Any], **options: Any) -> tuple[HttpEmbedder, list[Any]]:
    seen: list[Any] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) | {"path": request.url.path}
        seen.append(body)
        answer = reply(body["input"])
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json={"data": answer})

    options = {"retries": 0, "backoff": 0.001} | options
    return HttpEmbedder("http://h", "m", transport=httpx2.MockTransport(handle), **options), seen


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_http_vectors_are_unit_rows_in_order() -> None:
    embed, seen = serving(lambda texts: rows(texts)[::-1])  # a server may answer in any order
    vectors = embed(["a", "bb", "ccc"])
    assert isinstance(embed, Embedder)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.6, 0.8]] * 3)
    assert seen == [{"path": "/v1/embeddings", "model": "m", "input": ["a", "bb", "ccc"]}]
    assert (embed.id, embed.dim) == ("m", 2)


def test_http_batches_keep_the_order() -> None:
    embed, seen = serving(lambda texts: [{"embedding": [float(text), 1.0]} for text in texts], batch=2)
    vectors = embed(["0", "1", "2", "3", "4"])
    assert [body["input"] for body in seen] == [["0", "1"], ["2", "3"], ["4"]]
    np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], [0, 1, 2, 3, 4], rtol=1e-6)


def test_http_dim_is_asked_once() -> None:
    embed, seen = serving(rows)
    assert embed([]).shape == (0, 2)
    assert embed.dim == 2
    assert len(seen) == 1


def test_http_dimensions_are_part_of_the_id() -> None:
    embed, seen = serving(rows, dimensions=2)
    assert (embed.id, embed.dim, seen) == ("m:2", 2, [])
    embed(["a"])
    assert seen[0]["dimensions"] == 2


def test_http_from_url() -> None:
    embed = HttpEmbedder.from_url("http://host:1/v1#BAAI/bge-m3", batch=3)
    assert (embed.id, embed.endpoint.url, embed.batch) == ("BAAI/bge-m3", "http://host:1/v1", 3)
    with pytest.raises(MnemonError, match="needs the model's name"):
        HttpEmbedder.from_url("http://host:1/v1")


def test_http_retries_then_succeeds() -> None:
    answers = [httpx2.Response(503), None]
    embed, seen = serving(lambda texts: answers.pop(0) or rows(texts), retries=1)
    assert embed(["a"]).shape == (1, 2)
    assert (len(seen), embed.usage.retries) == (2, 1)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (httpx2.Response(500), "500: the server failed"),
        (httpx2.Response(404, json={"error": "m?"}), "404"),
        (None, "holds no embeddings"),
        ([{"index": 0}, {"index": 1}], "holds no embeddings"),
        (rows(["a"]), "1 embeddings came back for 2 texts"),
        (rows(["a", "b", "c"]), "3 embeddings came back for 2 texts"),
        ([{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [1]}], "2 embeddings came back for 2"),
        ([{"embedding": [0.0, 0.0]}, {"embedding": [1.0, 0.0]}], "text 0 is zero or not finite"),
        ([{"embedding": [1.0, 0.0]}, {"embedding": [1.0, None]}], "not finite|not rows of numbers"),
        ([{"embedding": [1.0, 0.0]}, {"embedding": [1.0]}], "not rows of numbers of one length"),
        ([{"embedding": []}, {"embedding": []}], r"shape \(2, 0\)"),
        ([{"embedding": "AAAA"}, {"embedding": "AAAA"}], "not rows of numbers"),
    ],
)
def test_http_failures_raise_and_never_give_zeros(reply: Any, says: str) -> None:
    embed, _ = serving(lambda texts: reply)
    with pytest.raises(EndpointError, match=says):
        embed(["a", "b"])


def test_http_a_change_of_dimension_raises() -> None:
    sizes = iter([2, 3])
    embed, _ = serving(lambda texts: [{"embedding": [1.0] * next(sizes)}])
    embed(["a"])
    with pytest.raises(EndpointError, match="have 3 dimensions, not 2"):
        embed(["a"])


def test_normalise_refuses_nan() -> None:
    with pytest.raises(EndpointError, match="text 1 is zero or not finite"):
        normalise([[1.0, 0.0], [float("nan"), 1.0]], "here")


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

ALL = [HashEmbedder(), CachedEmbedder(HashEmbedder()), serving(rows)[0]]


@pytest.mark.parametrize("embed", ALL)
def test_texts_that_say_nothing_are_refused(embed: Embedder) -> None:
    for blank in ("", "  \n"):
        with pytest.raises(MnemonError, match="text 1 to embed"):
            embed(["a", blank])
    with pytest.raises(MnemonError, match="not one text"):
        embed("abc")
    assert embed([]).shape == (0, embed.dim)


# ── hashing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(SAYING, max_size=4), st.integers(2, 40))
def test_hash_rows_are_unit_and_independent_of_their_batch(texts: list[str], dim: int) -> None:
    embed = HashEmbedder(dim)
    vectors = embed(texts)
    assert vectors.shape == (len(texts), dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(embed([text])[0], vector)


def test_hash_counts_grams_as_defined() -> None:
    embed = HashEmbedder(dim=4096, sizes=(2,))  # wide: no two of these grams share a slot
    counts = Counter([" a", "ab", "ba", "ab", "b "])
    expected = sorted([1.0, *(count**0.5 for count in counts.values())])
    vector = embed(["abab"])[0].astype(float)
    found = np.sort(np.abs(vector[vector != 0]) / vector[0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_hash_knows_no_case_width_or_spacing() -> None:
    a, b = HashEmbedder()(["Anna  lives\nin ＯＳＬＯ", "anna lives in oslo"])
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("query", "near", "far"),
    [
        ("where does Anna live", "Anna lives in Oslo", "the cat eats fish"),
        ("安娜住在哪里", "安娜住在奥斯陆", "猫喜欢吃鱼"),
        ("アンナの住所", "アンナはオスロに住んでいる", "ねこはさかながすき"),
    ],
)
def test_hash_finds_what_shares_text(query: str, near: str, far: str) -> None:
    q, n, f = HashEmbedder()([query, near, far])
    assert q @ n > q @ f + 0.1


def test_hash_is_the_same_in_every_process() -> None:
    code = "from mnemon.memory.embed import HashEmbedder; print(HashEmbedder(8)(['Anna'])[0].tolist())"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": "1", "PYTHONPATH": "src"}, {"PYTHONHASHSEED": "2", "PYTHONPATH": "src"})
    }
    assert runs == {f"{HashEmbedder(8)(['Anna'])[0].tolist()}\n"}


def test_hash_ids_tell_settings_apart() -> None:
    assert len({HashEmbedder().id, HashEmbedder(8).id, HashEmbedder(sizes=(1,)).id, HashEmbedder(sizes=(1, 2)).id}) == 4
    for bad in ({"dim": 1}, {"sizes": ()}, {"sizes": (0,)}):
        with pytest.raises(MnemonError, match="HashEmbedder"):
            HashEmbedder(**bad)  # type: ignore[arg-type]


# ── the cache ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Spy:
    id, dim = "spy", 8

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(list(texts))
        return HashEmbedder(8)(texts)


def test_cache_asks_each_text_once_and_forgets_the_oldest() -> None:
    cached = CachedEmbedder(spy := Spy(), size=2)
    assert (cached.id, cached.dim) == ("spy", 8)
    np.testing.assert_array_equal(cached(["a", "b", "a"]), HashEmbedder(8)(["a", "b", "a"]))
    cached(["a"])  # a is now used later than b
    cached(["c"])  # b is forgotten
    cached(["a", "c"])
    cached(["b"])
    assert spy.asked == [["a", "b"], ["c"], ["b"]]
    assert (cached.hits, cached.misses) == (4, 4)


def test_cache_larger_request_than_its_size() -> None:
    cached = CachedEmbedder(Spy(), size=1)
    texts = ["a", "b", "c", "b"]
    np.testing.assert_array_equal(cached(texts), HashEmbedder(8)(texts))


def test_cache_hands_out_copies() -> None:
    cached = CachedEmbedder(Spy())
    first = cached(["a"])
    first[:] = 0
    cached(["a"])[:] = 0
    np.testing.assert_array_equal(cached(["a"]), HashEmbedder(8)(["a"]))


def test_cache_keeps_no_failures() -> None:
    calls = 0

    class Failing(Spy):
        def __call__(self, texts: Sequence[str]) -> Vectors:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise EndpointError("down")
            return super().__call__(texts)

    cached = CachedEmbedder(Failing())
    with pytest.raises(EndpointError):
        cached(["a"])
    assert cached(["a"]).shape == (1, 8)
    with pytest.raises(MnemonError, match="size"):
        CachedEmbedder(Spy(), size=0)
