"""The command line: what it prints, and that every mistake gives one message and exit code 2."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mnemon import __version__
from mnemon.cli import common
from mnemon.cli.demo import _curves
from mnemon.cli.evaluate import _board
from mnemon.policy import local
from mnemon.policy.base import Scripted
from mnemon.policy.open import Opened
from mnemon.runs import RunFolder
from mnemon.tasks import locomo

SMALL = ["--updates", "1", "--groups", "1", "--members", "2"]


# ── a LoCoMo file ────────────────────────────────────────────────────────────────────────────────────────────────────


def conversation(name: str, category: int = 4) -> dict[str, Any]:
    """An invented conversation of two turns and one question, in the form of the released file."""
    turns = [
        {"speaker": "Ana", "dia_id": "D1:1", "text": "I adopted a cat named Miso."},
        {"speaker": "Ben", "dia_id": "D1:2", "text": "How nice!"},
    ]
    return {
        "sample_id": name,
        "conversation": {
            "speaker_a": "Ana",
            "speaker_b": "Ben",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": turns,
        },
        "qa": [
            {"question": "Who is Miso?", "answer": "Ana's cat", "evidence": ["D1:1"], "category": category},
            {"question": "What did Ana adopt?", "answer": "a cat", "evidence": ["D1:1"], "category": 4},
        ],
    }


def save(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small file with the ids that the splits name."""
    names = [*locomo.TRAIN, *locomo.VALIDATION, "conv-99"]
    return save(tmp_path / "small.json", [conversation(name) for name in names])


# ── help ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_version(mnemon: Any) -> None:
    assert mnemon("--version").out == f"mnemon {__version__}\n"


@pytest.mark.parametrize("command", [[], ["train"], ["eval"], ["data"]])
def test_a_group_without_a_command_prints_its_help(mnemon: Any, command: list[str]) -> None:
    said = mnemon(*command)
    assert said.code == 0
    assert said.out == mnemon(*command, "--help").out
    assert "Commands:" in said.out
    assert "completion" not in said.out


@pytest.mark.parametrize(
    "command", [["train", "memory-r1"], ["eval", "memory-r1"], ["chat"], ["demo"], ["data", "show"]]
)
def test_every_option_is_explained(mnemon: Any, command: list[str]) -> None:
    said = mnemon(*command, "-h")
    assert said.code == 0
    lines = said.out.splitlines()
    options = [i for i, line in enumerate(lines) if line.strip().startswith("-")]
    assert options
    for i in options:  # the help is on the option's line, or on the next one where the name is long
        assert "  " in lines[i].strip() or lines[i + 1].startswith(" " * 20), lines[i]
    assert "<int" not in said.out
    assert max(map(len, lines)) <= 110


def test_help_needs_no_torch() -> None:
    """And is quick: importing the command line imports neither torch nor transformers."""
    code = "import sys, mnemon.cli; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'matplotlib')))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


# ── what is typed wrongly ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nope", "No such command 'nope' (see mnemon --help)"),
        ("train memory-r1 --nope", "No such option: --nope"),
        ("train memory-r1 --role judge", "'--role': 'judge' is not one of 'writer', 'reader'"),
        ("train memory-r1 --algo dpo", "'--algo': 'dpo' is not one of 'grpo', 'ppo'"),
        ("train memory-r1 --profile best --data x", "'--profile': 'best' is not one of 'default', 'paper'"),
        ("train memory-r1 --updates many", "'--updates'"),
        ("train memory-r1 --updates -3", "'--updates'"),
        ("train memory-r1 --groups 0", "'--groups'"),
        ("train memory-r1 --cold-updates 0", "'--cold-updates'"),
        ("train memory-r1 --seed -1", "'--seed'"),
        ("train memory-r1 --kl -0.1", "'--kl'"),
        ("train memory-r1 --lr 0", "--lr must be above 0"),
        ("train memory-r1 --facts raw --k 3", "--facts, --k needs --data: it means nothing in the tiny world"),
        ("train memory-r1 --data x --cold-updates 3", "--cold-updates is for the tiny world"),
        ("train memory-r1 --policy x --cold-updates 3", "--cold-updates is for --policy tiny"),
        ("train memory-r1 --writer x", "--writer names the frozen manager of --role reader"),
        ("train memory-r1 --role reader --reader x", "--reader names the frozen answerer of --role writer"),
        ("train memory-r1 --policy http://localhost:1/v1", "is an endpoint: it can evaluate and serve, never train"),
        ("eval memory-r1 --split dev --data x", "'--split': 'dev' is not one of"),
        ("eval memory-r1 --k 3", "--k needs --data"),
        ("eval memory-r1 --data x --episodes 3", "--episodes is for the tiny world"),
        ("eval memory-r1 --data x --facts raw --reader y", "--facts needs --writer"),
        ("eval memory-r1 --data x", "--reader is needed with --data"),
        ("eval memory-r1 --data x --reader y --conversations ,", "--conversations names none"),
        ("data show", "Missing argument 'FILE' (see mnemon data show --help)"),
    ],
)
def test_wrong_options(mistake: Any, arguments: str, said: str) -> None:
    assert said in mistake(*arguments.split())


def test_text_of_an_error_is_no_markup(mistake: Any, tmp_path: Path) -> None:
    assert "put it in [ ]" in mistake("data", "show", save(tmp_path / "one.json", conversation("conv-26")))


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command", ["data show {}", "train memory-r1 --policy x --data {}", "eval memory-r1 --reader x --data {}"]
)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("[{", "is not a JSON file"),
        ([{"haystack_sessions": []}], "is a LongMemEval file"),
        ([conversation("conv-26", 9)], "category"),
    ],
)
def test_data_that_cannot_be_used(mistake: Any, tmp_path: Path, command: str, content: object, said: str) -> None:
    file = tmp_path / "data.json"
    if content is not None:
        save(file, content)
    message = mistake(*command.format(file).split())
    assert said in message
    assert str(file) in message


def test_bad_rows_are_left_out_when_asked(mnemon: Any, tmp_path: Path) -> None:
    file = save(tmp_path / "data.json", [conversation("conv-26", 9)])
    said = mnemon("data", "show", file, "--skip-bad")
    assert said.code == 0
    assert "category" in said.out
    assert "9" in said.out


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["train memory-r1 --policy {}", "eval memory-r1 --writer {}", "chat {}"])
def test_a_folder_that_is_no_model(mistake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is not a model directory" in mistake(*command.format(tmp_path / "empty").split())
    assert not list(tmp_path.glob("runs/*/config.json"))  # a mistake leaves no run behind
    assert "there is no model directory" in mistake(*command.format(tmp_path / "nowhere").split())


def test_an_unknown_hub_id_without_network_is_said_at_once(mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_hub_answers", lambda: False)
    started = time.monotonic()
    message = mistake("chat", "somebody/some-model")
    assert "'somebody/some-model' is no directory here, and the hub does not answer" in message
    assert time.monotonic() - started < 20


def test_without_torch(mistake: Any, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = common.importlib.util.find_spec
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda name: None if name == "torch" else plain(name))
    for command in ("train memory-r1", f"chat {tmp_path}", "demo", f"eval memory-r1 --writer {tmp_path}"):
        message = mistake(*command.split())
        assert "torch" in message
        assert "pip install 'mnemon[train]'" in message
    assert "pip install" in mistake("eval", "memory-r1", "--data", data, "--reader", tmp_path)


def test_roles_swapped(mistake: Any, tiny_run: Path, data: Path, tmp_path: Path) -> None:
    answerer = Path(shutil.copytree(tiny_run, tmp_path / "answerer"))
    meta = max((answerer / "checkpoints").glob("step-*")) / "meta.json"
    content = json.loads(meta.read_text())
    content["extra"] |= {"role": "reader", "agent": {"k": 12, "distill": True}}
    meta.write_text(json.dumps(content))
    assert "was trained as the reader (Answer Agent)" in mistake("eval", "memory-r1", "--writer", answerer)
    assert "is no answerer of the tiny world" in mistake(
        "eval", "memory-r1", "--writer", tiny_run, "--reader", tiny_run, "--episodes", 1
    )
    assert "was trained as the writer" in mistake("eval", "memory-r1", "--data", data, "--reader", tiny_run)
    assert f"--reader {answerer}" in mistake("chat", answerer)
    assert "were the two swapped?" in mistake("chat", tiny_run, "--reader", tiny_run)
    small = ["--cold-updates", 1, *SMALL, "--run", tmp_path / "new"]
    assert "is no manager" in mistake("train", "memory-r1", "--role", "reader", "--writer", answerer, *small)
    assert "is no answerer" in mistake("train", "memory-r1", "--reader", tiny_run, *small)
    assert not (tmp_path / "new" / "config.json").exists()


def test_an_agent_of_other_settings(
    mistake: Any, mnemon: Any, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    meta = max((run / "checkpoints").glob("step-*")) / "meta.json"
    content = json.loads(meta.read_text())
    content["extra"]["fingerprint"] = "0123/4567"
    meta.write_text(json.dumps(content))
    monkeypatch.setattr(sys, "stdin", io.StringIO("/quit\n"))
    said = mnemon("chat", run)
    assert said.code == 0
    assert "warning:" in said.err
    assert "trained with other prompts, tools or retrieval settings" in said.err
    content["extra"]["agent"] = {"telepathy": True}
    meta.write_text(json.dumps(content))
    assert "does not know" in mistake("chat", run)


# ── endpoints ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """An address, and the list of statuses that it answers with (the last one again and again)."""
    statuses: list[int] = [404]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            body = b'{"error": {"message": "as told"}}'
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1#some-model", statuses
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.mark.parametrize(
    ("status", "said"), [(404, "no such model or path"), (401, "wants a key"), (500, "the server failed")]
)
def test_an_endpoint_that_refuses(
    mistake: Any, mnemon: Any, server: tuple[str, list[int]], data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, status: int, said: str,
) -> None:  # fmt: skip
    """A conversation ends with the message; an evaluation counts its questions as failed, and says so by its code."""
    url, statuses = server
    statuses[:] = [status]
    monkeypatch.setattr(sys, "stdin", io.StringIO("who is Miso?\n"))
    assert said in mistake("chat", url)
    done = mnemon(
        "eval", "memory-r1", "--data", data, "--split", "validation", "--reader", url, "--out", tmp_path / "out"
    )
    assert done.code == 3
    assert said in " ".join(done.out.split())
    assert "Traceback" not in done.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["failures"]) == 2


def test_nobody_listens(mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemon.endpoint.Endpoint._wait", lambda *_: 0.0)
    monkeypatch.setattr(sys, "stdin", io.StringIO("who is Miso?\n"))
    assert "cannot reach the server after 5 attempts" in mistake("chat", "http://127.0.0.1:9/v1")


# ── run folders ──────────────────────────────────────────────────────────────────────────────────────────────────────


def train(cold: Path, run: object, *more: object) -> list[object]:
    return ["train", "memory-r1", "--policy", cold, "--run", run, "--updates", 2, "--groups", 2, "--members", 3, *more]


def test_folders_that_do_not_fit(mistake: Any, tiny_cold: Path, tiny_run: Path, tmp_path: Path) -> None:
    assert "already holds a run (2 updates logged) with the same settings" in mistake(*train(tiny_cold, tiny_run))
    other = mistake(*train(tiny_cold, tiny_run, "--resume", "--lr", 0.5))
    assert "other settings:\n  train.lr: 0.0004 there, 0.5 here" in other
    assert "seed: 0 there, 7 here" in mistake(*train(tiny_cold, tiny_run, "--resume", "--seed", 7))
    assert "nothing to resume" in mistake(*train(tiny_cold, tmp_path / "new", "--resume"))
    save(tmp_path / "file", "x")
    assert "a file of that name is in the way" in mistake(*train(tiny_cold, tmp_path / "file"))
    (tmp_path / "full").mkdir()
    save(tmp_path / "full" / "thesis.txt", "x")
    assert "holds files but no run" in mistake(*train(tiny_cold, tmp_path / "full"))


def test_a_run_that_another_process_writes(mistake: Any, tiny_cold: Path, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "being written by another process (pid 4711)" in mistake(*train(tiny_cold, tmp_path))


def test_a_folder_that_cannot_be_written(
    mistake: Any, tiny_cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:  # no permission stops root: the system's answer is given by hand

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        tmp_path.chmod(0o500)
    assert "permission denied; choose a folder that you may write to" in mistake(*train(tiny_cold, tmp_path / "run"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def test_a_full_disk_leaves_nothing_half_written(mistake: Any, mnemon: Any, tiny_cold: Path, small_disk: Path) -> None:
    """A checkpoint is larger than the disk; with more room (another folder here) the same command goes on."""
    run = small_disk / "run"
    assert "The disk is full" in mistake(*train(tiny_cold, run))
    assert not list((run / "checkpoints").iterdir())
    assert [record["update"] for record in RunFolder(run).metrics()] == [0, 1, 2, 2]
    moved = Path(shutil.copytree(run, small_disk.parent / "moved"))
    assert mnemon(*train(tiny_cold, moved, "--resume")).code == 0


# ── what works ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_clutters_the_terminal(mnemon: Any, tiny_cold: Path, tmp_path: Path) -> None:
    """Elsewhere than on a terminal: a few lines of progress, no bars of other libraries."""
    said = mnemon("train", "memory-r1", "--policy", tiny_cold, "--run", tmp_path / "run", *SMALL)
    assert said.code == 0
    assert said.out == ""
    lines = said.err.splitlines()
    assert 1 <= len(lines) <= 3
    assert all(line.startswith("training ") for line in lines)
    assert lines[-1].startswith("training 1/1")


def test_dry_run_trains_nothing(mnemon: Any, tmp_path: Path, data: Path) -> None:
    for more in ([], ["--role", "reader"], ["--data", str(data), "--policy", "some/model"]):
        said = mnemon("train", "memory-r1", "--run", tmp_path / "run", "--dry-run", *more)
        assert said.code == 0, said.err
        assert "one prompt" in said.out
    assert not (tmp_path / "run").exists()


def test_tensorboard_mirrors_the_log(tiny_run: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tiny_run / "tensorboard")).Reload()
    logged = {r["update"]: r["reward"] for r in RunFolder(tiny_run).metrics() if r["phase"] == "train"}
    assert {e.step: e.value for e in events.Scalars("train/reward")} == pytest.approx(logged)
    assert [e.step for e in events.Scalars("eval/validation")] == [0, 2]
    assert "train/trainer/grad_norm" in (name.replace(".", "/") for name in events.Tags()["scalars"])


def test_tensorboard_of_a_resumed_run_has_one_curve(
    mnemon: Any, tiny_cold: Path, tiny_run: Path, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    assert mnemon(*train(tiny_cold, run, "--resume", "--updates", 3, "--tensorboard")).code == 0
    events = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/reward")] == [1, 2, 3]


def test_tensorboard_that_is_not_installed(
    mistake: Any, tiny_cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = common.importlib.util.find_spec
    hidden = ("tensorboard",)
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda name: None if name in hidden else plain(name))
    message = mistake(*train(tiny_cold, tmp_path / "run", "--tensorboard"))
    assert "pip install 'mnemon[tensorboard]'" in message


def test_talking(mnemon: Any, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "Anna lives in Paris\n/history\ncity of Anna ?\nquantum\n/forget\n/memory\n/quit\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    said = mnemon("chat", tiny_run)
    assert said.code == 0
    assert "does not know: quantum" in said.out
    assert "[from: " in said.out
    assert said.out.rstrip().endswith("you> /quit")
    assert "(empty)" in said.out


def test_talking_badly(mnemon: Any, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown command is named, a question mark may be wide, and no terminal at all ends the talk."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("/wat now\ncity of Anna？\n"))
    said = mnemon("chat", tiny_run)
    assert said.code == 0
    assert "(there is no command /wat)" in said.out
    assert "[from: no memory]" in said.out
    monkeypatch.setattr(sys, "stdin", None)
    assert mnemon("chat", tiny_run).code == 0


def test_a_reply_that_cannot_be_used_is_noted(mnemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("I live in Rome\nwhere?\n"))
    monkeypatch.setattr(
        "mnemon.cli.chat.open_policy", lambda spec, **_: Opened(Scripted(lambda *_: "hm"), spec, None, {})
    )
    said = mnemon("chat", "http://127.0.0.1:9/v1")
    assert "(nothing to remember)    [noted: extract_unparsable" in said.out
    assert "(no answer)    [from: no memory]    [noted: no_marker]" in said.out


def test_the_shipped_agents_have_a_name(mnemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Anna adopted Rex\n/memory\n"))
    said = mnemon("chat", "tiny", "--reader", "tiny")
    assert said.code == 0
    assert "m1: Anna pets Rex" in said.out


def test_a_terminal_that_knows_only_ascii(tiny_run: Path) -> None:
    code = f"import sys; from mnemon.cli import main; sys.exit(main(['chat', {str(tiny_run)!r}]))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, input="/½ → ?\n".encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("terminal", [True, False])
def test_a_failed_endpoint_ends_a_script_not_a_conversation(
    mnemon: Any, server: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    lines = iter(["who is Miso?", "/memory"])
    typed = io.StringIO("who is Miso?\n/memory\n")
    typed.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, None) or exec("raise EOFError"))
    said = mnemon("chat", server[0])
    assert said.code == (0 if terminal else 2)
    assert ("(empty)" in said.out) == terminal
    assert "no such model or path" in (said.out if terminal else said.err)


def test_the_scoreboard_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    header = ["who writes the memory", "T=6", "T=10", "T=78", "T=240", "T=6 unseen templates", "T=78 unseen templates"]
    Console(width=80).print(_board([*header, "T=6 unseen people"], [["upsert, never delete"] + ["100.0 ± 25.0"] * 7]))
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert shown.count("± 25.0") == 7


def test_the_demos_curve_ends_at_the_last_update(tmp_path: Path) -> None:
    records = [{"phase": "eval", "update": update, "validation": update / 40} for update in (0, 20, 40)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page = io.StringIO()
    _curves(tmp_path, Console(file=page, width=80))
    assert "0" + "40".rjust(56) in page.getvalue()


def _hear_interrupts() -> None:
    """A shell's background jobs, and so their children, ignore SIGINT: the process under test must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_go_on(tiny_cold: Path, tmp_path: Path) -> None:
    """A real SIGINT to a real process, in the middle of its training; then the run goes on."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mnemon.cli", *map(str, train(tiny_cold, run, "--updates", 500))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509
    )
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None and len(RunFolder(run).metrics()) < 2:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "stopped: the same command with --resume goes on from the last checkpoint" in said
