"""The GPU benchmark in miniature: its arithmetic against torch's counter, its figures, what it does without CUDA."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mnemon.types import MnemonError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module
    spec.loader.exec_module(module)
    return module


def test_miniature(bench: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    result = bench.main(
        ["--miniature", "--rows", "4", "--prompt", "32", "--reply", "8", "--runs", "1", "--out", str(out)]
    )
    assert json.loads(out.read_text()) == result
    assert result["cuda"] is False
    assert "GPU figures are missing" in result["missing"]
    (found,) = result["results"].values()
    assert found["dtype"] == "torch.float32"
    for name in ("rollout", "update", "rollout_in_training"):
        row = found[name]
        assert row["tokens_per_s"] == pytest.approx(4 * 8 / row["seconds"], rel=0.05)
        assert row["mfu"] > 0
        assert row["peak_memory_bytes"] > 2**20
    shape = bench.build(bench.SHAPES["miniature"], torch.device("meta"), torch.float32).config
    flops = 4 * sum(bench.forward_flops(shape, 39, 8))
    update = found["update"]
    assert update["mfu"] == pytest.approx(3 * flops / update["seconds"] / found["peak_flops"], rel=0.02)


def test_flops_are_those_that_torch_counts(bench: ModuleType) -> None:
    model = bench.build(bench.SHAPES["miniature"], torch.device("cpu"), torch.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros((1, 24), dtype=torch.long), logits_to_keep=5, use_cache=False)
    counted = {str(name): n for name, n in counter.get_flop_counts()["Global"].items()}
    products = sum(n for name, n in counted.items() if "mm" in name and "attention" not in name)
    ours, attention = bench.forward_flops(model.config, 24, 5)
    assert ours == products
    full = sum(n for name, n in counted.items() if "attention" in name)
    if full:  # torch counts the masked half too: T² in place of T(T + 1)/2
        assert attention == pytest.approx(full * 25 / 48)


@pytest.mark.parametrize(("shape", "weights"), [("Qwen3-0.6B", 596_049_920), ("Qwen3-4B", 4_022_468_096)])
def test_shapes_are_the_public_ones(bench: ModuleType, shape: str, weights: int) -> None:
    model = bench.build(bench.SHAPES[shape], torch.device("meta"), torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == weights


def test_known_devices(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"NVIDIA H200": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA L40S": 362e12}
    for name, peak in peaks.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert bench.peak_flops(torch.device("cuda"), torch.bfloat16, None)[0] == peak
    assert bench.peak_flops(torch.device("cpu"), torch.float32, 2.5) == (2.5e12, "--peak")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_cuda(bench: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    result = bench.main(["--out", str(out)])
    assert (result["cuda"], result["results"]) == (False, {})
    out.write_text(json.dumps({**result, "cuda": True}))
    with pytest.raises(MnemonError, match="figures of a GPU"):
        bench.main(["--out", str(out)])


def test_committed_figures_say_what_they_are() -> None:
    committed = json.loads(SCRIPT.with_suffix(".json").read_text())
    assert committed["cuda"] or "missing" in committed
