"""Mem-α in the tiny stream: the same agents, rollouts, credit and trainer as for a real model, in minutes on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from mnemon.agent import Agent, Reader, agent_fingerprint, rollouts
from mnemon.agents.mem_alpha.agents import writer
from mnemon.agents.mem_alpha.judge import Edit
from mnemon.policy.local import LocalPolicy
from mnemon.policy.open import newest_checkpoint
from mnemon.policy.tiny import build_model
from mnemon.recipes.mem_alpha.tiny_data import cold_rows, start_state, stream_tokenizer
from mnemon.recipes.mem_alpha.tiny_init import pair_init
from mnemon.rewards import (
    Reward,
    answer_score,
    answers,
    compression,
    content,
    invalid_calls,
    linked_answers,
    valid_calls,
)
from mnemon.runs import RunFolder
from mnemon.tasks.tiny_stream import make_task, make_tasks
from mnemon.tasks.tiny_stream.judge import valid_edit
from mnemon.tasks.tiny_stream.questions import DIMENSIONS
from mnemon.tasks.tiny_stream.reader import rule_reader
from mnemon.train.config import LoopConfig, TrainConfig
from mnemon.train.launch import open_model as open_model  # recipes and benchmarks find it here
from mnemon.train.loop import Problem, train
from mnemon.train.ranks import world
from mnemon.train.sft import fit, length_buckets
from mnemon.train.trainer import Trainer
from mnemon.types import Policy, Task, Trajectory

TRAIN_SEEDS = 10_000_000
"""Training tasks have seeds from here on, so that no evaluation ever shares a task with training."""
REPLY_TOKENS = 128


@dataclass(frozen=True, slots=True)
class TinySettings:
    """The tiny preset.

    length: chunks per training stream. before: chunks that its memory already holds, rightly kept, in turn over the
    streams: who reads six chunks learns with the memory of a longer stream. credit: "linked" pays a question to the
    chunks that it is about, "trajectory" to all (arXiv 2509.25911), "mixed" half each: a chunk that empties the core
    hurts questions about others. beta, gamma: weights of compression and of the
    judge's content score; validity: weight of valid calls.
    """

    seed: int = 0
    length: int = 6
    before: tuple[int, ...] = (0, 12, 0, 36)
    questions: int = 15
    cold_updates: int = 1200
    cold_batch: int = 32
    demonstrations: float = 0.25
    credit: Literal["linked", "trajectory", "mixed"] = "mixed"
    beta: float = 0.05
    gamma: float = 0.1
    validity: float = 0.2
    validation: int = 100
    cold: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=2.5e-3, betas=(0.9, 0.98), weight_decay=0.01, warmup=50, token_budget=32768
        )
    )
    rl: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=3e-4, betas=(0.9, 0.98), warmup=5, entropy=0.001, minibatch=16, token_budget=8192
        )
    )
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(updates=20, groups=16, members=8, eval_every=5))


def tiny_writer() -> Agent:
    """The writer of the tiny stream: the ten entries of each list that fit the chunk best, one reply per chunk."""
    return writer(style="tiny", related=10, recent=0)


def cold_start(folder: Path, settings: TinySettings) -> Path:
    """Supervised start of a fresh tiny model in `folder` (resumed if it is there). Returns the folder."""
    there = (folder / "config.json").exists()
    found = newest_checkpoint(folder)
    if there and found is not None and found[1]["step"] == settings.cold_updates:
        return folder  # finished before
    torch.set_num_threads(1)
    tokenizer = stream_tokenizer()
    model = build_model(tokenizer, seed=settings.seed)
    pair_init(model, settings.seed)
    count = settings.cold_updates * settings.cold_batch
    rows = cold_rows(tiny_writer(), tokenizer.get_vocab(), count, settings.seed, settings.demonstrations)
    batches = length_buckets(rows, settings.cold_batch, settings.seed)
    trainer = Trainer(model, replace(settings.cold, schedule="cosine", total_steps=len(batches), seed=settings.seed))
    names = ("seed", "length", "cold_updates", "cold_batch", "demonstrations", "cold")
    described = {"recipe": "mem-alpha", "role": "writer", "phase": "cold start"}
    described |= {name: getattr(settings, name) for name in names}
    run = RunFolder(folder)
    leader = world()[0] == 0
    with run.start(described, seed=settings.seed, resume=there) if leader else nullcontext():
        fit(trainer, batches, run, tokenizer, extra={"recipe": "mem-alpha", "role": "writer", "world": "tiny"})
    return folder


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def play(policy: Policy, tasks: Sequence[Task], reader: Reader | None = None, seed: int = 0) -> list[Trajectory]:
    """One rollout per task with the tiny writer."""
    groups = await rollouts(tiny_writer(), tasks, policy, reader=reader or rule_reader(), start=start_state, seed=seed)
    return [trajectory for group in groups for trajectory in group]


def accuracy(trajectories: Sequence[Trajectory]) -> list[float]:
    """Per stream: the mean over its questions."""
    return [sum(map(answer_score, t.answers)) / len(t.answers) for t in trajectories if t.answers]


def by_dimension(trajectories: Sequence[Trajectory]) -> dict[str, tuple[float, int]]:
    """Dimension → (share of its questions answered right, questions)."""
    found: dict[str, list[float]] = {dimension: [] for dimension in DIMENSIONS}
    for trajectory in trajectories:
        for answer in trajectory.answers:
            found[answer.probe.category].append(answer_score(answer))
    return {dimension: (sum(scores) / max(1, len(scores)), len(scores)) for dimension, scores in found.items()}


def call_counts(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, int]]:
    """Tool and section → how its calls went ("done", or the code of the refusal) → count."""
    table: dict[str, dict[str, int]] = {}
    for trajectory in trajectories:
        for step in trajectory.steps:
            for result in step.results:
                name = f"{result.call.name} {result.call.arguments.get('section', '')}".strip() or "unreadable"
                row = table.setdefault(name, {})
                row[result.code or "done"] = row.get(result.code or "done", 0) + 1
    return {name: table[name] for name in sorted(table)}


def invalid_share(trajectories: Sequence[Trajectory]) -> float:
    """Calls refused for whatever reason, over all calls made."""
    made = sum(len(step.results) for t in trajectories for step in t.steps)
    return sum(invalid_calls(t, idle=True) for t in trajectories) / max(1, made)


def summary(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Figures of an evaluation: accuracy, by dimension, invalid calls per call."""
    scores = accuracy(trajectories)
    dimensions = {name.replace(" ", "_"): share for name, (share, _) in by_dimension(trajectories).items()}
    return {"validation": sum(scores) / len(scores), **dimensions, "invalid": invalid_share(trajectories)}


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def rule_judge(edit: Edit) -> float:
    """The stream's rule judge on one edit (see `mnemon.tasks.tiny_stream.judge`)."""
    others = [e.text for e in edit.shown if e.section == edit.section and e.text != edit.before]
    if edit.section == "core":
        others = []
    given = edit.given
    return float(valid_edit(edit.section, edit.before, edit.after, others, given.text, given.time))


def writer_rewards(settings: TinySettings) -> tuple[Reward, ...]:
    """r1 (answers) + validity · r2 + beta · r3 + gamma · r4 (arXiv 2509.25911 §3.2, with smaller weight on r2)."""
    linked = {"linked": 1.0, "mixed": 0.5, "trajectory": 0.0}[settings.credit]
    terms = [linked_answers(weight=linked)] if linked else []
    terms += [answers(weight=1 - linked)] if linked < 1 else []
    terms += [valid_calls(weight=settings.validity)]
    terms += [compression(weight=settings.beta)] if settings.beta else []
    terms += [content(rule_judge, weight=settings.gamma)] if settings.gamma else []
    return tuple(terms)


def training_tasks(settings: TinySettings, update: int, attempt: int) -> list[Task]:
    """The tasks of one update, always new ones."""
    first = TRAIN_SEEDS + (update * 4 + attempt) * settings.loop.groups
    return [
        make_task(first + i, settings.length, most=settings.questions, before=settings.before[i % len(settings.before)])
        for i in range(settings.loop.groups)
    ]


def train_writer(run: RunFolder, settings: TinySettings, cold: str, reader: Reader | None = None) -> dict[str, Any]:
    """Reinforcement learning of the writer from its cold start. `run` is open; returns the last evaluation."""
    model, tokenizer = open_model(cold)
    policy = LocalPolicy(model, tokenizer, temperature=settings.rl.temperature, max_tokens=REPLY_TOKENS)
    greedy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=REPLY_TOKENS)
    agent, (reading, partner) = tiny_writer(), reader or rule_reader()
    validation = make_tasks(settings.validation, settings.length, "validation")

    async def evaluate() -> Mapping[str, float]:
        return summary(await play(greedy, validation, (reading, partner)))

    config = replace(settings.rl, schedule="linear", total_steps=settings.loop.updates, seed=settings.seed)
    problem = Problem(
        writer=agent,
        policy=policy,
        tasks=lambda update, attempt: training_tasks(settings, update, attempt),
        rewards=writer_rewards(settings),
        reader=reading,
        partner=partner,
        start=start_state,
        evaluate=evaluate,
        fingerprint=f"{agent_fingerprint(agent)}/{policy.chat.fingerprint}",
        extra={"recipe": "mem-alpha", "role": "writer", "world": "tiny"},
    )
    return train(problem, Trainer(model, config), replace(settings.loop, seed=settings.seed), run, tokenizer)
