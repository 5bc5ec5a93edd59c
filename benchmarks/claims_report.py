"""Writes docs/claims.md and docs/images/*.png from benchmarks/claims.json and tiny_world.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PRESET = "mixed credit"
"""What the runs of claims.json must have been made with (`claims.py measure` writes it)."""
OLDER = (
    "**Made before the present preset of the tiny manager** (its scan, cold start and credit: `docs/decisions.md`), "
    "with which no part of this page has been run yet; the manager's present figures are in "
    "`benchmarks/tiny_world.md`. The manager here, credited by evidence alone, reached 91.1 % at six events."
)
T95 = {1: float("nan"), 2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a 95 % interval of the mean of n seeds."""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95 % interval (t distribution), in points of percent."""
    n = len(values)
    mean = sum(values) / n
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, n - 1))
    return 100 * mean, 100 * T95.get(n, 2.0) * spread / math.sqrt(n)


def cell(values: Sequence[float] | None) -> str:
    """mean ± half width (n seeds)."""
    if not values:
        return "not run"
    mean, half = interval(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def paired(a: Sequence[float], b: Sequence[float]) -> str:
    """The difference a − b, seed by seed."""
    return cell([x - y for x, y in zip(a, b, strict=False)])


def verdict(a: Sequence[float], b: Sequence[float], more: float = 0.0) -> str:
    """Whether a exceeds b by `more`: yes when the paired 95 % interval lies above, in sign only when the mean does."""
    differences = [x - y - more for x, y in zip(a, b, strict=False)]
    if not differences:
        return "not run"
    mean, half = interval(differences)
    if mean - (0 if math.isnan(half) else half) > 0:
        return "**reproduced**"
    return "in sign, not beyond the interval" if mean > 0 else "**not reproduced**"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(r) + " |" for r in rows),
        "",
    ]


def claim_rows(found: dict[str, Any]) -> list[list[str]]:
    """claim → runs → paper → ours → verdict → remark."""
    grid, algorithms, distillation, few = found["grid"], found["algorithms"], found["distillation"], found["few"]
    both, neither = grid["trained manager, trained answerer"], grid["untrained manager, untrained answerer"]
    manager, answerer = grid["trained manager, untrained answerer"], grid["untrained manager, trained answerer"]
    gain = lambda m: [  # noqa: E731
        t - u
        for t, u in zip(grid[f"{m} manager, trained answerer"], grid[f"{m} manager, untrained answerer"], strict=True)
    ]
    oracle, alone = cell(grid["oracle manager, untrained answerer"]), "`tiny_world.py`, `answerer`"
    rows = [
        [
            "the trained manager alone helps", alone, "F1 26.7 → 33.0", f"{cell(neither)} → {cell(manager)}",
            verdict(manager, neither), f"the untrained answerer gets no further than {oracle} on the oracle's banks",
        ],
        [
            "the trained answerer alone helps", alone, "F1 26.7 → 37.5", f"{cell(neither)} → {cell(answerer)}",
            verdict(answerer, neither), "",
        ],
        [
            "both together are best", alone, "F1 45.0", cell(both),
            verdict(both, [max(x) for x in zip(manager, answerer, strict=True)]), "against the better of the two alone",
        ],
        [
            "synergy: the answerer gains more from a better manager", alone,
            "F1 gain +10.1 (own manager), +19.7 (GPT-4o-mini manager)",
            "gain: " + ", ".join(f"{m} {cell(gain(m))}" for m in ("untrained", "trained", "oracle")),
            verdict(gain("trained"), gain("untrained")), "trained against untrained manager",
        ],
    ]  # fmt: skip
    for k in (6, 12, 16):
        selects, direct = distillation.get(f"selects, trained, k={k}"), distillation.get(f"direct, trained, k={k}")
        if selects and direct:
            row = [f"selecting memories first helps, k={k}", "`answerer`, `answerer_direct`"]
            row += ["F1 45.0 with, 41.0 without (k=60)", f"{cell(selects)} with, {cell(direct)} without"]
            before = cell(distillation[f"direct, untrained, k={k}"])
            why = f"without, before its training: {before}"
            rows.append([*row, verdict(selects, direct), why])
    if "manager_ppo" in algorithms:
        a, b = algorithms["manager"], algorithms["manager_ppo"]
        row = ["GRPO ends above PPO (manager)", "`tiny_world.py`, `manager_ppo`", "F1 45.0 against 41.0"]
        rows.append([*row, f"{cell(a)} against {cell(b)}", verdict(a, b), ""])
    if "few_152" in few:
        a, b = few["few_152"], algorithms["cold start"]
        row = ["152 training questions suffice", "`few_152`", "F1 26.7 → 45.0 with 152"]
        text = f"{cell(b)} → {cell(a)} with 152; {cell(algorithms['manager'])} with always new ones"
        rows.append([*row, text, verdict(a, b, 0.45), "asked for: a gain of 45 points"])
    return rows


def write(found: dict[str, Any]) -> None:
    """The page and its plots."""
    lines = ["# The paper's claims in miniature", ""]
    lines += [
        "Generated by `python benchmarks/claims.py write` from `benchmarks/claims.json` (made by `train` and `measure` "
        "of the same file). **All our figures come from the tiny world**: a model of half a million weights, trained "
        "here from scratch; no large model has been trained here. The paper's figures (arXiv 2508.19828, LLaMA-3.1-8B, "
        "F1 on LoCoMo) measure something else; what is compared is the direction and the order. Ours are exact answers "
        "in %, mean over the seeds ± the half width of its 95 % interval (t distribution; no interval with one seed).",
        "",
        *([OLDER, ""] if found.get("preset") != PRESET else []),
    ]
    lines += table(["claim", "runs", "paper", "ours", "verdict", "remark"], claim_rows(found))
    lines += [
        "Runs: `tiny_world.py` is `python benchmarks/tiny_world.py`, any other `python benchmarks/claims.py train NAME "
        "--seed S` for the seeds 0, 1 and 2. Reproduced: the 95 % interval of the difference, paired by seed, lies "
        "above 0 (or above what the remark asks for). In sign: only its mean does; intervals of few seeds are wide.",
        "",
    ]
    lines += ["## Managers × answerers", ""]
    lines += table(["banks of", "untrained answerer", "trained answerer", "gain"], [
        [
            f"{m} manager",
            cell(found["grid"][f"{m} manager, untrained answerer"]),
            cell(found["grid"][f"{m} manager, trained answerer"]),
            paired(found["grid"][f"{m} manager, trained answerer"], found["grid"][f"{m} manager, untrained answerer"]),
        ]
        for m in ("untrained", "trained", "oracle")
    ])  # fmt: skip
    lines += ["## Distillation: naming the useful memories before answering", ""]
    rows = [[label, cell(values)] for label, values in sorted(found["distillation"].items())]
    lines += table(["answerer", "exact answers, banks of the trained manager"], rows)
    lines += ["## Algorithms and credit (manager, six events, rule reader)", ""]
    lines += table(["run", "exact answers"], [[n, cell(v)] for n, v in found["algorithms"].items()])
    lines += ["![learning curves](images/algorithms.png)", "", "## Few examples", ""]
    lines += table(["training questions", "exact answers"], [
        *([n.removeprefix("few_"), cell(v)] for n, v in found["few"].items()),
        ["always new", cell(found["algorithms"].get("manager"))],
    ])  # fmt: skip
    lines += ["## Three cases, before and after training", ""]
    for title, case in found["cases"].items():
        lines += [f"**{title}**", "", "```", *case_lines(case), "```", ""]
    (DOCS / "claims.md").write_text("\n".join(lines), encoding="utf-8")
    plots(found)
    print(f"wrote {DOCS / 'claims.md'}")


def case_lines(case: dict[str, Any]) -> list[str]:
    """One case as text."""
    lines = [f"reads      {text}" for text in case.get("inputs", [])]
    lines += [f"memory     {text}" for text in case.get("memory", [])]
    lines += [f"question   {case['question']}   (right: {case['gold']})"]
    for who in ("untrained", "trained"):
        one = case[who]
        if "operations" in one:
            did = "; ".join(", ".join(ops) or "nothing" for ops in one["operations"])
            lines += [f"{who:<10} did: {did}", f"{'':<10} holds: {'; '.join(one['memory']) or 'nothing'}"]
        else:
            lines += [f"{who:<10} said: {one['selected']}"]
        lines += [f"{'':<10} answers: {one['answer'] or '(nothing)'}"]
    return lines


def plots(found: dict[str, Any]) -> None:
    """Learning curves of the algorithms; the mean over seeds with the range as a band."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {
        "manager": "GRPO, half by evidence" if found.get("preset") == PRESET else "GRPO, credit by evidence",
        "manager_linked": "GRPO, credit by evidence",
        "manager_trajectory": "GRPO, credit to the episode",
        "manager_ppo": "PPO",
    }
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for part, label in names.items():
        runs = found["curves"].get(part)
        if not runs:
            continue
        xs = [p[0] for p in runs[0]]
        ys = [[100 * p[1] for p in run] for run in runs]
        middle = [sum(column) / len(column) for column in zip(*ys, strict=True)]
        axes.plot(xs, middle, label=label, linewidth=2)
        axes.fill_between(
            xs, [min(c) for c in zip(*ys, strict=True)], [max(c) for c in zip(*ys, strict=True)], alpha=0.2
        )
    axes.set_xlabel("policy updates (0 = cold start)")
    axes.set_ylabel("validation answers right, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    axes.set_title("A memory manager learns from answers alone (3 seeds, range shaded)", fontsize=11)
    (DOCS / "images").mkdir(exist_ok=True)
    figure.savefig(DOCS / "images" / "algorithms.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    write(json.loads((HERE / "claims.json").read_text(encoding="utf-8")))
