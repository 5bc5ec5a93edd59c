"""Reinforcement learning of a tiny memory agent, a few updates: python examples/train_an_agent.py RUN"""

import sys
from pathlib import Path

from mnemon import LocalPolicy, LoopConfig, Problem, RunFolder, TrainConfig, Trainer, rewards
from mnemon.recipes.memory_r1.tiny import TinySettings, cold_start, open_model, rule_reader, tiny_manager
from mnemon.recipes.tiny_data import start_state
from mnemon.tasks.tiny import make_tasks
from mnemon.train.loop import train

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example")
with RunFolder(folder).start({"example": "train"}, resume=(folder / "config.json").exists()) as run:
    model, tokenizer = open_model(str(cold_start(folder / "cold", TinySettings(cold_updates=60))))
    reader, rule = rule_reader()
    problem = Problem(
        writer=tiny_manager(),  # any Agent
        policy=LocalPolicy(model, tokenizer, max_tokens=48),  # any Hugging Face causal language model
        tasks=lambda update, attempt: make_tasks(8, length=6, first=8 * update),
        rewards=(rewards.linked_answers(), rewards.invalid_steps(weight=-0.2)),
        reader=reader,
        partner=rule,
        start=start_state,
    )
    trainer = Trainer(model, TrainConfig(lr=1e-3, minibatch=16))
    train(problem, trainer, LoopConfig(updates=6, groups=8, members=8), run, tokenizer)
    for record in run.metrics():
        print(record["update"], f"reward {record['reward']:.3f}  accuracy {record['accuracy']:.3f}")
