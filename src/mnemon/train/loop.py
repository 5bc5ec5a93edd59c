"""The training loop: rollouts → rewards → credit → `Trainer.step`, with logs, evaluation, checkpoints and resume.

One loop serves every recipe. It trains one role (the writer, or the reader) against frozen partners. A run is a folder;
killed at any moment it goes on from its last complete checkpoint, and on CPU gives the same curve bit for bit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from mnemon.agent import Agent, Reader, State, rollouts
from mnemon.endpoint import EndpointError
from mnemon.metrics import is_judged
from mnemon.policy.base import run_lockstep, run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.rewards import Reward, Scored, answer_score, score
from mnemon.runs import RunFolder
from mnemon.tools import call_mix
from mnemon.train import checkpoint
from mnemon.train.batch import Row, ordered_steps, rows_from_trajectory
from mnemon.train.config import LoopConfig
from mnemon.train.credit import Group, credit
from mnemon.train.progress import Progress
from mnemon.train.ranks import gather, world
from mnemon.train.trainer import Trainer
from mnemon.types import MnemonError, Policy, Task, TooLong, Trajectory, Unscorable

__all__ = ["LOST", "LoopConfig", "Problem", "train"]

LOST = (EndpointError, Unscorable, TooLong)
"""What costs one trajectory, counted, and not the run."""


@dataclass(slots=True)
class Problem:
    """What is trained, on what, for what.

    tasks(update, attempt): the tasks of one update, the same for the same arguments (attempt counts re-sampling).
    role: whose steps are trained. `policy` is that role's policy; the other one is `partner`. start(task): the state
    that each member begins from. evaluate(): metrics of the current weights on held-out tasks.
    """

    writer: Agent
    policy: LocalPolicy
    tasks: Callable[[int, int], Sequence[Task]]
    rewards: tuple[Reward, ...]
    role: Literal["writer", "reader"] = "writer"
    reader: Agent | None = None
    partner: Policy | None = None
    helpers: Mapping[str, Policy] = field(default_factory=dict)
    start: Callable[[Task], State] | None = None
    before: bool = False
    evaluate: Callable[[], Awaitable[Mapping[str, float]]] | None = None
    fingerprint: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def readers(self) -> Reader | None:
        """The reader with its policy: the trained one, or the frozen partner."""
        if self.reader is None:
            return None
        policy = self.policy if self.role == "reader" else self.partner
        if policy is None:
            raise MnemonError("training a writer needs a frozen reader policy to answer the questions (partner)")
        return self.reader, policy


def train(problem: Problem, trainer: Trainer, config: LoopConfig, run: RunFolder, tokenizer: Any) -> dict[str, Any]:
    """Run or resume the loop in an open run folder. Returns the last evaluation."""
    if trainer.config.fsdp:
        raise MnemonError("fsdp=True shards the weights, and rollouts sample from whole ones: set fsdp=False")
    problem.policy.autocast = torch.bfloat16 if trainer.autocast else None  # samples as the trainer computes
    first = _resume(problem, trainer, run)
    rank, _ = world()
    if first >= config.updates:
        return _finished(run, first, rank)
    progress = Progress("training", config.updates, first, quiet=rank != 0)
    last: dict[str, Any] = {}
    checked = False
    with progress:
        if first == 0:
            last = _evaluate(problem, run, 0, rank)
            progress.note(last)
        for update in range(first, config.updates):
            started = (time.perf_counter(), time.process_time())
            groups, shown = _collect(problem, config, update)
            rows = credit(groups, trainer, config)
            if rows and not checked:
                _check_logprobs(trainer, rows)
                checked = True
            generated = time.process_time() - started[1]
            metrics = trainer.step(rows) if rows else {}
            problem.policy.policy_version += 1
            record = _record(groups, metrics, config, len(rows))
            record["time"] = {
                "wall_s": time.perf_counter() - started[0],
                "cpu_s": time.process_time() - started[1],
                "rollout_cpu_s": generated,
            }
            done = update + 1
            if rank == 0:
                run.log({"update": done, "phase": "train", **record})
                if done % config.sample_every == 0 or done == config.updates:
                    run.save_trajectories(done, [t for t, _ in shown], [s.terms for _, s in shown])
            if done % config.eval_every == 0 or done == config.updates:
                last = _evaluate(problem, run, done, rank)
            if done % config.checkpoint_every == 0 or done == config.updates:
                extra = {"update": done, "fingerprint": problem.fingerprint, **problem.extra}
                checkpoint.save(run.path / "checkpoints", done, trainer, tokenizer, extra, config.keep_last)
            progress.advance({**record, **last})
    return last


def _resume(problem: Problem, trainer: Trainer, run: RunFolder) -> int:
    """Go back to the last complete checkpoint, logs included; the number of updates done."""
    found = checkpoint.resume(run.path / "checkpoints", trainer, problem.fingerprint)
    done = int(found.extra["update"]) if found is not None else 0
    problem.policy.policy_version = done
    if world()[0] == 0:
        run.truncate_to(done if found is not None else -1)
    return done


def _finished(run: RunFolder, done: int, rank: int) -> dict[str, Any]:
    """Say that nothing is left to do; the last evaluation."""
    if rank == 0:
        print(f"{run.path}: all {done} updates are done; to go on, resume with more updates", file=sys.stderr)
    evaluations = [record for record in run.metrics() if record.get("phase") == "eval"] or [{}]
    return {name: value for name, value in evaluations[-1].items() if name not in ("update", "phase", "time")}


# ── rollouts and rewards ─────────────────────────────────────────────────────────────────────────────────────────────


def _collect(problem: Problem, config: LoopConfig, update: int) -> tuple[list[Group], list[tuple[Trajectory, Scored]]]:
    """The groups of one update, from all processes, and a few trajectories to show."""
    groups: list[Group] = []
    shown: list[tuple[Trajectory, Scored]] = []
    played: set[str] = set()
    rounds = 1 + (config.resample_rounds if config.constant == "resample" and config.algo == "grpo" else 0)
    for attempt in range(rounds):
        missing = config.groups - sum(not group.dead for group in groups) if attempt else config.groups
        if missing <= 0:
            break
        unplayed = {task.id: task for task in problem.tasks(update, attempt) if task.id not in played}
        tasks = list(unplayed.values())[:missing]  # a task played again in an update would give the same replies
        played |= {task.id for task in tasks}
        new, few = _play(problem, config, update, tasks)
        groups += new
        shown = shown or few
    _check_unscorable(groups, config)
    return groups, shown


def _play(
    problem: Problem, config: LoopConfig, update: int, tasks: Sequence[Task]
) -> tuple[list[Group], list[tuple[Trajectory, Scored]]]:
    rank, size = world()
    mine = tasks[rank::size]
    played, scored = run_sync(_rollouts_and_scores(problem, config, update, mine))
    local = [_group(problem, members, marks) for members, marks in zip(played, scored, strict=True)]
    indexed = gather([(rank + i * size, group) for i, group in enumerate(local)])
    groups = [group for _, group in sorted(indexed, key=lambda pair: pair[0])]
    shown = [(played[i][0], scored[i][0]) for i in range(min(2, len(played)))]
    return groups, shown


async def _rollouts_and_scores(
    problem: Problem, config: LoopConfig, update: int, tasks: Sequence[Task]
) -> tuple[list[list[Trajectory]], list[list[Scored]]]:
    policy: Policy = problem.policy if problem.role == "writer" or problem.partner is None else problem.partner
    played = await rollouts(
        problem.writer,
        tasks,
        policy,
        reader=problem.readers(),
        helpers=problem.helpers,
        members=config.members,
        seed=config.seed,
        update=update,
        start=problem.start,
        before=problem.before,
        tolerate=LOST,
    )
    flat = await run_lockstep([score(t, problem.rewards) for members in played for t in members])
    n = config.members
    return played, [flat[i : i + n] for i in range(0, len(flat), n)]


def _group(problem: Problem, members: Sequence[Trajectory], marks: Sequence[Scored]) -> Group:
    events: dict[str, int] = {}
    right: list[float] = []
    for trajectory in members:
        sources = [trajectory.events] if problem.role == "writer" else [a.turn.events for a in trajectory.answers]
        for source in sources:
            for event, n in source.items():
                events[event] = events.get(event, 0) + n
        right += [answer_score(answer) for answer in trajectory.answers if not is_judged(answer.probe.scorers[0])]
    rows = [
        rows_from_trajectory(t, {problem.role}, problem.fingerprint) if mark.total is not None else []
        for t, mark in zip(members, marks, strict=True)
    ]
    return Group(
        [mark.total for mark in marks],
        [mark.terms for mark in marks],
        rows,
        events,
        right,
        [mark.error for mark in marks if mark.error],
        [mark.steps for mark in marks],
        [[(s.stage, s.turn, s.probe) for s in ordered_steps(t) if s.role == problem.role] for t in members],
        call_mix(r for t in members for s in ordered_steps(t) if s.role == problem.role for r in s.results),
    )


def _check_unscorable(groups: Sequence[Group], config: LoopConfig) -> None:
    errors = [error for group in groups for error in group.errors]
    total = sum(len(group.rewards) for group in groups)
    if errors and len(errors) > config.max_unscorable * total:
        raise MnemonError(
            f"{len(errors)} of {total} trajectories could not be scored (limit {config.max_unscorable:.0%}); the first "
            f"said: {errors[0]}. Check the endpoint, judge or prompt length, then resume the run."
        )


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _record(groups: Sequence[Group], metrics: Mapping[str, float], config: LoopConfig, rows: int) -> dict[str, Any]:
    rewards = [
        total + (sum(steps) / len(steps) if steps else 0.0)
        for group in groups
        for total, steps in zip(group.rewards, group.steps, strict=True)
        if total is not None
    ]
    right = [r for group in groups for r in group.right]
    names = dict.fromkeys(name for group in groups for terms in group.terms for name in terms)
    events: dict[str, int] = {}
    for group in groups:
        for event, n in group.events.items():
            events[event] = events.get(event, 0) + n
    record: dict[str, Any] = {
        "reward": float(np.mean(rewards)) if rewards else None,
        "accuracy": float(np.mean(right)) if right else None,
        "terms": {
            name: float(np.mean([t[name] for group in groups for t in group.terms if name in t])) for name in names
        },
        "groups": len(groups),
        "informative": sum(not group.dead for group in groups),
        "constant_right": sum(group.dead and min(group.right, default=0) == 1 for group in groups),
        "constant_wrong": sum(group.dead and min(group.right, default=0) < 1 for group in groups),
        "unscorable": sum(len(group.errors) for group in groups),
        "rows": rows,
        "events": dict(sorted(events.items())),
        "tools": {
            name: sum(g.tools.get(name, 0) for g in groups) for name in sorted({n for g in groups for n in g.tools})
        },
    }
    record["trainer"] = {name: value for name, value in metrics.items() if name != "seconds"}
    return record


def _evaluate(problem: Problem, run: RunFolder, done: int, rank: int) -> dict[str, Any]:
    if problem.evaluate is None or rank != 0:
        return {}
    started = time.process_time()

    async def wait() -> Mapping[str, float]:
        assert problem.evaluate is not None
        return await problem.evaluate()

    found = dict(run_sync(wait()))
    run.log({"update": done, "phase": "eval", **found, "time": {"cpu_s": time.process_time() - started}})
    return found


def _check_logprobs(trainer: Trainer, rows: Sequence[Row], count: int = 8) -> None:
    """A session's first rows, teacher-forced: the sampler's log-probs must be those that the trainer computes.

    In float32 every token's within 0.02; under bfloat16, where single tokens differ by rounding, 0.05 in the mean.
    """
    some = rows[:count]
    again = trainer.logprobs(some)
    apart = np.concatenate([np.abs(a - row.old_logprobs)[row.sampled] for a, row in zip(again, some, strict=True)])
    off, limit = (float(apart.mean()), 0.05) if trainer.autocast else (float(apart.max()), 0.02)
    if not off <= limit:
        raise MnemonError(
            f"the sampler's log-probabilities differ from the trainer's by {off:.3f} (limit {limit}): the policy "
            "gradient would be biased. Give policy and trainer the same temperature; check precision and attention."
        )
