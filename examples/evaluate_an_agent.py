"""Two writers on the same tasks: a report for each with intervals, and whether the difference is more than chance."""

from rich import print

from mnemon import Scripted, compare, evaluate, run_sync
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.tasks.tiny import make_tasks
from mnemon.tasks.tiny.scripted import POLICIES, read_answer, writer_reply

tasks = make_tasks(30, length=10, split="test")
writer = manager(extract="raw", style="tiny")
reader = (answerer(k=1, style="tiny", marker=False), Scripted(read_answer))


def report(name):
    """Evaluate one writer; out="runs/NAME" would keep banks, answers and report, and resume where it was stopped."""
    return run_sync(evaluate(tasks, reader, (writer, Scripted(writer_reply(POLICIES[name]))), settings={"who": name}))


keeps, forgets = report("oracle"), report("update, never merge")
print(keeps)
print(compare(keeps, forgets))
