"""Scores of a text against accepted answers: ``score(prediction, answers, category) -> [0, 1]``.

Every function has that one signature. `category` matters to the LoCoMo scores only. Several answers: the best one
counts, unless the score says otherwise; no answers or an empty prediction: 0. The names in `SCORERS` are what
`Probe.scorers` holds. Definitions that share a name across papers differ, so each carries its origin:

``*_mem0``    the evaluation of mem0, used by Memory-R1 (arXiv 2508.19828)
``*_squad``   SQuAD v2;  ``f1_hotpot``  HotpotQA, also MemoryAgentBench
``*_locomo``  LoCoMo (arXiv 2402.17753), by category

Characters of scripts written without spaces (Chinese, Japanese, Korean …) count as one word each.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from mnemon.metrics.dates import canonical_dates
from mnemon.metrics.ranking import listed_titles, rank_recall
from mnemon.metrics.words import word_tokens
from mnemon.text import UNSPACED, spread_unspaced, stem
from mnemon.types import MnemonError

Scorer = Callable[[str, Sequence[str], str], float]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CJK_PUNCTUATION = re.compile("[\u3001-\u3004\u3008-\u3020\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")
_ROUGE_WORD = re.compile(f"[a-z0-9]+|[{UNSPACED}]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_ARTICLES_AND = re.compile(r"\b(?:a|an|the|and)\b")


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def words_mem0(text: str) -> list[str]:
    """Lower case; . , ! ? are blanks; other punctuation and articles stay."""
    text = _CJK_PUNCTUATION.sub(" ", text.lower())
    return spread_unspaced(re.sub(r"[.,!?]", " ", text)).split()


def words_squad(text: str) -> list[str]:
    """Lower case; ASCII punctuation deleted; a, an, the dropped."""
    text = _CJK_PUNCTUATION.sub(" ", text.lower()).translate(_NO_PUNCTUATION)
    return spread_unspaced(_ARTICLES.sub(" ", text)).split()


def words_locomo(text: str) -> list[str]:
    """As `words_squad`, but "and" is dropped too (commas go first, so "$1,000" is one word)."""
    text = _CJK_PUNCTUATION.sub(" ", text.replace(",", "").lower()).translate(_NO_PUNCTUATION)
    return spread_unspaced(_ARTICLES_AND.sub(" ", text)).split()


def _f1(overlap: int, predicted: int, gold: int) -> float:
    """2PR / (P + R) with P = overlap / predicted and R = overlap / gold; 0 without overlap."""
    return 2 * overlap / (predicted + gold) if overlap else 0.0


def _f1_counted(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of the words as multisets."""
    overlap = sum((Counter(predicted) & Counter(gold)).values())
    return _f1(overlap, len(predicted), len(gold))


def _best(score: Callable[[str, str], float], prediction: str, answers: Sequence[str]) -> float:
    return max((float(score(prediction, answer)) for answer in answers), default=0.0)


# ── exact match ──────────────────────────────────────────────────────────────────────────────────────────────────────


def em_mem0(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Equal after lower-casing and trimming; punctuation counts."""
    return _best(lambda p, a: p.strip().lower() == a.strip().lower(), prediction, answers)


def em_squad(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Equal `words_squad`: the "normalised exact match"."""
    return _best(lambda p, a: words_squad(p) == words_squad(a), prediction, answers)


def em_locomo(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Equal sets of `words_locomo`."""
    return _best(lambda p, a: set(words_locomo(p)) == set(words_locomo(a)), prediction, answers)


def em_date(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """`em_squad` where a date counts as one word however it is written; an empty prediction never matches."""

    def equal(p: str, a: str) -> bool:
        words = words_squad(canonical_dates(p))
        return bool(words) and words == words_squad(canonical_dates(a))

    return _best(equal, prediction, answers)


# ── overlap ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def f1_mem0(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """F1 of the words as sets: repeating a word costs nothing, so never a reward on its own."""

    def score(p: str, a: str) -> float:
        predicted, gold = set(words_mem0(p)), set(words_mem0(a))
        return _f1(len(predicted & gold), len(predicted), len(gold))

    return _best(score, prediction, answers)


def f1_squad(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """F1 of the words as multisets; where either has no words, 1 if both have none, else 0."""

    def score(p: str, a: str) -> float:
        predicted, gold = words_squad(p), words_squad(a)
        return _f1_counted(predicted, gold) if predicted and gold else float(predicted == gold)

    return _best(score, prediction, answers)


def f1_hotpot(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """F1 of the words as multisets, but yes, no and noanswer match only themselves."""

    def score(p: str, a: str) -> float:
        predicted, gold = words_squad(p), words_squad(a)
        fixed = {" ".join(predicted), " ".join(gold)}
        if len(fixed) == 2 and fixed & {"yes", "no", "noanswer"}:
            return 0.0
        return _f1_counted(predicted, gold)

    return _best(score, prediction, answers)


def f1_locomo(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """LoCoMo's own score: F1 of stemmed words as multisets, by category.

    "3" cuts the answer at the first ";" (an explanation follows); "1" splits both texts at commas and takes the mean
    over the answer's parts of the best part predicted; "5" is 1 where the prediction says that the conversation holds
    no answer ("no information available", "not mentioned"). Other categories: plain.
    """
    if category == "5":
        said = prediction.lower()
        return float("no information available" in said or "not mentioned" in said)
    if category == "1":
        return _best(_f1_parts, prediction, answers)
    if category == "3":
        answers = [answer.split(";")[0] for answer in answers]
    return _best(_f1_stemmed, prediction, answers)


def _f1_stemmed(prediction: str, answer: str) -> float:
    return _f1_counted([stem(w) for w in words_locomo(prediction)], [stem(w) for w in words_locomo(answer)])


def _f1_parts(prediction: str, answer: str) -> float:
    predicted = prediction.split(",")
    best = [max(_f1_stemmed(p, part) for p in predicted) for part in answer.split(",")]
    return sum(best) / len(best)


def bleu1_mem0(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """BLEU-1: min(1, exp(1 - r/c)) x clipped unigram precision; c, r = words predicted, of the answer.

    Words are `word_tokens` of the lower-cased texts: punctuation marks count.
    """

    def score(p: str, a: str) -> float:
        predicted, gold = word_tokens(p.lower()), word_tokens(a.lower())
        overlap = sum((Counter(predicted) & Counter(gold)).values())
        if not overlap:
            return 0.0
        brevity = min(1.0, math.exp(1 - len(gold) / len(predicted)))
        return brevity * overlap / len(predicted)

    return _best(score, prediction, answers)


def _rouge_words(text: str, stemmed: bool) -> list[str]:
    words = _ROUGE_WORD.findall(text.lower())
    return [stem(word) if stemmed and len(word) > 3 else word for word in words]


def rouge_l_parts(prediction: str, answer: str, stemmed: bool = True) -> tuple[float, float, float]:
    """ROUGE-L: (precision, recall, F1) of the longest common subsequence of words (Lin, 2004)."""
    predicted, gold = _rouge_words(prediction, stemmed), _rouge_words(answer, stemmed)
    if not predicted or not gold:
        return 0.0, 0.0, 0.0
    row = [0] * (len(gold) + 1)  # row[j]: longest common subsequence of the words so far and gold[:j]
    for word in predicted:
        diagonal = 0
        for j, other in enumerate(gold, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    common = row[-1]
    return common / len(predicted), common / len(gold), _f1(common, len(predicted), len(gold))


def rouge_l(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """F1 of ROUGE-L over stemmed words."""
    return _best(lambda p, a: rouge_l_parts(p, a)[2], prediction, answers)


def rouge_lsum(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """F1 of summary-level ROUGE-L (Lin, 2004): texts of several lines, each line a sentence.

    For every line of the answer the union of its longest common subsequences with the lines predicted counts, each word
    at most as often as both texts have it.
    """

    def score(p: str, a: str) -> float:
        predicted = [_rouge_words(line, True) for line in p.splitlines()]
        gold = [_rouge_words(line, True) for line in a.splitlines()]
        there = Counter(w for line in predicted for w in line)
        left = there & Counter(w for line in gold for w in line)
        hits = 0
        for line in gold:
            union = set().union(*(_common(line, other) for other in predicted)) if predicted else set()
            for word in (line[i] for i in sorted(union)):
                hits += left[word] > 0
                left[word] -= left[word] > 0
        return _f1(hits, there.total(), sum(map(len, gold)))

    return _best(score, prediction, answers)


def _common(gold: Sequence[str], predicted: Sequence[str]) -> set[int]:
    """Positions in `gold` of one longest common subsequence, traced back from the end."""
    rows = [[0] * (len(predicted) + 1)]  # rows[i][j]: its length in gold[:i] and predicted[:j]
    for word in gold:
        row = [0]
        for j, other in enumerate(predicted):
            row.append(rows[-1][j] + 1 if word == other else max(rows[-1][j + 1], row[j]))
        rows.append(row)
    i, j, found = len(gold), len(predicted), set()
    while i and j:
        if gold[i - 1] == predicted[j - 1]:
            i, j = i - 1, j - 1
            found.add(i)
        elif rows[i][j - 1] > rows[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return found


def rouge_l_recall(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Recall of ROUGE-L over stemmed words."""
    return _best(lambda p, a: rouge_l_parts(p, a)[1], prediction, answers)


# ── containment ──────────────────────────────────────────────────────────────────────────────────────────────────────
# These reward long outputs: cap the output length and print it beside them.


def sub_squad(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Normalised answer inside the normalised prediction. An answer without words is inside anything."""
    return _best(lambda p, a: " ".join(words_squad(a)) in " ".join(words_squad(p)), prediction, answers)


def sub_raw(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Lower-cased FIRST answer inside the lower-cased prediction (Mem-alpha on SQuAD and HotpotQA)."""
    return float(bool(answers) and answers[0].lower() in prediction.lower())


def event_recall(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """1 where EVERY answer is contained, lower-cased (MemoryAgentBench, EventQA)."""
    return float(bool(answers) and all(answer.lower() in prediction.lower() for answer in answers))


def list_hit(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Share of the ";"-separated parts of an answer that are contained, lower-cased (PerLTQA)."""

    def score(p: str, a: str) -> float:
        parts = [part.strip() for part in a.lower().split(";") if part.strip()]
        return sum(part in p.lower() for part in parts) / len(parts) if parts else 0.0

    return _best(score, prediction, answers)


def list_hit_compat(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """`list_hit` as Mem-alpha computes it: capitals of the prediction stay when there are several parts, and an empty
    part always hits. For comparison with its figures only."""

    def score(p: str, a: str) -> float:
        if ";" not in a:
            return float(a.lower() in p.lower())
        parts = [part.strip().lower() for part in a.split(";")]
        return sum(part in p for part in parts) / len(parts)

    return _best(score, prediction, answers)


def keyword_hit(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Share of the keywords contained, lower-cased (Mem-alpha, summaries): `answers`, or one answer split at commas.

    MnemonError where there is no keyword.
    """
    parts = answers[0].split(",") if len(answers) == 1 else answers
    keywords = [part.strip().lower() for part in parts if part.strip()]
    if not keywords:
        raise MnemonError(f"keyword_hit: no keyword in the answers {list(answers)!r}; give the probe at least one.")
    return sum(keyword in prediction.lower() for keyword in keywords) / len(keywords)


def keyword_hit_compat(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """`keyword_hit` as Mem-alpha computes it: an empty keyword, as a final comma leaves, always hits. For comparison
    with its figures only."""
    parts = answers[0].split(",") if len(answers) == 1 else answers
    return sum(part.strip().lower() in prediction.lower() for part in parts) / len(parts) if parts else 0.0


# ── rankings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rank_recall_at(k: int) -> Scorer:
    def score(prediction: str, answers: Sequence[str], category: str = "") -> float:
        """Share of the answers among the first k titles of a numbered list, in any case (MemoryAgentBench, ReDial)."""
        listed = [title.lower() for title in listed_titles(prediction)]
        return rank_recall(listed, [answer.lower() for answer in answers], k) if answers else 0.0

    return score


# ── labels ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_BOX = re.compile(r"\\boxed\{([^{}]*)\}")


def boxed(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Label accuracy of Mem-alpha: the first ``\\boxed{…}``, else the whole text, must be the answer's digits."""
    box = _BOX.search(prediction)
    label = (box.group(1) if box else prediction).strip(" \t\r\n\"'")
    return float(label.isascii() and label.isdigit() and label in answers)


def label(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """Label accuracy that forgives form: boxed or bare, after "label:" or not, any case, quotes, final full stop."""

    def bare(text: str) -> str:
        box = _BOX.search(text)
        text = (box.group(1) if box else text).strip(" \t\r\n\"'$.").lower()
        return re.sub(r"^label\s*:?\s+(?=\S)|^label:", "", text).strip(" \"'")

    return _best(lambda p, a: bare(p) == bare(a) != "", prediction, answers)


def list_exact(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """1 iff prediction and answer have the same words, as multisets: order is free, repetitions and gaps are wrong."""
    return float(any(sorted(prediction.split()) == sorted(answer.split()) for answer in answers))


# ── mnemon's reward ──────────────────────────────────────────────────────────────────────────────────────────────────


def graded(prediction: str, answers: Sequence[str], category: str = "") -> float:
    """1 where `em_date` holds, else `f1_locomo` of the category: a reward that does not starve on long answers."""
    return em_date(prediction, answers) or f1_locomo(prediction, answers, category)


SCORERS: dict[str, Scorer] = {
    "em": em_squad,
    **{
        score.__name__: score
        for score in (
            *(em_mem0, em_squad, em_locomo, em_date, f1_mem0, f1_squad, f1_hotpot, f1_locomo, bleu1_mem0, rouge_l),
            *(rouge_l_recall, rouge_lsum, sub_squad, sub_raw, event_recall, list_hit, list_hit_compat, keyword_hit),
            *(keyword_hit_compat, boxed, label, graded, list_exact),
        )
    },
    **{f"rank_recall@{k}": _rank_recall_at(k) for k in (1, 5, 10)},
}
"""Name in `Probe.scorers` -> function."""


def scorer(name: str) -> Scorer:
    """The scorer called `name`; MnemonError with the nearest names where there is none, and for a judge's name."""
    if name.startswith("judge_"):
        raise MnemonError(f"{name} is no score of strings: it needs a judge's policy, or give the probes other scorers")
    if name not in SCORERS:
        near = get_close_matches(name, SCORERS, n=3) or sorted(SCORERS)
        raise MnemonError(f"unknown scorer {name!r}; did you mean {', '.join(near)}?")
    return SCORERS[name]
