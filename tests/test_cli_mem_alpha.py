"""`mnemon train mem-alpha` and `mnemon eval mem-alpha` on small row files, with a model of random weights."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnemon.agents.mem_alpha import qwen
from mnemon.cli import mem_alpha as commands
from mnemon.policy.base import Request, Scripted
from mnemon.policy.local import LocalPolicy
from mnemon.policy.open import Opened
from mnemon.runs import RunFolder, read_jsonl
from mnemon.tasks.rows import Question, write_rows
from mnemon.types import Message, ToolCall

pytest.importorskip("torch", reason="trains a model")
Row = Callable[..., Any]
SMALL = ("--updates", "1", "--groups", "2", "--members", "2", "--max-reply", "24", "--max-prompt", "16000")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is looked up on the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def data(tmp_path: Path, stream_row: Row) -> Path:
    """Two training streams, one for validation, two sources to test on."""
    rows = [
        stream_row("a", "train"),
        stream_row("b", "train"),
        stream_row("c", "validation"),
        stream_row("d", "test"),
        stream_row("e", "test", "tales", "long_range_understanding", 3),
    ]
    file = tmp_path / "rows.jsonl"
    write_rows(file, rows)
    return file


@pytest.fixture
def judged(tmp_path: Path, stream_row: Row) -> Path:
    """A stream per split with one question that only a judge can score, and one whose first is such."""
    rubric = Question(
        "r", "What fits me?", (), "rubric", "preference", rubric="says the box", scorers=("judge_rubric",)
    )
    plain = Question("p", "What is the code?", ("a0",), scorers=("sub_raw",))
    rows = [stream_row(f"{split}1", split, "chats", probes=(rubric,)) for split in ("train", "test")]
    rows += [stream_row(f"{split}2", split, "chats", probes=(plain, rubric)) for split in ("train", "test")]
    file = tmp_path / "judged.jsonl"
    write_rows(file, rows)
    return file


def train(model: Path, data: Path, run: Path, *more: object) -> list[object]:
    return ["train", "mem-alpha", "--policy", model, "--data", data, "--run", run, *SMALL, *more]


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_train_resume_evaluate(mnemon: Any, mistake: Any, random_model: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = mnemon(*train(random_model, data, run, "--gamma", "0"))
    assert (said.code, said.out) == (0, ""), said.err
    first, second, third = RunFolder(run).metrics()
    assert (first["phase"], second["phase"], third["phase"]) == ("eval", "train", "eval")
    assert set(second["terms"]) == {"answers", "valid_calls", "compression"}
    assert second["groups"] == 2
    assert second["terms"]["compression"] <= 1
    assert sum(second["tools"].values()) == sum(n for e, n in second["events"].items() if e.startswith("refused:"))
    assert {"validation", "memory_share", "invalid"} <= set(third)
    settings = RunFolder(run).config()["settings"]
    assert settings["recipe"] == "mem-alpha"
    assert "already holds a run" in mistake(*train(random_model, data, run, "--gamma", "0"))
    assert "preset.beta" in mistake(*train(random_model, data, run, "--gamma", "0", "--resume", "--beta", "0.4"))
    said = mnemon(*train(random_model, data, run, "--gamma", "0", "--resume", "--updates", "2"))
    assert said.code == 0, said.err
    assert [r["update"] for r in RunFolder(run).metrics() if r["phase"] == "train"] == [1, 2]

    out = tmp_path / "report"
    command = ["eval", "mem-alpha", "--data", data, "--writer", run, "--reader", random_model, "--out", out]
    said = mnemon(*command, "--max-reply", "8")
    assert said.code == 0, said.err
    assert "warning" not in said.err, "the checkpoint's agent is the one that was trained"
    report = json.loads((out / "report.json").read_text())
    assert report["counts"] == {"asked": 5, "answered": 5, "failed": 0}
    assert {name: s["questions"] for name, s in report["streams"]["sources"].items()} == {"notes": 2, "tales": 3}
    assert report["settings"]["writer"]["agent"]["limits"]["window"] == 16000


def test_dry_run_prints_the_plan_and_loads_nothing(mnemon: Any, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = mnemon(
        "train", "mem-alpha", "--policy", "no/model", "--data", data, "--run", run, "--dry-run", "--beta", 0.2
    )
    assert said.code == 0, said.err
    assert not run.exists()
    for part in (
        "Mem-α, grpo, profile default",
        "2 streams (notes), 4 chunks, 4 questions; 1 stream for validation",
        "validity 0.2, beta 0.2, gamma 0.1; credit separate",
        "counted in words",
        "<new_chunk>\nNote 0 of a",
    ):
        assert part in said.out
    paper = mnemon("train", "mem-alpha", "--policy", "x", "--data", data, "--dry-run", "--profile", "paper").out
    assert "205 updates of 32 streams x 8 rollouts" in paper
    assert "validity 1, beta 0.05, gamma 0.1; credit pooled" in paper


def test_questions_for_a_judge_are_left_out_and_counted(
    mnemon: Any, mistake: Any, random_model: Path, judged: Path, tmp_path: Path
) -> None:
    plan = ("train", "mem-alpha", "--policy", "x", "--data", judged, "--dry-run")
    said = mnemon(*plan)
    assert "left out     2 questions (1 whole streams) that only a judge can score: give --judge MODEL" in said.out
    assert "1 stream (chats), 2 chunks, 1 question;" in said.out
    with_judge = mnemon(*plan, "--judge", "x")
    assert "left out" not in with_judge.out
    assert "3 questions" in with_judge.out
    run = mnemon(*train(random_model, judged, tmp_path / "run", "--gamma", "0"))
    assert (run.code, "left out: 2 questions" in run.err) == (0, True)


def test_judged_rows_train_with_a_judge(
    mnemon: Any, random_model: Path, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that finds everything right, a reader that is never right by the metric: streams are paid 1 and 1/2."""
    from mnemon.train import launch

    opened, asked = launch.open_policy, []

    def judging(messages: Any, tools: Any) -> str:
        asked.append(messages[1].content)
        return "yes"

    def open_policy(spec: str, **options: Any) -> Opened:
        rules = {"j": judging, "r": lambda *_: "the box"}
        return Opened(Scripted(rules[spec]), spec, None, {}) if spec in rules else opened(spec, **options)

    monkeypatch.setattr(launch, "open_policy", open_policy)
    run = tmp_path / "run"
    said = mnemon(*train(random_model, judged, run, "--gamma", "0", "--judge", "j", "--reader", "r"))
    assert said.code == 0, said.err
    assert "left out" not in said.err
    record = next(r for r in RunFolder(run).metrics() if r["phase"] == "train")
    assert (record["unscorable"], record["terms"]["answers"], record["accuracy"]) == (0, 0.75, 0.0)
    assert asked == ["Question: What fits me?\nRubric: says the box\nAnswer to grade: the box"]  # then the cache knows


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train mem-alpha --k 3 --gamma 0", "--k needs --data: it means nothing in the tiny stream"),
        ("train mem-alpha --data DATA", "the tiny model knows only the tiny world's words: give --policy"),
        ("train mem-alpha --data DATA --policy x --cold-updates 3", "--cold-updates is for --policy tiny"),
        ("train mem-alpha --data DATA --policy x --lr 0", "--lr must be above 0"),
        ("train mem-alpha --data DATA --policy x --gamma 0 --judge y", "--judge has nothing to do"),
        ("train mem-alpha --data DATA --policy http://localhost:1/v1", "is an endpoint: it can evaluate and serve"),
        ("train mem-alpha --data DATA --policy x --counter nobody.json", "is no tokenizer"),
        ("train mem-alpha --data DATA --policy x --search --dry-run", "set rounds to at least 2"),
        ("train mem-alpha --data DATA --policy x --flat table", "'--flat': 'table' is not one of"),
        ("train mem-alpha --data none.jsonl --policy x", "none.jsonl"),
        ("train mem-alpha --data DATA --data DATA --policy x", "give each row once"),
        ("train mem-alpha --data TEST --policy x", "(0 train, 0 validation, 1 test rows): build rows of a training"),
        ("train mem-alpha --data JUDGED --policy x", "only a judge can score their questions: give --judge MODEL"),
        ("train mem-alpha --data DATA --policy ./nowhere", "there is no model directory"),
        ("eval mem-alpha", "name a run of the tiny stream with --writer"),
        ("eval mem-alpha --reader x", "--reader needs --data"),
        ("eval mem-alpha --data DATA --writer chunks", "--reader is needed with --data"),
        ("eval mem-alpha --data DATA --reader x", "--writer is needed with --data"),
        ("eval mem-alpha --data DATA --episodes 3 --reader x", "--episodes is for the tiny stream"),
        ("eval mem-alpha --data DATA --reader x --writer chunks --published", "means nothing with --writer chunks"),
        ("eval mem-alpha --data none.jsonl --reader x --writer chunks", "none.jsonl"),
        ("eval mem-alpha --data TRAIN --reader x --writer chunks", "choose another --split, or 'all'"),
        ("eval mem-alpha --data JUDGED --split train --reader x --writer chunks", "can score them: give --judge"),
        ("eval mem-alpha --data DATA --reader ./nowhere --writer chunks", "there is no model directory"),
    ],
)
def test_mistakes(
    mistake: Any,
    data: Path,
    stream_row: Row,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    rubric = Question("r", "What fits me?", (), "rubric", rubric="x", scorers=("judge_rubric",))
    write_rows(tmp_path / "test.jsonl", [stream_row("t", "test")])
    write_rows(tmp_path / "train.jsonl", [stream_row("t", "train")])
    write_rows(tmp_path / "judged.jsonl", [stream_row("t", "train", probes=(rubric,))])
    places = {"DATA": data, **{name.upper(): tmp_path / f"{name}.jsonl" for name in ("test", "train", "judged")}}
    assert said in mistake(*(places.get(word, word) for word in arguments.split()))
    assert not list(tmp_path.glob("runs/*/config.json"))  # a mistake leaves no run behind


def test_malformed_rows_are_said_or_counted(mnemon: Any, mistake: Any, data: Path) -> None:
    lines = data.read_text().splitlines()
    broken = json.loads(lines[0])
    broken["probes"][0]["scorers"] = ["nobody"]
    data.write_text("\n".join([json.dumps(broken), *lines[1:]]) + "\n")
    plan = ("train", "mem-alpha", "--policy", "x", "--data", data, "--dry-run")
    said = mistake(*plan)
    assert "nobody" in said
    assert "notes/a" in said
    assert mnemon(*plan, "--skip-bad").code == 0


# ── evaluation ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Every request that a model in this process is given."""
    seen: list[Request] = []
    generate = LocalPolicy.generate

    def count(self: LocalPolicy, requests: list[Request]) -> Any:
        seen.extend(requests)
        return generate(self, requests)

    monkeypatch.setattr(LocalPolicy, "generate", count)
    return seen


def test_chunks_as_they_are(
    mnemon: Any, mistake: Any, random_model: Path, data: Path, tmp_path: Path, asked: list[Request]
) -> None:
    out = tmp_path / "out"
    command = ["eval", "mem-alpha", "--data", data, "--writer", "chunks", "--reader", random_model, "--k", 2]
    command += ["--max-reply", 8, "--out", out, "--counter", "bytes"]
    said = mnemon(*command)
    assert said.code == 0, said.err
    assert "long range understanding" in said.out
    assert len(asked) == 5
    streams = json.loads((out / "report.json").read_text())["streams"]
    task = streams["tasks"]["tales/e"]
    assert (
        task["input_tokens"]
        == task["memory_tokens"]
        == sum(len(f"Note {i} of e: the code of box {i} is e{i}.") for i in range(3))
    )
    assert streams["all"]["share"] == 1
    assert {record["entries_shown"] for record in read_jsonl(out / "answers.jsonl")} == {2}
    assert "counted in bytes" in (out / "report.md").read_text()
    if importlib.util.find_spec("matplotlib"):
        assert {file.name for file in out.glob("*.png")} == {"length.png", "memory.png"}
    asked.clear()
    assert mnemon(*command).code == 0
    assert asked == []  # a rerun asks nothing
    assert "counter" in mistake(*command[:-1], "words")


def scripted(monkeypatch: pytest.MonkeyPatch, **rules: Any) -> None:
    """Let `open_policy` of the command give these functions by their names."""

    def open_policy(spec: str, **options: Any) -> Opened:
        return Opened(Scripted(rules[spec]), spec, None, {})

    monkeypatch.setattr(commands, "open_policy", open_policy)


def answering(messages: Any, tools: Any) -> str:
    """The code that is in the memory shown."""
    number = messages[-1].content.split("box ")[1][0]
    memory = messages[0].content
    return memory.split(f"box {number} is ")[1].split(".")[0] if f"box {number} is " in memory else "unknown"


def test_the_released_call_form(mnemon: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that writes ✿FUNCTION✿ calls: it stores odd chunks, updates the core, and names a tool that is not."""

    def writing(messages: Any, tools: Any) -> str:
        assert tools == (), "the released models are told of tools by the system message"
        assert "new_memory_insert" in messages[0].content
        chunk = messages[1].content.split("<new_chunk>\n")[1].split("\n</new_chunk>")[0]
        calls = [ToolCall("memory_update", {"memory_type": "core", "new_content": "boxes and their codes"})]
        if "Note 1" in chunk:
            calls.append(ToolCall("new_memory_insert", {"memory_type": "semantic", "content": chunk}))
        else:
            calls.append(ToolCall("memory_forget", {}))
        return f"I will.\n{qwen.render(calls)}"

    scripted(monkeypatch, w=writing, r=answering)
    out = tmp_path / "out"
    said = mnemon("eval", "mem-alpha", "--data", data, "--writer", "w", "--reader", "r", "--published", "--out", out)
    assert said.code == 0, said.err
    report = json.loads((out / "report.json").read_text())
    streams = report["streams"]
    assert streams["calls"]["tools"] == {"memory_update": 5, "new_memory_insert": 2, "none": 3}
    assert streams["calls"]["refused"]["unknown_tool"] == 3
    assert streams["sources"]["notes"]["by_question"]["mean"] == 1 / 2
    assert streams["sources"]["tales"]["by_question"]["mean"] == 1 / 3
    assert streams["mean_of_sources"] == pytest.approx(5 / 12)
    assert report["memory"]["tasks"]["notes/d"]["sections"]["core"] == 4
    assert "refused: unknown_tool" in said.out


def test_the_default_call_form(mnemon: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def writing(messages: Any, tools: Any) -> Message:
        assert {tool.name for tool in tools} == {"insert", "update", "delete"}
        text = messages[1].content.split("<new_chunk>\n")[1].split("\n</new_chunk>")[0]
        return Message("assistant", "", (ToolCall("insert", {"section": "semantic", "text": text}),))

    scripted(monkeypatch, w=writing, r=answering)
    said = mnemon("eval", "mem-alpha", "--data", data, "--writer", "w", "--reader", "r")
    assert said.code == 0, said.err
    assert "100.0" in said.out


def test_a_judge_scores_what_metrics_cannot(
    mnemon: Any, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judging(messages: Any, tools: Any) -> str:
        return "yes" if "Rubric" in messages[1].content else '{"label": "WRONG"}'

    scripted(monkeypatch, r=lambda *_: "the box", j=judging)
    command = ["eval", "mem-alpha", "--data", judged, "--writer", "chunks", "--reader", "r"]
    said = mnemon(*command, "--out", tmp_path / "without")
    assert "2 questions were NOT asked, 1 whole streams among them" in " ".join(said.out.split())
    said = mnemon(*command, "--judge", "j", "--out", tmp_path / "with")
    assert said.code == 0, said.err
    assert "2 questions were scored by the judge" in said.out
    streams = json.loads((tmp_path / "with" / "report.json").read_text())["streams"]
    assert streams["all"]["judged"] == 2
    assert streams["all"]["by_question"]["mean"] == pytest.approx(2 / 3)
    assert streams["sources"]["chats"]["scorers"] == ["judge_rubric", "sub_raw"]


def test_an_endpoint_that_refuses(mnemon: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is listed as failed; the command leaves with 3 and no traceback."""
    monkeypatch.setattr("mnemon.endpoint.Endpoint._wait", lambda *_: 0.0)
    url, out = "http://127.0.0.1:9/v1#m", tmp_path / "out"
    said = mnemon("eval", "mem-alpha", "--data", data, "--writer", "chunks", "--reader", url, "--out", out)
    assert said.code == 3
    assert "cannot reach the server" in " ".join(said.out.split())
    assert "Traceback" not in said.err
    assert json.loads((out / "report.json").read_text())["counts"] == {"asked": 5, "answered": 0, "failed": 5}
    said = mnemon("eval", "mem-alpha", "--data", data, "--writer", url, "--reader", url, "--out", tmp_path / "both")
    assert said.code == 3
    assert "was not read to its end" in " ".join(said.out.split())


def test_a_run_of_another_recipe(mistake: Any, tiny_run: Path, data: Path) -> None:
    said = mistake("eval", "mem-alpha", "--writer", tiny_run)
    assert "was not trained on the tiny stream" in said


def test_console_of_a_report_is_narrow_enough(mnemon: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    scripted(monkeypatch, r=lambda *_: "d0")
    said = mnemon("eval", "mem-alpha", "--data", data, "--writer", "chunks", "--reader", "r")
    assert "…" not in said.out
    assert max(map(len, said.out.splitlines())) <= 80
