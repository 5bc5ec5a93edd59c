"""examples/mem_alpha_rows.py on invented files, its commands run in this process."""

from __future__ import annotations

import importlib.util
import json
import shutil
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
from mnemon.runs import atomic_write_json

EXAMPLES = Path(__file__).parent.parent / "examples"
SECRET = "Zanzibar"


def load(name: str) -> ModuleType:
    """A program of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def conversation(name: str) -> dict[str, Any]:
    """Two sessions of two turns; one question of each of two categories."""
    said = ("I moved to Zanzibar.", "How is it there?")
    sessions = {
        f"session_{n}": [
            {"speaker": s, "dia_id": f"D{n}:{i}", "text": t} for i, (s, t) in enumerate(zip("AB", said, strict=True), 1)
        ]
        for n in (1, 2)
    }
    times = {f"session_{n}_date_time": f"1:56 pm on {n} May, 2023" for n in (1, 2)}
    asked = [
        {"question": "Where does A live?", "answer": SECRET, "category": 4, "evidence": ["D1:1"]},
        {"question": "When did A move?", "answer": "1 May 2023", "category": 2, "evidence": ["D1:1"]},
    ]
    talk = {"speaker_a": "A", "speaker_b": "B", **sessions, **times}
    return {"sample_id": name, "qa": asked, "conversation": talk}


def article(i: int) -> dict[str, Any]:
    answers = [{"text": f"mayor {i}", "answer_start": 0}]
    asked = [{"id": f"{i}", "question": f"Who rules town {i}?", "answers": answers}]
    return {"title": f"Town {i}", "paragraphs": [{"context": f"mayor {i} rules town {i}. " * 9, "qas": asked}]}


def test_the_whole_path(tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = load("mem_alpha_rows")
    raw, out = tmp_path / "data", tmp_path / "out"
    (raw / "deep").mkdir(parents=True)
    with pytest.raises(SystemExit, match="holds no locomo10"):
        example.found_under(raw)
    conversations = [conversation(name) for name in ("conv-26", "conv-30", "conv-41")]
    (raw / "locomo10.json").write_text(json.dumps(conversations))
    (raw / "deep" / "xquad.en.json").write_text(json.dumps({"data": [article(i) for i in range(4)]}))
    files = example.found_under(raw)
    assert files["xquad"].parent.name == "deep"
    size = example.Size(chunk_tokens=64, row_chunks=2, updates=1, groups=2, members=2, reply=24, answer=4, prompt=16000)
    out.mkdir()
    shutil.copytree(random_model, out / "model")

    asked: list[Request] = []
    generate = LocalPolicy.generate

    def count(self: LocalPolicy, requests: list[Request]) -> Any:
        asked.extend(requests)
        return generate(self, requests)

    monkeypatch.setattr(LocalPolicy, "generate", count)
    commands = {
        **{f"rows of {name}": example.building(name, file, out, size) for name, file in files.items()},
        "training": example.training(out, size),
        **{f"evaluation: {name}": example.evaluating(name, out, size) for name in example.REPORTS},
    }
    for command in commands.values():
        app(command, standalone_mode=False)
    before = len(asked)
    app(example.evaluating("trained", out, size), standalone_mode=False)
    assert len(asked) == before, "a rerun asks nothing"

    steps = {name: {"command": name, "wall_s": 1.0, "cpu_s": 1.0} for name in commands}
    atomic_write_json(out / "steps.json", steps)
    found = example.figures(out, size)
    assert {split: counts["rows"] for split, counts in found["rows"]["locomo"].items()} == dict.fromkeys(
        ("train", "validation", "test"), 1
    )
    assert found["rows"]["xquad"]["test"]["questions"] == 1
    assert (found["training"]["updates"], found["training"]["groups"]) == (1, 2)
    for report in found["reports"].values():
        assert report["counts"] == {"asked": 3, "answered": 3, "failed": 0}
        assert set(report["streams"]["sources"]) == {"locomo", "xquad"}
    assert found["reports"]["chunks"]["streams"]["all"]["share"] == 1
    page = example.markdown(found)
    assert "## Test streams: the trained writer" in page
    assert "3 of 3 questions answered, 0 failed" in page
    assert "| xquad | test | 1 |" in page
    assert not any(text in page + json.dumps(found) for text in (SECRET, "Who rules", "mayor 1"))
