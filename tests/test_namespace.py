"""The flat namespace: every exported name is its home's, for programs and for type checkers; importing it is free."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mnemon

SOURCE = Path(mnemon.__file__)
COST = """
import sys, time
before, started = set(sys.modules), time.process_time()
import mnemon
seconds, new = time.process_time() - started, set(sys.modules) - before
heavy = [name for name in ("torch", "transformers", "numpy", "rich", "httpx2") if name in sys.modules]
assert not heavy, heavy
assert {n for n in new if n.startswith("mnemon")} == {"mnemon"}, new
assert seconds < 0.3, seconds
from mnemon import Agent, Task, rollout, Reward, Scripted, script
assert "torch" not in sys.modules
"""


def checked() -> dict[str, str]:
    """Name -> module, as type checkers see it."""
    blocks = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_names_are_those_of_their_homes() -> None:
    assert checked() == mnemon._HOME_OF
    assert sorted(checked()) == sorted(mnemon.__all__)
    for name, home in checked().items():
        assert getattr(mnemon, name) is getattr(importlib.import_module(home), name)


def test_no_name_hides_a_module() -> None:
    package = SOURCE.parent
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert not modules & set(mnemon.__all__)


def test_the_package_itself_does_not_use_it() -> None:
    """Import contracts do not follow the flat namespace, so nothing inside may go through it."""
    for path in SOURCE.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "mnemon" and path != SOURCE:
                assert not {alias.name for alias in node.names} & set(mnemon.__all__), path


def test_listed_and_unknown() -> None:
    assert {"Agent", "rollout", "__version__"} <= set(dir(mnemon))
    with pytest.raises(AttributeError, match="no attribute 'Agnet'"):
        _ = mnemon.Agnet  # type: ignore[attr-defined]


def test_importing_costs_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COST],
        env={"PYTHONPATH": str(SOURCE.parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
