"""Evaluation: the answers of a rollout, scores by hand, nothing asked twice, nothing scored that was not answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mnemon.agent import State, rollout
from mnemon.endpoint import EndpointError
from mnemon.eval.banks import raw_turns_bank, saved_banks
from mnemon.eval.evaluate import evaluate
from mnemon.eval.locomo import evaluate_locomo
from mnemon.eval.report import Report
from mnemon.memory.retrieve import Lexical, LexicalIndex
from mnemon.policy.base import EPISODE, LOCKSTEP, EpisodeKey, Request, run_sync
from mnemon.policy.http import HttpPolicy
from mnemon.types import Completion, Message, MnemonError, Probe, Task, ToolSchema, Unscorable


class World:
    """A writer, a reader, two tasks; `run` evaluates."""

    def __init__(self, small: Any) -> None:
        self.small = small
        self.writer, self.reader = small.Writer(), small.Reader()
        self.tasks = [small.make_task("t1"), small.make_task("t2", conversation="c2")]

    def run(self, out: Path | None = None, k: int = 1, **more: Any) -> Report:
        reader, writer = (self.small.reader_agent(k), self.reader), (self.small.writer_agent(), self.writer)
        return run_sync(evaluate(self.tasks, reader, writer, out=out, **more))


@pytest.fixture
def world(small: Any) -> World:
    return World(small)


def predictions(report: Report) -> list[tuple[str, str, str]]:
    return [(a["task"], a["probe"], a["prediction"]) for a in report.answers]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


# ── what is asked, and what comes of it ──────────────────────────────────────────────────────────────────────────────


def test_the_answers_are_those_of_a_rollout(world: World) -> None:
    report = world.run(seed=5)
    small, writer, reader = world.small, world.small.Writer(), world.small.Reader()
    expected = []
    for task in world.tasks:
        key = EpisodeKey(5, task=task.id)
        pair = (small.reader_agent(), reader)
        played = run_sync(rollout(small.writer_agent(), task, writer, reader=pair, key=key))
        expected += [(task.id, answer.probe.id, answer.text) for answer in played.answers]
    assert predictions(report) == expected
    assert sorted(world.reader.asked) == sorted(reader.asked)
    assert sorted(world.reader.keys) == sorted(reader.keys)  # so a sampling model draws the same reply
    assert sorted(world.writer.keys) == sorted(writer.keys)
    # m1 was forgotten before q0; at the end Mia is found and Rex is not
    assert [text for _, _, text in predictions(report)] == ["nothing", "cat", "nothing"] * 2


def test_a_record_by_hand(world: World) -> None:
    answer = next(a for a in world.run(k=2).answers if a["probe"] == "q1" and a["task"] == "t2")
    seconds, question, memory = (answer.pop(name) for name in ("seconds", "question", "memory"))
    assert 0 <= seconds < 60
    assert len(question) == len(memory) == 16
    assert answer == {
        "task": "t2",
        "probe": "q1",
        "category": "2",
        "cluster": "c2",
        "prediction": "cat",
        "scores": {"em": 1.0, "f1_squad": 1.0},
        "headline": "em",
        "evidence_shown": 0.5,  # s3 of s3 and s9
        "evidence_stored": 0.5,
        "shown": ["s3"],
        "entries_shown": 1,
        "answer_words": 1,
        "calls": {"reader": 1},
        "prompt_tokens": 10,
        "sampled_tokens": None,
        "events": {},
    }


def test_report_counts(world: World) -> None:
    report = world.run()
    assert report.scores["em"].micro.mean == pytest.approx(2 / 6)
    assert {c: m.mean for c, m in report.scores["em"].categories.items()} == {"1": 0.0, "2": 1.0}
    assert report.scores["em"].clusters == 2
    assert report.memory == {"t1": {"entries": 2, "tokens": 8}, "t2": {"entries": 2, "tokens": 8}}
    assert report.counter == "mnemon.memory.memory.count_words"
    assert report.work["writer"]["calls"] == {"writer": 8}
    assert report.work["writer"]["inputs"] == 8
    assert report.work["reader"]["calls"] == {"reader": 6}
    assert report.work["reader"]["prompt_tokens"] == 60
    assert report.exit_code == 0


def test_evidence_stored_counts_what_the_reader_was_not_shown(small: Any) -> None:
    task = Task("t", (small.stage("Rex a", "Rex b", "Mia c"),), (Probe("q", "Rex", ("a",), "", ("s1", "s3")),))
    report = run_sync(evaluate([task], (small.reader_agent(5), small.Reader())))  # no writer: turns as they are
    (answer,) = report.answers
    assert (answer["shown"], answer["evidence_shown"], answer["evidence_stored"]) == (["s1", "s2"], 0.5, 1.0)
    assert report.settings["writer"]["policy"]["function"] == "mnemon.eval.banks.no_policy"


def test_ready_made_banks_and_metrics(world: World) -> None:
    tasks = [
        replace(task, probes=(*task.probes[1:], Probe("x", "Leo ?", (), "5", scorers=("f1_locomo",))))
        for task in world.tasks
    ]
    reader = (world.small.reader_agent(), world.reader)
    report = run_sync(evaluate(tasks, reader, start=raw_turns_bank, metrics=("rouge_l",)))
    assert [text for _, _, text in predictions(report)] == ["cat", "dog", "fox"] * 2
    assert [list(a["scores"]) for a in report.answers[:3]] == [["rouge_l"], ["rouge_l"], ["f1_locomo"]]
    assert report.work["writer"]["inputs"] == 0


def test_start_state_is_where_the_writer_begins(world: World) -> None:
    def start(task: Task) -> State:
        state = world.small.writer_agent().start()
        state.memory.add(f"Zoe is a {task.id}")
        return state

    world.tasks = [replace(task, probes=task.probes[2:]) for task in world.tasks]
    report = world.run(start=start)
    assert report.scores["em"].micro.mean == 1  # "forget m1" now forgets Zoe, and Rex stays


def test_the_index_is_built_once_per_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    original = Lexical.index
    monkeypatch.setattr(Lexical, "index", lambda self: (built.append(1), original(self))[1])
    run_sync(evaluate(world.tasks, (world.small.reader_agent(), world.reader), start=raw_turns_bank))
    assert len(built) == 1 + 2  # the fingerprint's example, then two banks for six questions
    assert isinstance(original(Lexical()), LexicalIndex)


class Batching:
    """A batching policy, as a local model is."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        scheduler, episode = LOCKSTEP.get(), EPISODE.get()
        assert scheduler is not None
        assert episode is not None
        return await scheduler.submit(self, Request(episode.next(), tuple(messages), tuple(tools)))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.sizes.append(len(requests))
        return [Completion(Message("assistant", f"{r.key} {r.messages[-1].content}")) for r in requests]


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_chunks_change_batches_not_answers(world: World, chunk: int) -> None:
    policy = Batching()
    report = run_sync(
        evaluate(world.tasks, (world.small.reader_agent(), policy), start=raw_turns_bank, chunk=chunk, seed=2)
    )
    assert policy.sizes == {1: [1] * 6, 4: [4, 2], 64: [6]}[chunk]
    assert report.answers[0]["prediction"] == "(2, 0, 't1/q0', 0, 1) Rex is a dog\nRex ?"


# ── resuming ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rerun_asks_nothing(world: World, tmp_path: Path) -> None:
    first = world.run(tmp_path)
    world.writer.asked.clear()
    world.reader.asked.clear()
    before = {p.name: p.read_bytes() for p in tmp_path.rglob("*.json*") if p.name != "config.json"}
    again = world.run(tmp_path)
    assert world.writer.asked == world.reader.asked == []
    assert again.answers == first.answers
    assert again.work == first.work
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*.json*") if p.name != "config.json"} == before
    assert Report.load(tmp_path).json() == first.json()


@pytest.mark.parametrize("torn", [b'{"task": "t1", "pro', b'{"task": "t1", "pro\n', b""])
def test_a_torn_line_is_asked_again(world: World, tmp_path: Path, torn: bytes) -> None:
    first = world.run(tmp_path)
    file = tmp_path / "answers.jsonl"
    kept = file.read_bytes().splitlines(keepends=True)[:4]
    file.write_bytes(b"".join(kept) + torn)
    world.reader.asked.clear()
    again = world.run(tmp_path)
    assert len(world.reader.asked) == 2
    assert predictions(again) == predictions(first)
    assert len(lines(tmp_path)) == 6


def test_damage_in_the_middle_is_said(world: World, tmp_path: Path) -> None:
    world.run(tmp_path)
    file = tmp_path / "answers.jsonl"
    file.write_bytes(b"garbage\n" + file.read_bytes())
    with pytest.raises(MnemonError, match=r"answers\.jsonl:1 is not a JSON object"):
        world.run(tmp_path)


def test_a_crash_keeps_what_was_answered(world: World, tmp_path: Path) -> None:
    world.reader.down["Mia"] = RuntimeError("bug")
    with pytest.raises(RuntimeError):
        world.run(tmp_path, chunk=1)
    assert [record["probe"] for record in lines(tmp_path)] == ["q0"]
    world.reader.down.clear()
    world.reader.asked.clear()
    assert len(world.run(tmp_path).answers) == 6
    assert len(world.reader.asked) == 5


def test_a_server_may_move(world: World, tmp_path: Path) -> None:
    asked = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.port)
        if len(asked) == 3:
            return httpx2.Response(500)
        message = {"role": "assistant", "content": "cat"}
        return httpx2.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

    def policy(port: int, **more: Any) -> HttpPolicy:
        transport = httpx2.MockTransport(handle)
        return HttpPolicy(f"http://h:{port}", "m", api_key="", retries=0, transport=transport, **more)

    def run(policy: HttpPolicy) -> Report:
        return run_sync(evaluate(world.tasks, (world.small.reader_agent(), policy), out=tmp_path))

    (failure,) = run(policy(1)).failures
    assert "500" in failure["error"]
    assert run(policy(2)).exit_code == 0
    assert asked == [1] * 6 + [2]
    with pytest.raises(MnemonError, match=r"reader\.policy\.max_tokens: 1024 there, 9 here"):
        run(policy(2, max_tokens=9))


def test_progress_counts_inputs_and_questions(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[list[Any]] = []

    class Bar(nullcontext[Any]):
        def __init__(self, title: str, total: int, done: int, *, quiet: bool) -> None:
            super().__init__(self)
            self.bar = [title, total, done, 0, quiet]
            bars.append(self.bar)

        def advance(self, metrics: dict[str, float]) -> None:
            self.bar[3] += 1

    monkeypatch.setattr("mnemon.eval.evaluate.Progress", Bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    world.writer.down["t1: Leo"] = world.reader.down["t2/q1: Mia"] = EndpointError("busy")
    world.run(tmp_path)
    world.writer.down.clear()
    world.reader.down.clear()
    world.run(tmp_path)
    world.run(tmp_path)
    assert bars == [
        ["reading", 8, 0, 7, False],
        ["answering", 3, 0, 3, False],
        ["reading", 8, 6, 2, False],
        ["answering", 6, 2, 4, False],
        ["reading", 8, 8, 0, True],
        ["answering", 6, 6, 0, True],
    ]


def test_other_settings_are_refused_by_name(world: World, tmp_path: Path) -> None:
    world.run(tmp_path, settings={"split": "test"})
    with pytest.raises(MnemonError) as caught:
        world.run(tmp_path, k=2, seed=1, metrics=("em",), settings={"split": "all"})
    said = str(caught.value)
    for part in ('data.split: "test" there, "all" here', "reader.agent.options.k: 1 there, 2 here", "seed: 0 there, 1"):
        assert part in said
    assert "metrics:" in said
    assert "writer" not in said
    task = world.tasks[0]
    world.tasks[0] = replace(task, probes=(replace(task.probes[0], answers=("cat",)), *task.probes[1:]))
    with pytest.raises(MnemonError, match=r"data\.hash"):
        world.run(tmp_path, settings={"split": "test"})


def test_answers_from_another_bank_are_refused(world: World, tmp_path: Path) -> None:
    world.run(tmp_path)
    for file in (tmp_path / "banks").iterdir():
        file.unlink()
    assert len(world.run(tmp_path).answers) == 6  # rebuilt, and equal
    file = tmp_path / "banks" / "t2.json"
    file.write_text(file.read_text().replace("Leo is a fox", "Leo is a cow"))
    with pytest.raises(MnemonError, match="t2 was answered from another bank"):
        world.run(tmp_path)


def test_saved_banks_for_another_reader(world: World, tmp_path: Path) -> None:
    world.run(tmp_path / "one")
    world.tasks = [replace(task, probes=task.probes[1:]) for task in world.tasks]
    world.writer.asked.clear()
    reader = (world.small.reader_agent(3), world.reader)
    report = run_sync(evaluate(world.tasks, reader, start=saved_banks(tmp_path / "one"), out=tmp_path / "two"))
    assert world.writer.asked == []
    assert [text for _, _, text in predictions(report)] == ["cat", "nothing"] * 2
    assert report.settings["start"]["options"] == {"folder": str(tmp_path / "one")}


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [EndpointError("down", 503), Unscorable("no verdict"), Unscorable()])
def test_a_failed_question_is_listed_not_scored(world: World, tmp_path: Path, error: Exception) -> None:
    world.reader.down["Mia"] = error
    report = world.run(tmp_path)
    expected = str(error) or "Unscorable"
    assert report.failures == [{"task": t, "probe": "q1", "error": expected} for t in ("t1", "t2")]
    assert report.exit_code == 3
    assert report.scores["em"].micro.n == 4
    assert {record["probe"] for record in lines(tmp_path)} == {"q0", "q2"}
    assert report.json()["counts"] == {"asked": 6, "answered": 4, "failed": 2}
    assert "2 FAILED" in report.markdown()
    world.reader.down.clear()
    world.reader.asked.clear()
    mended = world.run(tmp_path)
    assert len(world.reader.asked) == 2
    assert (mended.exit_code, len(mended.answers)) == (0, 6)
    assert [a["probe"] for a in mended.answers] == ["q0", "q1", "q2"] * 2  # in the tasks' order


def test_a_dead_endpoint_is_not_asked_on_and_on(world: World, tmp_path: Path) -> None:
    world.reader.down["?"] = EndpointError("refused")
    report = world.run(tmp_path, chunk=2)
    assert len(world.reader.asked) == 2
    assert [f["error"] for f in report.failures][2] == "not asked, because a whole batch failed before it: refused"
    assert (len(report.failures), len(report.answers), report.scores) == (6, 0, {})
    assert "0 of 6 questions answered" in report.markdown()
    assert Report.load(tmp_path).failures == report.failures


def test_a_task_that_could_not_be_read(world: World, tmp_path: Path) -> None:
    world.writer.down["t1: Leo"] = EndpointError("busy")
    report = world.run(tmp_path)
    assert {f["error"] for f in report.failures} == {"t1 was not read to its end: busy"}
    assert len(report.failures) == len(report.answers) == 3
    assert list(report.memory) == ["t2"]
    world.writer.down.clear()
    world.writer.asked.clear()
    assert world.run(tmp_path).exit_code == 0
    assert world.writer.asked == ["Mia is a cat", "Leo is a fox"]


# ── mistakes, found before anything is asked ─────────────────────────────────────────────────────────────────────────


def test_mistakes(world: World) -> None:
    good = list(world.tasks)
    question = good[0].probes[0]
    for tasks, more, what in (
        ([replace(task, probes=()) for task in good], {}, "no questions"),
        ([good[0], good[0]], {}, "two tasks are called 't1'"),
        ([replace(good[0], probes=(question, question))], {}, "two probes called 'q0'"),
        (good, {"metrics": ("em", "f1_sqad")}, "f1_squad"),
        ([replace(good[0], probes=(replace(question, after=9),))], {}, "after 9 stages"),
        (good, {"chunk": 0}, "chunk=0"),
    ):
        world.tasks = tasks
        with pytest.raises(MnemonError, match=what):
            world.run(**more)
    assert world.reader.asked == world.writer.asked == []


def test_locomo_in_one_call(data_dir: Path, small: Any, tmp_path: Path) -> None:
    reader = (small.reader_agent(60), small.Reader())
    report = run_sync(
        evaluate_locomo(data_dir, reader, conversations=["conv-26", "conv-30"], adversarial=True, out=tmp_path)
    )
    assert len(report.answers) == 199 + 105
    assert report.measures["evidence_stored"].micro.mean == 1
    assert 0.6 < report.measures["evidence_shown"].micro.mean < 1
    assert report.scores["f1_mem0"].micro.n == 152 + 81
    assert report.scores["f1_locomo"].micro.n == 199 + 105
    assert report.settings["data"]["file"]["official"]
    assert "| 1 | multi-hop | Single Hop | 43 |" in report.markdown()
