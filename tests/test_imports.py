"""The package without its extras: every module that may not need torch is imported where torch cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
NEEDS_TORCH = ("algos", "train", "recipes", "policy.local", "policy.sampler", "policy.tiny", "policy.embed")
HIDDEN = ("torch", "transformers", "peft", "accelerate", "safetensors", "tensorboard", "matplotlib")

SCRIPT = """
import importlib, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"{{name}} is hidden: this module must not need it", name=name)

sys.meta_path.insert(0, Hidden())
for name in {modules!r}:
    importlib.import_module(name)
"""


def modules() -> list[str]:
    names = [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py")]
    return sorted(name.removesuffix(".__init__") for name in names if not name.endswith("__main__"))


def needs_torch(name: str) -> bool:
    inner = name.removeprefix("mnemon.")
    return any(inner == allowed or inner.startswith(f"{allowed}.") for allowed in NEEDS_TORCH)


def import_all(names: list[str]) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(hidden=HIDDEN, modules=names)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_core_imports_without_the_extras() -> None:
    names = [name for name in modules() if not needs_torch(name)]
    assert {"mnemon", "mnemon.types", "mnemon.runs", "mnemon.eval.plots"} <= set(names)
    done = import_all(names)
    assert done.returncode == 0, done.stderr


def test_the_check_above_can_fail() -> None:
    done = import_all(["torch"])
    assert done.returncode != 0
    assert "torch is hidden" in done.stderr
