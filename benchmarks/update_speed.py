"""CPU seconds of one policy update: this trainer and TRL's GRPOTrainer, on the same rows, loss and optimizer.

    python -m venv /tmp/trl && /tmp/trl/bin/pip install trl==1.16.0 torch==2.13.0 transformers==5.23.0
    PYTHONPATH=src OMP_NUM_THREADS=1 /tmp/trl/bin/python benchmarks/update_speed.py

TRL's trainer runs as it is (its own `train`, `training_step`, `_compute_loss`, optimizer step), except that given rows
replace generation. Loss: clipped surrogate, token mean (TRL: "dapo"), no KL; AdamW, clipping at 1; one thread, float32;
gradient checkpointing and bfloat16, on by default there, are off. Both split the batch into micro-batches: ours by its
default, TRL's at its best of 1, 2, 4 and 8 equal parts (gradient accumulation), chosen per case. Updates of the two
alternate inside one process; the median of 7 pairs is reported after 2 warm-up pairs. How far the weights are apart
after the first update is reported too. CPU seconds of the process, so other load on the machine matters little.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from mnemon.train.batch import Row
from mnemon.train.trainer import TrainConfig, Trainer

PAIRS, WARM_UP, LR = 7, 2, 5e-4
PARTS = (1, 2, 4, 8)
SHAPES = {
    "tiny (0.48 M)": {"vocab_size": 430, "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 384},
    "small (4.2 M)": {"vocab_size": 4096, "hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 768},
}
CASES = {
    "equal lengths": {"prompt": (20, 20), "reply": (30, 30), "rows": 64},
    "memory prompts": {"prompt": (18, 26), "reply": (10, 34), "rows": 64},
    "ragged": {"prompt": (16, 192), "reply": (4, 64), "rows": 32},
}


def make_model(shape: dict[str, int]) -> Qwen3ForCausalLM:
    """A random Qwen3 model, the same every time."""
    torch.manual_seed(0)
    heads = shape["hidden_size"] // 32
    config = Qwen3Config(
        **shape, num_attention_heads=heads, num_key_value_heads=heads // 2, head_dim=32, tie_word_embeddings=True
    )
    return Qwen3ForCausalLM(config)


def make_rows(case: dict[str, Any], vocabulary: int) -> list[Row]:
    """Rows of one prompt and one reply each; group members share nothing but their task."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(case["rows"]):
        p, n = rng.integers(case["prompt"][0], case["prompt"][1] + 1), rng.integers(*(np.add(case["reply"], (0, 1))))
        mask = np.array([0] * p + [1] * n, dtype=np.uint8)
        old = (mask * (-np.log(vocabulary) + 0.1 * rng.normal(size=p + n))).astype(np.float32)
        row = Row(f"t{i // 8}", f"t{i // 8}#{i % 8}", rng.integers(3, vocabulary, p + n), mask, old)
        row.advantages = mask * np.float32(rng.normal())
        rows.append(row)
    return rows


def trl_tensors(rows: list[Row]) -> dict[str, torch.Tensor]:
    """The rows as GRPOTrainer makes them: prompts padded left, completions right."""
    parts = [(r.input_ids[: r.spans[0][0]], r.input_ids[r.spans[0][0] :], r) for r in rows]
    p, n = max(len(a) for a, _, _ in parts), max(len(b) for _, b, _ in parts)
    out = {
        "prompt_ids": torch.zeros(len(rows), p, dtype=torch.long),
        "prompt_mask": torch.zeros(len(rows), p, dtype=torch.long),
        "completion_ids": torch.zeros(len(rows), n, dtype=torch.long),
        "completion_mask": torch.zeros(len(rows), n, dtype=torch.long),
        "old_per_token_logps": torch.zeros(len(rows), n),
        "advantages": torch.zeros(len(rows)),
    }
    for i, (a, b, row) in enumerate(parts):
        assert row.advantages is not None
        out["prompt_ids"][i, p - len(a) :] = torch.from_numpy(a)
        out["prompt_mask"][i, p - len(a) :] = 1
        out["completion_ids"][i, : len(b)] = torch.from_numpy(b)
        out["completion_mask"][i, : len(b)] = 1
        out["old_per_token_logps"][i, : len(b)] = torch.from_numpy(row.old_logprobs[len(a) :])
        out["advantages"][i] = float(row.advantages[-1])
    out["num_items_in_batch"] = out["completion_mask"].sum()
    return out


class GivenRows(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer whose generation returns given rows."""

    given: dict[str, torch.Tensor]

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, torch.Tensor]:
        return dict(self.given)


class Alternate(TrainerCallback):  # type: ignore[misc]
    """Times each TRL step, then one update of this trainer, in CPU seconds of the process."""

    def __init__(self, ours: Trainer, rows: list[Row]) -> None:
        self.ours, self.rows = ours, rows
        self.seconds: dict[str, list[float]] = {"trl": [], "mnemon": []}
        self.first: dict[str, list[torch.Tensor]] = {}
        self.started = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.process_time()

    def on_step_end(self, *_: Any, model: Any, **__: Any) -> None:
        self.seconds["trl"].append(time.process_time() - self.started)
        start = time.process_time()
        self.ours.step(self.rows)
        self.seconds["mnemon"].append(time.process_time() - start)
        if not self.first:
            for name, module in (("trl", model), ("mnemon", self.ours.model)):
                self.first[name] = [p.detach().clone() for p in module.parameters()]


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """GRPOTrainer insists on one."""
    words = {"<pad>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, vocabulary)}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")), pad_token="<pad>", eos_token="<eos>"
    )


def compare(shape: dict[str, int], case: dict[str, Any]) -> dict[str, Any]:
    """The comparison at TRL's fastest number of parts."""
    tried = [measure(shape, case, parts) for parts in PARTS]
    best = min(tried, key=lambda result: float(result["trl_cpu_s"]))
    return best | {"trl_cpu_s_by_parts": {result["trl_parts"]: result["trl_cpu_s"] for result in tried}}


def measure(shape: dict[str, int], case: dict[str, Any], parts: int) -> dict[str, Any]:
    """Median CPU seconds of both and how far the weights are apart after one update."""
    rows = make_rows(case, shape["vocab_size"])
    model = make_model(shape)
    start = [p.detach().clone() for p in model.parameters()]
    settings = TrainConfig(lr=LR, loss_weights="token_mean", max_grad_norm=1.0, eps=1e-8)
    ours = Trainer(copy.deepcopy(model), settings)
    watch = Alternate(ours, rows)
    arguments = GRPOConfig(
        output_dir="/tmp/trl-update-speed",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=len(rows) // parts,
        gradient_accumulation_steps=parts,
        num_generations=8,
        max_completion_length=case["reply"][1],
        max_steps=PAIRS + WARM_UP,
        learning_rate=LR,
        lr_scheduler_type="constant",
        loss_type="dapo",
        beta=0.0,
        epsilon=0.2,
        max_grad_norm=1.0,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trl = GivenRows(
        model=model,
        args=arguments,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_list([{"prompt": "w2"}] * len(rows)),
        processing_class=tokenizer(shape["vocab_size"]),
        callbacks=[watch],
    )
    trl.given = trl_tensors(rows)
    trl.train()
    moved = torch.cat([(a - b).flatten() for a, b in zip(watch.first["trl"], start, strict=True)])
    apart = torch.cat([(a - b).flatten() for a, b in zip(watch.first["trl"], watch.first["mnemon"], strict=True)])
    medians = {name: statistics.median(values[WARM_UP:]) for name, values in watch.seconds.items()}
    return {
        "trl_parts": parts,
        "trl_cpu_s": round(medians["trl"], 4),
        "mnemon_cpu_s": round(medians["mnemon"], 4),
        "ratio": round(medians["mnemon"] / medians["trl"], 3),
        "all": {name: [round(v, 4) for v in values[WARM_UP:]] for name, values in watch.seconds.items()},
        "relative_difference_of_first_update": float(apart.norm() / moved.norm()),
        "rows": len(rows),
        "tokens": int(sum(map(len, rows))),
        "sampled_tokens": int(sum(r.loss_mask.sum() for r in rows)),
    }


def main() -> None:
    """Run every case and write the JSON beside this file (or to the path given)."""
    torch.set_num_threads(1)
    results = {}
    for model, shape in SHAPES.items():
        for name, case in CASES.items():
            results[f"{model}, {name}"] = result = compare(shape, case)
            print(
                f"{model}, {name}: TRL {result['trl_cpu_s']:.3f}, mnemon {result['mnemon_cpu_s']:.3f} CPU-s, ratio "
                f"{result['ratio']:.2f}, first update differs by {result['relative_difference_of_first_update']:.1e}"
            )
    versions = {name: version(name) for name in ("torch", "transformers", "trl", "accelerate")}
    out = {
        "command": "PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/update_speed.py",
        "versions": {**versions, "python": platform.python_version()},
        "machine": f"{platform.machine()}, 1 thread",
        "results": results,
    }
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
