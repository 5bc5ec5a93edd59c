"""An agent reads a few sentences, keeps a memory, and is asked a question about them."""

from mnemon import Probe, Scripted, Task, rollout, run_sync, script, trajectory_text
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.tasks.tiny.scripted import oracle, read_answer, writer_reply

task = Task(
    "anna",
    (script("Anna adopted Rex", "a pet of Anna is Luna", "Anna moved to Rome", "Rex ran away from Anna"),),
    (Probe("pets", "pets of Anna ?", ("Luna",)), Probe("city", "city of Anna ?", ("Rome",))),
)
writer = manager(extract="raw", style="tiny")  # the agent: prompt, tools, limits
policy = Scripted(writer_reply(oracle))  # who writes: here a rule; open_policy("runs/demo").policy is a trained model
reader = (answerer(k=1, style="tiny", marker=False), Scripted(read_answer))  # who answers from the memory

trajectory = run_sync(rollout(writer, task, policy, reader=reader))

print(trajectory_text(trajectory))  # every prompt, call and result, the memory at the end, the answers
