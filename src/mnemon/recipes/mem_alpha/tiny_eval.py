"""The tiny stream's scoreboard: a policy beside the scripted ones and the usual baselines, over stream lengths."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from mnemon.memory.retrieve import Lexical, rank
from mnemon.metrics.aggregate import mean_and_error
from mnemon.policy.base import Scripted, run_sync
from mnemon.policy.local import LocalPolicy
from mnemon.policy.tiny import END
from mnemon.recipes.mem_alpha.tiny import accuracy, by_dimension, call_counts, invalid_share, play
from mnemon.recipes.mem_alpha.tiny_data import SKIP, call_tokens
from mnemon.recipes.mem_alpha.tiny_flat import play_flat
from mnemon.tasks.tiny_stream import make_tasks, words
from mnemon.tasks.tiny_stream.questions import DIMENSIONS
from mnemon.tasks.tiny_stream.reader import answer_log
from mnemon.tasks.tiny_stream.reading import read_sentence, split_prompt, think
from mnemon.tasks.tiny_stream.scripted import POLICIES, options, right_call, writer_reply
from mnemon.types import JSON, Answer, Completion, Message, Policy, Task, ToolSchema, Trajectory, Turn

LENGTHS = (6, 78, 240)
"""Chunks per stream; 78 is 13 times and 240 is 40 times the training length."""


def streams_of(length: int, streams: int) -> int:
    """Fewer of the long ones, which ask more questions each."""
    return streams if length <= 12 else max(4, streams // (length // 6))


def boards(streams: int, split: Literal["validation", "test"] = "test") -> dict[str, list[Task]]:
    """The sets of the scoreboard, by name."""
    sets = {f"L={n}": make_tasks(streams_of(n, streams), n, split) for n in LENGTHS}
    sets["L=6 unseen templates"] = make_tasks(streams, LENGTHS[0], split, "unseen")
    return sets


def words_of(task: Task) -> int:
    """Words of all chunks of a stream (their numbers left out)."""
    return sum(len(said.text.split()) for chunk in task.meta["stream"].chunks for said in chunk.said)


def figures(trajectories: Sequence[Trajectory], memory: Sequence[int] | None = None) -> JSON:
    """Everything reported about one set of streams; `memory` where it is not the state's: tokens kept per stream."""
    mean, error = mean_and_error(accuracy(trajectories))
    kept = memory or [t.state.memory.tokens() for t in trajectories]
    read = [words_of(t.task) for t in trajectories]
    prompts = [
        step.completion.prompt_tokens or len(step.messages[-1].content.split())
        for t in trajectories
        for step in t.steps
    ]
    return {
        "accuracy": round(mean, 4),
        "stderr": round(error, 4),
        "streams": len(trajectories),
        "dimensions": {name: [round(share, 4), n] for name, (share, n) in by_dimension(trajectories).items()},
        "invalid_share": round(invalid_share(trajectories), 5),
        "longest_prompt": max(prompts, default=0),
        "mean_prompt": round(sum(prompts) / max(1, len(prompts)), 1),
        "memory_tokens": round(sum(kept) / len(kept), 1),
        "input_tokens": round(sum(read) / len(read), 1),
        "calls": call_counts(trajectories),
    }


def raw_baseline(tasks: Sequence[Task], chunks: int | None) -> list[Trajectory]:
    """Long context (None: all chunks are read for every question) or retrieval of this many whole chunks."""
    played = []
    for task in tasks:
        log = [(chunk.day, chunk.text) for chunk in task.meta["stream"].chunks]
        texts = [text for _, text in log]
        trajectory = Trajectory(task, 0)
        for probe in task.probes:
            best = None if chunks is None else sorted(i for i, _ in rank(Lexical(), probe.question, texts, chunks))
            text = answer_log(log if best is None else [log[i] for i in best], probe.question)
            trajectory.answers.append(Answer(probe, text, Turn(text, ())))
        played.append(trajectory)
    return played


def measure(
    policy: Policy | None,
    streams: int = 200,
    *,
    scripted: bool = True,
    split: Literal["validation", "test"] = "test",
) -> JSON:
    """{who writes: {set: figures}} for a policy, the scripted ones, a flat memory, long context and retrieval."""
    found: JSON = {}
    sets = boards(streams, split)
    players: dict[str, Policy] = {"this agent": policy} if policy is not None else {}
    if scripted:
        players |= {name: Scripted(writer_reply(decide)) for name, decide in POLICIES.items()}
    for name, player in players.items():
        found[name] = {title: figures(run_sync(play(player, tasks))) for title, tasks in sets.items()}
    if scripted:
        found["one flat paragraph"] = {title: figures(run_sync(play_flat(tasks))) for title, tasks in sets.items()}
        for name, chunks in (("long context", None), ("retrieval of 2 chunks", 2)):
            found[name] = {
                title: figures(raw_baseline(tasks, chunks), [words_of(t) for t in tasks])
                for title, tasks in sets.items()
            }
    return found


# ── what a cold start must be able to do ─────────────────────────────────────────────────────────────────────────────

UNAVOIDABLE = frozenset({"too_long", "duplicate", "exists", "unchanged", "full"})
"""Refusals of well-formed calls: the choice was wrong, not the form."""


def segments(tokens: Sequence[str]) -> dict[str, list[str]]:
    """The tokens of a reply by the number of the sentence that they are about."""
    found: dict[str, list[str]] = {}
    part: list[str] = []
    for token in tokens:
        if token in words.MARKERS:
            part = found[token] = []
        elif token != END:
            part.append(token)
    return found


def cold_figures(policy: LocalPolicy, streams: int = 100, split: Literal["validation", "test"] = "test") -> JSON:
    """Shares of calls refused for their form, of thoughts that are exact, and of texts that are exactly what the chosen
    call should write, on the memories that the policy itself keeps.
    """
    played = run_sync(play(policy, make_tasks(streams, LENGTHS[0], split)))
    results = [result for t in played for step in t.steps for result in step.results]
    malformed = sum(not result.ok and result.code not in UNAVOIDABLE for result in results)
    thoughts, texts = [0, 0], [0, 0]
    for step in (step for t in played for step in t.steps):
        view = split_prompt(step.messages)
        tokens = policy.tokenizer.convert_ids_to_tokens(list(step.completion.token_ids))
        said = segments(tokens)
        for marker, sentence in zip(words.MARKERS, view.sentences, strict=False):
            reading = read_sentence(sentence, view.day)
            part, thought = said.get(marker, []), think(view, reading).split()
            exact = part[: len(thought)] == thought
            thoughts = [thoughts[0] + exact, thoughts[1] + 1]
            written = part[len(thought) :]
            if not exact or reading.sense == "noise" or not written or written[0] == SKIP:
                continue
            fitting = [call_tokens(call) for call in (right_call(view, reading), *options(view, reading)) if call]
            fitting = [call for call in fitting if call[0] == written[0]]
            if fitting:
                texts = [texts[0] + (written in fitting), texts[1] + 1]
    return {
        "malformed": round(malformed / max(1, len(results)), 5),
        "exact_thoughts": round(thoughts[0] / thoughts[1], 4),
        "exact_texts": round(texts[0] / max(1, texts[1]), 4),
    }


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Timed:
    """A policy that notes the process's CPU time at each call."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.times: list[float] = []

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        self.times.append(time.process_time())
        return await self.policy(messages, tools)


def chunk_seconds(
    policy: Policy, length: int, streams: int = 1, split: Literal["validation", "test"] = "test"
) -> float:
    """Mean CPU-seconds per chunk of streams read one at a time (first chunk to last, questions left out)."""
    spent = chunks = 0.0
    for task in make_tasks(streams, length, split):
        timed = Timed(policy)
        run_sync(play(timed, [task]))
        spent += timed.times[-1] - timed.times[0]
        chunks += len(timed.times) - 1
    return spent / max(1.0, chunks)


def rows_of(found: JSON) -> tuple[list[str], list[list[str]]]:
    """A table of accuracies: header and rows; the dimensions are those of the first set."""
    sets = list(next(iter(found.values())))
    rows = []
    for name, of in found.items():
        cells = [f"{100 * of[s]['accuracy']:.1f} ± {100 * of[s]['stderr']:.1f}" for s in sets]
        cells += [f"{100 * of[sets[0]]['dimensions'][d][0]:.0f}" for d in DIMENSIONS]
        cells += [f"{100 * of[sets[0]]['invalid_share']:.1f}", f"{of[sets[1]]['memory_tokens']:.0f}"]
        rows.append([name, *cells])
    return ["who writes the memory", *sets, *DIMENSIONS, "invalid calls, %", f"tokens kept, {sets[1]}"], rows
