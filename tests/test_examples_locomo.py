"""examples/locomo_random.py on two invented conversations, its commands run in this process, without a server."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch", reason="trains a model")
pytest.importorskip("transformers", reason="trains a model")

from mnemon.cli import app
from mnemon.policy.base import Request
from mnemon.policy.local import LocalPolicy
from mnemon.runs import atomic_write_json, read_jsonl

EXAMPLES = Path(__file__).parent.parent / "examples"
SAID = ("I adopted a cat called Mia.", "Where do you live now?", "I moved to Oslo last week.", "Leo plays the cello.")
QUESTIONS = (
    ("What is the cat called?", "Mia", 4, ["D1:1"]),
    ("When did Ana move?", "1 May 2023", 2, ["D1:3"]),
    ("Who plays and what?", "Leo, the cello", 1, ["D1:4", "D2:1"]),
    ("Would Ana like Norway?", "Likely yes", 3, ["D1:3", "D2:4"]),
    ("What does Leo play?", "the cello", 4, ["D1:4"]),
)


def conversation(name: str) -> dict[str, Any]:
    """Two sessions of the same four turns; a question of every category, single-hop twice, and one adversarial."""

    def session(number: int) -> list[dict[str, str]]:
        return [
            {"speaker": ("Ana", "Ben")[i % 2], "dia_id": f"D{number}:{i + 1}", "text": text}
            for i, text in enumerate(SAID)
        ]

    asked: list[dict[str, Any]] = [
        {"question": q, "answer": a, "category": c, "evidence": e} for q, a, c, e in QUESTIONS
    ]
    asked.append({"question": "Whose dog?", "adversarial_answer": "Ana's", "category": 5, "evidence": ["D1:1"]})
    sessions = {f"session_{n}": session(n) for n in (1, 2)}
    times = {f"session_{n}_date_time": f"1:56 pm on {n} May, 2023" for n in (1, 2)}
    return {
        "sample_id": name,
        "qa": asked,
        "conversation": {"speaker_a": "Ana", "speaker_b": "Ben", **sessions, **times},
    }


def load(name: str) -> ModuleType:
    """A program of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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


def mnemon(arguments: list[str]) -> None:
    app(arguments, standalone_mode=False)


def test_the_whole_path(
    tmp_path: Path, asked: list[Request], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("locomo_random")
    data, out = tmp_path / "locomo10.json", tmp_path / "out"
    data.write_text(json.dumps([conversation("conv-26"), conversation("conv-41")]))
    make = ["make_random_model.py", str(out / "model"), "--layers", "1", "--width", "32"]
    monkeypatch.setattr(sys, "argv", make)
    load("make_random_model").main()
    size = example.Size(k=2, reply=3, updates=1, groups=1, conversation="conv-41")

    for run in example.TRAINED:
        mnemon(example.training(run, data, out, size))
    mnemon(example.banks(data, out, size))
    asked.clear()
    command = example.questions(str(example.served_model(out)), data, out, size)
    mnemon(command)
    assert len(asked) == len(QUESTIONS)
    assert "warning" not in capsys.readouterr().err, "the checkpoint's agent is the one that was trained"
    asked.clear()
    mnemon(command)
    assert asked == [], "nothing is asked twice"
    answers = out / "test" / "answers.jsonl"
    kept = answers.read_bytes().split(b"\n")
    answers.write_bytes(b"\n".join([*kept[:2], kept[2][:40]]))  # as a kill leaves it
    mnemon(command)
    assert len(asked) == len(QUESTIONS) - 2
    assert sorted(record["probe"] for record in read_jsonl(answers)) == [f"conv-41/q{i}" for i in range(len(QUESTIONS))]

    times = {"wall_s": 1.0, "cpu_s": 1.0}
    requests = {"until_all_answered": len(QUESTIONS) + 1, "in_the_third_run": 0, "server_starts": 1}
    steps = {"killed": {**times, "answers": 2}, "rerun": times, "requests": requests}
    atomic_write_json(out / "steps.json", steps)
    check(example, example.figures(out, size))
    page = (out / "test" / "report.md").read_text()
    assert "| category | LoCoMo | mem0, Memory-R1 | n |" in page
    assert "| 4 | single-hop | Open Domain | 2 |" in page
    assert "| 3 | open-domain | Multi-Hop | 1 |" in page


def check(example: ModuleType, found: dict[str, Any]) -> None:
    """The figures of the run above, and their page."""
    grpo, ppo, reader = (found["training"][run] for run in example.TRAINED)
    assert (grpo["groups"], grpo["groups_constant"], grpo["optimizer_steps"], grpo["largest_weight_change"]) == (
        1,
        1,
        0,
        0,
    )
    assert (ppo["rows_trained"], ppo["optimizer_steps"], ppo["reward"]) == (2, 1, [pytest.approx(-0.02)])
    assert ppo["grad_norm"][0] > 0
    assert ppo["largest_weight_change"] > 0
    assert (reader["rows_trained"], reader["optimizer_steps"], reader["reward"]) == (2, 1, [0.0])
    assert (reader["grad_norm"], reader["largest_weight_change"]) == ([0.0], 0.0)
    bank = found["bank"]
    assert (bank["writer"]["inputs"], bank["writer"]["calls"], bank["writer"]["events"]["no_call"]) == (
        4,
        {"writer": 4},
        4,
    )
    assert bank["memory"]["locomo/conv-41"]["entries"] == 0
    test = found["test"]
    assert (test["counts"], test["lines"], test["distinct"]) == ({"asked": 5, "answered": 5, "failed": 0}, 5, 5)
    assert {c: s["n"] for c, s in test["scores"]["em_squad"]["categories"].items()} == {"1": 1, "2": 1, "3": 1, "4": 2}
    assert test["measures"]["evidence_stored"]["micro"]["mean"] == 1.0
    page = example.markdown(found)
    assert "| category | LoCoMo | mem0, Memory-R1 | n |" in page
    assert "5 of 5 questions answered in 2 s, 0 failed." in page
    assert "Killed with 2 answers on the disk, then run again: 5 lines" in page
    assert "received 6 requests, 1 more than there are answers" in page
    assert not any(text in page + json.dumps(found) for text in (*SAID, *(q for q, *_ in QUESTIONS)))
