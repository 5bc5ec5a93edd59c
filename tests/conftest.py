"""What every test shares: the benchmark data's folder, one thread, reproducible properties."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("mnemon", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("mnemon"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "mnemon")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the published benchmarks, named by MNEMON_DATA; the test is skipped without one."""
    name = os.environ.get("MNEMON_DATA", "")
    if not name:
        pytest.skip("needs benchmark data: set MNEMON_DATA to its folder")
    path = Path(name)
    if not path.is_dir():
        pytest.fail(f"MNEMON_DATA={name} is not a folder")
    return path


@pytest.fixture(scope="session")
def tiny_cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny manager after a very short cold start: some of its calls are valid, so there is something to learn from.

    Name its folder as --policy; other tests share it, so leave it as it is.
    """
    torch = pytest.importorskip("torch")
    from mnemon.recipes.memory_r1.tiny import TinySettings, cold_start

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny") / "cold"
    return cold_start(folder, TinySettings(cold_updates=60, cold_batch=32))


@pytest.fixture(scope="session")
def tiny_run(tiny_cold: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run of two updates, trained through the command line. Shared: copy it before changing it."""
    from mnemon.cli import main

    folder = tmp_path_factory.mktemp("tiny") / "run"
    size = ["--updates", "2", "--groups", "2", "--members", "3"]
    assert main(["train", "memory-r1", "--policy", str(tiny_cold), "--run", str(folder), *size, "--tensorboard"]) == 0
    return folder


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory: a very small Qwen3 of random weights with a byte-level tokenizer. Shared: leave it be."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("random") / "model"
    program = Path(__file__).parents[1] / "examples" / "make_random_model.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(program), str(folder), "--layers", "1", "--width", "32", "--vocabulary", "1"])
        runpy.run_path(str(program), run_name="__main__")
    return folder


@pytest.fixture
def stream_row() -> Callable[..., Any]:
    """`stream_row(name, split, source=, dimension=, n=, probes=)`: a task row of n chunks and a question on each."""
    from mnemon.tasks.rows import Chunk, Chunker, Question, Row, Segment

    def make(
        name: str,
        split: str,
        source: str = "notes",
        dimension: str = "accurate_retrieval",
        n: int = 2,
        probes: Sequence[Question] | None = None,
    ) -> Row:
        texts = [f"Note {i} of {name}: the code of box {i} is {name}{i}." for i in range(n)]
        asked = [
            Question(f"q{i}", f"What is the code of box {i}?", (f"{name}{i}",), "short", "code", (f"s{i}",), "segment")
            for i in range(n)
        ]
        return Row(
            f"{source}/{name}",
            source,
            dimension,
            split,
            "CC0-1.0",
            tuple(Segment(f"s{i}", "document", text) for i, text in enumerate(texts)),
            tuple(asked if probes is None else probes),
            tuple(
                Chunk(f"c{i}", text, (f"s{i}",), time=f"2024-01-0{i + 1}T00:00", tokens=len(text.split()))
                for i, text in enumerate(texts)
            ),
            Chunker("whole", "words", 100),
        )

    return make


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Results of several threads need not be equal bit for bit; torch is only touched where a test imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


class Said:
    """What a command printed, and how it left."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def mnemon(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`mnemon(*arguments)`: run a command in this process."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Said:
        capfd.readouterr()
        from mnemon.cli import main

        code = main([str(a) for a in arguments])
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture
def mistake(mnemon: Any) -> Any:
    """`mistake(*arguments)`: a command that must fail with one message; the message."""

    def call(*arguments: object) -> str:
        said = mnemon(*arguments)
        assert said.code == 2, said.err
        assert "Traceback" not in said.err + said.out
        assert said.err.count("error: ") == 1
        return str(said.err)

    return call
