"""A miniature of the data benchmark, and its committed figures: no text of a dataset is among them."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from mnemon.memory.count import BYTES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "data_rows.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("data_rows", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["data_rows"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def test_everything_in_a_folder_is_counted(bench: ModuleType, tmp_path: Path) -> None:
    pool = {
        k: [[f"{k} {i} of {n}", f"label {n}"] for n in range(8) for i in range(4)] for k in ("train", "val", "test")
    }
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps(pool))
    measured, rows = bench.measure(tmp_path, BYTES, 512)
    (one,) = measured
    assert (one.line.name, one.dimension, one.answers) == ("clinc150", "test_time_learning", {"label": 14})
    assert (one.line.rows, one.line.probes, one.evidence, one.line.left_out) == (len(rows), 14, 14, 0)
    page = bench.page([(BYTES, 512, measured, Counter(chunk=2))])
    assert "| clinc150 | 1 / 1 / 1 |" in page
    assert "over all datasets together: 2 chunks." in page


def test_committed_figures_hold_counts_only() -> None:
    record = json.loads(SCRIPT.with_suffix(".json").read_text(encoding="utf-8"))
    for setting in record.values():
        for one in setting["datasets"]:
            assert one["line"]["left_out"] == 0
            assert all(isinstance(value, int | float) for name, value in one["line"].items() if name != "name")
