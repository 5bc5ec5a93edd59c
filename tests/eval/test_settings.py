"""What a report says of agents and policies, and what of it must be equal when a run is resumed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mnemon.agents.memory_r1 import answerer, manager
from mnemon.eval.settings import (
    describe_agent,
    describe_policy,
    describe_tasks,
    name_of,
    options_of,
    question_hash,
)
from mnemon.memory.retrieve import Lexical
from mnemon.policy.base import Scripted
from mnemon.policy.cache import CachedPolicy
from mnemon.policy.http import HttpPolicy
from mnemon.types import Message, ToolSchema


def test_an_agent_by_its_options() -> None:
    found = describe_agent(answerer(k=30))
    assert found["options"] == {"distill": True, "k": 30, "per_owner": False, "style": "full"}
    assert found["final"] == "mnemon.agents.memory_r1.after_marker"
    assert found["retriever"] == Lexical().id
    assert found == describe_agent(answerer(k=30))
    assert found["fingerprint"] != describe_agent(answerer(k=30, distill=False))["fingerprint"]
    assert describe_agent(manager(related=7))["options"]["related"] == 7
    assert describe_agent(manager())["tools"] == ["add", "update", "delete", "noop"]


def test_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = HttpPolicy("http://h:1", "m", api_key="secret", temperature=0.5, extra_body={"x": 1})
    found = describe_policy(policy)
    assert "secret" not in repr(found)
    assert (found["model"], found["url"], found["temperature"]) == ("m", "http://h:1/v1", 0.5)
    assert found["extra_body"] == {"x": 1}
    moved = describe_policy(HttpPolicy("http://h:2", "m", temperature=0.5, extra_body={"x": 1}))
    assert {k for k in found if found[k] != moved[k]} == {"url"}
    assert describe_policy(HttpPolicy("http://h:2"))["model"] == "http://h:2/v1"  # the only name there is
    assert describe_policy(CachedPolicy(HttpPolicy("http://h:2"))) == describe_policy(HttpPolicy("http://h:2"))


def test_a_model_is_named_by_its_weights() -> None:
    torch = pytest.importorskip("torch")

    class Local:
        def __init__(self, seed: int) -> None:
            torch.manual_seed(seed)
            self.model = torch.nn.Linear(300, 70)
            self.temperature, self.max_tokens = 0.0, 8

        async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Any: ...

    one, other = Local(0), Local(1)
    assert describe_policy(one) == describe_policy(Local(0))
    assert describe_policy(one)["weights"] != describe_policy(other)["weights"]
    before = describe_policy(one)["weights"]
    with torch.no_grad():
        one.model.weight += 1e-3
    assert describe_policy(one)["weights"] != before


def test_scripted_policies_and_functions() -> None:
    def reply(word: str, table: dict[str, Any]) -> Any:
        return lambda messages, tools: word + str(table)

    found = describe_policy(Scripted(reply("a", {"f": len, "n": (1, None)})))
    assert found["options"] == {"table": {"f": "builtins.len", "n": [1, None]}, "word": "a"}
    partial = functools.partial(sorted, [2], key=reply("b", {}))
    assert options_of(partial)["0"] == [2]
    assert name_of(partial) == "builtins.sorted"
    ((_, inner),) = options_of(partial)["key"].items()
    assert inner == {"table": {}, "word": "b"}
    assert options_of(len) == {}
    assert options_of(functools.partial(sorted, Lexical()))["0"] == Lexical().id


def test_tasks_by_content(small: Any) -> None:
    task = small.make_task()
    found = describe_tasks([task, small.make_task("t2")])
    assert (found["tasks"], found["probes"]) == (2, 6)
    same = describe_tasks([small.make_task()])["hash"]
    assert same == describe_tasks([task])["hash"]
    first, *others = task.probes
    for changed in (
        replace(task, id="t9"),
        replace(task, stages=(small.stage("Rex is a cat", "forget m1"), task.stages[1])),
        replace(task, probes=(replace(first, question="Who?"), *others)),
        replace(task, probes=(replace(first, scorers=("em",)), *others)),
        replace(task, probes=tuple(others)),
    ):
        assert describe_tasks([changed])["hash"] != same
    assert question_hash(first) == question_hash(replace(first, scorers=("f1_mem0",)))  # the same question
    assert question_hash(first) != question_hash(replace(first, answers=("cat",)))
