"""Words: the tokens that search and the word-overlap scores count. Standard library only.

`tokens` is what lexical search indexes: lower-case runs of letters, digits and apostrophes, accents folded, optionally
without stop words and stemmed; text of scripts written without spaces (Chinese, Japanese, Korean, Thai …) becomes
character bigrams. `stem` is Porter's algorithm (Program 14(3), 1980) with the refinements that the reference scorers of
LoCoMo and ROUGE use, so that their figures are reproduced without their packages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache

_FUNCTION_WORDS = """
    a an the and or of to in on at for with is are was were be been do does did have has had it its this that those
    these he she his her they them their you your i my me we our what when where who which how why as by from about
    would could should will can
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English function words, left out of lexical search unless asked otherwise."""

_ASCII_WORD = re.compile(r"[a-z0-9']+")
UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts without spaces between words, as a class of a pattern: Thai, Lao, Burmese, Khmer, kana, Han, Hangul."""
_UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
_UNSPACED_CHAR = re.compile(f"([{UNSPACED}])")
_ACCENTS = re.compile("[\u0300-\u036f]")


def tokens(
    text: str, stop_words: Collection[str] = STOP_WORDS, stemmed: bool = True, unigrams: bool = False
) -> list[str]:
    """The search tokens of `text`, in order, repetitions kept.

    A run of unspaced script (Chinese, Japanese, Korean …) gives its character bigrams, or the character itself when it
    stands alone; `unigrams` adds the single characters, so that a one-character word is found inside a longer run.
    """
    if text.isascii():
        words = _ASCII_WORD.findall(text.lower())
    else:
        words = []
        for word in _words(text):
            words.extend(_split_unspaced(word, unigrams))
    if stop_words:
        words = [word for word in words if word not in stop_words]
    return [stem(word) for word in words] if stemmed else words


def spread_unspaced(text: str) -> str:
    """Blanks around every character of an unspaced script: splitting then gives one token per character."""
    return text if text.isascii() else _UNSPACED_CHAR.sub(r" \1 ", text)


def _words(text: str) -> Iterator[str]:
    """Runs of letters, marks, digits and apostrophes of any script: compatibility forms and accents folded."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))
    # A dakuten (U+3099) lies outside the accents' block, so kana keep their voicing.
    spaced = "".join(char if char == "'" or unicodedata.category(char)[0] in "LMN" else " " for char in text)
    yield from spaced.split()


def _split_unspaced(word: str, unigrams: bool) -> Iterator[str]:
    """`word` cut at borders between spaced and unspaced script; unspaced runs as bigrams."""
    at = 0
    for run in _UNSPACED_RUN.finditer(word):
        if run.start() > at:
            yield word[at : run.start()]
        chars = run.group()
        if unigrams or len(chars) == 1:
            yield from chars
        yield from (chars[i : i + 2] for i in range(len(chars) - 1))
        at = run.end()
    if at < len(word):
        yield word[at:]


# ── Porter's stemmer ─────────────────────────────────────────────────────────────────────────────────────────────────
# A word is [C](VC)^m[V] in runs of consonants C and vowels V; its measure is m. Each step replaces the first suffix of
# its list that fits, and only if the condition on what is left holds.

_IRREGULAR = {"skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "innings": "inning"}
_IRREGULAR |= {"outings": "outing", "cannings": "canning"}
_IRREGULAR |= {w: w for w in ("sky", "news", "inning", "outing", "canning", "howe", "proceed", "exceed", "succeed")}

_STEP_2 = (
    "ational>ate tional>tion enci>ence anci>ance izer>ize bli>ble alli>al entli>ent eli>e ousli>ous ization>ize "
    "ation>ate ator>ate alism>al iveness>ive fulness>ful ousness>ous aliti>al iviti>ive biliti>ble fulli>ful"
)
_STEP_3 = "icate>ic ative> alize>al iciti>ic ical>ic ful> ness>"
_STEP_4 = "al ance ence er ic able ible ant ement ment ent sion>s tion>t ou ism ate iti ous ive ize"


def _rules(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((suffix, new) for suffix, _, new in (rule.partition(">") for rule in text.split()))


_RULES_2, _RULES_3, _RULES_4 = _rules(_STEP_2), _rules(_STEP_3), _rules(_STEP_4)


def _shape(word: str) -> str:
    """One letter per letter: c for a consonant, v for a vowel; y is a vowel after a consonant."""
    shape = ""
    for i, char in enumerate(word):
        vowel = char in "aeiou" or (char == "y" and i > 0 and shape[-1] == "c")
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    return _shape(word).count("vc")


def _short_end(word: str) -> bool:
    """Ends consonant-vowel-consonant, the last not w, x or y; or is vowel-consonant."""
    shape = _shape(word)
    return (shape[-3:] == "cvc" and word[-1] not in "wxy") or shape == "vc"


@lru_cache(maxsize=1 << 17)
def stem(word: str) -> str:
    """The stem of a lower-case word: ``stem("paintings") == "paint"``. Words of one or two letters stay."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _step_1(word)
    word = _step_2(word)
    word = _replace(word, _RULES_3, lambda left: _measure(left) > 0)
    word = _step_4(word)
    if word.endswith("e"):  # step 5a
        left = word[:-1]
        if _measure(left) > 1 or (_measure(left) == 1 and not _short_end(left)):
            word = left
    if word.endswith("ll") and _measure(word[:-1]) > 1:  # step 5b
        word = word[:-1]
    return word


def _replace(word: str, rules: tuple[tuple[str, str], ...], condition: Callable[[str], bool]) -> str:
    for suffix, new in rules:
        if word.endswith(suffix):
            left = word[: -len(suffix)]
            return left + new if condition(left) else word
    return word


def _step_1(word: str) -> str:
    """Plurals, -ed, -ing, and a final y after a consonant."""
    if word.endswith("ies"):
        word = word[:-1] if len(word) == 4 else word[:-2]
    elif word.endswith("sses"):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("ied"):
        word = word[:-1] if len(word) == 4 else word[:-2]
    elif word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) > 0 else word
    else:
        for suffix in ("ed", "ing"):
            if word.endswith(suffix) and "v" in _shape(word[: -len(suffix)]):
                word = _mend(word[: -len(suffix)])
                break
    if word.endswith("y") and len(word) > 2 and _shape(word)[-2] == "c":
        word = word[:-1] + "i"
    return word


def _mend(left: str) -> str:
    """After -ed or -ing: hop(p)ing loses a letter, fil(e)d gets its e back."""
    if left.endswith(("at", "bl", "iz")):
        return left + "e"
    if len(left) > 1 and left[-1] == left[-2] and _shape(left)[-1] == "c":
        return left if left[-1] in "lsz" else left[:-1]
    return left + "e" if _measure(left) == 1 and _short_end(left) else left


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replace(word, _RULES_2, lambda left: _measure(left) > 0)


def _step_4(word: str) -> str:
    for suffix, kept in _RULES_4:
        if word.endswith(suffix):
            left = word[: -len(suffix)] + kept
            return left if _measure(left) > 1 else word
    return word
