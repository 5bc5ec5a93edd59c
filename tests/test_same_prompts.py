"""One code path: the prompts (token ids) of training, evaluation and conversation are the same for the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mnemon.agent import rollouts
from mnemon.cli import chat
from mnemon.eval.evaluate import evaluate
from mnemon.policy.base import Request, run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.policy.open import open_policy
from mnemon.recipes.memory_r1 import tiny, tiny_reader
from mnemon.recipes.tiny_data import start_state
from mnemon.runs import RunFolder
from mnemon.tasks.tiny import make_task, make_tasks
from mnemon.train.loop import LoopConfig
from mnemon.types import Completion, Input

Ids = list[tuple[int, ...]]


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> Ids:
    """Every prompt that a local model is given from now on, in order."""
    seen: Ids = []
    plain = LocalPolicy.generate

    def generate(self: LocalPolicy, requests: Sequence[Request]) -> list[Completion]:
        completions = plain(self, requests)
        seen.extend(completion.prompt_ids for completion in completions)
        return completions

    monkeypatch.setattr(LocalPolicy, "generate", generate)
    return seen


def taken(prompts: Ids) -> Ids:
    """What was seen, and start anew."""
    found = list(prompts)
    prompts.clear()
    return found


def test_the_manager_reads_the_same_prompts_in_all_three(tiny_cold: Path, prompts: Ids) -> None:
    """Ten episodes, greedy: what is stored shapes the next prompt, so equal prompts also mean equal operations."""
    policy = open_policy(str(tiny_cold), max_tokens=tiny.REPLY_TOKENS).policy
    tasks = make_tasks(10, 6, "test")
    run_sync(rollouts(tiny.tiny_manager(), tasks, policy, reader=tiny.rule_reader(), start=start_state))
    rolled = taken(prompts)
    assert len(rolled) == 60
    run_sync(evaluate(tasks, tiny.rule_reader(), (tiny.tiny_manager(), policy), start=start_state, quiet=True))
    assert sorted(taken(prompts)) == sorted(rolled)  # the same batches, in the order of their keys
    talk = chat.open_talk(str(tiny_cold), None)
    for task in tasks:
        talk.state = start_state(task)
        for event in task.meta["events"]:
            run_sync(talk.writer.respond(talk.state, Input(event.text), talk.policy))
    assert sorted(taken(prompts)) == sorted(rolled)


def test_the_answerer_reads_the_same_prompts_in_all_three(tiny_cold: Path, prompts: Ids) -> None:
    """Any model will do: its prompt is made of the bank and the question alone."""
    policy = open_policy(str(tiny_cold), max_tokens=8).policy
    agent = tiny_reader.tiny_answerer()
    tasks = tiny_reader.banks_of("oracle", 4, "test", 3)
    run_sync(rollouts(agent, tasks, policy, reader=(agent, policy), start=tiny_reader.bank_state))
    rolled = taken(prompts)
    assert len(rolled) == len(tasks)
    run_sync(evaluate(tasks, (agent, policy), start=tiny_reader.bank_state, quiet=True))
    assert sorted(taken(prompts)) == sorted(rolled)
    reader = chat._tiny_answerer()()
    for task in tasks:
        run_sync(reader.respond(tiny_reader.bank_state(task), Input(task.probes[0].question), policy))
    assert sorted(taken(prompts)) == sorted(rolled)


def test_a_training_run_rolls_out_these_prompts(
    tiny_cold: Path, tmp_path: Path, prompts: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first prompts of a real run's first update are those of a conversation that is told the same first events."""
    settings = tiny.TinySettings(loop=LoopConfig(updates=1, groups=3, members=2), validation=2)
    monkeypatch.setattr(tiny, "summary", lambda trajectories: {})
    with RunFolder(tmp_path / "run").start({}) as run:
        tiny.train_writer(run, settings, str(tiny_cold))
    trained = set(taken(prompts))
    talk = chat.open_talk(str(tiny_cold), None)
    for task in tiny.training_tasks(settings, 0, 0):
        state = start_state(task)
        run_sync(talk.writer.respond(state, Input(task.meta["events"][0].text), talk.policy))
    first = taken(prompts)
    assert len(first) == 3
    assert set(first) <= trained


def test_a_prompt_is_the_templates(tiny_cold: Path, prompts: Ids) -> None:
    """And the ids are those of the chat template applied to the agent's messages, nothing more."""
    policy: Any = open_policy(str(tiny_cold), max_tokens=4).policy
    task = make_task(1, 1, "test")
    (trajectory,) = run_sync(rollouts(tiny.tiny_manager(), [task], policy, start=start_state))[0]
    (step,) = trajectory.steps
    messages = [{"role": m.role, "content": m.content} for m in step.messages]
    ids = policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert [tuple(ids)] == taken(prompts) == [step.completion.prompt_ids]
