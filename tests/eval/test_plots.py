"""Curves: what is selected, what the picture holds, and the terminal's dots against hand-made ones."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon.eval.plots import curves, running_mean, select, terminal_curve
from mnemon.types import MnemonError

METRICS = [
    {"update": 2, "reward": {"em": 0.5}, "accuracy": None, "lr": 1e-4, "note": "x", "flag": True},
    {"update": 1, "reward": {"em": 0.25}, "accuracy": 0.1, "lr": 1e-4},
]


def test_select_by_name_and_by_default() -> None:
    assert select(METRICS) == {"reward.em": [(1, 0.25), (2, 0.5)], "accuracy": [(1, 0.1)]}
    assert select(METRICS, ["lr"]) == {"lr": [(1, 1e-4), (2, 1e-4)]}


def test_select_names_what_there_is() -> None:
    with pytest.raises(MnemonError, match=r"no metric 'f1' in this run; it logged: reward\.em, lr, accuracy"):
        select(METRICS, ["f1", "lr"])
    with pytest.raises(MnemonError, match="nothing to draw in this run; it logged: lr"):
        select([{"update": 1, "lr": 1.0}])


def test_running_mean_looks_back_only() -> None:
    assert running_mean([1.0, 2.0, 6.0, 1.0], 2) == [1.0, 1.5, 4.0, 3.5]
    assert running_mean([1.0, 2.0], 1) == [1.0, 2.0]


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and the undone-compression scanlines of a PNG."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += 12 + size
    return width, height, zlib.decompress(data)


def test_curves_writes_the_same_png_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    metrics = [{"update": i, "reward": i / 40, "accuracy": (i % 3) / 3} for i in range(40)]
    first = curves(metrics, tmp_path / "new" / "a.png", title="A run")
    second = curves(metrics, tmp_path / "b.png", title="A run")
    assert first.read_bytes() == second.read_bytes()
    width, height, lines = pixels(first.read_bytes())
    assert (width, height) == (1200, 675)
    assert len(set(lines)) > 50  # colours, not one flat sheet


def test_curves_says_how_to_install_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MnemonError, match=r"pip install 'mnemon\[plot\]'"):
        curves(METRICS, tmp_path / "a.png")


def test_terminal_curve_by_hand() -> None:
    # 8 characters = 16 dots wide, 2 characters = 8 dots high; a straight line from bottom to top rises a dot every two.
    text = terminal_curve([0.0, 1.0], width=11, height=2)
    assert text.split("\n") == ["1 ┤" + "\u2800" * 4 + "⣀⠤⠒⠉", "0 ┤⣀⠤⠒⠉", "  └────────", "   0      1"]


def test_terminal_curve_scale_gap_and_last() -> None:
    text = terminal_curve([1.0, None, float("nan"), 1.0], width=14, height=2, low=0, high=2, last=60)
    lines = text.split("\n")
    assert lines[0].startswith("2 ┤")
    assert lines[1].startswith("0 ┤")
    assert lines[-1].endswith("60")
    drawn = (lines[0] + lines[1])[3:]
    assert "\u2800" in drawn.strip("\u2800")  # the gap
    assert terminal_curve([], 40, 5) == terminal_curve([None], 40, 5) == "(no values yet)"
    with pytest.raises(MnemonError, match="at least 11 x 2"):
        terminal_curve([0.0, 1.0], width=10, height=2)


@given(st.lists(st.none() | st.floats(-1e6, 1e6), max_size=300), st.integers(30, 90), st.integers(2, 12))
def test_terminal_curve_fits_its_size(values: list[float | None], width: int, height: int) -> None:
    text = terminal_curve(values, width, height)
    if any(value is not None for value in values):
        lines = text.split("\n")
        assert len(lines) == height + 2
        assert max(map(len, lines)) <= width
        assert any("\u2801" <= c <= "\u28ff" for c in text)
