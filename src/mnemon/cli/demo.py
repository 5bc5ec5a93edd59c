"""`mnemon demo`: train a tiny memory agent from scratch, then look at what it learned."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mnemon.cli.common import need_torch
from mnemon.eval.plots import curves, terminal_curve
from mnemon.runs import RunFolder
from mnemon.types import MnemonError

if TYPE_CHECKING:
    from mnemon.types import Trajectory


def demo(
    run: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="The run's folder; a finished one is shown again, a broken-off one goes on."
        ),
    ] = Path("runs/demo"),
    updates: Annotated[int | None, typer.Option(min=1, metavar="N", help="Reinforcement-learning updates.")] = None,
    cold_updates: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Supervised updates of the cold start.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
) -> None:
    """Train the tiny agent (minutes on a CPU), then show accuracy before and after, curves, and two episodes."""
    need_torch("the demo")
    from mnemon.recipes.memory_r1.options import TrainOptions
    from mnemon.recipes.memory_r1.run import start

    console = Console()
    console.print(
        "A model of half a million weights learns what to remember. First it imitates a poor teacher (cold start), "
        "then it learns from nothing but whether later questions were answered (reinforcement learning, GRPO).\n"
    )
    started = time.monotonic()
    there = (run / "config.json").exists()
    logged = len(RunFolder(run).metrics())
    start(TrainOptions(run=run, seed=seed, updates=updates, cold_updates=cold_updates, resume=there))
    trained = len(RunFolder(run).metrics()) > logged
    took = f"trained in {(time.monotonic() - started) / 60:.1f} minutes; " if trained else ""
    console.print(f"\n{took}run folder: {run}\n", soft_wrap=True)
    show(run, console)


def show(run: Path, console: Console) -> None:
    """Accuracy table, curves and two episodes side by side of a finished tiny run."""
    import torch

    from mnemon.policy.base import run_sync
    from mnemon.policy.local import LocalPolicy
    from mnemon.recipes.memory_r1.tiny import REPLY_TOKENS, accuracy, open_model, play
    from mnemon.tasks.tiny import make_tasks

    torch.set_num_threads(1)
    tasks = make_tasks(150, 6, "test")
    long = make_tasks(12, 78, "test")
    played: dict[str, list[Trajectory]] = {}
    means: dict[tuple[str, int], float] = {}
    for name, source in (("untrained", run / "cold"), ("trained", run)):
        model, tokenizer = open_model(str(source))
        policy = LocalPolicy(model, tokenizer, temperature=0.0, max_tokens=REPLY_TOKENS)
        played[name] = run_sync(play(policy, tasks))
        means[name, 6] = _mean(accuracy(played[name]))
        means[name, 78] = _mean(accuracy(run_sync(play(policy, long))))
    _baselines(means, tasks, long)
    table = Table(title="answers right, unseen facts (test split)")
    table.add_column("who keeps the memory")
    table.add_column("6 events", justify="right")
    table.add_column("78 events", justify="right")
    for name in dict.fromkeys(name for name, _ in means):
        style = "bold" if name == "trained" else ""
        table.add_row(name, f"{means[name, 6]:.1%}", f"{means[name, 78]:.1%}", style=style)
    console.print(table)
    _curves(run, console)
    for index in _telling(played["untrained"], played["trained"]):
        console.print(_side_by_side(played["untrained"][index], played["trained"][index]))
    console.print(f"Talk to it:  mnemon chat {run}")


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _baselines(means: dict[tuple[str, int], float], tasks: list, long: list) -> None:  # type: ignore[type-arg]
    from mnemon.policy.base import Scripted, run_sync
    from mnemon.recipes.memory_r1.tiny import accuracy, play
    from mnemon.tasks.tiny.scripted import POLICIES, writer_reply

    for label, name in (("always add (scripted)", "always add"), ("oracle (scripted)", "oracle")):
        for length, chosen in ((6, tasks), (78, long)):
            means[label, length] = _mean(accuracy(run_sync(play(Scripted(writer_reply(POLICIES[name])), chosen))))


def _curves(run: Path, console: Console) -> None:
    records = RunFolder(run).metrics()
    evaluated = [record for record in records if record.get("phase") == "eval"]
    points = [record["validation"] for record in evaluated]
    if len(points) > 1:
        console.print("\nvalidation accuracy over the updates (0 = cold start)")
        console.print(
            terminal_curve(points, width=60, height=8, low=0.0, high=1.0, last=evaluated[-1]["update"]), highlight=False
        )
    try:
        curves(
            [r for r in records if r.get("phase") in ("eval", "train")],
            run / "curves.png",
            keys=["validation", "accuracy"],
            title="Memory-R1 in the tiny world",
        )
        console.print(f"curves: {run / 'curves.png'}\n")
    except MnemonError as missing:
        console.print(f"(no PNG: {missing})\n")


def _telling(before: list[Trajectory], after: list[Trajectory], most: int = 2) -> list[int]:
    """Episodes that the training changed most, those with an update that keeps a list or a delete first."""
    from mnemon.rewards import mean_score

    def worth(index: int) -> tuple[float, int]:
        change = mean_score(after[index].answers) - mean_score(before[index].answers)
        kinds = after[index].task.meta["kinds"]
        return change, sum(kind in ("more", "drop", "end", "change") for kind in kinds)

    ranked = sorted(range(len(after)), key=worth, reverse=True)
    return ranked[:most]


def _side_by_side(before: Trajectory, after: Trajectory) -> Table:
    from mnemon.rewards import answer_score

    table = Table(title="one episode, before and after training", show_lines=True)
    table.add_column("the agent reads")
    table.add_column("untrained")
    table.add_column("trained")
    for event, old, new in zip(after.task.meta["events"], before.turns, after.turns, strict=True):
        table.add_row(escape(event.text), _did(old), _did(new))
    table.add_row("[bold]memory at the end[/]", _held(before), _held(after))
    for old_answer, new_answer in zip(before.answers, after.answers, strict=True):
        gold = new_answer.probe.answers[0]
        marks = [f"{a.text or '—'} {'✓' if answer_score(a) else '✗'}" for a in (old_answer, new_answer)]
        table.add_row(f"[bold]{escape(new_answer.probe.question)}[/] ({escape(gold)})", *map(escape, marks))
    return table


def _did(turn) -> str:  # type: ignore[no-untyped-def]
    lines = []
    for operation in turn.operations:
        if operation.before is None:
            lines.append(f"[green]add[/] {escape(operation.entry.text)}")
        elif operation.after is None:
            lines.append(f"[red]delete[/] {escape(operation.entry.text)}")
        else:
            lines.append(f"[yellow]update[/] {escape(operation.before.text)} → {escape(operation.after.text)}")
    for step in turn.steps:
        lines += [f"[dim]refused: {result.code}[/]" for result in step.results if not result.ok]
    return "\n".join(lines) or "[dim]nothing[/]"


def _held(trajectory: Trajectory) -> str:
    return "\n".join(escape(entry.text) for entry in trajectory.state.memory.entries()) or "[dim]empty[/]"
