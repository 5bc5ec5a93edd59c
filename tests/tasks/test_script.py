"""Scripts: inputs in order, texts numbered as their own sources, a fresh environment for every rollout."""

from __future__ import annotations

from mnemon.policy.base import run_sync
from mnemon.tasks.script import Script, script
from mnemon.types import Environment, Input


async def read(environment: Environment) -> list[Input]:
    seen: list[Input] = []
    given, done = await environment.reset(), False
    while given is not None and not done:
        seen.append(given)
        given, done, score = await environment.step("anything")
        assert score is None
    return seen


def test_texts_and_inputs() -> None:
    dated = Input("b", time="2024", source=("D1:2",), speaker="Ana")
    stage = script("a", dated, "c", name="talk", fresh=False)
    assert (stage.name, stage.fresh) == ("talk", False)
    wanted = [Input("a", source=("0",)), dated, Input("c", source=("2",))]
    first = stage.environment()
    assert run_sync(read(first)) == wanted
    assert run_sync(read(stage.environment())) == wanted
    assert run_sync(read(first)) == wanted, "reset starts over"


def test_nothing_to_read() -> None:
    assert run_sync(read(script().environment())) == []
    assert run_sync(Script([]).step("")) == (None, True, None)
