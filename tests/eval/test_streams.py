"""Figures of streams by hand: sources, dimensions, lengths, the writer's calls, questions that a judge scores."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mnemon.eval import plots, streams
from mnemon.eval.evaluate import evaluate
from mnemon.eval.report import Report
from mnemon.metrics import aggregate
from mnemon.policy.base import Scripted, run_sync
from mnemon.types import MnemonError, Probe


def answer(task: str, number: int, headline: str, score: float | None) -> dict[str, Any]:
    return {
        "task": task,
        "probe": f"{task}/q{number}",
        "category": "",
        "cluster": task,
        "question": "",
        "scores": {"em": 0.5} | ({} if score is None else {headline: score}),
        "headline": headline,
    }


def size(source: str, dimension: str, read: int, kept: int) -> dict[str, Any]:
    return {"entries": 1, "tokens": kept, "input_tokens": read, "source": source, "dimension": dimension}


MEMORY = {
    "a1": size("squad", "accurate_retrieval", 1000, 100),
    "a2": size("squad", "accurate_retrieval", 3000, 900),
    "b1": size("longmemeval", "accurate_retrieval", 1500, 1500),
    "c1": size("booksum", "long_range_understanding", 1024, 64),
    "plain": {"entries": 1, "tokens": 5},
}
ANSWERS = [
    *(answer("a1", i, "sub_squad", score) for i, score in enumerate((1.0, 0.0, 0.0, 1.0))),
    answer("a2", 0, "sub_squad", 1.0),
    answer("b1", 0, "judge_lme", 1.0),
    answer("b1", 1, "judge_lme", None),
    answer("b1", 2, "judge", 0.0),
    answer("c1", 0, "keyword_hit", 0.25),
    answer("plain", 0, "em", 1.0),
]
WORK = {
    "tools": {"insert": 6, "none": 1, "update": 3},
    "events": {"calls": 7, "refused:unknown_id": 2, "refused:unparsable": 1, "no_call": 4},
    "inputs": 9,
    "calls": {"writer": 9},
    "prompt_tokens": 0,
}


@pytest.fixture
def found() -> list[streams.Stream]:
    return streams.streams_of(ANSWERS, MEMORY)


def make(**more: Any) -> Report:
    settings = {"data": {"unjudged": {"questions": 7, "rows": 2}}}
    return Report(settings, {}, ANSWERS, memory=MEMORY, counter="words", work={"writer": WORK, "reader": WORK}, **more)


def test_a_task_without_a_source_is_no_stream(found: list[streams.Stream]) -> None:
    assert [stream.task for stream in found] == ["a1", "a2", "b1", "c1"]
    assert [stream.score for stream in found] == [0.5, 1.0, 0.5, 0.25]
    assert (found[2].judged, found[2].unread) == (2, 1)
    assert Report({}, {}, ANSWERS, memory={"plain": MEMORY["plain"]}).streams == []


def test_by_question_and_by_stream(found: list[streams.Stream]) -> None:
    """Squad: 3 of 5 questions, but the mean of the streams 0.5 and 1. Over sources: (0.75 + 0.5 + 0.25) / 3."""
    squad, lme, book = streams.parts_of(found, lambda stream: stream.source)
    assert (squad.name, squad.streams, squad.questions, squad.scorers) == ("squad", 2, 5, ("sub_squad",))
    assert squad.by_question is not None
    assert squad.by_stream is not None
    assert (squad.by_question.mean, squad.by_stream.mean) == (0.6, 0.75)
    clusters = ["a1"] * 4 + ["a2"]
    assert squad.by_question == aggregate([1, 0, 0, 1, 1], [""] * 5, clusters).micro
    assert squad.by_stream.interval == (0.5, 1.0)
    assert lme.by_stream is not None
    assert lme.by_stream.interval is None  # one stream
    assert (squad.input_tokens, squad.memory_tokens, squad.share) == (4000, 1000, 0.25)
    assert (lme.questions, lme.judged, lme.unread, book.judged) == (2, 2, 1, 0)
    assert streams.over_sources([squad, lme, book]) == 0.5


def test_lengths_are_doublings_in_order(found: list[streams.Stream]) -> None:
    parts = streams.by_length(found)
    assert [(part.name, part.streams) for part in parts] == [
        ("512 to 1,023", 1),
        ("1,024 to 2,047", 2),
        ("2,048 to 4,095", 1),
    ]


def test_calls_and_refusals() -> None:
    assert streams.call_table(WORK) == [
        ["writer's calls", "n", "share"],
        ["insert", "6", "60.0 %"],
        ["none", "1", "10.0 %"],
        ["update", "3", "30.0 %"],
        ["refused: unknown_id", "2", "20.0 %"],
        ["refused: unparsable", "1", "10.0 %"],
    ]
    assert streams.call_table({"tools": {}, "events": {"no_call": 1}}) == []
    assert streams.calls(WORK)["inputs_without_a_call"] == 4


def test_the_report_says_it() -> None:
    report = make()
    page = report.markdown()
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[0] == (
        "| source | metric | streams | questions | score | score by stream | tokens read | kept | kept / read |"
    )
    assert lines[2].startswith("| squad | sub_squad | 2 | 5 | 60.00 [50.00, 100.00] | 75.00 [50.00, 100.00] | 4,000 |")
    assert lines[3].startswith("| longmemeval | judge_lme, judge | 1 | 2 | 50.00 | 50.00 | 1,500 | 1,500 | 100 % |")
    assert "| mean of sources |  |  |  |  | 50.00 |  |  |  |" in lines
    assert "2 questions were scored by the judge; verdicts that could not be read, and are in no figure: 1" in page
    assert "7 questions were NOT asked, 2 whole streams among them: only a judge can score them (--judge)" in page
    assert "bootstrap intervals over 5 streams" in page
    plain = report.json()["streams"]
    assert plain["mean_of_sources"] == 0.5
    assert plain["tasks"]["a2"] == {
        "source": "squad",
        "dimension": "accurate_retrieval",
        "input_tokens": 3000,
        "memory_tokens": 900,
        "questions": 1,
        "score": 1.0,
    }
    assert plain["sources"]["squad"]["by_stream"] == {"n": 2, "mean": 0.75, "interval": [0.5, 1.0]}


def test_80_columns() -> None:
    names = {"a1": "icl_banking77_5900shot_balance", "a2": "icl_banking77_5900shot_balance"}
    memory = {task: held | ({"source": names[task]} if task in names else {}) for task, held in MEMORY.items()}
    page = io.StringIO()
    Console(file=page, width=80, no_color=True).print(replace(make(), memory=memory))
    text = page.getvalue()
    assert "…" not in text
    assert all(word in text for word in ("icl banking77", "5900shot", "understanding", "1,024 to 2,047"))
    assert max(map(len, text.splitlines())) <= 80
    assert "[50.0, 100.0]" in text


# ── a judge's questions, from the task to the report ─────────────────────────────────────────────────────────────────


def test_questions_that_only_a_judge_can_score(small: Any) -> None:
    task = small.make_task("t1", source="longmemeval", dimension="accurate_retrieval")
    probes = (
        Probe("q0", "Rex ?", ("dog",), scorers=("judge_lme",)),
        Probe("q1", "Mia ?", (), scorers=("judge_rubric",), meta={"rubric": "names the cat"}),
        Probe("q2", "Leo ?", ("fox",), scorers=("em",)),
        Probe("q3", "Leo ?", ("fox",), scorers=("judge_correct", "em")),
    )
    task = replace(task, probes=probes)
    reader, writer = (small.reader_agent(), small.Reader()), (small.writer_agent(), small.Writer())
    seen: list[str] = []

    def verdict(messages: Any, tools: Any) -> str:
        seen.append(messages[1].content)
        asked = messages[1].content
        if asked.startswith("{"):
            return '{"label": "CORRECT"}'
        return "no" if "Rubric: names the cat" in asked else "yes"

    with pytest.raises(MnemonError, match="only a judge can score q0 of t1"):
        run_sync(evaluate([task], reader, writer, quiet=True))
    report = run_sync(evaluate([task], reader, writer, judge=Scripted(verdict), quiet=True))
    scores = {a["probe"]: (a["headline"], a["scores"]) for a in report.answers}
    assert scores == {
        "q0": ("judge_lme", {"judge_lme": 1.0}),
        "q1": ("judge_rubric", {"judge_rubric": 0.0}),
        "q2": ("em", {"em": 1.0, "judge": 1.0}),
        "q3": ("judge", {"em": 1.0, "judge": 1.0}),
    }
    assert len(seen) == 4
    assert report.work["reader"]["calls"]["judge"] == 4
    assert report.work["writer"]["tools"] == {"add": 3, "delete": 1}
    assert report.streams[0].scores == (1.0, 0.0, 1.0, 1.0)
    assert report.streams[0].judged == 3
    assert report.memory["t1"]["input_tokens"] == 14
    assert report.memory["t1"]["sections"] == {"facts": 8}


def test_an_unknown_judge_is_said_before_anything_is_asked(small: Any) -> None:
    task = replace(small.make_task(), probes=(Probe("q", "?", ("x",), scorers=("rouge_l", "judge_infbench")),))
    pair = (small.reader_agent(), small.Reader())
    with pytest.raises(MnemonError, match="judge_infbench"):
        run_sync(evaluate([task], pair, judge=Scripted(lambda *_: "yes"), quiet=True))
    assert pair[1].asked == []


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures(found: list[streams.Stream], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for draw in (plots.length_plot, plots.memory_plot):
        first, again = (draw(found, tmp_path / name) for name in ("one.png", "two.png"))
        assert first.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert first.read_bytes() == again.read_bytes()


def test_call_shares() -> None:
    records = [
        {"update": 1, "phase": "train", "tools": {"insert": 3, "none": 1}, "events": {"refused:a": 1, "calls": 3}},
        {"update": 1, "phase": "eval", "validation": 0.5},
        {"update": 2, "phase": "train", "tools": {"update": 2}, "events": {"calls": 2}},
        {"update": 3, "phase": "train", "tools": {}, "events": {"no_call": 8}},
    ]
    assert plots.call_shares(records) == [
        {"update": 1, "calls": {"insert": 0.75, "none": 0.25, "update": 0.0, "refused": 0.25}},
        {"update": 2, "calls": {"insert": 0.0, "none": 0.0, "update": 1.0, "refused": 0.0}},
    ]
    with pytest.raises(MnemonError, match="no tool was called"):
        plots.call_shares(records[1:2])
