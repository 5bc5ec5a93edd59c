"""Mem-α's tiny recipe: tokens equal the chat template's, the scoreboard, rewards, and a model that really learns."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from mnemon.agents.mem_alpha.judge import Edit
from mnemon.memory.memory import Entry
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.chat import Chat
from mnemon.policy.local import LocalPolicy
from mnemon.policy.tiny import END
from mnemon.recipes.mem_alpha import tiny, tiny_eval
from mnemon.recipes.mem_alpha.tiny_data import (
    OPENINGS,
    SKIP,
    call_tokens,
    cold_rows,
    prompt_tokens,
    reply_of,
    stream_tokenizer,
)
from mnemon.recipes.mem_alpha.tiny_flat import play_flat, rewrite
from mnemon.rewards import score
from mnemon.runs import RunFolder
from mnemon.tasks.tiny_stream import make_tasks, words
from mnemon.tasks.tiny_stream import scripted as rules
from mnemon.tasks.tiny_stream.world import held_out
from mnemon.train.config import LoopConfig
from mnemon.types import Input, Message, ToolCall

TOKENIZER = stream_tokenizer()
IDS = TOKENIZER.get_vocab()
NAMES = {i: t for t, i in IDS.items()}


def mean(policy: object, length: int = 6, streams: int = 60) -> float:
    scores = tiny.accuracy(run_sync(tiny.play(policy, make_tasks(streams, length, "test"))))  # type: ignore[arg-type]
    return sum(scores) / len(scores)


def scripted(name: str) -> Scripted:
    return Scripted(rules.writer_reply(rules.POLICIES[name]))


def test_prompt_tokens_are_those_of_the_agent_and_the_template() -> None:
    chat = Chat(TOKENIZER)
    seen: list[str] = []
    oracle = rules.writer_reply(rules.oracle)

    def look(messages: list[Message], tools: object) -> Message:
        assert len(messages) == 1
        seen.append(messages[0].content)
        assert chat.render(messages, ()) == [IDS[token] for token in prompt_tokens(messages[0].content)]
        return oracle(messages, ())

    run_sync(tiny.play(Scripted(look), make_tasks(12, 12, "test")))  # type: ignore[arg-type]
    assert len(seen) == 144
    assert any("episodic:\ntrips User" in text for text in seen)


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("insert", {"section": "core", "text": "city Rome ."}),
        ToolCall("insert", {"section": "semantic", "text": "city Ben Rome"}),
        ToolCall("insert", {"section": "episodic", "text": "trips Ben Peru d3"}),
        ToolCall("update", {"section": "core", "text": "city Rome . job nurse ."}),
        ToolCall("update", {"section": "semantic", "id": "12", "text": "box birds red"}),
        ToolCall("update", {"section": "episodic", "id": "2", "text": "trips Ben Peru d3 Kenya d9"}),
        ToolCall("delete", {"section": "core"}),
        ToolCall("delete", {"section": "semantic", "id": "3"}),
        ToolCall("delete", {"section": "episodic", "id": "1"}),
    ],
)
def test_a_reply_is_real_tool_calls(call: ToolCall) -> None:
    reply = reply_of([("city Ben none", None), ("city User core: empty", call), ("nothing", None), ("nothing", call)])
    assert [reply.tokens[i] for i in reply.choices] == [SKIP, call_tokens(call)[0], SKIP, call_tokens(call)[0]]
    assert call_tokens(call)[0] in OPENINGS
    message = Chat(TOKENIZER).message([IDS[t] for t in reply.tokens])
    assert [(c.name, dict(c.arguments), c.error) for c in message.tool_calls] == [
        (call.name, dict(call.arguments), None)
    ] * 2
    assert message.content.startswith("a) city Ben none ok b) city User")


def test_cold_rows_train_replies_only_and_never_the_choice_of_a_skill() -> None:
    rows = cold_rows(tiny.tiny_writer(), IDS, 400, seed=3)
    again = cold_rows(tiny.tiny_writer(), IDS, 400, seed=3)
    assert all((a.input_ids == b.input_ids).all() for a, b in zip(rows, again, strict=True))
    assert sum(row.task_id.startswith("demo") for row in rows) == 100
    choices = {IDS[token] for token in (*OPENINGS, SKIP)}
    for row in rows:
        assert row.weight is not None
        assert NAMES[int(row.input_ids[row.sampled[0]])] == "a)"
        assert NAMES[int(row.input_ids[-1])] == END
        assert not row.weight[: row.sampled[0]].any()
        chosen = [i for i in row.sampled if int(row.input_ids[i]) in choices]
        assert len(chosen) >= 2
        assert {float(row.weight[i]) for i in chosen} == {0.0 if row.task_id.startswith("skill") else 1.0}


def test_no_training_row_holds_a_held_out_fact() -> None:
    for row in cold_rows(tiny.tiny_writer(), IDS, 600, seed=4):
        texts = [NAMES[int(i)] for i in row.input_ids]
        for attribute, subject, value in zip(texts, texts[1:], texts[2:], strict=False):
            known = subject in (words.USER, *words.PEOPLE) and words.ATTRIBUTE_OF.get(value) == attribute
            rule = attribute == words.BOX and subject in words.TOPICS and value in words.LABELS
            if known or rule:
                assert not held_out(*((attribute, subject) if rule else (subject, attribute)), value)


def test_scripted_writers() -> None:
    accuracy = {name: mean(scripted(name)) for name in rules.POLICIES}
    assert accuracy["oracle"] >= 0.995
    assert mean(scripted("oracle"), 78, 3) >= 0.99
    assert accuracy["never write"] < 0.1
    assert accuracy["always insert"] < accuracy["demonstrator"] < 0.52
    assert accuracy["all in one section"] < 0.7
    assert accuracy["update, never merge"] < accuracy["update, never delete"] < accuracy["oracle"]
    assert mean(scripted("update, never delete"), 78, 3) < 0.95


def test_the_prompt_does_not_grow_with_the_stream() -> None:
    played = run_sync(tiny.play(scripted("oracle"), make_tasks(2, 120, "test")))
    sizes = [[len(step.messages[0].content.split()) for step in t.steps] for t in played]
    assert max(map(max, sizes)) < 220
    late, middle = (sum(sum(s[a:b]) for s in sizes) for a, b in ((90, 120), (40, 70)))
    assert late < 1.4 * middle
    assert all(len(t.state.memory.entries()) > 30 for t in played)


def test_a_flat_paragraph_forgets() -> None:
    text = rewrite("city User Rome trips Ben Peru d3", "d9", ["Ben flew to Kenya", "User left Rome"], 99)
    assert text == "trips Ben Kenya d9 Peru d3"
    assert rewrite("city User Rome city Ben Oslo", "d9", ["Cara lives in Rome"], 6) == "city Ben Oslo city Cara Rome"
    short, long = (run_sync(play_flat(make_tasks(n, length, "test"))) for n, length in ((30, 6), (2, 78)))
    assert sum(tiny.accuracy(short)) / 30 > 0.95
    assert sum(tiny.accuracy(long)) / 2 < 0.7


def test_long_context_knows_all_and_two_chunks_do_not() -> None:
    tasks = make_tasks(40, 6, "test")
    assert min(tiny.accuracy(tiny_eval.raw_baseline(tasks, None))) == 1.0
    two = tiny.accuracy(tiny_eval.raw_baseline(tasks, 2))
    assert 0.4 < sum(two) / 40 < 0.85


def test_rewards_pay_the_oracle_most() -> None:
    settings = tiny.TinySettings()
    task = make_tasks(12, 6, "test")
    totals = {}
    for name in ("oracle", "always insert", "never write"):
        marks = [run_sync(score(t, tiny.writer_rewards(settings))) for t in run_sync(tiny.play(scripted(name), task))]
        totals[name] = sum((m.total or 0) + sum(m.steps or []) / 6 for m in marks) / len(marks)
        if name == "oracle":
            assert all(m.terms["valid_calls"] == 6 for m in marks)
    assert totals["oracle"] > totals["always insert"] + 0.4
    assert totals["oracle"] > totals["never write"] + 0.4


def test_the_rule_judge_reads_edits() -> None:
    given = Input("a) Ben moved to Rome\nb) User became a nurse", "d3")
    shown = (Entry(1, "semantic", "city Ben Oslo"), Entry(2, "core", "city Oslo ."))
    assert tiny.rule_judge(Edit(given, "update", "semantic", "city Ben Oslo", "city Ben Rome", shown)) == 1.0
    assert tiny.rule_judge(Edit(given, "insert", "semantic", "", "city Ben Rome", shown)) == 0.0
    assert tiny.rule_judge(Edit(given, "insert", "semantic", "", "city Ben Rome", ())) == 1.0
    assert tiny.rule_judge(Edit(given, "update", "core", "city Oslo .", "city Oslo . job nurse .", shown)) == 1.0
    assert tiny.rule_judge(Edit(given, "delete", "semantic", "city Ben Oslo", "", shown)) == 0.0


@pytest.mark.timeout(900)
def test_a_tiny_model_learns_to_build_a_memory(tmp_path: Path) -> None:
    """At least 30 points over the best of cold start, demonstrator and always-insert, from a short cold start."""
    loop = LoopConfig(updates=6, groups=12, members=8, eval_every=6)
    settings = replace(tiny.TinySettings(seed=0, cold_updates=600, validation=20), loop=loop)
    started = time.process_time()
    cold = tiny.cold_start(tmp_path / "cold", settings)
    with RunFolder(tmp_path / "run").start({"test": "learning"}, seed=0) as run:
        tiny.train_writer(run, settings, str(cold))
    spent = time.process_time() - started

    def model(source: Path, temperature: float) -> LocalPolicy:
        weights, tokenizer = tiny.open_model(str(source))
        return LocalPolicy(weights, tokenizer, temperature=temperature, max_tokens=tiny.REPLY_TOKENS)

    rivals = {name: mean(scripted(name)) for name in ("demonstrator", "always insert")}
    rivals |= {"cold start": mean(model(cold, 0.0)), "cold start, sampled": mean(model(cold, 1.0))}
    trained = mean(model(tmp_path / "run", 0.0))
    print(f"trained {trained:.3f}, rivals {rivals}, {spent:.0f} CPU-s")
    assert trained - max(rivals.values()) >= 0.30
