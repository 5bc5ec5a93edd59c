"""One long stream, end to end: does the cost of reading a chunk grow with the memory?

    python benchmarks/long_stream.py [--tokens 474000] [--chunk 2048] [--window 6144]

A byte-level model with random weights (examples/make_random_model.py) reads a stream of dated sentences as Mem-α's
writer does: every chunk in a fresh context with the core and the related entries of the memory built so far. A random
model writes nothing that can be read, so its replies are sampled (and timed) and then replaced by inserts of the
chunk's own sentences: the memory grows by two entries a chunk, the core is rewritten every twenty. At the end questions
about single sentences are asked; what the model says of them means nothing, what the reader was shown does.

Writes benchmarks/long_stream.json and .md: prompt tokens, CPU-seconds per chunk at the beginning and at the end, peak
memory of the process, and the share of questions whose sentence was stored and shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mnemon.agent import rollouts
from mnemon.agents import mem_alpha
from mnemon.memory.count import BYTES
from mnemon.metrics import evidence_recall
from mnemon.policy.base import run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.tasks.script import Script
from mnemon.tasks.tiny import words
from mnemon.train.progress import Progress
from mnemon.types import Completion, Input, Message, Probe, Stage, Task, ToolCall, ToolSchema

HERE = Path(__file__).parent
STORED = 2
"""Sentences of a chunk that are stored."""


def stream(tokens: int, chunk: int, seed: int = 0) -> Task:
    """Chunks of dated sentences, `tokens` bytes in all, and a question about one sentence of every tenth chunk."""
    rng = random.Random(f"long stream/{seed}")
    inputs, probes, used = [], [], 0
    while used < tokens:
        number = len(inputs)
        lines: list[str] = []
        while sum(len(line) + 1 for line in lines) < chunk - 80:
            person, other = rng.sample(words.PEOPLE, 2)
            attribute = rng.choice(sorted(words.SINGLE))
            value = rng.choice(words.values(attribute))
            lines.append(
                f"Day {number}: {person} told {other} about the {attribute} {value}, item {number}-{len(lines)}."
            )
        text = "\n".join(lines)
        inputs.append(Input(text, f"day {number}", (f"c{number}",)))
        if number % 10 == 0:
            question = f"Who was told on day {number} about item {number}-0?"
            probes.append(Probe(f"q{number}", question, (lines[0],), evidence=(f"c{number}",), scorers=("em",)))
        used += len(text.encode())
    return Task("long", (Stage(partial(Script, inputs)),), tuple(probes), {"tokens": used})


class Copying:
    """A policy that samples from a model and then says something else: inserts of the chunk's first sentences."""

    def __init__(self, policy: LocalPolicy, progress: Progress) -> None:
        self.policy, self.progress = policy, progress
        self.spent: list[float] = []
        self.prompts: list[int] = []
        self.last = time.process_time()

    def count_tokens(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> int:
        return self.policy.count_tokens(messages, tools)

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        completion = await self.policy(messages, tools)
        self.prompts.append(len(completion.prompt_ids))
        number = len(self.prompts) - 1
        chunk = messages[-1].content.partition("<new_chunk>\n")[2].splitlines()
        calls = [ToolCall("insert", {"section": "episodic", "text": line}) for line in chunk[:STORED]]
        if number % 20 == 0:
            kind = "update" if number else "insert"
            calls.append(ToolCall(kind, {"section": "core", "text": f"{number} days of gossip were read."}))
        now = time.process_time()
        self.spent.append(now - self.last)
        self.last = now
        self.progress.advance({"prompt": self.prompts[-1]})
        return replace(completion, message=Message("assistant", "", tuple(calls)))


def measure(tokens: int, chunk: int, window: int, model: str) -> dict[str, Any]:
    """Read the stream, ask the questions."""
    task = stream(tokens, chunk)
    chunks = len(task.stages[0].environment().inputs)  # type: ignore[attr-defined]
    policy = LocalPolicy.load(model, temperature=1.0, max_tokens=16)
    writer = mem_alpha.writer(counter=BYTES, window=window, reply_tokens=512)
    reader = mem_alpha.reader(window=window, counter=BYTES)
    answering = LocalPolicy(policy.model, policy.tokenizer, temperature=0.0, max_tokens=8)
    started = time.process_time()
    with Progress("reading", chunks) as progress:
        copying = Copying(policy, progress)
        [[played]] = run_sync(rollouts(writer, [task], copying, reader=(reader, answering)))
    tenth = max(1, chunks // 10)
    first, last = copying.spent[1 : 1 + tenth], copying.spent[-tenth:]
    held = played.state.memory.entries()
    stored = {source for entry in held for source in entry.source}
    shown = [evidence_recall([s for e in a.turn.view for s in e.source], a.probe.evidence) for a in played.answers]
    return {
        "stream tokens (bytes)": task.meta["tokens"],
        "chunks": chunks,
        "window, tokens": window,
        "longest prompt, tokens": max(copying.prompts),
        "prompt tokens, first tenth": round(statistics.median(copying.prompts[:tenth])),
        "prompt tokens, last tenth": round(statistics.median(copying.prompts[-tenth:])),
        "CPU-s per chunk, first tenth": round(statistics.median(first), 3),
        "CPU-s per chunk, last tenth": round(statistics.median(last), 3),
        "last over first": round(statistics.median(last) / statistics.median(first), 3),
        "refused calls": sum(n for event, n in played.events.items() if event.startswith("refused")),
        "entries in memory": len(held),
        "memory tokens (bytes)": sum(BYTES(entry.text) for entry in held),
        "questions": len(played.answers),
        "evidence stored": round(statistics.mean(evidence_recall(stored, p.evidence) or 0 for p in task.probes), 3),
        "evidence shown": round(statistics.mean(value or 0 for value in shown), 3),
        "CPU-s in all": round(time.process_time() - started, 1),
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=474_000)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--window", type=int, default=6144)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--out", type=Path, default=HERE / "long_stream.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        make = [sys.executable, str(HERE.parent / "examples" / "make_random_model.py"), folder]
        size = ["--layers", str(options.layers), "--width", str(options.width), "--window", str(2 * options.window)]
        subprocess.run([*make, *size], check=True, capture_output=True)
        found = measure(options.tokens, options.chunk, options.window, folder)
    result = {
        "command": "python benchmarks/long_stream.py",
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "model": f"random weights, byte-level, {options.layers} layers of width {options.width}",
        **found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    lines = ["# One long stream, end to end", "", f"`{result['command']}`", "", "| | |", "|---|--:|"]
    lines += [
        f"| {name} | {value:,} |" if isinstance(value, int) else f"| {name} | {value} |"
        for name, value in found.items()
    ]
    lines += [
        "",
        f"Model: {result['model']}. Machine: {result['machine']}. What was sampled is replaced by inserts of the",
    ]
    lines += [
        "chunk's first sentences (see the file's head): these figures are about cost and bounds, not about learning."
    ]
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
