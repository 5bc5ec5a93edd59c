"""Micro, macro, per category; the bootstrap over clusters against one written as a loop; published tables."""

import numpy as np
import pytest

from mnemon.metrics import aggregate, weighted_mean
from mnemon.types import MnemonError


def test_micro_and_macro() -> None:
    summary = aggregate([1, 0, 0, 1, 1, 1], ["1", "1", "1", "1", "4", "4"])
    assert summary.micro.mean == pytest.approx(2 / 3)
    assert summary.macro == 0.75
    assert {c: (m.n, m.mean) for c, m in summary.categories.items()} == {"1": (4, 0.5), "4": (2, 1.0)}
    assert summary.micro.interval is None


def test_bootstrap_equals_a_loop() -> None:
    generator = np.random.default_rng(3)
    clusters = [f"conv-{i}" for i in generator.integers(0, 5, 80)]
    categories = [str(i) for i in generator.integers(1, 4, 80)]
    scores = generator.random(80).tolist()
    for name in ("conv-0", "conv-1"):  # a category so rare that some draws miss it
        categories[clusters.index(name)] = "rare"
    summary = aggregate(scores, categories, clusters, samples=400, seed=7)

    names = sorted(set(clusters))
    draws = np.random.default_rng(7).multinomial(5, np.full(5, 0.2), size=400)

    def interval(keep: str | None) -> list[float]:
        means = []
        for draw in draws:
            drawn = []
            for times, name in zip(draw, names, strict=True):
                rows = zip(scores, categories, clusters, strict=True)
                drawn += [s for s, c, g in rows if g == name and keep in (None, c)] * times
            if drawn:
                means.append(sum(drawn) / len(drawn))
        return [float(x) for x in np.quantile(means, [0.025, 0.975])]

    assert summary.micro.interval == pytest.approx(interval(None))
    assert summary.categories["2"].interval == pytest.approx(interval("2"))
    assert summary.categories["rare"].interval == pytest.approx(interval("rare"))
    assert summary.clusters == 5
    assert aggregate(scores, categories, clusters, samples=400, seed=7) == summary
    assert aggregate(scores, categories, clusters, samples=400, seed=8) != summary


def test_intervals_know_what_they_cannot_know() -> None:
    summary = aggregate([1, 0, 1], ["1", "1", "2"], ["a", "b", "b"], samples=50)
    assert summary.micro.interval is not None
    assert summary.categories["2"].interval is None  # one cluster only
    assert aggregate([1, 0], ["1", "1"], ["a", "a"]).micro.interval is None
    constant = aggregate([0.25] * 6, ["1"] * 6, list("aabbcc"))
    assert constant.micro.interval == (0.25, 0.25)


def test_bad_input() -> None:
    with pytest.raises(MnemonError, match="no scores"):
        aggregate([], [])
    with pytest.raises(MnemonError, match="2 scores, 1 categories"):
        aggregate([1, 0], ["1"])
    with pytest.raises(MnemonError, match="score 1 is not a finite"):
        aggregate([1, float("nan")], ["1", "1"])
    with pytest.raises(MnemonError, match="must agree"):
        weighted_mean({"1": 0.5}, {"2": 3})


COUNTS = {"1": 239, "3": 83, "4": 727, "2": 258}
# Memory-R1 (arXiv 2508.19828), Table 1 and scaling table: F1/BLEU-1/J in the columns it calls Single Hop, Multi-Hop,
# Open Domain, Temporal, then its Overall. Those four columns are LoCoMo's categories 1, 3, 4, 2.
PUBLISHED = """
llama rag          | 12.25 9.77 13.81 | 13.69 10.96 20.48 | 11.59 8.30 15.96 | 9.38 8.15 4.65 | 11.41 8.71 13.62
llama zep          | 30.15 17.15 52.38 | 15.04 11.56 33.33 | 26.67 18.44 45.36 | 3.49 2.68 27.58 | 22.60 15.05 42.80
llama a-mem        | 21.62 16.93 44.76 | 13.82 11.45 34.93 | 34.67 29.13 49.38 | 25.77 22.14 36.43 | 29.20 24.40 44.76
llama mem0         | 27.29 18.63 43.93 | 18.59 13.86 37.35 | 34.03 24.77 52.27 | 26.90 21.06 31.40 | 30.41 22.22 45.68
llama memoryos     | 31.89 23.05 52.72 | 13.80 12.78 31.33 | 40.74 33.67 57.36 | 28.74 21.44 23.64 | 35.04 27.99 48.20
llama sft          | 34.64 23.73 56.90 | 20.80 16.26 37.35 | 46.47 37.35 63.27 | 47.18 34.58 54.65 | 42.81 32.98 58.76
llama ppo          | 32.52 24.47 53.56 | 26.86 23.47 42.17 | 45.30 39.18 64.10 | 41.57 26.11 47.67 | 41.05 32.91 57.54
llama grpo         | 35.73 27.70 59.83 | 35.65 30.77 53.01 | 47.42 41.24 68.78 | 49.86 38.27 51.55 | 45.02 37.51 62.74
qwen rag           | 9.57 7.00 15.06 | 11.84 10.02 19.28 | 8.67 6.52 12.79 | 8.35 8.74 5.43 | 8.97 7.27 12.17
qwen zep           | 31.02 21.39 42.85 | 20.42 15.76 23.81 | 25.25 21.34 42.26 | 8.94 8.42 29.31 | 23.22 18.78 38.99
qwen a-mem         | 18.96 12.86 40.78 | 14.73 12.66 31.32 | 30.58 26.14 46.90 | 23.67 20.67 28.68 | 26.08 21.78 40.78
qwen mem0          | 24.96 18.05 61.92 | 20.31 15.82 48.19 | 32.74 25.27 65.20 | 33.16 26.28 38.76 | 30.61 23.55 53.30
qwen memoryos      | 29.55 22.59 48.12 | 21.03 18.41 38.55 | 40.85 36.26 63.14 | 26.26 19.70 24.81 | 34.64 29.36 51.26
qwen sft           | 27.81 20.25 57.74 | 24.62 22.28 46.99 | 43.33 34.06 66.85 | 44.41 34.32 52.71 | 39.51 30.84 61.13
qwen ppo           | 34.22 23.61 57.74 | 32.87 29.48 53.01 | 44.78 38.72 66.99 | 42.88 30.30 42.25 | 41.72 33.70 59.53
qwen grpo          | 33.64 26.06 62.34 | 23.55 20.71 40.96 | 46.86 40.92 67.81 | 47.75 38.49 49.61 | 43.14 36.44 61.51
qwen 3b base       | 19.82 15.78 46.44 | 11.57 10.22 24.10 | 25.37 20.04 45.67 | 28.94 24.19 29.46 | 24.18 19.46 41.24
qwen 3b grpo       | 30.10 20.00 49.37 | 25.29 22.69 44.58 | 43.01 37.39 65.06 | 47.69 33.36 50.00 | 40.45 32.48 57.92
"""


def recomputed(line: str) -> tuple[str, list[float], list[float]]:
    name, *cells = (cell.strip() for cell in line.split("|"))
    rows = [[float(x) for x in cell.split()] for cell in cells]
    means = [weighted_mean(dict(zip("1342", column[:4], strict=True)), COUNTS) for column in zip(*rows, strict=True)]
    return name, means, rows[4]


def test_published_overall_follows_from_the_category_numbers() -> None:
    rows = [recomputed(line) for line in PUBLISHED.strip().splitlines()]
    exceptions = [name for name, means, printed in rows if means != pytest.approx(printed, abs=0.02)]
    assert exceptions == ["llama zep", "llama a-mem", "qwen zep", "qwen a-mem", "qwen mem0"]
    assert len(rows) - len(exceptions) == 13
    by_name = {name: means for name, means, _ in rows}
    assert by_name["llama zep"] == pytest.approx([21.99, 14.66, 42.37], abs=0.01)
    assert by_name["qwen mem0"][2] == pytest.approx(58.30, abs=0.01)
    official = {"4": 35.73, "1": 35.65, "3": 47.42, "2": 49.86}  # the column names read as LoCoMo means them
    assert weighted_mean(official, COUNTS) == pytest.approx(39.25, abs=0.01)


@pytest.mark.parametrize(
    ("columns", "mean"),
    [
        ("786 832 659 666 658 545 187", 0.6190),  # Mem-alpha, its seven validation sources
        ("74 68 52 71 71 41 73 70 12.9", 0.5921),  # Mem-alpha on MemoryAgentBench
        ("690 450 581 690 650 210 700 750 065", 0.5318),  # RAG
        ("280 270 292 640 740 340 860 770 125", 0.4797),  # long context
    ],
)
def test_the_mean_over_sources_is_plain(columns: str, mean: float) -> None:
    """arXiv 2509.25911, tables 1 and 2: columns as printed; the averages printed beside them are not their means."""
    found = [float(column) for column in columns.split()]
    scale = 1000 if max(found) > 100 else 100
    scores = [value / scale for value in found]
    assert aggregate(scores, [str(i) for i in range(len(scores))]).macro == pytest.approx(mean, abs=5e-5)
