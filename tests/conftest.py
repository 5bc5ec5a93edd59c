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


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Results of several threads need not be equal bit for bit; torch is only touched where a test imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
