"""The tiny world's scoreboard: a policy beside the scripted ones, over lengths, unseen templates and unseen people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mnemon.agent import Reader
from mnemon.metrics.aggregate import mean_and_error
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.open import open_policy
from mnemon.recipes.memory_r1.tiny import accuracy, operation_counts, play, rightly
from mnemon.recipes.memory_r1.tiny_reader import READER_TOKENS, tiny_answerer
from mnemon.rewards import invalid_calls
from mnemon.tasks.tiny import make_tasks
from mnemon.tasks.tiny.scripted import POLICIES, writer_reply
from mnemon.types import JSON, MnemonError, Policy, Task, Trajectory

LENGTHS = (6, 10, 78, 240)
"""Events per episode; 78 is 13 times and 240 is 40 times the training length."""


def episodes_of(length: int, episodes: int) -> int:
    """Fewer of the long ones: about the same number of questions."""
    return max(4, episodes * 6 // length) if length > 10 else episodes


def figures(trajectories: Sequence[Trajectory]) -> JSON:
    """Everything reported about one set of episodes."""
    mean, error = mean_and_error(accuracy(trajectories))
    merges, removals = rightly(trajectories, "more"), rightly(trajectories, "drop")
    events = sum(len(t.turns) for t in trajectories)
    return {
        "accuracy": round(mean, 4),
        "stderr": round(error, 4),
        "episodes": len(trajectories),
        "questions": sum(len(t.answers) for t in trajectories),
        "merges": list(merges),
        "removals": list(removals),
        "invalid_share": round(sum(map(invalid_calls, trajectories)) / max(1, events), 5),
        "refused_full": sum(t.events.get("refused:full", 0) for t in trajectories),
        "operations": operation_counts(trajectories),
    }


def boards(episodes: int, split: Literal["validation", "test"] = "test") -> dict[str, list[Task]]:
    """The sets of the scoreboard, by name."""
    sets = {f"T={n}": make_tasks(episodes_of(n, episodes), n, split) for n in LENGTHS}
    for length in (6, 78):
        sets[f"T={length} unseen templates"] = make_tasks(episodes_of(length, episodes), length, split, "unseen")
    sets["T=6 unseen people"] = make_tasks(episodes, 6, "unseen_people")
    return sets


def measure(
    policy: Policy | None,
    episodes: int = 200,
    *,
    reader: str | Reader | None = None,
    scripted: bool = True,
    split: Literal["validation", "test"] = "test",
) -> JSON:
    """{policy name: {set: figures}} for a policy and the scripted ones."""
    found: JSON = {}
    sets = boards(episodes, split)
    reading = reader_of(reader)
    players: dict[str, Policy] = {"this agent": policy} if policy is not None else {}
    if scripted:
        players |= {name: Scripted(writer_reply(decide)) for name, decide in POLICIES.items()}
    for name, player in players.items():
        found[name] = {title: figures(run_sync(play(player, tasks, reading))) for title, tasks in sets.items()}
    return found


def reader_of(reader: str | Reader | None) -> Reader | None:
    """A reader by name (a trained tiny answerer), or the rule when None."""
    if not isinstance(reader, str):
        return reader
    opened = open_policy(reader, temperature=0.0, max_tokens=READER_TOKENS)
    trained = opened.trained
    if trained.get("world") != "tiny" or trained.get("role") != "reader":
        raise MnemonError(f"--reader {reader} is no answerer of the tiny world: give the run of one")
    return tiny_answerer(**trained.get("agent", {})), opened.policy


def rows_of(found: JSON) -> tuple[list[str], list[list[str]]]:
    """A table of accuracies: header and rows."""
    sets = list(next(iter(found.values())))
    rows = [
        [name, *(f"{100 * sets_of[s]['accuracy']:.1f} ± {100 * sets_of[s]['stderr']:.1f}" for s in sets)]
        for name, sets_of in found.items()
    ]
    return ["who writes the memory", *sets], rows
