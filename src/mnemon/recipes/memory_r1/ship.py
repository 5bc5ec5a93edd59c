"""Rebuild the tiny agent that comes with the package: ``python -m mnemon.recipes.memory_r1.ship``.

Trains manager and answerer with the default preset (or takes finished runs) and stores them in half precision, one
megabyte each, where `mnemon chat` and `mnemon eval` look for them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from mnemon.policy.open import newest_checkpoint
from mnemon.recipes.memory_r1 import tiny, tiny_reader
from mnemon.recipes.memory_r1.options import TrainOptions
from mnemon.recipes.memory_r1.run import start
from mnemon.runs import atomic_write_json
from mnemon.types import MnemonError

ASSETS = Path(__file__).resolve().parents[2] / "policy" / "assets"


def ship(run: Path, folder: Path) -> None:
    """Store the newest checkpoint of a run as a checkpoint-like folder of float16 weights."""
    found = newest_checkpoint(run)
    if found is None:
        raise MnemonError(f"{run} holds no complete checkpoint: train it first")
    path, meta = found
    model, tokenizer = tiny.open_model(str(path))
    (folder / "model").mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    atomic_write_json(folder / "meta.json", {"step": meta["step"], "extra": meta["extra"], "files": {}})


def main() -> None:
    """Train what is missing, then ship both agents."""
    parser = argparse.ArgumentParser(description="Rebuild the tiny agent that comes with the package.")
    parser.add_argument("--runs", type=Path, default=Path("runs/agent"), help="where the two runs go (or are)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for role, name in (("writer", "manager"), ("reader", "answerer")):
        folder = options.runs / name
        if newest_checkpoint(folder) is None or not (folder / "config.json").exists():
            there = (folder / "config.json").exists()
            partner = str(options.runs / "manager") if role == "reader" else None
            start(TrainOptions(role=role, run=folder, seed=options.seed, writer=partner, resume=there))  # type: ignore[arg-type]
        ship(folder, ASSETS / ("tiny" if role == "writer" else "tiny_reader"))
    print(f"shipped to {ASSETS} ({tiny_reader.__name__.rsplit('.', 1)[-1]} and manager)")


if __name__ == "__main__":
    main()
