"""CPU-seconds of sampling one batch of rollouts: LocalPolicy against `generate` of transformers, one thread.

    python benchmarks/rollout_speed.py            # prints, and writes rollout_speed.json beside this file

A tiny model with random weights (the shape of the one in the examples) answers 192 prompts of 20 to 60 tokens that
share their first tokens, as the prompts of one recipe do. Two cases: replies that end by themselves (geometric lengths
with a mean near 20, at most 32 tokens) and replies that all run to 24 tokens, where no row can leave the batch early.
The two samplers alternate; the figure is the median of process CPU time over seven runs after one warm-up each.
`mnemon` includes rendering the prompts from messages and building the replies' messages; `generate` gets ids, and
decodes nothing.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from mnemon.policy.base import Request
from mnemon.policy.local import LocalPolicy
from mnemon.types import Message

RUNS, EPISODES, VOCABULARY = 7, 192, 450
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def build() -> tuple[Any, Any]:
    """A word-level tokenizer of 450 words and a Qwen3 model of 0.4 M random weights."""
    words = ["<|im_end|>", "<|im_start|>", "system", "user", "assistant"]
    words += [f"w{i}" for i in range(VOCABULARY - len(words))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    model = Qwen3ForCausalLM(config).eval()
    head = torch.nn.Linear(128, VOCABULARY, bias=True)  # the bias sets how soon a reply ends
    head.weight, head.bias.data[:] = model.lm_head.weight, 0.0
    model.lm_head = head
    return model, tokenizer


def requests(seed: int) -> list[Request]:
    """Chat requests of 20 to 60 prompt tokens; the system message is the same for all."""
    generator = torch.Generator().manual_seed(seed)
    system = Message("system", " ".join(f"w{i}" for i in range(8)))
    out = []
    for i in range(EPISODES):
        n = int(torch.randint(5, 46, (1,), generator=generator))
        text = " ".join(f"w{int(t)}" for t in torch.randint(0, VOCABULARY - 5, (n,), generator=generator))
        out.append(Request((seed, 0, f"t{i // 8}", i % 8, 1), (system, Message("user", text)), ()))
    return out


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """Process CPU-seconds of `work`, and what it returned."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def case(model: Any, tokenizer: Any, stop_bias: float, new: int) -> dict[str, Any]:
    """Alternate both samplers on the same prompts; medians, and tokens sampled per run."""
    model.lm_head.bias.data[0] = stop_bias
    policy = LocalPolicy(model, tokenizer, max_tokens=new)

    def ours(seed: int) -> Any:
        return policy.generate(requests(seed))

    def library(prompts: list[list[int]]) -> Any:
        batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        return model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=new)

    times: dict[str, list[float]] = {"mnemon": [], "generate": []}
    tokens: dict[str, list[int]] = {"mnemon": [], "generate": []}
    lengths: list[int] = []
    for run in range(RUNS + 1):
        prompts = [policy.chat.render(r.messages) for r in requests(run)]
        policy.chat.forget()
        lengths = [len(p) for p in prompts]
        seconds, completions = cpu(lambda run=run: ours(run))
        times["mnemon"].append(seconds)
        tokens["mnemon"].append(sum(len(c.token_ids) for c in completions))
        seconds, ids = cpu(lambda prompts=prompts: library(prompts))
        times["generate"].append(seconds)
        replies = ids[:, max(lengths) :].tolist()
        tokens["generate"].append(sum(r.index(0) + 1 if 0 in r else len(r) for r in replies))
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {
        "prompt_tokens": [min(lengths), max(lengths)],
        "max_new_tokens": new,
        "cpu_seconds": {name: [round(v, 4) for v in values[1:]] for name, values in times.items()},
        "median_cpu_seconds": {name: round(v, 4) for name, v in median.items()},
        "mean_reply_tokens": {name: round(statistics.mean(v[1:]) / EPISODES, 2) for name, v in tokens.items()},
        "ratio": round(median["mnemon"] / median["generate"], 3),
    }


def main() -> None:
    """Run both cases and write the figures."""
    torch.set_num_threads(1)
    model, tokenizer = build()
    result = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "episodes": EPISODES,
        "runs": RUNS,
        "replies_end_by_themselves": case(model, tokenizer, stop_bias=3.1, new=32),
        "replies_of_24_tokens": case(model, tokenizer, stop_bias=-1e9, new=24),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
