"""Banks: raw turns, states as JSON and back, reading that is interrupted and goes on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.agent import State, rollout
from mnemon.eval.banks import (
    Bank,
    bank_file,
    no_policy,
    open_bank,
    raw_turns_bank,
    read_task,
    saved_banks,
    state_from_json,
    state_json,
)
from mnemon.memory.memory import Entry, Memory, Section
from mnemon.memory.retrieve import Lexical
from mnemon.policy.base import EpisodeKey, run_sync
from mnemon.tasks.script import Script
from mnemon.types import Input, Message, MnemonError, Stage, Task, ToolCall


def read(small: Any, bank: Bank, policy: Any, folder: Path | None = None) -> Bank:
    run_sync(read_task(bank, (small.writer_agent(), policy), folder=folder, seed=7))
    return bank


def opened(small: Any, task: Task, folder: Path | None = None) -> Bank:
    return run_sync(open_bank(task, small.writer_agent(), None, folder))


def test_raw_turns_are_stored_as_they_are(small: Any) -> None:
    task = Task("t", (small.stage("hello", " "), small.stage("bye", first=3)))
    state = run_sync(raw_turns_bank(task))
    assert state.memory.entries() == [
        Entry(1, "turns", "hello", "Ana", ("day 1",), ("s1",)),
        Entry(2, "turns", "bye", "Ana", ("day 3",), ("s3",)),
    ]


def test_no_policy_says_what_is_missing() -> None:
    with pytest.raises(MnemonError, match="give one"):
        run_sync(no_policy([]))


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(str.strip)


@given(st.lists(st.one_of(texts, st.integers(1, 9)), max_size=12), st.booleans())
def test_a_state_survives_json(actions: list[str | int], contextual: bool) -> None:
    memory = Memory([Section("facts", max_entries=20), Section("core", "text", max_tokens=99, overflow="cut")])
    for action in actions:
        if isinstance(action, str):
            memory.add(action, owner=action, time="day 1", source=("s1", "s2"), meta={"n": [1]})
        elif any(entry.id == action for entry in memory.entries()):
            memory.delete(action)
    calls = (ToolCall("add", {"text": "x"}, "c1"), ToolCall("", error="bad", raw="{"))
    context = [Message("assistant", "ö", calls, 2, "reply", True, (1, 2)), Message("tool", "ok", call_id="c1")]
    state = State(memory, context if contextual else [])
    again = state_from_json(json.loads(json.dumps(state_json(state))))
    assert again.context == state.context
    assert again.memory.entries() == memory.entries()
    assert again.memory.sections == memory.sections
    assert again.memory.fork().add("new").id == memory.fork().add("new").id  # no deleted id comes back
    found = [[(hit.entry, hit.score) for hit in m.search("x ö", 5, Lexical())] for m in (memory, again.memory)]
    assert found[0] == found[1]
    assert again.fork().memory.entries() == memory.entries()


def test_reading_is_one_rollout(small: Any) -> None:
    task, policy, other = small.make_task(), small.Writer(), small.Writer()
    whole = run_sync(rollout(small.writer_agent(), task, policy, key=EpisodeKey(7, task=task.id)))
    bank = read(small, opened(small, task), other)
    assert (other.asked, other.keys) == (policy.asked, policy.keys)
    assert [key[-1] for key in other.keys] == [1, 2, 3, 4]
    assert bank.state.memory.entries() == whole.state.memory.entries()
    assert sorted(bank.states) == [1, 2]
    assert [entry.text for entry in bank.states[1].memory.entries()] == []
    assert (bank.work.inputs, bank.work.calls, bank.work.prompt_tokens) == (4, {"writer": 4}, 40)
    assert bank.work.events == {"calls": 4}


def test_interrupted_reading_goes_on_after_the_last_stage(small: Any, tmp_path: Path) -> None:
    task, policy = small.make_task(), small.Writer()
    whole = read(small, opened(small, task), small.Writer())
    policy.down["Leo"] = RuntimeError("power cut")
    with pytest.raises(RuntimeError):
        read(small, opened(small, task, tmp_path), policy, tmp_path)
    assert policy.asked == ["Rex is a dog", "forget m1", "Mia is a cat", "Leo is a fox"]
    policy = small.Writer()
    bank = opened(small, task, tmp_path)
    assert (bank.stages, bank.step, bank.finished) == (1, 2, False)
    read(small, bank, policy, tmp_path)
    assert policy.asked == ["Mia is a cat", "Leo is a fox"]
    assert [key[-1] for key in policy.keys] == [3, 4]  # sampled as without the interruption
    again = opened(small, task, tmp_path)
    for n in (1, 2):
        assert again.states[n].memory.entries() == whole.states[n].memory.entries()
    assert [entry.label for entry in again.state.memory.entries()] == ["m2", "m3"]
    assert again.finished
    assert (again.work.inputs, again.work.calls) == (4, {"writer": 4})
    assert read(small, again, small.Writer(), tmp_path).work.inputs == 4  # nothing left to read


def test_saved_banks_serve_another_reader(small: Any, tmp_path: Path) -> None:
    task = small.make_task("a/b é")
    read(small, opened(small, task, tmp_path), small.Writer(), tmp_path)
    file = bank_file(tmp_path, task)
    assert file.parent == tmp_path / "banks"
    state = saved_banks(tmp_path)(task)
    assert isinstance(state, State)
    assert [entry.text for entry in state.memory.entries()] == ["Mia is a cat", "Leo is a fox"]
    with pytest.raises(MnemonError, match="no finished bank of t2"):
        saved_banks(tmp_path)(small.make_task("t2"))
    file.write_text('{"task": 1}')
    with pytest.raises(MnemonError, match="is not a saved bank: remove it"):
        opened(small, task, tmp_path)
    file.write_text("{")
    with pytest.raises(MnemonError, match="is damaged"):
        opened(small, task, tmp_path)


def test_a_bank_needs_a_maker(small: Any) -> None:
    with pytest.raises(MnemonError, match="give a writer, or the finished banks"):
        run_sync(open_bank(small.make_task(), None, None, None))


def test_inputs_without_a_speaker_have_no_owner(small: Any) -> None:
    task = Task("t", (Stage(partial(Script, [Input("x")])),))
    (entry,) = run_sync(raw_turns_bank(task)).memory.entries()
    assert (entry.owner, entry.times, entry.source) == ("", (), ())
