"""The word tokenizer under BLEU: Penn Treebank conventions, no data files."""

from __future__ import annotations

import re

from mnemon.text import spread_unspaced

# A full stop after one of these, or after a single letter, ends no sentence.
_ABBREVIATIONS = "mr mrs ms dr prof st jr sr vs etc e.g i.e u.s u.k d.c a.m p.m vol inc ltd co corp approx dept"
_OPEN_WORDS = frozenset(_ABBREVIATIONS.split())
_SENTENCE_END = re.compile(r"(\S*?)([.!?]+)[\"')\]]*\s+")

# What stands alone wherever it occurs …
_MARK = r"""\.{2,}|--|—|''|`+|["“”‘’„«»…;@\#$%&?!()\[\]{}<>]|[,:](?!\d)|\.(?=["')\]}>\s]*$)"""
# … and what is cut from the end of a word: don't = do n't, Ana's = Ana 's.
_TAIL = rf"""(?:n't|'(?:ll|re|ve|[smd])?)(?=\s|$|{_MARK})"""
_OPENING = r"(?<!\S)'(?=\w)(?!(?:re|ve|ll|m|t|s|d|n)\b)"  # 'cause, 'em, a quoted word
_TOKEN = re.compile(rf"{_MARK}|{_OPENING}|{_TAIL}|\S+?(?=\s|$|{_MARK}|(?<!['\s]){_TAIL})", re.IGNORECASE)
_JOINED = {"cannot": 3, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "wanna": 3}


def word_tokens(text: str) -> list[str]:
    """Words and punctuation marks: ``don't pay $5.`` gives ``do n't pay $ 5 .``; unspaced scripts by character.

    A double quote becomes two backquotes where it opens and two apostrophes where it closes.
    """
    return [token for sentence in _sentences(spread_unspaced(text)) for token in _tokens(sentence)]


def _sentences(text: str) -> list[str]:
    parts, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        word = match.group(1).lower().lstrip("\"'([")
        open_word = word in _OPEN_WORDS or (len(word) == 1 and word.isalpha())
        if match.group(2) == "." and open_word:
            continue
        parts.append(text[start : match.end()])
        start = match.end()
    return [part for part in (*parts, text[start:]) if part.strip()]


def _tokens(sentence: str) -> list[str]:
    tokens = []
    for match in _TOKEN.finditer(sentence):
        token = match.group()
        cut = _JOINED.get(token.lower())
        if token == '"':
            opens = match.start() == 0 or sentence[match.start() - 1] in " \t\n([{<"
            tokens.append("``" if opens else "''")
        elif cut:
            tokens += [token[:cut], token[cut:]]
        else:
            tokens.append(token)
    return tokens
