"""Ranking: which entries of a memory fit a query. Lexical (BM25), hybrid (reciprocal rank fusion), in order of storing.

A `Retriever` is a bundle of settings whose `id` is saved with a checkpoint; `index()` makes an empty `Index`, which a
memory keeps in step with its entries. The same code ranks in training and in service. Ranking by embeddings is
`mnemon.memory.dense`.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mnemon.text import STOP_WORDS, tokens
from mnemon.types import MnemonError

Keep = Callable[[int], bool]
Ranking = list[tuple[int, float]]


class Index(Protocol):
    """Documents under integer ids, ranked against a query."""

    def add(self, entry_id: int, text: str) -> None:
        """Index `text` under `entry_id`; an id that is there already is replaced."""

    def remove(self, entry_id: int) -> None:
        """Forget a document. KeyError where the id is not indexed."""

    def search(self, query: str, k: int, among: Keep | None = None, all: bool = False) -> Ranking:
        """The best `k` documents as (id, score), best first, ties by ascending id.

        Only positive scores, unless `all`: then the rest follows in id order. `among` restricts the ids.
        """

    def copy(self) -> Index:
        """An independent copy, cheap: neither sees the other's later changes."""


class Retriever(Protocol):
    """Settings of a ranking: `id` names all of them, `fields` are the entry's fields that make the document."""

    @property
    def id(self) -> str: ...

    @property
    def fields(self) -> tuple[str, ...]: ...

    def index(self) -> Index: ...


def rank(retriever: Retriever, query: str, texts: Sequence[str], k: int, all: bool = False) -> Ranking:
    """Rank `texts` once: (position in `texts`, score), as `Index.search`."""
    index = retriever.index()
    for position, text in enumerate(texts):
        index.add(position, text)
    return index.search(query, k, all=all)


def top(scores: Mapping[int, float], k: int, ids: Iterable[int], among: Keep | None, all: bool) -> Ranking:
    """Best k of `scores` by (-score, id); with `all`, padded from `ids` (what is not in `scores` scores 0)."""
    if k <= 0:
        return []
    keyed = [(-s, i) for i, s in scores.items() if s > 0 and (among is None or among(i))]
    best = heapq.nsmallest(k, keyed) if 4 * k < len(keyed) else sorted(keyed)[:k]
    ranking = [(i, -s) for s, i in best]
    if all and len(ranking) < k:
        rest = sorted(i for i in ids if scores.get(i, 0.0) <= 0 and (among is None or among(i)))
        ranking += [(i, scores.get(i, 0.0)) for i in rest[: k - len(ranking)]]
    return ranking


# ── lexical ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Lexical:
    """BM25 (Robertson and Zaragoza, 2009) over the words of `mnemon.text.tokens`:

        score(q, d) = sum over the words t of q of  idf(t) * f (k1 + 1) / (f + k1 (1 - b + b L / mean L))

    with f = count of t in d, L = number of words of d, N documents, n of them with t, and
    ``idf="plus"``: ln(1 + (N - n + .5) / (n + .5)), always positive;
    ``idf="okapi"``: ln((N - n + .5) / (n + .5)), where negative replaced by a quarter of the mean over all words.
    A word repeated in the query counts each time. `stop_words` is True (English), False (keep all words) or a set of
    words; `unigrams` adds single characters to the bigrams of Chinese, Japanese, Korean … text.
    """

    k1: float = 1.5
    b: float = 0.75
    stem: bool = True
    stop_words: bool | frozenset[str] = True
    idf: Literal["plus", "okapi"] = "plus"
    fields: tuple[str, ...] = ("text",)
    unigrams: bool = False

    def __post_init__(self) -> None:
        if self.idf not in ("plus", "okapi"):
            raise MnemonError(f"Lexical: idf={self.idf!r} is unknown; use 'plus' or 'okapi'.")
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise MnemonError(f"Lexical: k1={self.k1}, b={self.b}; k1 must be at least 0 and b between 0 and 1.")

    @property
    def id(self) -> str:
        words = str(self.stop_words)
        if not isinstance(self.stop_words, bool):
            words = hashlib.sha256("\n".join(sorted(self.stop_words)).encode()).hexdigest()[:12]
        return (
            f"lexical(k1={self.k1:g},b={self.b:g},stem={self.stem},stop_words={words},idf={self.idf},"
            f"unigrams={self.unigrams},fields={'+'.join(self.fields)})"
        )

    def index(self) -> LexicalIndex:
        return LexicalIndex(self)

    def tokens(self, text: str) -> list[str]:
        """The words of a document or a query under these settings."""
        default = STOP_WORDS if self.stop_words else frozenset()
        words = default if isinstance(self.stop_words, bool) else self.stop_words
        return tokens(text, words, self.stem, self.unigrams)


class LexicalIndex:
    """Inverted index of `Lexical`: word -> {id: count}. Adding and removing cost the document's words only.

    Scores depend on the documents held, not on the order of changes that led there. A copy shares the postings; the
    first write to one of them, on either side, copies that one.
    """

    def __init__(self, settings: Lexical) -> None:
        self.settings = settings
        self._postings: dict[str, dict[int, int]] = {}
        self._owned: set[str] = set()  # words whose posting no copy shares
        self._words: dict[int, tuple[str, ...]] = {}  # distinct words per document
        self._length: dict[int, int] = {}
        self._total = 0
        self._words_with: dict[int, int] = {}  # document frequency -> number of words that have it

    def __len__(self) -> int:
        return len(self._length)

    def add(self, entry_id: int, text: str) -> None:
        if entry_id in self._length:
            self.remove(entry_id)
        words = self.settings.tokens(text)
        counts = Counter(words)
        for word, count in counts.items():
            posting = self._writable(word)
            posting[entry_id] = count
            self._moved(len(posting) - 1, len(posting))
        self._words[entry_id] = tuple(counts)
        self._length[entry_id] = len(words)
        self._total += len(words)

    def remove(self, entry_id: int) -> None:
        self._total -= self._length.pop(entry_id)
        for word in self._words.pop(entry_id):
            posting = self._writable(word)
            del posting[entry_id]
            self._moved(len(posting) + 1, len(posting))
            if not posting:
                del self._postings[word]
                self._owned.discard(word)

    def search(self, query: str, k: int, among: Keep | None = None, all: bool = False) -> Ranking:
        return top(self._scores(query), k, self._length, among, all)

    def copy(self) -> LexicalIndex:
        other = LexicalIndex(self.settings)
        other._postings = self._postings.copy()
        self._owned = set()
        other._words = self._words.copy()
        other._length = self._length.copy()
        other._total = self._total
        other._words_with = self._words_with.copy()
        return other

    def _writable(self, word: str) -> dict[int, int]:
        if word in self._owned:
            return self._postings[word]
        self._owned.add(word)
        posting = self._postings.get(word)
        self._postings[word] = posting = {} if posting is None else posting.copy()
        return posting

    def _moved(self, before: int, after: int) -> None:
        """A word went from `before` to `after` documents."""
        if before:
            self._words_with[before] -= 1
            if not self._words_with[before]:
                del self._words_with[before]
        if after:
            self._words_with[after] = self._words_with.get(after, 0) + 1

    def _idf(self, n: int) -> float:
        ratio = (len(self._length) - n + 0.5) / (n + 0.5)
        if self.settings.idf == "plus":
            return math.log(1 + ratio)
        idf = math.log(ratio)
        return idf if idf >= 0 else self._mean_idf() / 4

    def _mean_idf(self) -> float:
        """Mean of ln((N - n + .5) / (n + .5)) over all distinct words, negative ones included."""
        size = len(self._length)
        logs = math.fsum(w * math.log((size - n + 0.5) / (n + 0.5)) for n, w in self._words_with.items())
        return logs / len(self._postings)

    def _scores(self, query: str) -> dict[int, float]:
        scores: dict[int, float] = {}
        k1, b = self.settings.k1, self.settings.b
        for word, times in Counter(self.settings.tokens(query)).items():
            posting = self._postings.get(word)
            if posting is None:
                continue
            weight = times * self._idf(len(posting)) * (k1 + 1)
            flat, slope = k1 * (1 - b), k1 * b * len(self._length) / self._total
            for i, f in posting.items():
                scores[i] = scores.get(i, 0.0) + weight * f / (f + flat + slope * self._length[i])
        return scores


# ── hybrid ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Hybrid:
    """Reciprocal rank fusion (Cormack et al., 2009): score(d) = sum over retrievers r of weight_r / (60 + rank_r(d)).

    Ranks start at 1; a retriever says nothing of documents to which it gives no positive score.
    """

    retrievers: tuple[Retriever, ...]
    weights: tuple[float, ...] = ()
    constant: float = 60.0

    def __post_init__(self) -> None:
        if not self.retrievers:
            raise MnemonError("Hybrid: no retrievers; give at least one.")
        if self.weights and len(self.weights) != len(self.retrievers):
            raise MnemonError(
                f"Hybrid: {len(self.weights)} weights for {len(self.retrievers)} retrievers; give one each."
            )
        if any(weight <= 0 for weight in self.weights):
            raise MnemonError(f"Hybrid: weights {self.weights} must all be positive.")
        if len({retriever.fields for retriever in self.retrievers}) > 1:
            raise MnemonError("Hybrid: its retrievers index different fields; give all of them the same `fields`.")

    @property
    def id(self) -> str:
        parts = "+".join(f"{w:g}*{r.id}" for r, w in zip(self.retrievers, self.all_weights, strict=True))
        return f"hybrid(rrf={self.constant:g},{parts})"

    @property
    def fields(self) -> tuple[str, ...]:
        return self.retrievers[0].fields

    @property
    def all_weights(self) -> tuple[float, ...]:
        return self.weights or (1.0,) * len(self.retrievers)

    def index(self) -> HybridIndex:
        return HybridIndex(self, [retriever.index() for retriever in self.retrievers], set())


class HybridIndex:
    """One index per retriever, fused at search."""

    def __init__(self, settings: Hybrid, parts: list[Index], ids: set[int]) -> None:
        self.settings = settings
        self._parts = parts
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, entry_id: int, text: str) -> None:
        for part in self._parts:
            part.add(entry_id, text)
        self._ids.add(entry_id)

    def remove(self, entry_id: int) -> None:
        self._ids.remove(entry_id)
        for part in self._parts:
            part.remove(entry_id)

    def search(self, query: str, k: int, among: Keep | None = None, all: bool = False) -> Ranking:
        scores: dict[int, float] = {}
        for part, weight in zip(self._parts, self.settings.all_weights, strict=True):
            for position, (i, _) in enumerate(part.search(query, len(self._ids), among), start=1):
                scores[i] = scores.get(i, 0.0) + weight / (self.settings.constant + position)
        return top(scores, k, self._ids, among, all)

    def copy(self) -> HybridIndex:
        return HybridIndex(self.settings, [part.copy() for part in self._parts], self._ids.copy())


# ── in order of storing ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class InOrder:
    """A retriever's k best, shown in the order in which they were stored: among contradicting memories the last counts.

    With fewer than k that match at all, others fill up, as any embedding search does.
    """

    inner: Retriever = field(default_factory=Lexical)

    @property
    def id(self) -> str:
        return f"in_order({self.inner.id})"

    @property
    def fields(self) -> tuple[str, ...]:
        return self.inner.fields

    def index(self) -> Index:
        return _InOrderIndex(self.inner.index())


class _InOrderIndex:
    """The index of `InOrder`: ids are given in order of storing, so sorting by id is enough."""

    def __init__(self, inner: Index) -> None:
        self.inner = inner
        self.add, self.remove = inner.add, inner.remove

    def search(self, query: str, k: int, among: Keep | None = None, all: bool = False) -> Ranking:
        return sorted(self.inner.search(query, k, among, True))

    def copy(self) -> Index:
        return _InOrderIndex(self.inner.copy())
