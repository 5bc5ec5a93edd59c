"""CPU-seconds of sampling the rollouts of one update: LocalPolicy against `generate` of transformers, one thread.

    python benchmarks/rollout_speed.py [--model RUN]     # prints, and writes rollout_speed.json beside this file

The prompts are those of real tiny episodes: 24 tasks x 8 members of six events, played by the model at temperature 1;
the 192 prompts of an event are one batch, as in training. The model is the tiny agent that comes with the package, else
a cold start of 200 updates made here; --model names another run. Two cases: replies that end by themselves, and replies
that all run to 24 tokens, where no row can leave the batch early. The two samplers alternate on the same prompts; the
figure is the median of process CPU time over five updates after one warm-up, each of other tasks. `mnemon` includes
rendering the prompts from messages and building the replies' messages; `generate` gets ids, and decodes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

import mnemon.policy
from mnemon.agent import rollouts
from mnemon.policy.base import Request, run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.recipes.memory_r1.tiny import REPLY_TOKENS, TinySettings, cold_start, open_model, tiny_manager
from mnemon.recipes.tiny_data import start_state
from mnemon.tasks.tiny import make_tasks
from mnemon.types import Completion

RUNS, TASKS, MEMBERS, EVENTS, COLD_UPDATES = 5, 24, 8, 6, 200
SHIPPED = Path(mnemon.policy.__file__).parent / "assets" / "tiny"


class Recorder(LocalPolicy):
    """A policy that remembers the batches it was asked."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        batches.append(list(requests))
        return super().generate(requests)


batches: list[list[Request]] = []


def model_of(name: str | None) -> tuple[str, Any, Any]:
    """(what it is, model, tokenizer)."""
    if name is None and SHIPPED.is_dir():
        return "the tiny agent that comes with the package", *open_model(str(SHIPPED))
    if name is not None:
        return name, *open_model(name)
    with tempfile.TemporaryDirectory() as folder:
        cold = cold_start(Path(folder) / "cold", TinySettings(cold_updates=COLD_UPDATES))
        return f"a cold start of {COLD_UPDATES} updates, seed 0", *open_model(str(cold))


def recorded(model: Any, tokenizer: Any, update: int) -> list[list[Request]]:
    """The batches of one update's rollouts."""
    batches.clear()
    tasks = make_tasks(TASKS, EVENTS, "train", first=update * TASKS)
    policy = Recorder(model, tokenizer, max_tokens=REPLY_TOKENS)
    run_sync(rollouts(tiny_manager(), tasks, policy, members=MEMBERS, update=update, start=start_state))
    return list(batches)


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """Process CPU-seconds of `work`, and what it returned."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def case(model: Any, tokenizer: Any, updates: list[list[list[Request]]], new: int, fixed: bool) -> dict[str, Any]:
    """Alternate both samplers on the same prompts; medians, and tokens sampled per reply."""
    policy = LocalPolicy(model, tokenizer, max_tokens=new)
    stop = tokenizer.eos_token_id
    if fixed:
        policy.chat.stop_ids = frozenset()

    def ours(requests: list[Request]) -> int:
        return sum(len(c.token_ids) for c in policy.generate(requests))

    def library(prompts: list[list[int]]) -> int:
        batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        least = {"min_new_tokens": new} if fixed else {}
        ids = model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=new, **least)
        replies = ids[:, batch["input_ids"].shape[1] :].tolist()
        return sum(r.index(stop) + 1 if stop in r else len(r) for r in replies)

    times: dict[str, list[float]] = {"mnemon": [], "generate": []}
    tokens: dict[str, int] = {"mnemon": 0, "generate": 0}
    lengths: list[int] = []
    for requests in updates:
        prompts = [[policy.chat.render(r.messages) for r in batch] for batch in requests]
        policy.chat.forget()
        lengths += [len(prompt) for batch in prompts for prompt in batch]
        for name, sampler, given in (("mnemon", ours, requests), ("generate", library, prompts)):
            seconds, sampled = cpu(lambda sampler=sampler, given=given: [sampler(batch) for batch in given])
            times[name].append(seconds)
            tokens[name] += sum(sampled)
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {
        "prompt_tokens": [min(lengths), max(lengths)],
        "max_new_tokens": new,
        "cpu_seconds": {name: [round(v, 4) for v in values[1:]] for name, values in times.items()},
        "median_cpu_seconds": {name: round(v, 4) for name, v in median.items()},
        "mean_reply_tokens": {name: round(n / len(lengths), 2) for name, n in tokens.items()},
        "ratio": round(median["mnemon"] / median["generate"], 3),
    }


def main() -> None:
    """Run both cases and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a run or model directory of the tiny manager")
    torch.set_num_threads(1)
    name, model, tokenizer = model_of(parser.parse_args().model)
    updates = [recorded(model, tokenizer, update) for update in range(RUNS + 1)]
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/rollout_speed.py",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model": name,
        "batches": [len(batch) for batch in updates[0]],
        "runs": RUNS,
        "replies_end_by_themselves": case(model, tokenizer, updates, new=REPLY_TOKENS, fixed=False),
        "replies_of_24_tokens": case(model, tokenizer, updates, new=24, fixed=True),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
