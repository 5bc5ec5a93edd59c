"""Scores of rankings and sets: which of the relevant units were found, and how early."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Hashable, Sequence


def _first(ranked: Sequence[Hashable], k: int) -> list[Hashable]:
    """The first k distinct units."""
    return list(dict.fromkeys(ranked))[:k]


def retr_any(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """1 where any relevant unit is among the first k distinct ones."""
    return float(bool(set(_first(ranked, k)) & set(relevant)))


def retr_all(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """1 where all relevant units are among the first k distinct ones."""
    return float(set(relevant) <= set(_first(ranked, k)))


def retr_frac(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Share of the relevant units among the first k distinct ones. Needs at least one relevant unit."""
    return len(set(_first(ranked, k)) & set(relevant)) / len(set(relevant))


def evidence_recall(retrieved: Collection[Hashable], evidence: Collection[Hashable]) -> float | None:
    """Share of the evidence retrieved; None without evidence: leave the probe out (LoCoMo's scorer counts it as 1)."""
    wanted = set(evidence)
    return len(wanted & set(retrieved)) / len(wanted) if wanted else None


def evidence_precision(retrieved: Collection[Hashable], evidence: Collection[Hashable]) -> float | None:
    """Share of the retrieved units that are evidence; None without evidence, 0 where nothing was retrieved."""
    if not evidence:
        return None
    found = set(retrieved)
    return len(set(evidence) & found) / len(found) if found else 0.0


def ndcg(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """DCG / ideal DCG with DCG = sum over positions i of gain_i / log2(i + 1), gain 1 for a relevant unit."""
    return _ndcg(ranked, relevant, k, lambda position: 1 / math.log2(position + 1))


def ndcg_lme(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """As LongMemEval computes it: weight 1 at position 1 and 1 / log2(i) from 2 on, so the first two weigh the same."""
    return _ndcg(ranked, relevant, k, lambda position: 1 / math.log2(max(position, 2)))


def _ndcg(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int, weight: Callable[[int], float]) -> float:
    wanted = set(relevant)
    gain = sum(weight(i) for i, unit in enumerate(_first(ranked, k), start=1) if unit in wanted)
    ideal = sum(weight(i) for i in range(1, min(k, len(wanted)) + 1))
    return gain / ideal if ideal else 0.0


def rank_recall(predicted: Sequence[str], gold: Collection[str], k: int) -> float:
    """Gold titles among the first k predicted, over the number of gold titles (MemoryAgentBench, ReDial)."""
    return len(set(gold) & set(predicted[:k])) / len(set(gold))


def clean_title(line: str) -> str:
    """A title from a numbered line: ``"2) Heat (1995)"`` gives ``"Heat"``."""
    title = re.sub(r"^\s*\d+[.)]\s*", "", line)
    return re.sub(r"\s*\([^()]*\)\s*$", "", title).strip()


def listed_titles(output: str) -> list[str]:
    """The titles of a numbered list, which starts at the first "1." of the output (as MemoryAgentBench reads it)."""
    start = max(output.find("1."), 0)
    return [title for line in output[start:].splitlines() if (title := clean_title(line))]


def edit_distance(a: str, b: str) -> int:
    """Levenshtein: least number of characters inserted, deleted or replaced to make `b` of `a`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def nearest_title(title: str, known: Sequence[str]) -> str:
    """The known title at the least edit distance (lower-cased, the first of equals): as MemoryAgentBench maps."""
    return min(known, key=lambda other: edit_distance(title.lower(), other.lower()))


def entity_title(entity: str) -> str:
    """A title from an entity's address: ``".../Heat_(1995_film)"`` gives ``"Heat"``."""
    return clean_title(re.sub(r"[_-]+", " ", entity.rsplit("/", 1)[-1].rstrip(">")))


def precision_recall(predicted: Collection[Hashable], gold: Collection[Hashable]) -> tuple[float, float]:
    """Of two sets; 0 where the divisor is empty."""
    common = len(set(predicted) & set(gold))
    return (common / len(set(predicted)) if predicted else 0.0, common / len(set(gold)) if gold else 0.0)


def harmonic(precision: float, recall: float) -> float:
    """2PR / (P + R), 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def sp_f1(predicted: Collection[Hashable], gold: Collection[Hashable]) -> float:
    """F1 of sets of supporting facts, (title, sentence) pairs (HotpotQA)."""
    return harmonic(*precision_recall(predicted, gold))


def joint_f1(answer: tuple[float, float], supporting: tuple[float, float]) -> float:
    """F1 of the products of the precisions and of the recalls of answer and supporting facts (HotpotQA)."""
    return harmonic(answer[0] * supporting[0], answer[1] * supporting[1])


def infbench_f1(fluency: float, recall: float, precision: float) -> float:
    """Fluency (0 or 1) x harmonic mean of key-point recall and sentence precision (MemoryAgentBench summaries)."""
    return fluency * harmonic(precision, recall)
