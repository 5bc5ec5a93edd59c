"""Transcripts: one trajectory by hand, in full; and nothing of any trajectory is lost or can steer a terminal."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mnemon.memory.memory import Memory, Section
from mnemon.runs import plain
from mnemon.transcript import trajectory_json, trajectory_text
from mnemon.types import (
    Answer,
    Completion,
    Message,
    Probe,
    Step,
    Task,
    ToolCall,
    ToolResult,
    Trajectory,
    Turn,
)


@dataclass
class Kept:
    memory: Any


SYSTEM = Message("system", "Keep facts.", kind="system")
ADD = ToolCall("add", {"text": "Ana has a dog", "n": 1})
BAD = ToolCall("", error="no JSON", raw="{add")
LATE = ToolCall("delete", {"id": "m9"})


def example() -> Trajectory:
    first = Step(
        "writer",
        (SYSTEM, Message("user", "Ana: I got a dog\nreally", kind="input")),
        (),
        Completion(Message("assistant", "", (ADD, BAD, LATE)), (1, 2, 3), (4, 5), (-0.1, -0.2), "length"),
        (ToolResult(ADD, True, "m1"), ToolResult(BAD, False, "Write JSON.", "unparsable")),
    )
    second = Step("writer", (SYSTEM, Message("user", "Bo: hi")), (), Completion(Message("assistant", "noted")), turn=1)
    probe = Probe("q1", "What pet has Ana?", ("dog", "a dog"), category="pets")
    read = Step("reader", (Message("user", "pet?"),), (), Completion(Message("assistant", "dog")), probe="q1")
    memory = Memory([Section("core", "text"), Section("facts")])
    memory.add("Ana has a dog", section="facts", owner="Ana", time="8 May 2023")
    return Trajectory(
        Task("tiny-3", (), (probe,)),
        1,
        [first, second],
        [Answer(probe, "dog", Turn("dog", (read,)))],
        [Answer(probe, "none", Turn("none", ()))],
        [Turn("", (first,)), Turn("noted", (second,))],
        [0.5],
        {"truncated": 2},
        Kept(memory),
    )


EXPECTED = """
══ tiny-3#1
2 inputs · 2 policy calls · 1 answer · scores [0.5] · truncated 2

── stage 0 · turn 0 · writer
system:
    Keep facts.
user (input):
    Ana: I got a dog
    really
  [ended by: length]
  add(text="Ana has a dog", n=1)
    → ok: m1
  unreadable call (no JSON): {add
    → REFUSED unparsable: Write JSON.
  delete(id="m9")  → not run

── stage 0 · turn 1 · writer
(1 message as before)
user:
    Bo: hi
assistant:
    noted

── memory at the end
facts:
  m1 [Ana, 8 May 2023] Ana has a dog

── question q1 · pets
question: What pet has Ana?
accepted: dog | a dog
before:   none
answer:   dog

── question q1 · reader
user:
    pet?
assistant:
    dog

── rewards
em: 1
length: [0, -0.1235]
"""


def test_the_whole_text() -> None:
    text = trajectory_text(example(), {"em": 1, "length": [0, -0.123456]})
    assert re.sub(r" [─═]+$", "", text, flags=re.MULTILINE) == EXPECTED


def test_json_keeps_counts_not_ids() -> None:
    kept = json.loads(json.dumps(plain(trajectory_json(example(), {"em": 1}))))
    step = kept["steps"][0]
    assert (step["prompt_tokens"], step["tokens"], step["finish"]) == (3, 2, "length")
    assert step["results"][1] == {
        "call": {"error": "no JSON", "raw": "{add"},
        "ok": False,
        "code": "unparsable",
        "content": "Write JSON.",
    }
    assert step["reply"]["calls"][0] == {"name": "add", "arguments": {"text": "Ana has a dog", "n": 1}}
    assert kept["memory"][0]["label"] == "m1"
    assert kept["answers"][0]["accepted"] == ["dog", "a dog"]
    assert kept["before"][0]["answer"] == "none"
    assert kept["rewards"] == {"em": 1}


def test_an_agent_that_asks_no_policy_and_keeps_no_memory() -> None:
    text = trajectory_text(Trajectory(Task("t", ()), 0, turns=[Turn("I read it", (), ("add m1",))], error="it broke"))
    assert "ERROR: it broke" in text
    assert "reply:\n    I read it\n  add m1\n" in text
    assert "memory at the end" in text
    assert "(not kept)" in text
    assert "(empty)" in trajectory_text(Trajectory(Task("t", ()), 0, state=Kept(Memory())))


def test_a_growing_context_is_shown_once() -> None:
    messages = (SYSTEM, Message("user", "one"), Message("assistant", "reply-one"), Message("user", "two"))
    steps = [
        Step("writer", messages[:2], (), Completion(messages[2])),
        Step("writer", messages, (), Completion(Message("assistant", "reply-two")), turn=1),
    ]
    text = trajectory_text(Trajectory(Task("t", ()), 0, steps))
    assert text.count("reply-one") == text.count("Keep facts.") == 1
    assert "(3 messages as before)" in text


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()), st.text())
def test_no_text_steers_the_terminal(content: str, reply: str, arguments: dict[str, str], name: str) -> None:
    call = ToolCall(name, arguments)
    step = Step(
        "writer",
        (Message("user", content),),
        (),
        Completion(Message("assistant", reply, (call,))),
        (ToolResult(call, False, reply, name),),
    )
    text = trajectory_text(Trajectory(Task(name, ()), 0, [step]), {name: 0.5})
    assert not [c for c in text if (c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f"]
    printable = [line for line in content.split("\n") if line.isprintable()]
    assert all(line.strip() in text for line in printable)
    json.dumps(plain(trajectory_json(Trajectory(Task(name, ()), 0, [step]))), allow_nan=False)
