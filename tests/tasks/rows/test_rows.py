"""Rows: files, validation, tasks."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon import metrics
from mnemon.tasks.rows import (
    SCORERS,
    Chunk,
    Chunker,
    Question,
    Row,
    Said,
    Segment,
    check_row,
    parse_row,
    read_rows,
    row_json,
    to_task,
    write_rows,
)
from mnemon.types import Input, MnemonError, Stage


def demo(**changes: Any) -> Row:
    """Two sessions in two chunks, one question about each."""
    turns = [
        (Said("D1:1", "Ana", "user", "I joined a choir."), Said("D1:2", "Ben", "other", "Lovely!")),
        (Said("D2:1", "Ana", "user", "Our concert is in June.", {"caption": "a stage"}),),
    ]
    segments = tuple(
        Segment(f"S{i}", "dialogue", turns=held, time=f"2023-05-0{i}T13:56", time_text=f"{i} May", speakers=("Ana",))
        for i, held in enumerate(turns, 1)
    )
    row = Row(
        id="locomo/demo",
        source="locomo",
        dimension="accurate_retrieval",
        split="test",
        license="ours",
        segments=segments,
        probes=(
            Question("q0", "What did Ana join?", ("a choir",), evidence=("D1:1",), evidence_level="turn", after=1),
            Question(
                "q1", "When is it?", ("June",), evidence=("S2",), evidence_level="segment", asked_at="2023-06-01T10:00"
            ),
        ),
        chunks=(
            Chunk("c0", "Ana: I joined a choir.", ("S1",), ("D1:1", "D1:2"), "2023-05-01T13:56", 5),
            Chunk("c1", "Ana: Our concert is in June.", ("S2",), ("D2:1",), "2023-05-02T13:56", 6),
        ),
        chunker=Chunker("sessions", "words", 8),
        metadata={"documents": ["demo"]},
    )
    return replace(row, **changes)


def question(**changes: Any) -> Row:
    row = demo()
    return replace(row, probes=(replace(row.probes[0], **changes),))


def inputs(stage: Stage) -> list[Input]:
    async def play() -> list[Input]:
        environment = stage.environment()
        at = await environment.reset()
        read = []
        while at is not None:
            read.append(at)
            at = (await environment.step(""))[0]
        return read

    return asyncio.run(play())


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_round_trip(tmp_path: Path) -> None:
    rows = (demo(), demo(id="other", chunks=(), chunker=None, metadata={}))
    assert write_rows(tmp_path / "rows.jsonl", rows) == 2
    assert read_rows(tmp_path / "rows.jsonl").rows == rows
    assert not list(tmp_path.glob("*.partial"))


texts = st.text(min_size=1).filter(lambda text: bool(text.strip()))


@given(st.lists(texts, min_size=1, max_size=3), texts, st.dictionaries(st.text(), st.integers() | st.text()))
def test_any_text_survives(said: list[str], asked: str, meta: dict[str, Any]) -> None:
    turns = tuple(Said(f"t{i}", "A", "user", text) for i, text in enumerate(said))
    row = demo(segments=(Segment("S1", "text", turns=turns, meta=meta),), chunks=(), chunker=None)
    row = replace(row, probes=(Question("q", asked, ("x",), meta=meta),))
    from mnemon.tasks.rows.files import _line

    assert parse_row(json.loads(_line(row_json(row)).encode("utf-8"))) == row


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: is not JSON"),
        ('{"schema": "other"}', "schema: is 'other', not 'memtask/1'"),
        ("[]", "row: is [], not an object"),
        ("ID", "is used by an earlier line [E_ID]"),
        ({"id": 7}, "line 2, id: is 7, not text"),
        ({"colour": 1}, "colour: is not a field; known: id, source"),
        ({"segments": [{"id": "S1"}]}, "segments[0].kind: is missing [E_FIELD]"),
        ({"probes": "none"}, "probes: is 'none', not a list"),
        ({"split": "dev"}, "line 2 (locomo/x), split: 'dev' is not one of train, validation, test [E_FIELD]"),
    ],
)
def test_a_bad_row_is_named_and_left_out_on_demand(tmp_path: Path, line: Any, said: str) -> None:
    good = json.dumps(row_json(demo()))
    if isinstance(line, dict):
        line = json.dumps(row_json(demo(id="locomo/x")) | line)
    lines = [good, good if line == "ID" else line]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(MnemonError, match="1 malformed part") as error:
        read_rows(file)
    assert said in str(error.value)
    rows = read_rows(file, skip_bad=True)
    assert rows.rows == (demo(),)
    assert [fault.done for fault in rows.left_out] == ["row left out"]


def test_a_bad_question_costs_the_question_only(tmp_path: Path) -> None:
    raw = row_json(demo())
    raw["probes"][0]["answers"] = [3]
    raw["probes"].append(dict(raw["probes"][1], id="q2", scorers=["boxed"]))
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(MnemonError, match=r"(?s)2 malformed.*probes\[0\].answers\[0\]: is 3, not text.*E_SCORER"):
        read_rows(file)
    rows = read_rows(file, skip_bad=True)
    assert [probe.id for probe in rows[0].probes] == ["q1"]
    assert [fault.done for fault in rows.left_out] == ["question left out"] * 2


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match="cannot read"):
        read_rows(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(MnemonError, match="no usable row: it is empty"):
        read_rows(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xf0\xf0")
    with pytest.raises(MnemonError, match="not UTF-8"):
        read_rows(tmp_path / "latin.jsonl")
    with pytest.raises(MnemonError, match="make it first"):
        write_rows(tmp_path / "no" / "rows.jsonl", [demo()])


def test_nothing_malformed_is_written(tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match="E_ANS"):
        write_rows(tmp_path / "rows.jsonl", [demo(), replace(question(answers=()), id="b")])
    with pytest.raises(MnemonError, match="given to two rows"):
        write_rows(tmp_path / "rows.jsonl", [demo(), demo()])
    assert not list(tmp_path.iterdir())


# ── validation ───────────────────────────────────────────────────────────────────────────────────────────────────────

one, two = demo().segments
first, second = demo().chunks


@pytest.mark.parametrize(
    ("row", "code", "field"),
    [
        (demo(id=" "), "E_ID", "id"),
        (demo(segments=(one, replace(two, id="S1"))), "E_ID", "segments"),
        (demo(segments=(one, replace(two, turns=one.turns))), "E_ID", "turns"),
        (demo(probes=demo().probes[:1] * 2), "E_ID", "probes[1].id"),
        (demo(source="LoCoMo"), "E_FIELD", "source"),
        (demo(dimension="memory"), "E_FIELD", "dimension"),
        (demo(segments=(replace(one, kind="chat"), two)), "E_FIELD", "segments[0].kind"),
        (demo(probes=()), "E_BODY", "probes"),
        (demo(segments=(replace(one, text="both"), two)), "E_BODY", "segments[0]"),
        (demo(segments=(replace(one, turns=()), two)), "E_BODY", "segments[0]"),
        (demo(segments=(replace(one, time="8 May"), two)), "E_TIME", "segments[0].time"),
        (demo(segments=(replace(one, time="2023-05-03T00:00"), two)), "E_TIME", "segments[1].time"),
        (question(asked_at="today"), "E_TIME", "probes[0].asked_at"),
        (question(evidence=("D9:9",)), "E_EVID", "probes[0].evidence"),
        (question(evidence=("S1",)), "E_EVID", "probes[0].evidence"),
        (question(evidence=("D2:1",)), "E_EVID", "probes[0].evidence"),
        (question(evidence_level="word"), "E_EVID", "probes[0].evidence_level"),
        (question(answers=()), "E_ANS", "probes[0].answers"),
        (question(answers=(" ",)), "E_ANS", "probes[0].answers"),
        (question(answer_type="essay"), "E_ANS", "probes[0].answer_type"),
        (question(answer_type="abstain", scorers=("f1_locomo",)), "E_ANS", "probes[0].answers"),
        (question(answer_type="rubric", answers=(), scorers=("judge_lme",)), "E_ANS", "probes[0].rubric"),
        (question(after=3), "E_AFTER", "probes[0].after"),
        (question(after=0, evidence=()), "E_AFTER", "probes[0].after"),
        (question(scorers=("f2",)), "E_SCORER", "probes[0].scorers"),
        (question(answer_type="label"), None, ""),
        (question(answer_type="options", options=("tea",)), "E_OPT", "probes[0].options"),
        (demo(chunks=(first,)), "E_CHUNK", "chunks"),
        (demo(chunks=(second, first)), "E_CHUNK", "chunks[1].segments"),
        (demo(chunks=(first, replace(second, tokens=9))), "E_CHUNK", "chunks[1].tokens"),
        (demo(chunks=(first, replace(second, turns=("D9:9",)))), "E_CHUNK", "chunks[1].segments"),
        (demo(chunker=None), "E_CHUNK", "chunker"),
        (demo(segments=(one, replace(two, stage="question"))), None, ""),
    ],
)
def test_every_rule_has_its_code(row: Row, code: str | None, field: str) -> None:
    assert check_row(demo()) == []
    found = [(fault.code, fault.field) for fault in check_row(row) if fault.bad]
    if code is None:
        assert not found
    else:
        assert (code, field) in found


def test_an_answer_of_nothing_is_a_remark() -> None:
    (fault,) = check_row(question(answers=("The", "choir")))
    assert (fault.code, fault.bad, fault.done) == ("E_NORM", False, "kept")
    assert check_row(question(answers=("合唱团",))) == []


def test_every_legal_scorer_exists() -> None:
    judged = {"rank_recall@1", "rank_recall@5", "rank_recall@10"}
    for name in set().union(*SCORERS.values()) - judged:
        assert name.startswith("judge_") or metrics.scorer(name)


def test_the_row_of_the_guide() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    row = parse_row(json.loads(guide.partition("```json\n")[2].partition("```")[0]))
    assert check_row(row) == []
    assert [chunk.tokens for chunk in row.chunks] == [len(chunk.text.split()) for chunk in row.chunks]
    assert parse_row(row_json(row)) == row


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_is_a_task() -> None:
    task = to_task(demo(probes=demo().probes[1:]))
    (stage,) = task.stages
    assert (stage.name, stage.fresh) == ("stream", True)
    assert inputs(stage) == [
        Input("Ana: I joined a choir.", "2023-05-01T13:56", ("c0",)),
        Input("Ana: Our concert is in June.", "2023-05-02T13:56", ("c1",)),
    ]
    (probe,) = task.probes
    assert (probe.id, probe.evidence, probe.after, probe.time) == ("locomo/demo/q1", ("c1",), None, "2023-06-01T10:00")
    assert (probe.meta["source"], probe.meta["dimension"], probe.meta["prefix"]) == ("locomo", "accurate_retrieval", "")
    assert (task.id, task.meta["source"], task.meta["dimension"]) == ("locomo/demo", "locomo", "accurate_retrieval")
    assert (task.meta["tokens"], task.meta["counter"]) == (11, "words")


def test_a_question_in_mid_stream_ends_a_stage_but_not_the_context() -> None:
    task = to_task(demo())
    assert [(stage.name, stage.fresh, len(inputs(stage))) for stage in task.stages] == [
        ("stream", True, 1),
        ("stream/1", False, 1),
    ]
    assert [(probe.after, probe.evidence) for probe in task.probes] == [(1, ("c0",)), (None, ("c1",))]


def test_stages_of_a_row() -> None:
    stages = (replace(one, stage="facts"), replace(two, stage="question"))
    task = to_task(demo(segments=stages, probes=demo().probes[1:]))
    assert [(stage.name, stage.fresh) for stage in task.stages] == [("facts", True), ("question", True)]


def test_without_chunks_a_segment_is_an_input() -> None:
    task = to_task(demo(chunks=(), chunker=None))
    assert inputs(task.stages[0]) == [Input("Ana: I joined a choir.\nBen: Lovely!", "2023-05-01T13:56", ("S1",))]


def test_what_only_a_judge_can_score() -> None:
    row = question(answer_type="rubric", answers=(), rubric="likes choirs", scorers=("judge_lme",))
    with pytest.raises(MnemonError, match="only a judge"):
        to_task(row)
    (probe,) = to_task(row, judged=True).probes
    assert (probe.scorers, probe.meta["rubric"]) == (("judge_lme",), "likes choirs")
    mixed = to_task(replace(row, probes=(*row.probes, replace(demo().probes[1], scorers=("judge_lme", "em_squad")))))
    assert [probe.scorers for probe in mixed.probes] == [("em_squad",)]
    assert mixed.meta["unjudged"] == 1


def test_labels_are_asked_for_as_a_number() -> None:
    (probe,) = to_task(question(answer_type="label", answers=("3",), scorers=("boxed",))).probes
    assert "\\boxed" in probe.meta["prefix"]
    assert probe.question == "What did Ana join?"
