"""Tokens and the stemmer: hand-made cases, and NLTK's Porter stemmer as an oracle."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.text import STOP_WORDS, spread_unspaced, stem, tokens

_SUFFIXES = (
    "s es ies ied ed ing eed y ly alli fulli bli logi ational tional enci anci izer entli eli ousli ization ation ator "
    "alism iveness fulness ousness aliti iviti biliti icate ative alize iciti ical ful ness al ance ence er ic able "
    "ible ant ement ment ent sion tion ion ou ism ate iti ous ive ize e ll ling ogy"
)
SUFFIXES = _SUFFIXES.split()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("paintings", "paint"),
        ("adopted", "adopt"),
        ("hopping", "hop"),
        ("falling", "fall"),
        ("filing", "file"),
        ("relational", "relat"),
        ("dying", "die"),
        ("flies", "fli"),
        ("ties", "tie"),
        ("tied", "tie"),
        ("agreed", "agre"),
        ("feed", "feed"),
        ("enjoyed", "enjoy"),
        ("happy", "happi"),
        ("technology", "technolog"),
        ("controll", "control"),
        ("is", "is"),
        ("2023", "2023"),
        ("", ""),
    ],
)
def test_stem(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_stem_equals_the_reference_stemmer() -> None:
    reference = pytest.importorskip("nltk.stem").PorterStemmer()
    rng = random.Random(0)
    words = [*sorted(STOP_WORDS), "skies", "innings", "succeed", "howe", "don't", "caroline's"]
    for _ in range(4000):
        root = "".join(rng.choice("aeiouybcdlmnrstwxz") for _ in range(rng.randint(0, 6)))
        words.append(root + "".join(rng.choice(SUFFIXES) for _ in range(rng.randint(0, 3))))
    different = [(w, reference.stem(w), stem(w)) for w in words if w and reference.stem(w) != stem(w)]
    assert not different


def test_ascii_words() -> None:
    text = "1:56 pm on 8 May, 2023 Ana: I'm PAINTING_the well-being!"
    assert tokens(text, stop_words=(), stemmed=False) == (
        ["1", "56", "pm", "on", "8", "may", "2023", "ana", "i'm", "painting", "the", "well", "being"]
    )
    assert tokens(text) == ["1", "56", "pm", "8", "may", "2023", "ana", "i'm", "paint", "well", "be"]


@given(st.text(alphabet=string.printable))
def test_ascii_words_are_runs_of_letters_digits_and_apostrophes(text: str) -> None:
    allowed = set(string.ascii_lowercase + string.digits + "'")
    spaced = "".join(char if char in allowed else " " for char in text.lower())
    assert tokens(text, (), stemmed=False) == spaced.split()
    # A single foreign letter sends the text down the other path; the ASCII words stay the same.
    assert tokens(text + " ж", (), stemmed=False) == [*spaced.split(), "ж"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我养了一只猫", ["我养", "养了", "了一", "一只", "只猫"]),
        ("猫", ["猫"]),
        ("猫。狗", ["猫", "狗"]),
        ("她在2023年买了iPhone15", ["她在", "2023", "年买", "买了", "iphone15"]),
        ("コーヒーが好き", ["コー", "ーヒ", "ヒー", "ーが", "が好", "好き"]),
        ("고양이를 키운다", ["고양", "양이", "이를", "키운", "운다"]),
        ("ｃａｆé ＡＢＣ", ["cafe", "abc"]),
        ("Ångström, naïve; Привет мир", ["angstrom", "naive", "привет", "мир"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
    ],
)
def test_other_scripts(text: str, expected: list[str]) -> None:
    assert tokens(text, (), stemmed=False) == expected


def test_kana_keep_their_voicing() -> None:
    assert tokens("ガ", ()) == ["ガ"] != tokens("カ", ())


def test_unigrams_find_one_character_words() -> None:
    assert set(tokens("他的猫叫什么")) & set(tokens("我养了一只猫")) == set()
    assert "猫" in set(tokens("他的猫叫什么", unigrams=True)) & set(tokens("我养了一只猫", unigrams=True))


@given(st.text())
def test_any_text_gives_clean_tokens(text: str) -> None:
    found = tokens(text, ())
    assert all(token and not any(char.isspace() for char in token) for token in tokens(text, (), stemmed=False))
    assert found == [stem(token) for token in tokens(text, (), stemmed=False)]


def test_spread_unspaced() -> None:
    assert spread_unspaced("plain text") == "plain text"
    assert spread_unspaced("在Rome吃").split() == ["在", "Rome", "吃"]
