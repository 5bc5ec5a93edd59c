"""Run folders: start, resume and refusal, crashes at every byte, a full disk, two processes."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemon import runs
from mnemon.runs import RunFolder, atomic_write_json, atomic_write_text, flat, plain, read_jsonl, settings_hash
from mnemon.types import Completion, Message, MnemonError, Probe, Step, Task, Trajectory

SETTINGS = {"lr": 1e-4, "loss": {"clip": 0.2, "kl": 0.0}, "updates": 10}


def started(path: Path, **more: Any) -> RunFolder:
    return RunFolder(path).start(SETTINGS, seed=3, argv=["mnemon", "train"], **more)


# ── starting and resuming ────────────────────────────────────────────────────────────────────────────────────────────


def test_config_of_a_new_run(tmp_path: Path) -> None:
    with started(tmp_path / "deep" / "run") as run:
        config = run.config()
    assert config["settings"] == SETTINGS
    assert config["hash"] == settings_hash(SETTINGS)
    assert (config["seed"], config["argv"], config["resumed"]) == (3, ["mnemon", "train"], [])
    assert {"mnemon", "python", "platform", "numpy"} <= config["versions"].keys()
    assert config["started"].endswith("+00:00")


def test_hash_ignores_order_and_sees_values() -> None:
    assert settings_hash({"a": 1, "b": {"c": 2, "d": 3}}) == settings_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})
    assert len(settings_hash({})) == 16


def test_a_second_start_is_refused_and_names_the_differences(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.log({"update": 4})
    with pytest.raises(MnemonError, match=r"already holds a run .4 updates logged. with the same settings"):
        started(tmp_path)
    changed = {"lr": 1e-4, "loss": {"clip": 0.3}, "updates": 10, "name": "é"}
    with pytest.raises(MnemonError) as caught:
        RunFolder(tmp_path).start(changed, seed=4)
    lines = str(caught.value).split("\n")
    assert lines[1:-1] == [
        "  loss.clip: 0.2 there, 0.3 here",
        "  loss.kl: 0.0 there, (not set) here",
        '  name: (not set) there, "é" here',
        "  seed: 3 there, 4 here",
    ]
    assert "--resume" in lines[-1]


def test_resume_keeps_the_start_and_adds_an_entry(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.log({"update": 1})
        first = run.config()
    with started(tmp_path, resume=True) as run:
        run.log({"update": 2})
        config = run.config()
    assert [record["update"] for record in run.metrics()] == [1, 2]
    assert config["started"] == first["started"]
    assert [(entry["after"], entry["argv"]) for entry in config["resumed"]] == [(1, ["mnemon", "train"])]


def test_resume_with_other_settings(tmp_path: Path) -> None:
    started(tmp_path).close()
    longer = {**SETTINGS, "updates": 20}
    with pytest.raises(MnemonError, match=r"cannot resume .*\n  updates: 10 there, 20 here\n"):
        RunFolder(tmp_path).start(longer, seed=3, resume=True)
    assert RunFolder(tmp_path).config()["settings"]["updates"] == 10
    with RunFolder(tmp_path).start(longer, seed=3, resume=True, may_change=["updates"]) as run:
        assert run.config()["settings"] == longer
        assert run.config()["hash"] == settings_hash(longer)


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match="nothing to resume"):
        started(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / ".thesis.tmp").write_text("a hidden file of another program")
    with pytest.raises(MnemonError, match="holds files but no run"):
        started(tmp_path)
    assert (tmp_path / ".thesis.tmp").exists()
    with pytest.raises(MnemonError, match=r"config\.json is missing"):
        RunFolder(tmp_path).config()
    (tmp_path / "config.json").write_text('{"settings"')
    with pytest.raises(MnemonError, match="damaged"):
        started(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MnemonError, match="choose another path"):
        started(tmp_path / "file" / "run")


def test_writing_needs_start(tmp_path: Path) -> None:
    run = started(tmp_path)
    with pytest.raises(MnemonError, match="already open"):
        run.start(SETTINGS)
    run.close()
    run.close()
    with pytest.raises(MnemonError, match="call start first"):
        run.log({"update": 1})
    with pytest.raises(MnemonError, match="call start first"):
        run.truncate_to(0)


# ── the lock ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _hold(path: Path, ready: Any, done: Any) -> None:
    with started(path):
        ready.set()
        done.wait(60)


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(MnemonError, match=rf"written by another process .pid {other.pid}"):
            started(tmp_path, resume=True)
        assert RunFolder(tmp_path).config()["seed"] == 3  # reading needs no lock
        other.kill()  # a killed process gives the lock back
        other.join(60)
        started(tmp_path, resume=True).close()
    finally:
        other.kill()
        other.join(60)


def test_a_refused_start_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match="nothing to resume"):
        started(tmp_path, resume=True)
    started(tmp_path).close()


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_records_are_plain_json(tmp_path: Path) -> None:
    @dataclass
    class Part:
        shape: tuple[int, ...]
        names: frozenset[str]

    record = {
        "update": 1,
        "nan": math.nan,
        "inf": [math.inf, -1.5],
        "numpy": np.float32(0.5),
        "array": np.arange(3),
        "part": Part((2, 3), frozenset({"b", "a"})),
        "path": Path("a/b"),
        "function": math.sqrt,
        3: "surrogate \udc80 and é 记忆",
    }
    with started(tmp_path) as run:
        run.log(record)
        assert run.metrics() == [
            {
                "update": 1,
                "nan": None,
                "inf": [None, -1.5],
                "numpy": 0.5,
                "array": [0, 1, 2],
                "part": {"shape": [2, 3], "names": ["a", "b"]},
                "path": "a/b",
                "function": "math.sqrt",
                "3": "surrogate \udc80 and é 记忆",
            }
        ]
        with pytest.raises(MnemonError, match="object cannot be written as JSON"):
            run.log({"update": 2, "x": object()})
        assert len(run.metrics()) == 1


@pytest.mark.parametrize("update", [None, "3", 2.0, True, 4])
def test_a_record_needs_an_update_that_does_not_go_back(tmp_path: Path, update: object) -> None:
    with started(tmp_path) as run:
        run.log({"update": 5})
        run.log({"update": 5, "evaluation": True})
        with pytest.raises(MnemonError, match="at least 5, got"):
            run.log({"update": update})
    with started(tmp_path, resume=True) as run, pytest.raises(MnemonError, match="at least 5, got 4"):
        run.log({"update": 4})


def test_truncate_to_a_checkpoint(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        for update in range(1, 8):
            run.log({"update": update, "text": "é\u2028\x85\r"})  # line ends to str.splitlines, not to JSONL
        for update in (2, 4, 6):
            run.save_trajectories(update, [])
        assert run.truncate_to(4) == 3
        assert [record["update"] for record in run.metrics()] == [1, 2, 3, 4]
        assert run.sampled() == [2, 4]
        assert sorted(path.name for path in run.trajectories_folder.iterdir()) == [
            "update_000002.jsonl",
            "update_000002.txt",
            "update_000004.jsonl",
            "update_000004.txt",
        ]
        assert run.truncate_to(4) == 0
        run.log({"update": 5})
        assert run.truncate_to(0) == 5
        assert run.metrics() == []


LINES = st.lists(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.floats(allow_nan=False)), min_size=1
)


@given(LINES, st.data())
def test_a_crash_at_any_byte_loses_only_the_line_being_written(
    lines: list[dict[str, Any]], data: st.DataObject
) -> None:
    records = [{**plain(line), "update": number} for number, line in enumerate(lines)]
    with tempfile.TemporaryDirectory() as name:
        with started(Path(name)) as run:
            ends = [0]
            for record in records:
                run.log(record)
                ends.append(run.metrics_file.stat().st_size)
        cut = data.draw(st.integers(0, ends[-1]))
        zeros = data.draw(st.sampled_from([b"", b"\0\0", b"\0\n"]))  # some file systems leave zeros after a crash
        with run.metrics_file.open("r+b") as file:
            file.truncate(cut)
            file.seek(0, os.SEEK_END)
            file.write(zeros)
        whole = sum(end <= cut for end in ends[1:])
        assert run.metrics() == records[:whole]
        with started(Path(name), resume=True) as run:
            run.log({"update": len(records)})
        assert run.metrics() == [*records[:whole], {"update": len(records)}]


def test_a_broken_line_before_the_last_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(MnemonError, match=r"a\.jsonl:2 is not a JSON object"):
        read_jsonl(path)
    path.write_text('{"a": 1}\n[2]\n')
    assert read_jsonl(path) == [{"a": 1}]
    assert read_jsonl(tmp_path / "none.jsonl") == []


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path) as run:
        run.log({"update": 1})
        before = run.metrics_file.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(MnemonError, match=r"cannot write .*metrics\.jsonl: the disk is full"):
                run.log({"update": 2})
        assert run.metrics_file.read_bytes() == before
        run.log({"update": 2})
        assert [record["update"] for record in run.metrics()] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_really_full() -> None:
    with pytest.raises(MnemonError, match="cannot write /dev/full: the disk is full"), runs.writing(Path("/dev/full")):
        Path("/dev/full").write_text("x")


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output"), runs.writing(tmp_path):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_atomic_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.json"
    atomic_write_json(path, {"old": 1})
    monkeypatch.setattr(os, step, full)
    with pytest.raises(MnemonError, match="disk is full"):
        atomic_write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_write_makes_folders_and_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    atomic_write_text(path, "记忆\r\n")
    (tmp_path / "plain").write_text("")
    assert path.read_bytes() == "记忆\r\n".encode()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.save_trajectories(1, [])
    for folder in (run.path, run.trajectories_folder):
        (folder / ".update.txt.0123abcd.tmp").write_text("half")
    started(tmp_path, resume=True).close()
    assert list(tmp_path.rglob("*.tmp")) == []


# ── trajectories ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_trajectories_as_text_and_json(tmp_path: Path) -> None:
    step = Step("writer", (Message("user", "Hello"),), (), Completion(Message("assistant", "Hi")))
    pair = [Trajectory(Task("t", (), (Probe("q", "?", ("a",)),)), member, [step]) for member in (0, 1)]
    with started(tmp_path) as run:
        path = run.save_trajectories(20, pair, [{"em": 1.0}, {"em": math.nan}])
        assert path.name == "update_000020.txt"
        text = path.read_text()
        assert text.count("Hello") == 2
        assert text.index("t#0") < text.index("em: 1\n") < text.index("t#1") < text.index("em: None\n")
        saved = run.trajectories(20)
        assert [(t["id"], t["rewards"]) for t in saved] == [("t#0", {"em": 1.0}), ("t#1", {"em": None})]
        assert saved[0]["steps"][0]["reply"]["content"] == "Hi"
        with pytest.raises(MnemonError, match="2 trajectories need as many rewards, got 1"):
            run.save_trajectories(21, pair, [{}])
        assert run.sampled() == [20]


def test_flat() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}
