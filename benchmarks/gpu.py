"""Rollout and update speed, model FLOP utilisation and memory at the shapes of Qwen3-0.6B and Qwen3-4B, random weights.

    python benchmarks/gpu.py                       # on a machine with CUDA: both shapes, bfloat16
    python benchmarks/gpu.py --shapes Qwen3-4B --lora 16 --rows 64 --prompt 4096 --reply 512
    python benchmarks/gpu.py --miniature           # a model of a few million weights, anywhere, in seconds

Writes benchmarks/gpu.json (--out). Without CUDA the shapes are not run, and the file says that GPU figures are missing.

Rollout is `LocalPolicy.generate` on `rows` different prompts, every reply `reply` tokens long. Update is one
`Trainer.step` (one pass, clipped surrogate, AdamW) on the rows that were sampled. A trainer keeps the weights that it
trains in float32 and computes under bfloat16 autocast, so sampling is measured twice: with the weights in bfloat16 (a
frozen partner, evaluation, service), and with the trainer's, under its autocast. Wall-clock
seconds, median after one warm-up.

Model FLOPs, with N the weights in matrix products (without the embedding table and the output layer), L layers, H heads
of width D, hidden size d, V words; a context of T tokens, of which n were sampled:

    forward(T, n) = 2·N·T + 4·L·H·D·T(T + 1)/2 + 2·d·V·n        products, causal attention, output layer at n positions
    rollout = Σ_rows forward(prompt + reply − 1, reply)         each token is read once; the last one is never read
    update  = 3 · rollout                                       LoRA: 2 for products, no gradients of frozen weights
    utilisation = FLOPs / (seconds · peak)

Recomputation does not count. The peak is the data sheet's for dense bfloat16; for a device that is not in the table
(and for the miniature) the rate of one large matrix product, measured here. --peak overrides both.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen3Config

from mnemon import LocalPolicy, Message, MnemonError, Step, TrainConfig, Trainer
from mnemon.policy.base import Request
from mnemon.policy.tiny import build_tokenizer
from mnemon.runs import atomic_write_json
from mnemon.train.batch import Row, rows_from_steps
from mnemon.train.config import Lora

SHAPES: dict[str, dict[str, int]] = {
    "Qwen3-0.6B": {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    },
    "Qwen3-4B": {
        "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    },
    "miniature": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 10, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 2048,
    },
}  # fmt: skip
"""The numbers of the public configurations; the miniature is no public model."""
PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
}  # fmt: skip
"""Dense bfloat16 FLOP/s of the data sheets, by a part of the device's name; the first match counts."""
MISSING = "No CUDA device here: GPU figures are missing. Run this program on a machine that has one."


def build(shape: dict[str, int], device: torch.device, dtype: torch.dtype) -> Any:
    """A model of this shape with random weights."""
    config = Qwen3Config(**shape, tie_word_embeddings=True, max_position_embeddings=40960)
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def forward_flops(config: Any, tokens: int, sampled: int) -> tuple[float, float]:
    """Model FLOPs of reading a context of `tokens`, the output layer at `sampled` positions: (products, attention)."""
    d, heads = config.hidden_size, config.num_attention_heads * config.head_dim
    layer = 2 * d * heads + 2 * d * config.num_key_value_heads * config.head_dim + 3 * d * config.intermediate_size
    products = 2.0 * config.num_hidden_layers * layer * tokens
    attention = 4.0 * config.num_hidden_layers * heads * tokens * (tokens + 1) / 2
    return products + 2.0 * d * config.vocab_size * sampled, attention


def requests(tokenizer: Any, rows: int, prompt: int) -> list[Request]:
    """`rows` different chats; with the template's own tokens each has `prompt` tokens."""
    words = [f"w{i}" for i in range(500)]
    generator = torch.Generator().manual_seed(1)
    frame = len(
        tokenizer.apply_chat_template([{"role": "user", "content": "w0"}], add_generation_prompt=True)["input_ids"]
    )
    picks = torch.randint(0, len(words), (rows, prompt - frame + 1), generator=generator).tolist()
    texts = [" ".join(words[i] for i in row) for row in picks]
    return [Request((0, 0, f"t{i}", 0, 1), (Message("user", text),), ()) for i, text in enumerate(texts)]


def seconds(work: Callable[[], Any], runs: int, device: torch.device) -> tuple[float, Any]:
    """Median wall-clock seconds of `runs` calls after one warm-up, and what the last returned."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]), result


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that CUDA's allocator held since the last call; without CUDA the process's peak so far."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return int(peak)


def peak_flops(device: torch.device, dtype: torch.dtype, given: float | None) -> tuple[float, str]:
    """FLOP/s that utilisation is relative to, and where the number comes from."""
    if given is not None:
        return given * 1e12, "--peak"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    for part, value in PEAKS.items():
        if re.search(rf"\b{part}\b", name):
            return value, f"data sheet, dense bfloat16 ({part})"
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device).to(dtype)
    took, _ = seconds(lambda: a @ a, 5, device)
    return 2.0 * size**3 / took, f"measured here: {size} x {size} product, {str(dtype).removeprefix('torch.')}"


def figures(tokens: int, flops: float, took: float, peak: float, memory: int) -> dict[str, float]:
    """What is reported of one kind of work; `tokens` are the sampled ones."""
    return {
        "seconds": round(took, 4),
        "tokens_per_s": round(tokens / took, 1),
        "mfu": round(flops / took / peak, 4),
        "peak_memory_bytes": memory,
    }


def measure(shape: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Rollout and update of one shape."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    peak, source = peak_flops(device, dtype, options.peak)
    model = build(SHAPES[shape], device, dtype)
    weights = sum(p.numel() for p in model.parameters())
    tokenizer = build_tokenizer([f"w{i}" for i in range(500)])
    policy = LocalPolicy(model, tokenizer, max_tokens=options.reply, batch=options.rows)
    policy.chat.stop_ids = frozenset()  # every reply runs to its full length
    asked = requests(tokenizer, options.rows, options.prompt)
    tokens, context = options.rows * options.reply, options.prompt + options.reply - 1
    products, attention = (options.rows * flops for flops in forward_flops(model.config, context, options.reply))
    forward, backward = products + attention, (1 if options.lora else 2) * products + 2 * attention

    peak_memory(device)
    took, completions = seconds(lambda: policy.generate(asked), options.runs, device)
    found: dict[str, Any] = {"rollout": figures(tokens, forward, took, peak, peak_memory(device))}
    rows: list[Row] = []
    for i, completion in enumerate(completions):
        row = rows_from_steps(
            [(0, Step("writer", asked[i].messages, (), completion))], f"t{i // 8}", f"t{i // 8}#{i % 8}"
        )[0]
        row.advantages = row.loss_mask.astype("float32") * (1.0 if i % 2 else -1.0)
        rows.append(row)
    assert {len(row) for row in rows} == {context + 1}, "every context has the lengths that were asked for"
    lora = Lora(r=options.lora, alpha=2.0 * options.lora) if options.lora else None
    trainer = Trainer(
        model,
        TrainConfig(lora=lora, gradient_checkpointing=options.checkpointing, token_budget=options.token_budget),
    )
    took, _ = seconds(lambda: trainer.step(rows), options.runs, device)
    found["update"] = figures(tokens, forward + backward, took, peak, peak_memory(device))
    policy.model, policy.autocast = trainer.model, torch.bfloat16 if trainer.autocast else None
    took, _ = seconds(lambda: policy.generate(asked), options.runs, device)
    found["rollout_in_training"] = figures(tokens, forward, took, peak, peak_memory(device))
    return {"weights": weights, "dtype": str(dtype), "peak_flops": peak, "peak_source": source, **found}


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shapes", nargs="+", choices=[s for s in SHAPES if s != "miniature"], default=["Qwen3-0.6B", "Qwen3-4B"]
    )
    parser.add_argument("--rows", type=int, default=128, help="prompts per batch")
    parser.add_argument("--prompt", type=int, default=1024, help="tokens of each prompt")
    parser.add_argument("--reply", type=int, default=256, help="tokens of each reply")
    parser.add_argument("--runs", type=int, default=3, help="timed repetitions")
    parser.add_argument("--lora", type=int, default=None, help="train adapters of this rank")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--token-budget", type=int, default=None, help="tokens of a micro-batch of the update")
    parser.add_argument("--peak", type=float, default=None, help="TFLOP/s that utilisation is relative to")
    parser.add_argument("--miniature", action="store_true", help="only a small model, on the CPU")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args(arguments)
    if options.prompt < 16 or min(options.rows, options.reply, options.runs) < 1:
        parser.error("--prompt must be at least 16, --rows, --reply and --runs at least 1")
    if options.miniature:
        options.rows, options.prompt, options.reply = (
            min(options.rows, 8),
            min(options.prompt, 64),
            min(options.reply, 16),
        )
    return options


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print and write."""
    options = options_of(arguments)
    cuda = torch.cuda.is_available() and not options.miniature
    if not cuda and options.out.exists() and json.loads(options.out.read_text()).get("cuda"):
        raise MnemonError(f"{options.out} holds figures of a GPU: give another file with --out")
    device = torch.device("cuda" if cuda else "cpu")
    settings = {
        n: getattr(options, n) for n in ("rows", "prompt", "reply", "runs", "lora", "checkpointing", "token_budget")
    }
    result: dict[str, Any] = {
        "cuda": cuda,
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "settings": settings,
        "results": {},
    }
    if not cuda:
        result["missing"] = MISSING
        torch.set_num_threads(1)
        print(MISSING, flush=True)
    for shape in options.shapes if cuda else ["miniature"] if options.miniature else []:
        result["results"][shape] = found = measure(shape, options, device)
        for name in ("rollout", "update", "rollout_in_training"):
            row = found[name]
            speed = f"{row['tokens_per_s']:10.1f} tokens/s  {row['mfu']:6.1%} of {found['peak_flops']:.3g} FLOP/s"
            print(f"{shape:11} {name:20} {speed}  {row['peak_memory_bytes'] / 2**30:6.2f} GiB")
    atomic_write_json(options.out, result)
    return result


if __name__ == "__main__":
    main()
