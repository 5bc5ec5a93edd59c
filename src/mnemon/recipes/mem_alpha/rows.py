"""Mem-α on task rows: rewards, questions and the writer's training problem of a preset."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnemon.agent import Reader, agent_fingerprint, rollouts
from mnemon.agents import mem_alpha
from mnemon.memory.count import TokenCounter, token_counter
from mnemon.memory.memory import Counter
from mnemon.policy.local import LocalPolicy
from mnemon.recipes.mem_alpha.presets import Preset
from mnemon.rewards import (
    Reward,
    answer_scores,
    answers,
    attributed_answers,
    compression,
    content,
    invalid_calls,
    valid_calls,
)
from mnemon.rewards.memory import Judge
from mnemon.train.launch import in_turn
from mnemon.train.loop import Problem
from mnemon.types import MnemonError, Policy, Task, Trajectory, Unscorable


def writer_settings(preset: Preset, counter: str) -> dict[str, Any]:
    """What `mem_alpha.writer_of` makes the agent from: plain data, kept with a checkpoint."""
    return {
        **preset.writer,
        "layout": dict(preset.layout),
        "counter": counter,
        "window": preset.prompt_tokens,
        "reply_tokens": preset.reply_tokens,
    }


def rewards_of(
    preset: Preset, counter: TokenCounter, judge: Judge | None, grader: Policy | None = None
) -> tuple[Reward, ...]:
    """r1 + validity · r2 + beta · r3 + gamma · r4 (arXiv 2509.25911 §3.2); terms of weight 0 are left out.

    judge: of what was written (r4). grader: the policy that grades answers which no metric can (r1).
    """
    terms = [(answers if preset.credit == "episode" else attributed_answers)(judge=grader)]
    if preset.validity:
        terms.append(valid_calls(preset.pays, weight=preset.validity))
    if preset.beta:
        terms.append(compression(counter, weight=preset.beta))
    if preset.gamma:
        if judge is None:
            raise MnemonError("gamma is above 0, so a judge is needed (--judge), or --gamma 0")
        terms.append(content(judge, preset.pays, weight=preset.gamma))
    return tuple(terms)


def asking(tasks: Callable[[int, int], list[Task]], most: int | None, seed: int) -> Callable[[int, int], list[Task]]:
    """The same tasks with at most so many questions each, drawn anew at every update, the same for a whole group."""
    if most is None:
        return tasks

    def pick(update: int, attempt: int) -> list[Task]:
        found = []
        for task in tasks(update, attempt):
            if len(task.probes) > most:
                rng = random.Random(f"questions/{seed}/{update}/{task.id}")
                kept = sorted(rng.sample(range(len(task.probes)), most))
                task = replace(task, probes=tuple(task.probes[i] for i in kept))
            found.append(task)
        return found

    return pick


async def summary(played: Sequence[Trajectory], counter: Counter, grader: Policy | None = None) -> dict[str, float]:
    """Figures of a validation: mean score over streams, memory per input token, refused calls per call, and how many
    streams have no score because a verdict could not be read."""
    scores = []
    for trajectory in played:
        try:
            found = await answer_scores(trajectory.answers, judge=grader)
        except Unscorable:
            continue
        scores.append(sum(found) / len(found))
    held = sum(counter(entry.text) for t in played for entry in t.state.memory.entries())
    read = sum(counter(turn.given.text) for t in played for turn in t.turns if turn.given is not None)
    calls = sum(len(step.results) for t in played for step in t.steps)
    return {
        **({"validation": sum(scores) / len(scores)} if scores else {}),
        "memory_share": held / max(1, read),
        "invalid": sum(invalid_calls(t, idle=True) for t in played) / max(1, calls),
        **({"unscored": float(len(played) - len(scores))} if len(scores) < len(played) else {}),
    }


def writer_problem(
    train: Sequence[Task],
    held: Sequence[Task],
    preset: Preset,
    policy: LocalPolicy,
    reader: Reader,
    *,
    counter: str,
    judge: Judge | None = None,
    grader: Policy | None = None,
    validation_questions: int = 20,
) -> Problem:
    """The writer's training problem: streams of `train`, the reader frozen, validation on `held`.

    judge, grader: as in `rewards_of`.
    """
    settings = writer_settings(preset, counter)
    agent = mem_alpha.writer_of(**settings)
    greedy = LocalPolicy(
        policy.model,
        policy.tokenizer,
        chat=policy.chat,
        temperature=0.0,
        max_tokens=policy.max_tokens,
        autocast=policy.autocast,
    )
    chosen = asking(lambda update, attempt: list(held), validation_questions, preset.loop.seed)(0, 0)

    async def evaluate() -> Mapping[str, float]:
        played = await rollouts(agent, chosen, greedy, reader=reader, seed=preset.loop.seed)
        return await summary([t for group in played for t in group], agent.counter, grader)

    return Problem(
        writer=agent,
        policy=policy,
        tasks=asking(in_turn(train, preset.loop), preset.questions, preset.loop.seed),
        rewards=rewards_of(preset, token_counter(counter), judge, grader),
        reader=reader[0],
        partner=reader[1],
        evaluate=evaluate if chosen else None,
        fingerprint=f"{agent_fingerprint(agent)}/{policy.chat.fingerprint}",
        extra={
            "recipe": "mem-alpha",
            "role": "writer",
            "world": "rows",
            "agent": settings,
        },
    )
