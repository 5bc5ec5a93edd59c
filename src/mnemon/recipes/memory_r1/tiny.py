"""Memory-R1 in the tiny world: the same agents, rollouts, credit and trainer as for a real model, in minutes on a
CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from mnemon.agent import Agent, Reader, agent_fingerprint, rollouts
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.policy.base import Scripted
from mnemon.policy.local import LocalPolicy
from mnemon.policy.open import newest_checkpoint
from mnemon.policy.tiny import build_model, build_tokenizer
from mnemon.recipes.tiny_data import demonstrations, skills, start_state, token_ids
from mnemon.recipes.tiny_reader_data import reader_cold_rows
from mnemon.rewards import Reward, answer_score, answers, invalid, invalid_calls, invalid_steps, linked_answers
from mnemon.runs import RunFolder
from mnemon.tasks.tiny import make_task, make_tasks, words
from mnemon.tasks.tiny.scripted import read_answer
from mnemon.train.config import TrainConfig
from mnemon.train.launch import open_model as open_model  # recipes and benchmarks find it here
from mnemon.train.loop import LoopConfig, Problem, train
from mnemon.train.ranks import world
from mnemon.train.sft import fit, length_buckets
from mnemon.train.trainer import Trainer
from mnemon.types import Policy, Task, Trajectory

TRAIN_SEEDS = 10_000_000
"""Training tasks have seeds from here on, so that no evaluation ever shares a task with training."""
REPLY_TOKENS = 64
Credit = Literal["mixed", "linked", "trajectory"]


@dataclass(frozen=True, slots=True)
class TinySettings:
    """The tiny preset. `train_tasks` limits how many different training tasks exist (None: always new ones).
    `credit` is explained at `manager_rewards`."""

    seed: int = 0
    length: int = 6
    cold_updates: int = 1300
    cold_batch: int = 64
    demonstrations: float = 0.25
    train_tasks: int | None = None
    credit: Credit = "mixed"
    validation: int = 100
    cold: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=2.5e-3, betas=(0.9, 0.98), weight_decay=0.01, warmup=50, token_budget=32768
        )
    )
    rl: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=4e-4,
            critic_lr=2e-3,
            betas=(0.9, 0.98),
            warmup=5,
            entropy=0.001,
            minibatch=16,
            token_budget=8192,
        )
    )
    reader_rl: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=5e-4, betas=(0.9, 0.98), warmup=5, entropy=0.001, minibatch=32, token_budget=8192
        )
    )
    reader_loop: LoopConfig = field(default_factory=lambda: LoopConfig(updates=80, groups=24, members=8, eval_every=10))
    reader_cold_updates: int = 400
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(updates=50, groups=24, members=8, eval_every=5))


def tiny_manager() -> Agent:
    """The Memory Manager of the tiny world: a sentence is a fact, five memories are shown, one call is made."""
    return manager(extract="raw", style="tiny", related=5)


def rule_reader() -> Reader:
    """The deterministic answerer: the one best memory, read by rule."""
    return answerer(k=1, style="tiny", marker=False), Scripted(read_answer)


def cold_rows(role: Literal["writer", "reader"], settings: TinySettings, distill: bool = True) -> list[Any]:
    """The rows of the cold start, the same for the same seed."""
    ids = token_ids(build_tokenizer(words.vocabulary()))
    count = settings.cold_updates * settings.cold_batch
    if role == "reader":
        return list(reader_cold_rows(ids, settings.reader_cold_updates * settings.cold_batch, settings.seed, distill))
    demos = int(count * settings.demonstrations)
    rows = demonstrations(tiny_manager(), ids, -(-demos // settings.length), settings.seed, settings.length)[:demos]
    return [*rows, *skills(ids, count - len(rows), settings.seed)]


def cold_start(
    folder: Path, settings: TinySettings, role: Literal["writer", "reader"] = "writer", *, distill: bool = True
) -> Path:
    """Supervised start of a fresh tiny model in `folder` (resumed if it is there). Returns the folder."""
    there = (folder / "config.json").exists()
    updates = settings.reader_cold_updates if role == "reader" else settings.cold_updates
    found = newest_checkpoint(folder)
    if there and found is not None and found[1]["step"] == updates:
        return folder  # finished before
    torch.set_num_threads(1)
    tokenizer = build_tokenizer(words.vocabulary())
    model = build_model(tokenizer, seed=settings.seed)
    rows = cold_rows(role, settings, distill)
    batches = length_buckets(rows, settings.cold_batch, settings.seed)
    trainer = Trainer(model, replace(settings.cold, schedule="cosine", total_steps=len(batches), seed=settings.seed))
    described = {
        "recipe": "memory-r1",
        "role": role,
        "phase": "cold start",
        "distill": distill,
        **{
            name: getattr(settings, name) for name in ("seed", "length", "cold_updates", "cold_batch", "demonstrations")
        },
        "cold": settings.cold,
    }
    run = RunFolder(folder)
    leader = world()[0] == 0
    with run.start(described, seed=settings.seed, resume=there) if leader else nullcontext():
        fit(trainer, batches, run, tokenizer, extra={"recipe": "memory-r1", "role": role, "world": "tiny"})
    return folder


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def operation_counts(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, int]]:
    """Event kind → operation → count; a reply that made no valid call counts as "invalid", a full store as
    "refused".
    """
    table: dict[str, dict[str, int]] = {}
    for trajectory in trajectories:
        for kind, step in zip(trajectory.task.meta["kinds"], trajectory.steps, strict=True):
            result = step.results[0] if step.results else None
            name = "invalid" if result is None else result.call.name
            if result is not None and not result.ok:
                name = "refused" if result.code == "full" else "unchanged" if result.code == "unchanged" else "invalid"
            row = table.setdefault(kind, {})
            row[name] = row.get(name, 0) + 1
    return table


def rightly(trajectories: Sequence[Trajectory], kind: str) -> tuple[int, int]:
    """(right, all) events of a kind ("more": merges, "drop": removals from lists) whose memory was right afterwards.

    Right means that the values of the fact in memory equal the true values after the event, given that they equalled
    the true values before it.
    """
    from mnemon.tasks.tiny.scripted import read_line
    from mnemon.tasks.tiny.world import apply

    right = total = 0
    for trajectory in trajectories:
        facts: dict[tuple[str, str], list[str]] = {}
        held: dict[int, tuple[tuple[str, str], tuple[str, ...]]] = {}
        for event, turn in zip(trajectory.task.meta["events"], trajectory.turns, strict=True):
            fact = (event.person, event.attribute)
            before = sorted(v for f, values in held.values() if f == fact for v in values)
            ready = before == sorted(facts.get(fact, []))
            apply(facts, event)
            for operation in turn.operations:
                held.pop(operation.entry.id, None)
                if operation.after is not None:
                    line = read_line("", operation.after.text)
                    held[operation.after.id] = ((line.person, line.attribute), line.values)
            if event.kind == kind and ready:
                after = sorted(v for f, values in held.values() if f == fact for v in values)
                total += 1
                right += after == sorted(facts[fact])
    return right, total


def accuracy(trajectories: Sequence[Trajectory]) -> list[float]:
    """Per episode: the mean over its questions."""
    return [sum(map(answer_score, t.answers)) / len(t.answers) for t in trajectories if t.answers]


async def play(policy: Policy, tasks: Sequence[Task], reader: Reader | None = None, seed: int = 0) -> list[Trajectory]:
    """One rollout per task with the tiny manager."""
    groups = await rollouts(tiny_manager(), tasks, policy, reader=reader or rule_reader(), start=start_state, seed=seed)
    return [trajectory for group in groups for trajectory in group]


def summary(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Figures of an evaluation: accuracy, list merges and removals, invalid calls per event."""
    events = sum(len(t.turns) for t in trajectories)
    merges, removals = rightly(trajectories, "more"), rightly(trajectories, "drop")
    scores = accuracy(trajectories)
    return {
        "validation": sum(scores) / len(scores),
        "merges": merges[0] / max(1, merges[1]),
        "removals": removals[0] / max(1, removals[1]),
        "invalid": sum(map(invalid_calls, trajectories)) / max(1, events),
    }


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def manager_rewards(credit: Credit, algo: Literal["grpo", "ppo"]) -> tuple[Reward, ...]:
    """GRPO, linked: a question pays the decisions on the sentences that it is about; trajectory: all of the episode's;
    mixed: half of it goes to the former, half to all, who may have filled the store with what displaced the fact.

    PPO: the answers pay at the end of the episode and the critic shares them out; an invalid call pays at once.
    """
    if algo == "ppo":
        return (answers(), invalid_steps(weight=-0.2))
    if credit == "linked":
        return (linked_answers(), invalid_steps(weight=-0.2))
    if credit == "mixed":
        return (linked_answers(weight=0.5), answers(weight=0.5), invalid_steps(weight=-0.2))
    return (answers(), invalid(-0.2))


def training_tasks(settings: TinySettings, update: int, attempt: int) -> list[Task]:
    """The tasks of one update: new ones, or drawn in turn from a fixed number."""
    first = (update * 4 + attempt) * settings.loop.groups
    seeds = range(first, first + settings.loop.groups)
    if settings.train_tasks is not None:
        seeds_used = [seed % settings.train_tasks for seed in seeds]
        unique = dict.fromkeys(seeds_used)
        return [make_task(TRAIN_SEEDS + s, settings.length, "train") for s in unique]
    return [make_task(TRAIN_SEEDS + s, settings.length, "train") for s in seeds]


def train_writer(run: RunFolder, settings: TinySettings, cold: str, reader: Reader | None = None) -> dict[str, Any]:
    """Reinforcement learning of the manager from its cold start. `run` is open; returns the last evaluation."""
    model, tokenizer = open_model(cold)
    policy = LocalPolicy(model, tokenizer, temperature=settings.rl.temperature, max_tokens=REPLY_TOKENS)
    greedy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=REPLY_TOKENS)
    agent, (reading, partner) = tiny_manager(), reader or rule_reader()
    validation = make_tasks(settings.validation, settings.length, "validation")

    async def evaluate() -> Mapping[str, float]:
        return summary(await play(greedy, validation))

    config = replace(settings.rl, schedule="linear", total_steps=settings.loop.updates, seed=settings.seed)
    trainer = Trainer(model, config, critic="copy" if settings.loop.algo == "ppo" else None)
    problem = Problem(
        writer=agent,
        policy=policy,
        tasks=lambda update, attempt: training_tasks(settings, update, attempt),
        rewards=manager_rewards(settings.credit, settings.loop.algo),
        reader=reading,
        partner=partner,
        start=start_state,
        evaluate=evaluate,
        fingerprint=f"{agent_fingerprint(agent)}/{policy.chat.fingerprint}",
        extra={"recipe": "memory-r1", "role": "writer", "world": "tiny"},
    )
    return train(problem, trainer, replace(settings.loop, seed=settings.seed), run, tokenizer)
