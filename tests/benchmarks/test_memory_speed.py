"""A miniature of the memory benchmark: every case runs, and nothing grows with the bank that should not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mnemon.memory.memory import Memory

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory_speed.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("memory_speed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_operation_is_measured_and_far_below_its_goal_times_ten(bench: ModuleType) -> None:
    found = bench.measure(entries=1000, calls=100, runs=1)
    assert set(bench.GOALS) < set(found)
    for name, goal in bench.GOALS.items():
        assert 0 < found[name]["p50_us"] <= found[name]["p99_us"]
        assert found[name]["p50_us"] < 10 * goal, name  # ten times: a busy machine is no fault of ours
    page = bench.page(found)
    assert page.count("\n| ") == len(found) + 1
    assert "| fork |" in page


def test_the_calls_do_what_their_name_says(bench: ModuleType) -> None:
    for name, timed in bench.cases(0, 20, 10):
        results = []
        for prepare, call in timed:
            prepare()
            results.append(call())
        if name == "index":
            assert results == [None] * 3
            continue
        assert len(results) == 10
        assert all(isinstance(result, Memory) for result in results) == (name == "fork")
        assert all(results), name  # entries, memories, or lists of hits: never nothing


def test_writing_does_not_look_at_the_whole_bank(bench: ModuleType) -> None:
    """Capacity checks are counted, not recounted: the counter sees what is written, whatever is held."""
    memory = bench.bank(["a b"] * 500)
    counted: list[str] = []
    memory.counter = lambda text: counted.append(text) or 2
    memory.add("c d")
    memory.update(1, "e f")
    memory.delete(2)
    assert counted == ["c d", "a b", "e f", "a b"]
