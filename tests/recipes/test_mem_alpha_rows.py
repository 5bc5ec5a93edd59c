"""Mem-alpha on task rows: rewards of a preset, questions drawn, figures of a validation, what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from mnemon.agent import State
from mnemon.agents.mem_alpha import layout
from mnemon.memory.count import BYTES, WORDS
from mnemon.memory.memory import Memory
from mnemon.policy.base import Scripted, run_sync
from mnemon.recipes.mem_alpha import rows as real
from mnemon.recipes.mem_alpha import run as recipe
from mnemon.recipes.mem_alpha.options import TrainOptions
from mnemon.recipes.mem_alpha.presets import PRESETS, preset
from mnemon.rewards import score
from mnemon.tasks.rows import Question, scorable_tasks, to_task, unjudged, write_rows
from mnemon.types import (
    Answer,
    Completion,
    Input,
    Message,
    MnemonError,
    Policy,
    Probe,
    Step,
    Task,
    ToolCall,
    ToolResult,
    Trajectory,
    Turn,
)

Row = Callable[..., Any]
RUBRIC = Question("r", "What fits me?", (), "rubric", "preference", rubric="says the box", scorers=("judge_rubric",))


def played(name: str, *answers: tuple[Probe, str], kept: str = "") -> Trajectory:
    """A finished episode of one chunk of ten words, with one refused and one good call."""
    results = (ToolResult(ToolCall("insert"), True, ""), ToolResult(ToolCall("update"), False, "", "unknown_id"))
    step = Step("writer", (), (), Completion(Message("assistant", "")), results, source=("c0",))
    given = Input("one two three four five six seven eight nine ten", source=("c0",))
    memory = Memory(layout())
    if kept:
        memory.add(kept, section="semantic")
    found = Trajectory(Task(name, ()), 0, steps=[step], turns=[Turn("", (step,), given=given)], state=State(memory))
    found.answers = [Answer(probe, text, Turn(text, ())) for probe, text in answers]
    found.events = {"calls": 1, "refused:unknown_id": 1}
    return found


EM = Probe("q", "city ?", ("Rome",), scorers=("em",))
JUDGED = Probe("j", "what ?", (), scorers=("judge_rubric",), meta={"rubric": "x"})


def says(reply: str) -> Policy:
    return Scripted(lambda messages, tools: reply)


# ── rewards ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_terms_of_a_preset() -> None:
    base = preset("default")
    names = [(r.name, r.weight) for r in real.rewards_of(base, WORDS, lambda edit: 1.0)]
    assert names == [("answers", 1), ("valid_calls", 0.2), ("compression", 0.05), ("content", 0.1)]
    off = replace(base, validity=0, beta=0, gamma=0, credit="evidence")
    assert [r.name for r in real.rewards_of(off, WORDS, None)] == ["attributed_answers"]
    with pytest.raises(MnemonError, match="a judge is needed"):
        real.rewards_of(base, WORDS, None)


def test_the_reward_by_hand() -> None:
    """r1 = 1/2; r2 = 1/2 of the calls; r3 = 1 - 3/10: 0.5 + 0.05 · 0.7 for the trajectory, 0.2 · 0.5 for the step."""
    found = played("a", (EM, "Rome"), (EM, "Oslo"), kept="Ana likes Rome")
    scored = run_sync(score(found, real.rewards_of(replace(preset("default"), gamma=0), WORDS, None)))
    assert scored.terms == {"answers": 0.5, "valid_calls": 0.5, "compression": pytest.approx(0.7)}
    assert scored.total == pytest.approx(0.5 + 0.05 * 0.7)
    assert scored.steps == [pytest.approx(0.1)]
    by_bytes = run_sync(score(found, real.rewards_of(replace(preset("default"), gamma=0), BYTES, None)))
    assert by_bytes.terms["compression"] == pytest.approx(1 - 14 / 48)


@pytest.mark.parametrize("credit", ["episode", "evidence"])
def test_a_grader_pays_what_no_metric_can(credit: Any) -> None:
    terms = real.rewards_of(
        replace(preset("default"), gamma=0, validity=0, beta=0, credit=credit), WORDS, None, says("yes")
    )
    scored = run_sync(score(played("a", (JUDGED, "the box"), (EM, "Oslo")), terms))
    assert next(iter(scored.terms.values())) == pytest.approx(0.5)
    assert run_sync(score(played("a", (JUDGED, " ")), terms)).terms[terms[0].name] == 0  # nothing said: wrong, unasked
    unread = real.rewards_of(replace(preset("default"), gamma=0, validity=0, beta=0), WORDS, None, says("perhaps"))
    assert run_sync(score(played("a", (JUDGED, "the box")), unread)).total is None


def test_figures_of_a_validation() -> None:
    streams = [played("a", (EM, "Rome"), (EM, "Oslo"), kept="Ana likes Rome"), played("b", (EM, "Rome"))]
    found = run_sync(real.summary(streams, WORDS))
    assert found == {"validation": 0.75, "memory_share": 3 / 20, "invalid": 0.5}
    judged = [*streams, played("c", (JUDGED, "x"))]
    assert run_sync(real.summary(judged, WORDS, says("yes")))["validation"] == pytest.approx(2.5 / 3)
    unread = run_sync(real.summary(judged, WORDS, says("perhaps")))
    assert (unread["validation"], unread["unscored"]) == (0.75, 1)


# ── questions and rows ───────────────────────────────────────────────────────────────────────────────────────────────


def test_questions_are_drawn_anew_each_update_and_alike_for_a_group(stream_row: Row) -> None:
    task = to_task(stream_row("a", "train", n=9))
    pick = real.asking(lambda update, attempt: [task], 3, seed=0)
    drawn = [[probe.id for probe in pick(update, 0)[0].probes] for update in range(6)]
    assert all(len(ids) == 3 for ids in drawn)
    assert all(ids == sorted(ids) for ids in drawn)
    assert len({tuple(ids) for ids in drawn}) > 1
    assert drawn == [[probe.id for probe in pick(update, 1)[0].probes] for update in range(6)]
    assert real.asking(lambda update, attempt: [task], None, 0)(0, 0) == [task]
    assert real.asking(lambda update, attempt: [task], 9, 0)(0, 0) == [task]


def test_what_only_a_judge_can_score(stream_row: Row) -> None:
    plain = Question("p", "What is the code?", ("a0",), scorers=("sub_raw", "judge_lme"))
    rows = [stream_row("a", "train", probes=(RUBRIC,)), stream_row("b", "train", probes=(plain, RUBRIC))]
    tasks = scorable_tasks(rows)
    assert [[probe.scorers for probe in task.probes] for task in tasks] == [[("sub_raw",)]]
    assert unjudged(rows, tasks) == {"questions": 2, "rows": 1}
    tasks = scorable_tasks(rows, judged=True)
    assert [len(task.probes) for task in tasks] == [1, 2]
    assert tasks[1].probes[0].scorers == ("sub_raw", "judge_lme")
    assert unjudged(rows, tasks) == {}


def test_streams_of_a_run(stream_row: Row, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, [stream_row("a", "train"), stream_row("b", "validation", probes=(RUBRIC,))])
    options = TrainOptions(policy="x", data=(file,))
    chosen, held, left = recipe._streams(options, preset("default"))
    assert ([task.id for task in chosen], held) == (["notes/a"], [])
    assert left.startswith("1 questions (1 whole streams) that only a judge can score")
    chosen, held, left = recipe._streams(replace(options, judge="y"), preset("default"))
    assert ([task.id for task in held], left) == (["notes/b"], "")
    unknown = Question("q", "What is the code?", ("a0",), scorers=("judge_correct", "em_squad"))
    write_rows(file, [stream_row("a", "train", probes=(unknown,))])
    with pytest.raises(MnemonError, match="the judge 'judge_correct' is not one of"):
        recipe._streams(replace(options, judge="y"), preset("default"))


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_options_change_the_profile() -> None:
    options = TrainOptions(
        policy="x", profile="paper", beta=0.2, gamma=0.0, validity=0.0, flat="text", shown="related", rounds=2,
        search=True, core_tokens=64, k=3, questions=5, updates=7, groups=2, members=3, lr=1e-4, kl=0.0, lora=8,
        max_prompt=4000, max_reply=100, seed=9, credit="evidence",
    )  # fmt: skip
    found = recipe.configured(options)
    assert (found.beta, found.gamma, found.validity, found.credit, found.questions) == (0.2, 0.0, 0.0, "evidence", 5)
    assert found.layout == {"core": 64, "cut": True, "flat": "text"}
    assert found.writer == {"shown": "related", "rounds": 2, "searching": True}
    assert found.reader == {"k": 3}
    assert (found.loop.updates, found.loop.groups, found.loop.members, found.loop.seed) == (7, 2, 3, 9)
    assert found.loop.step_credit == "pooled"
    assert (found.train.lr, found.train.kl_coef, found.train.seed) == (1e-4, 0.0, 9)
    assert found.train.lora is not None
    assert found.train.lora.r == 8
    lengths = (found.prompt_tokens, found.reply_tokens, found.answer_prompt, found.answer_tokens)
    assert lengths == (4000, 100, 4000, 100)
    plain = recipe.configured(TrainOptions(policy="x"))
    assert plain.writer == {**PRESETS["default"].writer, "searching": False}
    assert plain.layout == PRESETS["default"].layout
