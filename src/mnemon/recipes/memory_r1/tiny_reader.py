"""The Answer Agent in the tiny world: reinforcement learning on banks that a manager left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnemon.agent import Agent, agent_fingerprint, ask_probes, rollouts
from mnemon.agents.memory_r1 import answerer
from mnemon.memory.retrieve import InOrder
from mnemon.policy.base import Scripted, run_lockstep, run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.policy.open import model_source
from mnemon.recipes.memory_r1 import tiny
from mnemon.recipes.tiny_data import start_state
from mnemon.recipes.tiny_reader_data import reader_tasks
from mnemon.rewards import answer_score, answers
from mnemon.runs import RunFolder
from mnemon.tasks.tiny import make_task
from mnemon.tasks.tiny.questions import bank_state, bank_tasks
from mnemon.tasks.tiny.scripted import oracle, writer_reply
from mnemon.tasks.tiny.world import Split
from mnemon.train.loop import Problem, train
from mnemon.train.trainer import Trainer
from mnemon.types import Answer, MnemonError, Policy, Task

SHOWN = 12
"""Memories shown to the answerer."""
READER_TOKENS = 136
BANK_EVENTS = 30
"""Events behind each bank: enough that a bank holds more than is shown."""


def tiny_answerer(distill: bool = True, k: int = SHOWN) -> Agent:
    """The Answer Agent of the tiny world: k memories in the order in which they were written."""
    return answerer(k=k, distill=distill, style="tiny", retriever=InOrder())


def writer_policy(name: str) -> Policy:
    """Who builds the banks: "oracle", or the manager of a run or checkpoint, greedy."""
    if name == "oracle":
        return Scripted(writer_reply(oracle))
    model, tokenizer = tiny.open_model(name)
    return LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=tiny.REPLY_TOKENS)


def check_writer(name: str) -> None:
    """MnemonError for a name that no banks can come from."""
    if name == "turns":
        raise MnemonError("--writer turns is for conversations; in the tiny world give oracle, simulated or a run")
    if name not in ("oracle", "simulated"):
        trained = model_source(name)[1]
        if trained.get("world") != "tiny" or trained.get("role") != "writer":
            raise MnemonError(f"--writer {name} is no manager of the tiny world: give oracle, simulated or such a run")


def banks_of(
    writer: str, episodes: int, split: Split, questions: int, first: int = 0, events: int = BANK_EVENTS
) -> list[Task]:
    """Reader's tasks on the memories of this manager: `questions` on each of `episodes` episodes."""
    policy = writer_policy(writer)
    agent = tiny.tiny_manager()
    tasks = [make_task(first + i, events, split, slack=1) for i in range(episodes)]
    played = []
    for at in range(0, len(tasks), 128):
        played += run_sync(rollouts(agent, tasks[at : at + 128], policy, start=start_state))
    return bank_tasks([t for group in played for t in group], split, questions)


async def ask_all(agent: Agent, policy: Policy, tasks: Sequence[Task]) -> list[Answer]:
    """One answer per task."""
    found = await run_lockstep([ask_probes((agent, policy), bank_state(task), task.probes) for task in tasks])
    return [answer for answers_ in found for answer in answers_]


def score(agent: Agent, policy: Policy, tasks: Sequence[Task]) -> float:
    """Share of exact answers."""
    given = run_sync(ask_all(agent, policy, tasks))
    return sum(map(answer_score, given)) / len(given)


def train_reader(
    run: RunFolder, settings: tiny.TinySettings, cold: str, writer: str, distill: bool = True
) -> dict[str, Any]:
    """Reinforcement learning of the answerer (exact match) from its cold start. `run` is open.

    writer: whose banks: "oracle", "simulated" (managers of all qualities), or a trained manager's run.
    settings.train_tasks limits the number of different training questions.
    """
    check_writer(writer)
    model, tokenizer = tiny.open_model(cold)
    policy = LocalPolicy(model, tokenizer, temperature=settings.reader_rl.temperature, max_tokens=READER_TOKENS)
    greedy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=READER_TOKENS)
    agent = tiny_answerer(distill)
    loop = replace(settings.reader_loop, seed=settings.seed)
    if writer == "simulated":
        pool, held = [], reader_tasks(settings.validation * 2, "validation")
    else:
        need = min(settings.train_tasks or 1600, loop.updates * loop.groups)
        pool = banks_of(writer, -(-need // 4), "train", 4, tiny.TRAIN_SEEDS)[:need]
        held = banks_of(writer, settings.validation, "validation", 2)

    def tasks(update: int, attempt: int) -> list[Task]:
        first = (update * 4 + attempt) * loop.groups
        if not pool:
            return reader_tasks(loop.groups, "train", tiny.TRAIN_SEEDS + first)
        return list({t.id: t for t in (pool[(first + i) % len(pool)] for i in range(loop.groups))}.values())

    async def evaluate() -> Mapping[str, float]:
        given = await ask_all(agent, greedy, held)
        return {"validation": sum(map(answer_score, given)) / len(given)}

    config = replace(settings.reader_rl, schedule="linear", total_steps=loop.updates, seed=settings.seed)
    trainer = Trainer(model, config, critic="copy" if loop.algo == "ppo" else None)
    problem = Problem(
        writer=agent,
        policy=policy,
        tasks=tasks,
        rewards=(answers(),),
        role="reader",
        reader=agent,
        start=bank_state,
        evaluate=evaluate,
        fingerprint=f"{agent_fingerprint(agent)}/{policy.chat.fingerprint}",
        extra={"recipe": "memory-r1", "role": "reader", "world": "tiny", "agent": {"k": SHOWN, "distill": distill}},
    )
    return train(problem, trainer, loop, run, tokenizer)
