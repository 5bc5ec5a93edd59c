"""Files and functions that a reader can hold: at most 450 lines a file, 60 lines of code a function.

A function's docstring, its comments and its signature (a command's options) do not count, so nobody saves on them; a
file of tests may have 600 lines. Usage: ``lengths.py FOLDER...``
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 450
TEST_LINES = 600
FUNCTION_LINES = 60
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that hold code, not only a comment or nothing."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {n for t in tokens if t.type not in NOT_CODE for n in range(t.start[0], t.end[0] + 1)}


def long_functions(tree: ast.Module, lines: set[int]) -> Iterator[tuple[int, str, int]]:
    """(line, name, length) of every function over the limit; a nested function counts in its parent too."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.end_lineno is None:
            continue
        first = node.body[0]
        own = {n for n in lines if n == node.lineno or first.lineno <= n <= node.end_lineno}
        if ast.get_docstring(node, clean=False) is not None and first.end_lineno is not None:
            own -= set(range(first.lineno, first.end_lineno + 1))
        if len(own) > FUNCTION_LINES:
            yield node.lineno, node.name, len(own)


def complaints(path: Path) -> Iterator[str]:
    """What is too long in one file."""
    source = path.read_text(encoding="utf-8")
    total = source.count("\n")
    most = TEST_LINES if path.name.startswith("test_") else FILE_LINES
    if total > most:
        yield f"{path}: {total} lines, at most {most}: is it still one idea?"
    for line, name, length in long_functions(ast.parse(source, str(path)), code_lines(source)):
        yield f"{path}:{line}: {name} has {length} lines of code, at most {FUNCTION_LINES}"


def main(folders: list[str]) -> int:
    """Print every complaint; the exit status."""
    found = [c for folder in folders for path in sorted(Path(folder).rglob("*.py")) for c in complaints(path)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
