"""BM25 against the formula written out, incremental against rebuilt, copies, ties, fusion."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemon.memory.retrieve import Hybrid, Lexical, rank
from mnemon.types import MnemonError

WORDS = ["ana", "dog", "dogs", "painted", "paint", "rome", "the", "猫が好", "zoo", "zoo"]
text_strategy = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 8), text_strategy),
        st.tuples(st.just("remove"), st.integers(1, 8), st.just("")),
        st.tuples(st.just("copy"), st.integers(0, 1), st.just("")),
    ),
    max_size=25,
)
settings_strategy = st.builds(
    Lexical,
    k1=st.sampled_from([0.0, 0.9, 1.5]),
    b=st.sampled_from([0.0, 0.75, 1.0]),
    stem=st.booleans(),
    stop_words=st.sampled_from([True, False, frozenset({"zoo"})]),
    idf=st.sampled_from(["plus", "okapi"]),
    unigrams=st.booleans(),
)


def brute_force(lexical: Lexical, query: str, texts: dict[int, str]) -> dict[int, float]:
    """The formula of BM25, document by document."""
    documents = {i: lexical.tokens(text) for i, text in texts.items()}
    size = len(documents)
    frequency = Counter(word for words in documents.values() for word in set(words))

    def log_ratio(n: int) -> float:
        return math.log((size - n + 0.5) / (n + 0.5))

    def idf(word: str) -> float:
        n = frequency[word]
        if lexical.idf == "plus":
            return math.log(1 + (size - n + 0.5) / (n + 0.5))
        mean = sum(log_ratio(m) for m in frequency.values()) / len(frequency)
        return log_ratio(n) if log_ratio(n) >= 0 else 0.25 * mean

    scores = {}
    for i, words in documents.items():
        scores[i] = 0.0
        for word in lexical.tokens(query):
            f = words.count(word)
            if f:
                mean_length = sum(map(len, documents.values())) / size
                scale = 1 - lexical.b + lexical.b * len(words) / mean_length
                scores[i] += idf(word) * f * (lexical.k1 + 1) / (f + lexical.k1 * scale)
    return scores


@settings(max_examples=300, deadline=None)
@given(settings_strategy, operations, text_strategy, st.integers(0, 10), st.booleans())
def test_incremental_equals_brute_force(
    lexical: Lexical, changes: list[tuple[str, int, str]], query: str, k: int, everything: bool
) -> None:
    indexes = [lexical.index(), lexical.index()]
    texts: list[dict[int, str]] = [{}, {}]
    now = 0
    for kind, i, text in changes:
        if kind == "add":
            indexes[now].add(i, text)
            texts[now][i] = text
        elif kind == "remove" and i in texts[now]:
            indexes[now].remove(i)
            del texts[now][i]
        elif kind == "copy":  # the other one becomes a copy of this one; go on with either
            indexes[1 - now], texts[1 - now] = indexes[now].copy(), dict(texts[now])
            now = i
    for index, documents in zip(indexes, texts, strict=True):
        expected = brute_force(lexical, query, documents)
        found = index.search(query, k, all=everything)
        rebuilt = lexical.index()
        for i in sorted(documents, reverse=True):
            rebuilt.add(i, documents[i])
        assert found == rebuilt.search(query, k, all=everything)  # bit for bit, whatever the history
        assert len(index) == len(documents)
        assert all(score == pytest.approx(expected[i], abs=1e-9) for i, score in found)
        positive = sum(score > 1e-12 for score in expected.values())
        if everything:
            assert len(found) == min(k, len(documents))
        else:
            assert len(found) == min(k, positive)
        scored = [(-score, i) for i, score in found if score > 0]
        assert scored == sorted(scored)
        kept = {i for i, _ in found}
        gains = {i: max(score, 0.0) for i, score in expected.items()}  # what is not positive follows in id order
        worst = min((gains[i] for i in kept), default=math.inf)
        assert all(gains[i] <= worst + 1e-9 for i in set(gains) - kept) or len(kept) < k or k == 0


def test_hand_computed() -> None:
    # N = 3, "dog" in 2: idf = ln(1 + 1.5 / 2.5); lengths 1, 2, 3, mean 2.
    index = Lexical(stem=False).index()
    for i, text in enumerate(["dog", "dog cat", "cat cat bird"]):
        index.add(i, text)
    idf = math.log(1.6)
    expected = [(0, idf * 2.5 / (1 + 1.5 * (0.25 + 0.375))), (1, idf * 2.5 / 2.5)]
    assert index.search("dog", 5) == [(i, pytest.approx(s)) for i, s in expected]
    assert index.search("dog dog", 1) == [(0, pytest.approx(2 * expected[0][1]))]


def test_small_banks_of_the_paper() -> None:
    """One or two entries: Okapi's idf is negative or 0, so a match does not rank; with idf="plus" it does."""
    okapi, plus = (Lexical(stem=False, stop_words=False, idf=idf) for idf in ("okapi", "plus"))
    one, two = ["alice likes tea"], ["alice likes tea", "bob likes coffee"]
    assert rank(okapi, "tea", one, 2, all=True) == [(0, pytest.approx(-0.2747, abs=1e-4))]
    assert rank(plus, "tea", one, 2, all=True) == [(0, pytest.approx(math.log(1 + 0.5 / 1.5)))]
    assert rank(okapi, "tea", two, 2, all=True) == [(0, 0.0), (1, 0.0)]
    assert rank(plus, "tea", two, 2, all=True) == [(0, pytest.approx(math.log(2))), (1, 0.0)]


def test_ties_and_padding_and_restriction() -> None:
    index = Lexical().index()
    for i in (9, 3, 7, 1):
        index.add(i, "same words" if i != 7 else "other")
    assert [i for i, _ in index.search("words", 10)] == [1, 3, 9]
    assert [i for i, _ in index.search("words", 2)] == [1, 3]
    assert [(i, s > 0) for i, s in index.search("words", 10, all=True)] == [(1, True), (3, True), (9, True), (7, False)]
    assert [i for i, _ in index.search("words", 10, among=lambda i: i > 2, all=True)] == [3, 9, 7]
    assert index.search("words", 0, all=True) == []
    assert index.search("absent", 3) == []
    assert Lexical().index().search("words", 3, all=True) == []


def test_many_ties_beyond_k_keep_id_order() -> None:
    index = Lexical().index()
    for i in range(100):
        index.add(i * 7 % 100, "same words")
    assert [i for i, _ in index.search("same", 5)] == [0, 1, 2, 3, 4]


def test_removing_an_unknown_id_is_an_error() -> None:
    with pytest.raises(KeyError):
        Lexical().index().remove(4)


def test_chinese_and_mixed_text() -> None:
    texts = ["小明养了一只叫豆豆的狗", "小红去年夏天去了北京旅行", "Tom bought a new 相机 in Tokyo"]
    assert rank(Lexical(), "小红什么时候去北京的？", texts, 1)[0][0] == 1
    assert rank(Lexical(), "谁买了相机", texts, 1)[0][0] == 2
    assert rank(Lexical(), "狗", texts, 3) == []  # a one-character word inside a run has no bigram of its own
    assert rank(Lexical(unigrams=True), "狗", texts, 3)[0][0] == 0


def test_ids_name_all_settings() -> None:
    assert Lexical().id == "lexical(k1=1.5,b=0.75,stem=True,stop_words=True,idf=plus,unigrams=False,fields=text)"
    variants = [
        Lexical(),
        Lexical(k1=1.2),
        Lexical(b=0.5),
        Lexical(stem=False),
        Lexical(stop_words=False),
        Lexical(stop_words=frozenset({"x"})),
        Lexical(stop_words=frozenset({"y"})),
        Lexical(idf="okapi"),
        Lexical(unigrams=True),
        Lexical(fields=("time", "text")),
    ]
    assert len({v.id for v in variants}) == len(variants)


def test_bad_settings() -> None:
    with pytest.raises(MnemonError, match="idf='bm'"):
        Lexical(idf="bm")  # type: ignore[arg-type]
    with pytest.raises(MnemonError, match="b=2"):
        Lexical(b=2)
    with pytest.raises(MnemonError, match="2 weights for 1"):
        Hybrid((Lexical(),), weights=(1, 2))
    with pytest.raises(MnemonError, match="same `fields`"):
        Hybrid((Lexical(), Lexical(fields=("time",))))
    with pytest.raises(MnemonError, match="at least one"):
        Hybrid(())
    with pytest.raises(MnemonError, match="positive"):
        Hybrid((Lexical(),), weights=(0,))


def test_hybrid_fuses_ranks() -> None:
    raw, stemmed = Lexical(stem=False), Lexical()
    texts = ["painting", "paint paint", "paint", "rome"]
    assert [i for i, _ in rank(raw, "paint", texts, 9)] == [1, 2]
    assert [i for i, _ in rank(stemmed, "paint", texts, 9)] == [1, 0, 2]
    fused = rank(Hybrid((raw, stemmed), weights=(2.0, 1.0)), "paint", texts, 9)
    assert [i for i, _ in fused] == [1, 2, 0]
    assert [s for _, s in fused] == [pytest.approx(x) for x in (3 / 61, 2 / 62 + 1 / 63, 1 / 62)]


def test_hybrid_changes_and_copies() -> None:
    index = Hybrid((Lexical(), Lexical(stem=False))).index()
    index.add(1, "rome")
    index.add(2, "rome trip")
    other = index.copy()
    other.remove(1)
    other.add(2, "paris")
    assert [i for i, _ in index.search("rome", 5)] == [1, 2]
    assert other.search("rome", 5) == []
    assert [i for i, _ in other.search("rome", 5, all=True)] == [2]
    assert len(index) == 2
    assert len(other) == 1
