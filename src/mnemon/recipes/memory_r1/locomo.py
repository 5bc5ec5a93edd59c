"""Memory-R1 on LoCoMo: training material of both constructions, banks, and the two training problems.

The paper describes its manager's training twice, differently. "bandit" (its §3.1, Alg. 1): a tuple is one turn, a bank
built from the turns before it, and the questions whose evidence names the turn; one decision is rolled out. "replay"
(its Alg. 5): the manager reads all turns of the context from an empty bank, then the questions are asked. A run's
config says which one made its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from mnemon.agent import Agent, Reader, State, agent_fingerprint, rollouts
from mnemon.agents.memory_r1 import answerer, manager
from mnemon.memory.memory import Memory
from mnemon.policy.local import LocalPolicy
from mnemon.recipes.memory_r1.presets import Preset
from mnemon.rewards import Reward, answers, gain, invalid, mean_score
from mnemon.tasks import locomo
from mnemon.tasks.script import Script
from mnemon.train.launch import in_turn
from mnemon.train.loop import LOST, Problem
from mnemon.types import Input, MnemonError, Policy, Stage, Task, Trajectory

Construction = Literal["bandit", "replay"]


def all_inputs(conversation: locomo.Conversation, turns: int) -> list[Input]:
    """Every input of a conversation, in order."""
    return [item for session in conversation.sessions for item in locomo.session_inputs(session, turns)]


def conversation_task(conversation: locomo.Conversation, turns: int) -> Task:
    """All inputs of a conversation as one stage, without questions: what building its bank means."""
    inputs = all_inputs(conversation, turns)
    return Task(f"{conversation.id}/bank", (Stage(partial(Script, inputs), name="conversation"),))


def raw_bank(agent: Agent, inputs: Sequence[Input]) -> State:
    """A bank that stores every input as it stands: what the "bandit" tuples start from, and the retrieval baseline."""
    state = agent.start()
    for item in inputs:
        state.memory.add(item.text, owner=item.speaker, time=item.time, source=item.source)
    return state


def manager_tasks(
    conversations: Sequence[locomo.Conversation], preset: Preset, construction: Construction
) -> tuple[list[Task], dict[str, list[Input]]]:
    """One task per turn with linked questions, and the inputs that come before each (keyed by task id).

    bandit: the task's only input holds the turn. replay: its inputs are the context and the turn.
    """
    tasks: list[Task] = []
    before: dict[str, list[Input]] = {}
    for conversation in conversations:
        inputs = all_inputs(conversation, preset.turns_per_input)
        place = {turn: i for i, item in enumerate(inputs) for turn in item.source}
        probes = {locomo.probe_id(conversation, q): locomo.probe(conversation, q) for q in locomo.asked(conversation)}
        linked: dict[int, list[str]] = {}
        for tuple_ in locomo.linked_turns(conversation, preset.context_turns):
            linked.setdefault(place[tuple_.turn], []).extend(tuple_.questions)
        span = preset.context_turns // preset.turns_per_input
        for at, questions in sorted(linked.items()):
            context = inputs[max(0, at - span) : at]
            own = [inputs[at]] if construction == "bandit" else [*context, inputs[at]]
            name = f"{conversation.id}/{inputs[at].source[0]}/{construction}"
            scorer = ("em_squad",) if preset.reward == "em" else ("graded",)
            asked = tuple(replace(probes[q], after=None, scorers=scorer) for q in dict.fromkeys(questions))
            tasks.append(Task(name, (Stage(partial(Script, own), name="turns"),), asked))
            before[name] = context
    if not tasks:
        raise MnemonError("no turn of these conversations has a linked question: nothing to train the manager on")
    return tasks, before


def answer_tasks(conversations: Sequence[locomo.Conversation], preset: Preset) -> list[Task]:
    """One task per question: no inputs, one probe (paper Alg. 2); the bank is the start state."""
    scorer = ("em_squad",) if preset.reward == "em" else ("graded",)
    return [
        Task(probe.id, (), (replace(probe, after=None, scorers=scorer),), {"conversation": conversation.id})
        for conversation in conversations
        for probe in (locomo.probe(conversation, question) for question in locomo.asked(conversation))
    ]


def rewards_of(preset: Preset, role: str) -> tuple[Reward, ...]:
    """Manager: what its operations changed (ours) or the answers after them (paper). Answerer: its answer."""
    if role == "writer":
        return (gain() if preset.gain else answers(), invalid(-0.02))
    return (answers(),)


def measured(played: Sequence[Sequence[Trajectory]], before: bool = False) -> dict[str, float]:
    """Mean score of an evaluation's answers; trajectories that were lost are left out, and counted where there are any.

    MnemonError where all were lost: then there is nothing to go by.
    """
    every = [trajectory for group in played for trajectory in group]
    kept = [trajectory for trajectory in every if not trajectory.error]
    if not kept:
        raise MnemonError(f"none of {len(every)} validation tasks could be played; the first said: {every[0].error}")
    found = {"validation": sum(mean_score(t.answers) for t in kept) / len(kept)}
    if before:
        found["validation_before"] = sum(mean_score(t.before) for t in kept) / len(kept)
    return found | ({"validation_lost": float(len(every) - len(kept))} if len(kept) < len(every) else {})


def _greedy(policy: LocalPolicy) -> LocalPolicy:
    """The same model and settings without sampling."""
    return LocalPolicy(
        policy.model,
        policy.tokenizer,
        chat=policy.chat,
        temperature=0.0,
        max_tokens=policy.max_tokens,
        autocast=policy.autocast,
    )


def writer_problem(
    conversations: Sequence[locomo.Conversation],
    validation: Sequence[locomo.Conversation],
    preset: Preset,
    policy: LocalPolicy,
    reader: Reader,
    *,
    construction: Construction = "bandit",
    helpers: Mapping[str, Policy] | None = None,
    agent_settings: Mapping[str, Any] | None = None,
    train_tasks: int | None = None,
    validation_tasks: int = 16,
) -> Problem:
    """The manager's training problem, the answerer frozen; on the first `train_tasks` tasks (None: all)."""
    settings = {**preset.manager, "window": preset.prompt_tokens, **(agent_settings or {})}
    agent = manager(**settings)
    tasks, before = manager_tasks(conversations, preset, construction)
    held, held_before = manager_tasks(validation, preset, construction) if validation else ([], {})
    banks: dict[str, State] = {}

    def start(task: Task) -> State:
        if construction == "replay":
            return agent.start()
        if task.id not in banks:
            banks[task.id] = raw_bank(agent, {**before, **held_before}[task.id])
            banks[task.id].memory.prepare(agent.retriever)  # once, not in every member's fork
        return banks[task.id]

    greedy = _greedy(policy)

    async def evaluate() -> Mapping[str, float]:
        chosen = held[:validation_tasks]
        played = await rollouts(
            agent, chosen, greedy, reader=reader, helpers=helpers, start=start, before=True, tolerate=LOST
        )
        return measured(played, before=True)

    return Problem(
        writer=agent,
        policy=policy,
        tasks=in_turn(tasks[:train_tasks], preset.loop),
        rewards=rewards_of(preset, "writer"),
        reader=reader[0],
        partner=reader[1],
        helpers=helpers or {},
        start=start,
        before=preset.gain,
        evaluate=evaluate if held else None,
        fingerprint=f"{agent_fingerprint(agent)}/{policy.chat.fingerprint}",
        extra={"recipe": "memory-r1", "role": "writer", "world": "locomo", "agent": settings},
    )


def reader_problem(
    conversations: Sequence[locomo.Conversation],
    validation: Sequence[locomo.Conversation],
    preset: Preset,
    policy: LocalPolicy,
    banks: Mapping[str, Memory],
    *,
    agent_settings: Mapping[str, Any] | None = None,
    train_questions: int | None = None,
    validation_questions: int = 32,
) -> Problem:
    """The answerer's training problem on banks that a manager built (conversation id → memory); on the first
    `train_questions` questions (None: all).
    """
    settings = {**preset.answerer, "window": preset.prompt_tokens, **(agent_settings or {})}
    agent = answerer(**settings)
    tasks = answer_tasks(conversations, preset)
    held = answer_tasks(validation, preset)[:validation_questions]
    missing = {t.meta["conversation"] for t in (*tasks, *held)} - set(banks)
    if missing:
        raise MnemonError(
            f"no bank was built for {', '.join(sorted(missing))}: build the banks of all conversations first"
        )
    greedy = _greedy(policy)

    for memory in banks.values():
        memory.prepare(agent.retriever)  # once, not in every member's fork

    def start(task: Task) -> State:
        return State(banks[task.meta["conversation"]])

    async def evaluate() -> Mapping[str, float]:
        return measured(await rollouts(agent, held, greedy, reader=(agent, greedy), start=start, tolerate=LOST))

    return Problem(
        writer=agent,
        policy=policy,
        tasks=in_turn(tasks[:train_questions], preset.loop),
        rewards=rewards_of(preset, "reader"),
        role="reader",
        reader=agent,
        start=start,
        evaluate=evaluate if held else None,
        fingerprint=f"{agent_fingerprint(agent)}/{policy.chat.fingerprint}",
        extra={"recipe": "memory-r1", "role": "reader", "world": "locomo", "agent": settings},
    )
