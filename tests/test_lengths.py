"""The length check counts code: not docstrings, comments or blank lines; and it can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "lengths.py"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, timeout=60, check=False)


def function(lines: int) -> str:
    """A function of exactly `lines` lines of code, beside a docstring, comments and blank lines."""
    return 'def f():\n    """One.\n\n    Two.\n    """\n' + "    # why\n\n    x = 1\n" * (lines - 1)


@pytest.mark.parametrize(("lines", "status"), [(60, 0), (61, 1)])
def test_function_length(tmp_path: Path, lines: int, status: int) -> None:
    (tmp_path / "a.py").write_text(function(lines))
    done = run(tmp_path)
    assert done.returncode == status, done.stdout
    assert ("a.py:1: f has 61 lines" in done.stdout) == bool(status)


@pytest.mark.parametrize(("lines", "status"), [(450, 0), (451, 1)])
def test_file_length(tmp_path: Path, lines: int, status: int) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * lines)
    done = run(tmp_path)
    assert done.returncode == status, done.stdout


def test_a_multi_line_string_that_is_no_docstring_is_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('def f():\n    x = 1\n    x = """' + "a\n" * 70 + '"""\n')
    assert run(tmp_path).returncode == 1
