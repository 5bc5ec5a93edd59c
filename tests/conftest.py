"""What every test shares: the benchmark data's folder, one thread, reproducible properties."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Results of several threads need not be equal bit for bit; torch is only touched where a test imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
