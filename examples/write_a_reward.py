"""A reward of your own beside a given one: what ways of keeping a memory are paid, and their advantages."""

from mnemon import Reward, Scripted, Trajectory, rewards, rollout, run_sync
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.algos.advantages import grpo
from mnemon.tasks.tiny import make_task
from mnemon.tasks.tiny.scripted import POLICIES, read_answer, writer_reply


def entries(trajectory: Trajectory) -> float:
    """How many entries are left: a term is a function from what happened to a number (or a number per policy call)."""
    return float(len(trajectory.state.memory))


terms = (rewards.answers(), Reward("entries", -0.05, entries))  # R = answers right - 0.05 per entry kept
writer, task = manager(extract="raw", style="tiny"), make_task(seed=3, length=10)
reader = (answerer(k=1, style="tiny", marker=False), Scripted(read_answer))

totals = []
for name, decide in POLICIES.items():
    trajectory = run_sync(rollout(writer, task, Scripted(writer_reply(decide)), reader=reader))
    scored = run_sync(rewards.score(trajectory, terms))
    totals.append(scored.total)
    print(f"{name:20}  total {scored.total:5.2f}  {scored.terms}")
print("advantages within this group:", grpo(totals).round(2))
