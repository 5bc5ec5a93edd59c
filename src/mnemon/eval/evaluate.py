"""Evaluation: a rollout without credit. A writer reads the tasks, a reader answers their questions, metrics score.

    config.json    settings with their hash, versions, command line (`RunFolder`); another setting is refused
    banks/         what the writer remembers of each task
    answers.jsonl  one line per answered question, on the disk before the next is asked
    report.json    the figures; report.md to read

A rerun with the same settings builds no bank and asks no question twice. A question whose endpoint failed is listed and
not scored; a rerun asks it again.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mnemon.agent import Reader, State, ask_probe, due_probes
from mnemon.endpoint import EndpointError
from mnemon.eval.banks import (
    Bank,
    Start,
    Work,
    inputs_of,
    memory_hash,
    no_policy,
    open_bank,
    raw_turns,
    read_task,
)
from mnemon.eval.judge import NAME, judge_answer, judges_of, prompt_hash, score_name
from mnemon.eval.report import Report
from mnemon.eval.settings import (
    MAY_CHANGE,
    counter_name,
    describe,
    describe_policy,
    describe_tasks,
    name_of,
    options_of,
    question_hash,
)
from mnemon.memory.memory import Entry, count_words
from mnemon.metrics import evidence_recall, is_judged, scorer
from mnemon.policy.base import EPISODE, EpisodeKey, run_lockstep
from mnemon.rewards import answer_score
from mnemon.runs import RunFolder, atomic_write_text, plain, read_jsonl, versions, writing
from mnemon.train.progress import Progress
from mnemon.types import JSON, Answer, MnemonError, Policy, Probe, Task, Unscorable

T = TypeVar("T")
FAILURES = (EndpointError, Unscorable)
"""What costs one question, or one task's reading, and not the whole evaluation."""


async def evaluate(
    tasks: Sequence[Task],
    reader: Reader,
    writer: Reader | None = None,
    *,
    start: Start | None = None,
    out: str | Path | None = None,
    helpers: Mapping[str, Policy] | None = None,
    metrics: Sequence[str] | None = None,
    judge: Policy | None = None,
    seed: int = 0,
    chunk: int = 64,
    settings: Mapping[str, Any] | None = None,
    categories: Mapping[str, Mapping[str, str]] | None = None,
    quiet: bool = False,
) -> Report:
    """Let `writer` read `tasks` and `reader` answer their probes; score, and write the report into `out`.

    reader, writer: (agent, policy). Without a writer, `start` gives the finished banks (`raw_turns_bank`,
        `saved_banks(folder)`); without both every input is stored as it is.
    start(task): the state that a task begins from (default: the writer's empty one).
    out: the folder, which is also what a rerun resumes; None keeps nothing.
    metrics: scorer names for every probe that has answers (default: each probe's own).
    judge: a model that says of every answer whether it is right (`mnemon.eval.judge`): the score "judge", or those of
        the judges that a probe's scorers name. A reply that cannot be read is counted as the event "judge_unreadable"
        and gives no score.
    chunk: questions (or tasks, while reading) under way together: the batch of a local model, the unit of memory.
    settings: what else describes the run (data file and its hash …); compared on resume and part of the report.
    categories: heading -> {category id: name}. quiet: no progress on standard error (there is none without a
        terminal anyway).

    Raises MnemonError for mistakes in the arguments, before anything is asked, and when `out` holds an evaluation with
    other settings.
    """
    if chunk < 1:
        raise MnemonError(f"chunk={chunk}: at least one question has to be under way")
    if writer is None and start is None:
        writer = (raw_turns(), no_policy)
    _check(tasks, metrics, judge)
    described = await asyncio.to_thread(_settings, tasks, reader, writer, start, helpers or {}, metrics, settings)
    if judge is not None:
        described["judge"] = {"policy": describe_policy(judge), "prompt": prompt_hash()}
    run = RunFolder(out) if out is not None else None
    resume = run is not None and run.config_file.exists()
    with run.start(described, seed=seed, resume=resume, may_change=MAY_CHANGE) if run else nullcontext():
        folder = run.path if run else None
        quiet = quiet or not sys.stderr.isatty()
        banks = [await open_bank(task, writer[0] if writer else None, start, folder) for task in tasks]
        if writer is not None:
            await _read(banks, writer, folder, helpers, seed, chunk, quiet)
        asking = _Asking(reader, helpers, metrics, judge, seed, folder / "answers.jsonl" if folder else None)
        asking.known = _known(asking.file)
        await _ask(asking, banks, chunk, quiet)
        report = _report(asking, banks, {"seed": seed, **described}, categories or {})
        if folder is not None:
            report.write(folder)
        return report


def _check(tasks: Sequence[Task], metrics: Sequence[str] | None, judge: Policy | None) -> None:
    """MnemonError for names used twice, unknown metrics and judges, and probes that nobody can place or score."""
    if not any(task.probes for task in tasks):
        raise MnemonError("evaluate: no questions: give at least one task with probes")
    seen: set[tuple[str, str]] = set()
    for name in [task.id for task in tasks]:
        if (name, "") in seen:
            raise MnemonError(f"evaluate: two tasks are called {name!r}: banks and answers go by this name")
        seen.add((name, ""))
    for task in tasks:
        due_probes(task)
        for probe in task.probes:
            if (task.id, probe.id) in seen:
                raise MnemonError(f"evaluate: {task.id} has two probes called {probe.id!r}")
            seen.add((task.id, probe.id))
            names = _metrics_of(probe, metrics)
            for name in names:
                scorer(name)
            if judge is not None:
                judges_of(probe)
            elif not names:
                raise MnemonError(f"evaluate: only a judge can score {probe.id} of {task.id}: give one (judge=)")


def _metrics_of(probe: Probe, metrics: Sequence[str] | None) -> Sequence[str]:
    """The string metrics of a probe. One without accepted answers (LoCoMo's adversarial ones) keeps its own."""
    return [n for n in probe.scorers if not is_judged(n)] if metrics is None or not probe.answers else metrics


def _headline(probe: Probe, metrics: Sequence[str] | None) -> str:
    """The score that a probe goes by."""
    names = probe.scorers if metrics is None or not probe.answers else metrics
    return score_name(names[0]) if names else NAME


def _settings(
    tasks: Sequence[Task],
    reader: Reader,
    writer: Reader | None,
    start: Start | None,
    helpers: Mapping[str, Policy],
    metrics: Sequence[str] | None,
    settings: Mapping[str, Any] | None,
) -> JSON:
    """All that decides the answers and their scores."""
    return {
        "data": {**describe_tasks(tasks), **plain(dict(settings or {}))},
        "reader": describe(reader),
        "writer": describe(writer) if writer else None,
        "start": {"function": name_of(start), "options": options_of(start)} if start else None,
        "helpers": {name: describe_policy(policy) for name, policy in sorted(helpers.items())},
        "metrics": list(metrics) if metrics is not None else "each probe's own",
    }


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _read(
    banks: Sequence[Bank],
    writer: Reader,
    folder: Path | None,
    helpers: Mapping[str, Policy] | None,
    seed: int,
    chunk: int,
    quiet: bool,
) -> None:
    """Read what is left of every task, tasks side by side; a failed endpoint costs the task only."""
    left = [bank for bank in banks if not bank.finished]
    sizes = [[inputs_of(stage) for stage in bank.task.stages] for bank in banks]
    done = sum(sum(size[: bank.stages]) for bank, size in zip(banks, sizes, strict=True))
    with Progress("reading", sum(map(sum, sizes)), done, quiet=quiet or not left) as progress:

        async def one(bank: Bank) -> None:
            try:
                await read_task(
                    bank, writer, folder=folder, helpers=helpers, seed=seed, tick=lambda: progress.advance({})
                )
            except FAILURES as error:
                bank.error = str(error) or type(error).__name__

        for part in _chunks(left, chunk):
            await run_lockstep([one(bank) for bank in part])


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Asking:
    """Who answers, how answers are scored, where they are kept; `known` (task, probe) -> record, `failed` -> why."""

    reader: Reader
    helpers: Mapping[str, Policy] | None
    metrics: Sequence[str] | None
    judge: Policy | None
    seed: int
    file: Path | None
    known: dict[tuple[str, str], JSON] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    async def ask(self, question: _Question) -> None:
        """Ask, score and keep one answer; a failed endpoint is noted instead."""
        started = time.perf_counter()
        token = EPISODE.set(EpisodeKey(self.seed, task=question.task.id))
        try:
            answer = await ask_probe(self.reader, question.state, question.probe, self.helpers, question.stage)
            record = answer_record(question, answer, _metrics_of(question.probe, self.metrics))
            record["headline"] = _headline(question.probe, self.metrics)
            if self.judge is not None:
                await _judged(self.judge, question.probe, record)
        except FAILURES as error:
            self.failed[question.key] = str(error) or type(error).__name__
            return
        finally:
            EPISODE.reset(token)
        record["seconds"] = round(time.perf_counter() - started, 3)
        if self.file is not None:
            _append(self.file, record)
        self.known[question.key] = record


async def _judged(judge: Policy, probe: Probe, record: JSON) -> None:
    """Write the verdicts of a probe's judges, and what they cost, into a record."""
    for name in judges_of(probe):
        verdict, calls = await judge_answer(judge, probe, record["prediction"], name)
        if calls:
            record["calls"]["judge"] = record["calls"].get("judge", 0) + calls
        if verdict.score is not None:
            record["scores"][name] = verdict.score
        if verdict.error:
            event = "judge_unreadable" if verdict.score is None else "judge_other_label"
            record["events"][event] = record["events"].get(event, 0) + 1


@dataclass(frozen=True, slots=True)
class _Question:
    task: Task
    probe: Probe
    state: State
    stage: int
    memory: str
    """`memory_hash` of the state."""

    @property
    def key(self) -> tuple[str, str]:
        return self.task.id, self.probe.id


def _questions(bank: Bank) -> list[_Question]:
    """The probes of a finished bank, each with the state it is asked on."""
    found: list[_Question] = []
    for after, probes in due_probes(bank.task).items():
        state = bank.states[after]
        digest = memory_hash(state)
        found += [_Question(bank.task, probe, state, max(after - 1, 0), digest) for probe in probes]
    return found


async def _ask(asking: _Asking, banks: Sequence[Bank], chunk: int, quiet: bool) -> None:
    """Ask what is not known yet. When every question of a chunk fails, the endpoint is down: the rest is not asked."""
    left: list[_Question] = []
    for bank in banks:
        if not bank.finished:
            why = f"{bank.task.id} was not read to its end: {bank.error}"
            asking.failed |= {(bank.task.id, probe.id): why for probe in bank.task.probes}
            continue
        for question in _questions(bank):
            if question.key not in asking.known:
                left.append(question)
            elif asking.known[question.key]["memory"] != question.memory:
                raise MnemonError(
                    f"{asking.file}: {question.task.id} was answered from another bank than the one in banks/ (was it "
                    "rebuilt?): remove the answers of this task, or choose another folder"
                )
    retriever = asking.reader[0].retriever
    done = len(asking.known)
    with Progress("answering", done + len(left), done, quiet=quiet or not left) as progress:

        async def one(question: _Question) -> None:
            await asking.ask(question)
            progress.advance({})

        for part in _chunks(left, chunk):
            for state in {id(question.state): question.state for question in part}.values():
                state.memory.prepare(retriever)  # the index is built once, and shared by every question's fork
            await run_lockstep([one(question) for question in part])
            failed = [asking.failed[q.key] for q in part if q.key in asking.failed]
            if len(failed) == len(part) and len(part) > 1:
                why = f"not asked, because a whole batch failed before it: {failed[0]}"
                rest = (q.key for q in left if q.key not in asking.known and q.key not in asking.failed)
                asking.failed |= dict.fromkeys(rest, why)
                return


def answer_record(question: _Question, answer: Answer, metrics: Sequence[str]) -> JSON:
    """One line of answers.jsonl. `shown` are the sources of the entries that the reader was shown."""
    probe, turn = answer.probe, answer.turn
    entries = [entry for entry in turn.view or () if isinstance(entry, Entry)]
    shown = list(dict.fromkeys(source for entry in entries for source in entry.source))
    stored = {source for entry in question.state.memory.entries() for source in entry.source}
    work = Work()
    work.add(turn.steps, turn.events, 0.0)
    return {
        "task": question.task.id,
        "probe": probe.id,
        "category": probe.category,
        "cluster": str(question.task.meta.get("conversation", question.task.id)),
        "question": question_hash(probe),
        "memory": question.memory,
        "prediction": answer.text,
        "scores": {name: answer_score(answer, name) for name in metrics},
        "evidence_shown": evidence_recall(shown, probe.evidence),
        "evidence_stored": evidence_recall(stored, probe.evidence),
        "shown": shown,
        "entries_shown": len(entries),
        "answer_words": count_words(answer.text),
        "calls": work.calls,
        "prompt_tokens": work.prompt_tokens or None,  # not every endpoint says
        "sampled_tokens": work.sampled_tokens or None,
        "events": work.events,
    }


# ── answers on the disk ──────────────────────────────────────────────────────────────────────────────────────────────


def _line(record: JSON) -> str:
    return json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n"


def _known(file: Path | None) -> dict[tuple[str, str], JSON]:
    """The answers in a file by (task, probe); a torn last line is cut off."""
    if file is None or not file.exists():
        return {}
    records = read_jsonl(file)
    data = file.read_bytes()
    if not data.endswith(b"\n") or data.count(b"\n") != len(records):
        atomic_write_text(file, "".join(map(_line, records)))
    return {(record["task"], record["probe"]): record for record in records}


def _append(file: Path, record: JSON) -> None:
    """Append one answer; it is on the disk when this returns."""
    with writing(file), file.open("ab", buffering=0) as handle:
        handle.write(_line(record).encode("utf-8", "backslashreplace"))
        os.fsync(handle.fileno())


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _report(
    asking: _Asking, banks: Sequence[Bank], settings: JSON, categories: Mapping[str, Mapping[str, str]]
) -> Report:
    """Everything counted, in the order of tasks and probes."""
    written, answered = Work(), Work()
    for bank in banks:
        written.merge(bank.work)
    keys = [(bank.task.id, probe.id) for bank in banks for probe in bank.task.probes]
    answers = [asking.known[key] for key in keys if key in asking.known]
    for record in answers:
        numbers: dict[str, Any] = {name: record[name] or 0 for name in ("prompt_tokens", "sampled_tokens", "seconds")}
        answered.merge(Work(calls=record["calls"], events=record["events"], **numbers))
    finished = [bank for bank in banks if bank.finished]
    return Report(
        settings=settings,
        versions=versions(),
        categories=categories,
        answers=answers,
        failures=[{"task": t, "probe": p, "error": asking.failed[t, p]} for t, p in keys if (t, p) in asking.failed],
        memory={bank.task.id: _memory(bank) for bank in finished},
        counter=counter_name(finished[0].state.memory.counter) if finished else "",
        work={"writer": plain(written), "reader": plain(answered)},
    )


def _memory(bank: Bank) -> JSON:
    """Size of a finished bank; of a task that names its source also what was read, by the memory's counter."""
    memory, meta = bank.state.memory, bank.task.meta
    size: JSON = {"entries": len(memory), "tokens": memory.tokens()}
    if "source" not in meta:
        return size
    inputs = [given for stage in bank.task.stages for given in getattr(stage.environment(), "inputs", ())]
    return size | {
        "sections": {name: memory.tokens(name) for name in memory.sections},
        "input_tokens": sum(memory.counter(given.text) for given in inputs),
        "inputs": len(inputs),
        "source": meta["source"],
        "dimension": meta.get("dimension", ""),
    }
