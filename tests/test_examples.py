"""Every program in examples/ runs as it stands, says what it should, and stays short enough to copy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SOURCE = EXAMPLES.parent / "src"
pytestmark = pytest.mark.timeout(1200)  # the longest needs 20 CPU-seconds; machines may be busy


def run(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_are_run_here() -> None:
    tested = set(re.findall(r'run\(\s*"(\w+\.py)"', Path(__file__).read_text()))
    elsewhere = {"locomo_random.py", "mem_alpha_rows.py"}  # test_examples_locomo.py, test_examples_mem_alpha.py
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested | elsewhere


def test_roll_out_an_agent(tmp_path: Path) -> None:
    told = run("roll_out_an_agent.py", cwd=tmp_path)
    memory = told.partition("memory at the end")[2].partition("question")[0]
    assert re.findall(r"m\d .*", memory) == ["m1 Anna pets Luna", "m2 Anna city Rome"]
    assert re.findall(r"answer: +(.*)", told) == ["Luna", "Rome"]


def test_write_a_reward(tmp_path: Path) -> None:
    told = run("write_a_reward.py", cwd=tmp_path)
    rows = re.findall(r"^(.{20})  total +(\S+)  .*'answers': (\S+), 'entries': (\S+)}", told, re.MULTILINE)
    found = {name.strip(): (float(total), float(right), float(kept)) for name, total, right, kept in rows}
    assert len(found) == 7
    for total, right, kept in found.values():
        assert total == pytest.approx(right - 0.05 * kept, abs=0.006)
    assert max(found, key=lambda name: found[name][0]) == "oracle"
    assert found["oracle"][1] == 1.0
    advantages = [float(a) for a in told.partition("[")[2].partition("]")[0].split()]
    assert sum(advantages) == pytest.approx(0, abs=0.05)
    assert max(advantages) == advantages[-1]


def test_train_an_agent(tmp_path: Path) -> None:
    told = run("train_an_agent.py", "first", cwd=tmp_path)
    rewards = [float(r) for r in re.findall(r"^\d+ reward (\S+)", told, re.MULTILINE)]
    assert len(rewards) == 6
    assert sum(rewards[3:]) > sum(rewards[:3]), "six updates move the reward"
    assert (tmp_path / "first" / "checkpoints").is_dir()
    again = run("train_an_agent.py", "first", cwd=tmp_path)
    assert again == told, "a finished run is shown again"


def test_evaluate_an_agent(tmp_path: Path) -> None:
    told = run("evaluate_an_agent.py", cwd=tmp_path)
    assert "of each answer" in told
    assert "a is better" in told
    line = next(line for line in told.splitlines() if line.split()[:1] == ["list_exact"])
    assert float(line.split()[1]) == 100.0
    assert float(line.split()[2]) < 90


def test_bring_your_own_agent(tmp_path: Path) -> None:
    told = run("bring_your_own_agent.py", cwd=tmp_path).splitlines()
    assert told == [
        "Anna lives in Paris. -> noted as m1 -> Done.",
        "Anna moved to Rome. -> noted as m1 -> Done.",
        "['home: Rome']",
    ]


def test_make_random_model(tmp_path: Path) -> None:
    told = run("make_random_model.py", "model", "--layers", "1", "--width", "32", "--vocabulary", "300", cwd=tmp_path)
    assert "weights in model" in told
    assert (tmp_path / "model" / "config.json").is_file()
    assert (tmp_path / "model" / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    "path", sorted(set(EXAMPLES.glob("*_a*.py")) - {EXAMPLES / "mem_alpha_rows.py"}), ids=lambda path: path.name
)
def test_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 36
    assert max(map(len, lines)) <= 120
