"""Playing tasks: `rollout` lets a writer read the stages of one task and a reader answer its questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mnemon.agent.loop import Agent, State
from mnemon.policy.base import EPISODE, EpisodeKey, run_lockstep
from mnemon.types import Answer, Input, MnemonError, Policy, Probe, Task, Trajectory

Reader = tuple[Agent, Policy]


async def ask_probe(
    reader: Reader, state: State, probe: Probe, helpers: Mapping[str, Policy] | None = None, stage: int = 0
) -> Answer:
    """Let the reader answer one question on a fork of the state: the state itself never changes.

    ``probe.meta["prefix"]`` (how this kind of question is to be answered) comes as the input's note.
    """
    agent, policy = reader
    outer = EPISODE.get()
    token = EPISODE.set(outer.child(probe.id) if outer else None)
    try:
        turn = await agent.respond(
            state.fork(),
            Input(probe.question, probe.time, note=str(probe.meta.get("prefix", ""))),
            policy,
            helpers=helpers,
            stage=stage,
            probe=probe.id,
        )
    finally:
        EPISODE.reset(token)
    return Answer(probe, turn.reply, turn)


async def ask_probes(
    reader: Reader,
    state: State,
    probes: Sequence[Probe],
    helpers: Mapping[str, Policy] | None = None,
    stage: int = 0,
) -> list[Answer]:
    """All questions at once, each on its own fork; answers in the order of the probes.

    The memory's index for the reader is built once, before forking, so that the forks share it.
    """
    if len(probes) > 1:
        state.memory.prepare(reader[0].retriever)
    return await run_lockstep([ask_probe(reader, state, probe, helpers, stage) for probe in probes])


async def rollout(
    writer: Agent,
    task: Task,
    policy: Policy,
    *,
    reader: Reader | None = None,
    helpers: Mapping[str, Policy] | None = None,
    key: EpisodeKey | None = None,
    state: State | None = None,
    start: tuple[int, int] = (0, 0),
    before: bool = False,
) -> Trajectory:
    """Play one task: the writer reads its stages, the reader answers its probes.

    state, start: begin from this state (forked) at the cursor (stage, turn) of a scripted task; the inputs before it
        are not read and probes due by then are not asked. In the middle of a stage the state's context is kept.
    before: let the reader answer the probes on the starting state too (for rewards that pay the difference).
    Raises MnemonError for a probe or a start behind the last stage.
    """
    due, (first, turn) = due_probes(task), start
    if first and first >= len(task.stages):
        raise MnemonError(f"{task.id}: the rollout starts at stage {first}, but the task has {len(task.stages)} from 0")
    if start != (0, 0):
        due = {after: probes for after, probes in due.items() if after > first}
    key = key or EpisodeKey(task=task.id)
    token = EPISODE.set(key)
    try:
        state = state.fork() if state is not None else writer.start()
        trajectory = Trajectory(task, key.member, state=state)
        if before and reader is not None:
            asked = {probe.id for probes in due.values() for probe in probes}
            trajectory.before = await ask_probes(reader, state, [p for p in task.probes if p.id in asked], helpers)
        if reader is not None and 0 in due:
            trajectory.answers += await ask_probes(reader, state, due[0], helpers)
        for number in range(first, len(task.stages)):
            await _play(writer, policy, trajectory, number, turn if number == first else 0, helpers)
            if reader is not None:
                trajectory.answers += await ask_probes(reader, state, due.get(number + 1, ()), helpers, number)
        return trajectory
    finally:
        EPISODE.reset(token)


def due_probes(task: Task) -> dict[int, list[Probe]]:
    """Number of stages -> the probes asked after so many. MnemonError for a probe after more stages than there are."""
    last = len(task.stages)
    found: dict[int, list[Probe]] = {}
    for probe in task.probes:
        after = last if probe.after is None or not last else probe.after
        if not 0 <= after <= last:
            raise MnemonError(f"{task.id}: probe {probe.id} is asked after {after} stages, but there are {last}")
        found.setdefault(after, []).append(probe)
    return found


async def _play(
    writer: Agent,
    policy: Policy,
    trajectory: Trajectory,
    number: int,
    skip: int,
    helpers: Mapping[str, Policy] | None,
) -> None:
    """One stage: inputs from its environment until it is done, the first `skip` of them unread."""
    stage = trajectory.task.stages[number]
    state: State = trajectory.state
    if stage.fresh and not skip:
        state.context.clear()
    environment = stage.environment()
    given, done, score, turn = await environment.reset(), False, None, 0
    while given is not None and not done:
        if turn < skip:
            given, done, _ = await environment.step("")
        else:
            result = await writer.respond(state, given, policy, helpers=helpers, stage=number, turn=turn)
            trajectory.turns.append(result)
            trajectory.steps.extend(result.steps)
            for event, n in result.events.items():
                trajectory.count(event, n)
            given, done, score = await environment.step(result.reply)
        turn += 1
    if score is not None:
        trajectory.scores.append(score)


async def rollouts(
    writer: Agent,
    tasks: Sequence[Task],
    policy: Policy,
    *,
    reader: Reader | None = None,
    helpers: Mapping[str, Policy] | None = None,
    members: int = 1,
    seed: int = 0,
    update: int = 0,
    start: Callable[[Task], State] | None = None,
    before: bool = False,
    tolerate: tuple[type[Exception], ...] = (),
) -> list[list[Trajectory]]:
    """Groups of trajectories, [len(tasks)][members], played concurrently in lock-step and reproducible for a seed.

    start(task) is the state that each member of a group begins from (default: the writer's empty one). An exception of
    a type in `tolerate` (an endpoint that failed after its retries, a prompt that does not fit) costs its trajectory
    only: its `error` says why.
    """

    async def one(task: Task, member: int) -> Trajectory:
        key = EpisodeKey(seed, update, task.id, member)
        state = start(task) if start else None
        try:
            return await rollout(
                writer, task, policy, reader=reader, helpers=helpers, key=key, state=state, before=before
            )
        except tolerate as error:
            return Trajectory(task, member, error=str(error) or type(error).__name__)

    flat = await run_lockstep([one(task, member) for task in tasks for member in range(members)])
    return [flat[i : i + members] for i in range(0, len(flat), members)]
