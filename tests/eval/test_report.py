"""Reports and comparisons from answers written by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mnemon.eval.report import Report, compare
from mnemon.metrics import aggregate
from mnemon.types import MnemonError


def answer(cluster: str, probe: str, category: str, scores: dict[str, float], **more: Any) -> dict[str, Any]:
    return {
        "task": f"locomo/{cluster}",
        "probe": probe,
        "category": category,
        "cluster": cluster,
        "question": f"hash of {probe}",
        "prediction": "x",
        "scores": scores,
        "evidence_shown": None,
        "answer_words": 2,
        **more,
    }


ANSWERS = [
    answer("c1", "q0", "1", {"em": 1.0, "f1": 1.0}, evidence_shown=0.5),
    answer("c1", "q1", "2", {"em": 0.0, "f1": 0.5}),
    answer("c2", "q0", "1", {"em": 0.0, "f1": 0.25}, evidence_shown=1.0, answer_words=4),
    answer("c2", "q1", "5", {"f1": 1.0}),
]
NAMES = {"LoCoMo": {"1": "multi-hop", "2": "temporal"}, "mem0": {"1": "Single Hop", "2": "Temporal"}}


def make(answers: list[dict[str, Any]] = ANSWERS, **more: Any) -> Report:
    work = {"inputs": 4, "calls": {"writer": 4, "extractor": 5}, "prompt_tokens": 1234, "events": {"no_call": 2}}
    return Report(
        {"seed": 0, "reader": {"agent": {"options": {"k": 60}}}},
        {"mnemon": "1"},
        answers,
        categories=NAMES,
        memory={"locomo/c1": {"entries": 2, "tokens": 10}, "locomo/c2": {"entries": 4, "tokens": 30}},
        counter="mnemon.memory.memory.count_words",
        work={"writer": work},
        **more,
    )


def text_of(thing: Any, width: int = 80) -> str:
    page = io.StringIO()
    Console(file=page, width=width, no_color=True).print(thing)
    return page.getvalue()


def test_figures_by_hand() -> None:
    report = make()
    em, f1 = report.scores["em"], report.scores["f1"]
    assert (em.micro.n, em.micro.mean, em.macro) == (3, pytest.approx(1 / 3), 0.25)
    assert (f1.micro.n, f1.micro.mean) == (4, 0.6875)
    assert {c: (m.n, m.mean) for c, m in f1.categories.items()} == {"1": (2, 0.625), "2": (1, 0.5), "5": (1, 1.0)}
    assert f1 == aggregate([1, 0.5, 0.25, 1], ["1", "2", "1", "5"], ["c1", "c1", "c2", "c2"])
    assert list(report.measures) == ["evidence_shown", "answer_words"]
    assert (report.measures["evidence_shown"].micro.n, report.measures["evidence_shown"].micro.mean) == (2, 0.75)
    assert report.measures["answer_words"].micro.mean == 2.5


def test_markdown() -> None:
    page = make().markdown()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert rows[0] == "| category | LoCoMo | mem0 | n | em | f1 |"
    assert rows[2].startswith("| 1 | multi-hop | Single Hop | 2 | 50.00 [0.00, 100.00] | 62.50 [25.00, 100.00] |")
    assert rows[3] == "| 2 | temporal | Temporal | 1 | 0.00 | 50.00 |"  # one conversation: no interval
    assert rows[4] == "| 5 |  |  | 1 | – | 100.00 |"
    assert rows[5].startswith("| all, micro |  |  | 4 | 33.33 [0.00, 50.00] (n=3) | 68.75 [62.50, 75.00] |")
    assert rows[6] == "| all, macro |  |  |  | 25.00 | 70.83 |"
    assert "- 4 of 4 questions answered" in page
    assert "memory per task: 3 entries, 20 tokens (count_words); 2 tasks" in page
    assert "writer: 4 inputs, 4 writer calls, 5 extractor calls, 1,234 prompt tokens, no_call 2" in page
    assert "- reader.agent.options.k: `60`" in page


def test_a_terminal_of_80_columns_cuts_nothing() -> None:
    failures = [{"task": "t[0]", "probe": f"q{i}", "error": f"[down {max(i, 2)}]"} for i in range(9)]
    page = text_of(make(failures=failures))
    assert "…" not in page.replace("… and 2 more reasons", "")
    assert "4 of 13 questions answered; 9 FAILED" in page
    assert "t[0], q0 and 2 more: [down 2]" in page
    assert "t[0], q6: [down 6]" in page
    assert "q7" not in page
    assert "[25.0, 100.0]" in page
    assert all(len(line) <= 80 for line in page.splitlines())


def test_no_categories_no_clusters() -> None:
    report = make([answer("c1", "q0", "", {"em": 1.0}), answer("c1", "q1", "", {"em": 0.0})])
    rows = [line for line in report.markdown().splitlines() if line.startswith("|")]
    assert rows[2] == "| all, micro |  |  | 2 | 50.00 |"
    assert "no intervals: 1 conversation" in text_of(report)


def test_write_and_load(tmp_path: Path) -> None:
    report = make(failures=[{"task": "t", "probe": "q", "error": "down"}])
    report.write(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"report.json", "report.md"}
    again = Report.load(tmp_path)
    assert again.answers == []  # they are in answers.jsonl
    assert again.failures == report.failures
    assert (again.categories, again.memory, again.work, again.settings) == (
        report.categories,
        report.memory,
        report.work,
        report.settings,
    )
    stored = report.json()
    assert stored["scores"]["f1"]["categories"]["2"] == {"n": 1, "mean": 0.5, "interval": None}
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(MnemonError, match="is damaged"):
        Report.load(tmp_path)
    with pytest.raises(MnemonError, match="holds no report"):
        Report.load(tmp_path / "nowhere")


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def shifted(by: float) -> list[dict[str, Any]]:
    return [{**a, "scores": {name: value + by for name, value in a["scores"].items()}} for a in ANSWERS]


def test_a_constant_difference_is_certain() -> None:
    comparison = compare(make(), make(shifted(-0.125)))
    f1 = comparison.differences["f1"].micro
    assert (f1.n, f1.mean, f1.interval) == (4, 0.125, (0.125, 0.125))  # paired: no spread between conversations
    assert comparison.means["f1"] == (0.6875, 0.5625)
    assert "| f1 | 68.75 | 56.25 | 12.50 [12.50, 12.50] | a is better |" in comparison.markdown()
    assert "b is better" in compare(make(shifted(-0.125)), make()).markdown()
    same = compare(make(), make())
    assert same.differences["em"].micro.interval == (0.0, 0.0)
    assert "within chance" in text_of(same)


def test_a_difference_by_hand() -> None:
    better_in_c1 = [
        {**a, "scores": {"f1": a["scores"]["f1"] - (0.5 if a["cluster"] == "c1" else -0.25)}} for a in ANSWERS
    ]
    comparison = compare(make(), make(better_in_c1))
    f1 = comparison.differences["f1"]
    assert list(comparison.differences) == ["f1"]  # the other report has no em
    assert f1.micro.mean == 0.125
    assert f1.micro.interval == (-0.25, 0.5)
    assert f1.categories["2"].mean == 0.5
    assert comparison.json()["pairs"] == 4


def test_only_shared_questions_count() -> None:
    comparison = compare(make(ANSWERS[1:]), make(ANSWERS[:3]))
    assert (comparison.pairs, comparison.unpaired) == (2, 2)
    assert "2 answered by one system only are left out" in comparison.markdown()
    single = compare(make(ANSWERS[:2]), make(ANSWERS))
    assert single.differences["em"].micro.interval is None
    assert "cannot tell" in single.markdown()


def test_what_cannot_be_compared() -> None:
    other = [{**a, "question": "changed"} for a in ANSWERS]
    with pytest.raises(MnemonError, match=r"q0 of locomo/c1 differs .* \(4 such questions\)"):
        compare(make(), make(other))
    with pytest.raises(MnemonError, match="share no question"):
        compare(make(ANSWERS[:2]), make(ANSWERS[2:]))
    with pytest.raises(MnemonError, match="no question has bleu in both"):
        compare(make(), make(), ["bleu"])
