"""Means over questions, per category, and their intervals over conversations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnemon.types import MnemonError

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of `n` scores with its bootstrap interval (None where it cannot be estimated)."""

    n: int
    mean: float
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """`micro`: mean over questions; `macro`: mean of the category means; `categories` in sorted order of their ids."""

    micro: Mean
    macro: float
    categories: Mapping[str, Mean]
    clusters: int


def aggregate(
    scores: Sequence[float],
    categories: Sequence[str],
    clusters: Sequence[str] | None = None,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Summary:
    """Summarise scores [n] with the category [n] and the cluster [n] (conversation) of each.

    Questions of one conversation share its memory, so they are not independent: the interval is the percentile
    bootstrap over whole clusters (`samples` draws, reproducible by `seed`). Without clusters, or with one, there is no
    interval. For two systems on the same questions, aggregate their differences. MnemonError on different lengths, on
    no scores and on scores that are not finite.
    """
    values_N = np.asarray(scores, dtype=np.float64)
    if not len(values_N):
        raise MnemonError("aggregate: no scores; was every question left out?")
    if len(categories) != len(values_N) or (clusters is not None and len(clusters) != len(values_N)):
        raise MnemonError(
            f"aggregate: {len(values_N)} scores, {len(categories)} categories and "
            f"{'no' if clusters is None else len(clusters)} clusters; give one of each per question."
        )
    if not np.isfinite(values_N).all():
        raise MnemonError(f"aggregate: score {int(np.argmin(np.isfinite(values_N)))} is not a finite number.")
    names, kind_N = np.unique(np.asarray(categories, dtype=str), return_inverse=True)
    groups = np.asarray([""] * len(values_N) if clusters is None else clusters, dtype=str)
    group_names, group_N = np.unique(groups, return_inverse=True)
    sums_G_K = np.zeros((len(group_names), len(names)))
    counts_G_K = np.zeros_like(sums_G_K)
    np.add.at(sums_G_K, (group_N, kind_N), values_N)
    np.add.at(counts_G_K, (group_N, kind_N), 1)

    means_K = sums_G_K.sum(0) / counts_G_K.sum(0)
    intervals = _bootstrap(sums_G_K, counts_G_K, samples, level, seed)
    counts_K = counts_G_K.sum(0).astype(int).tolist()
    return Summary(
        micro=Mean(len(values_N), float(values_N.mean()), intervals[-1]),
        macro=float(means_K.mean()),
        categories={
            str(name): Mean(n, float(mean), interval)
            for name, n, mean, interval in zip(names, counts_K, means_K, intervals[:-1], strict=True)
        },
        clusters=len(group_names) if clusters is not None else 0,
    )


def _bootstrap(
    sums_G_K: NDArray[np.float64], counts_G_K: NDArray[np.float64], samples: int, level: float, seed: int
) -> list[Interval | None]:
    """Percentile intervals of the K category means and, last, of the micro mean, over draws of G clusters."""
    groups, kinds = sums_G_K.shape
    if groups < 2:
        return [None] * (kinds + 1)
    generator = np.random.default_rng(seed)
    draws_S_G = generator.multinomial(groups, np.full(groups, 1 / groups), size=samples)
    sums_S_K, counts_S_K = draws_S_G @ sums_G_K, draws_S_G @ counts_G_K
    intervals: list[Interval | None] = []
    tails = [(1 - level) / 2, (1 + level) / 2]
    for column in range(kinds + 1):
        micro = column == kinds
        total_S = sums_S_K.sum(1) if micro else sums_S_K[:, column]
        count_S = counts_S_K.sum(1) if micro else counts_S_K[:, column]
        present = counts_G_K.sum(1) if micro else counts_G_K[:, column]
        if np.count_nonzero(present) < 2:
            intervals.append(None)
            continue
        drawn = count_S > 0
        low, high = np.quantile(total_S[drawn] / count_S[drawn], tails)
        intervals.append((float(low), float(high)))
    return intervals


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, sqrt(sample variance / n), over independent values (episodes, streams)."""
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def weighted_mean(means: Mapping[str, float], counts: Mapping[str, int]) -> float:
    """The micro mean from category means and question counts: sum of n_c m_c over sum of n_c."""
    if set(means) != set(counts) or not sum(counts.values()):
        raise MnemonError(f"weighted_mean: categories {sorted(means)} and counts {sorted(counts)} must agree.")
    return sum(means[c] * counts[c] for c in means) / sum(counts.values())
