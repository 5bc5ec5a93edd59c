"""A run's folder: its settings, its metrics and sample trajectories. Standard library only.

    config.json      settings and their hash, versions, seed, command line; one entry for every resume
    metrics.jsonl    one JSON object per line; each names its update
    trajectories/    update_000020.txt to read, update_000020.jsonl to analyse
    .lock            held by the process that writes

A run may be killed at any moment: whole files are replaced atomically, an appended line is on the disk when `log`
returns, a torn last line is ignored by readers and cut before the next write, and `truncate_to` brings the logs back to
the last checkpoint. Reading needs no lock, so a run can be watched while it goes on.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import secrets
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mnemon
from mnemon.transcript import trajectory_json, trajectory_text
from mnemon.types import JSON, MnemonError, Trajectory

__all__ = [
    "RunFolder",
    "atomic_write_json",
    "atomic_write_text",
    "flat",
    "plain",
    "read_jsonl",
    "settings_hash",
    "trajectory_json",
    "trajectory_text",
    "versions",
    "writing",
]

_ABSENT = object()
_UNWRITABLE = {
    errno.ENOSPC: "the disk is full; free some space, then resume",
    errno.EDQUOT: "the disk quota is used up; free some space, then resume",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EEXIST: "a file of that name is in the way; choose another path",
    errno.ENOLCK: "this file system has no locks; choose a folder on a local disk",
}

# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `path` that a user can mend into `MnemonError`."""
    try:
        yield
    except OSError as error:
        hint = _UNWRITABLE.get(error.errno or 0)
        if hint is None:
            raise
        raise MnemonError(f"cannot write {path}: {hint}") from error


def atomic_write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, meets the old text or the new one, never a part. Makes its folder.

    Lone surrogates (bytes that were no UTF-8) are written as ``\\udcxx``. Raises MnemonError when the disk is full.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(_encode(text))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def atomic_write_json(path: Path, value: object) -> None:
    """`atomic_write_text` of `plain(value)`, indented."""
    atomic_write_text(path, json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def plain(value: object) -> Any:
    """A copy made of what JSON knows: arrays and tensors become lists or numbers, sets sorted lists, functions names.

    A float that is not finite becomes None (JSON has no NaN; a plot shows a gap). Raises MnemonError for anything else.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    raise MnemonError(
        f"{type(value).__name__} cannot be written as JSON ({value!r:.80}): "
        "log numbers, text, lists, mappings or dataclasses"
    )


def read_jsonl(path: Path) -> list[JSON]:
    """The objects of a file, one per line; none where there is no file. A torn last line is left out.

    Raises MnemonError for a broken line before the last: that is damage, not a crash while appending.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(_intact(path.read_bytes()).splitlines(), 1):
        record = _parse(line)
        if record is None:
            raise MnemonError(f"{path}:{number} is not a JSON object: the file was damaged; mend or remove that line")
        records.append(record)
    return records


def _parse(line: bytes) -> JSON | None:
    try:
        record = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return None
    return record if isinstance(record, dict) else None


def _intact(data: bytes) -> bytes:
    """`data` without a torn last line: one with no line end, or one that cannot be read."""
    data = data[: data.rfind(b"\n") + 1]
    start = data[:-1].rfind(b"\n") + 1
    return data if not data or _parse(data[start:]) is not None else data[:start]


def _append(path: Path, record: JSON) -> None:
    """Append one line; when this returns it is on the disk, when it raises the file is as before."""
    with writing(path), path.open("ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        rest = memoryview(_encode(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"))
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(start)  # half a line would spoil the next one
            raise
        if start == 0:
            _sync_folder(path.parent)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # in JSON, \udcxx is the escape of that very character


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def settings_hash(settings: Mapping[str, Any]) -> str:
    """16 hex digits that name the settings, whatever the order of their keys."""
    text = json.dumps(plain(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """What the run was computed with: mnemon, Python, the platform and the numerical libraries that are installed."""
    found = {"mnemon": mnemon.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in ("torch", "transformers", "peft", "tokenizers", "numpy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def flat(value: object, name: str = "") -> dict[str, object]:
    """Nested settings by dotted name: {"loss": {"clip": 0.2}} -> {"loss.clip": 0.2}."""
    if isinstance(value, Mapping) and value:
        prefix = f"{name}." if name else ""
        return {k: v for key, item in value.items() for k, v in flat(item, f"{prefix}{key}").items()}
    return {name: value}


def _differences(there: JSON, here: JSON) -> dict[str, str]:
    """Dotted name -> "name: value there -> value here", for every setting that differs."""
    old, new = flat(there), flat(here)

    def show(value: object) -> str:
        return "(not set)" if value is _ABSENT else json.dumps(value, ensure_ascii=False)

    return {
        name: f"{name}: {show(old.get(name, _ABSENT))} there, {show(new.get(name, _ABSENT))} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
    }


# ── the folder ───────────────────────────────────────────────────────────────────────────────────────────────────────


class RunFolder:
    """One run on disk. Reading works at once; writing after `start`, which takes the lock until `close`.

    >>> with RunFolder("runs/first").start({"lr": 1e-4}, seed=0) as run:  # doctest: +SKIP
    ...     run.log({"update": 1, "reward": 0.25})
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.trajectories_folder = self.path / "trajectories"
        self._lock: int | None = None
        self._last = 0

    # reading

    def config(self) -> JSON:
        """The content of config.json: settings, hash, seed, versions, argv, started, resumed."""
        if not self.config_file.exists():
            raise MnemonError(f"{self.path} holds no run: {self.config_file.name} is missing; check the path")
        config = _parse(self.config_file.read_bytes())
        if config is None or not {"settings", "seed"} <= config.keys():
            raise MnemonError(f"{self.config_file} is damaged: it should be a JSON object with settings and seed")
        return config

    def metrics(self) -> list[JSON]:
        """The logged records, oldest first."""
        return read_jsonl(self.metrics_file)

    def sampled(self) -> list[int]:
        """The updates of which trajectories were saved, in order."""
        return sorted(_update_of(path) for path in self.trajectories_folder.glob("update_*.jsonl"))

    def trajectories(self, update: int) -> list[JSON]:
        """The trajectories saved at this update (see `transcript.trajectory_json`)."""
        return read_jsonl(self._sample(update, "jsonl"))

    # starting

    def start(
        self,
        settings: Mapping[str, Any],
        *,
        seed: int = 0,
        argv: Sequence[str] | None = None,
        resume: bool = False,
        may_change: Collection[str] = (),
    ) -> Self:
        """Take the lock; write config.json, or on `resume` compare it. `argv` is this process's by default.

        `may_change` names settings (dotted) that a resumed run may change, such as the number of updates. Raises
        MnemonError when another process writes this run, when the folder holds a run and `resume` is False, when it
        holds none and `resume` is True, and when a resumed run has other settings: the message lists them.
        """
        if self._lock is not None:
            raise MnemonError(f"{self.path} is already open for writing by this object: close it first")
        if resume and not self.path.exists():
            self._is_new(resume)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._acquire()
        try:
            self._begin(plain(settings), seed, list(sys.argv if argv is None else argv), resume, set(may_change))
        except BaseException:
            self.close()
            raise
        return self

    def _acquire(self) -> int:
        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        except BlockingIOError:
            owner = os.read(handle, 32).decode("ascii", "replace") or "unknown"
            os.close(handle)
            raise MnemonError(
                f"{self.path} is being written by another process (pid {owner}): wait for it, or choose another folder"
            ) from None
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _begin(self, settings: JSON, seed: int, argv: list[str], resume: bool, may_change: set[str]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        session = {"argv": argv, "versions": versions()}
        config = {"settings": settings, "hash": settings_hash(settings), "seed": seed, **session, "started": now}
        if self._is_new(resume):
            atomic_write_json(self.config_file, {**config, "resumed": []})
            return
        old = self.config()
        here = {"seed": seed, **settings}
        differ = _differences({"seed": old["seed"], **old["settings"]}, here)
        records = self.metrics()
        self._last = max((int(record["update"]) for record in records), default=0)
        if not resume:
            raise MnemonError(
                f"{self.path} already holds a run ({self._last} updates logged) with "
                + (_listed("other settings", differ.values()) if differ else "the same settings")
                + "\nResume it (--resume, with its settings), or choose another folder."
            )
        refused = [text for name, text in differ.items() if name not in may_change]
        if refused:
            raise MnemonError(
                f"cannot resume {self.path} with {_listed('other settings', refused)}"
                "\nGive the settings that the run was started with, or choose another folder."
            )
        resumed = [*old.get("resumed", []), {**session, "at": now, "after": self._last}]
        kept = {**old, "settings": settings, "hash": config["hash"], "resumed": resumed}
        atomic_write_json(self.config_file, kept)
        self._clear_torn()

    def _is_new(self, resume: bool) -> bool:
        """Whether the folder is empty. Raises MnemonError where that does not fit `resume`."""
        if self.config_file.exists():
            return False
        if self.path.is_dir() and any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise MnemonError(f"{self.path} holds files but no run (no config.json): choose an empty or new folder")
        if resume:
            raise MnemonError(f"nothing to resume in {self.path}: it holds no run; check the path or start without it")
        return True

    def _clear_torn(self) -> None:
        """Remove what a killed process left half written."""
        for folder in (self.path, self.trajectories_folder):
            for left in folder.glob(".*.tmp"):
                left.unlink()
        if self.metrics_file.exists():
            with writing(self.metrics_file), self.metrics_file.open("r+b") as file:
                file.truncate(len(_intact(file.read())))

    def close(self) -> None:
        """Give the lock back. Closing twice is harmless."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # writing

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record; it is on the disk when this returns. `record["update"]` may not go back."""
        self._check_open()
        update = record.get("update")
        if not isinstance(update, int) or isinstance(update, bool) or update < self._last:
            raise MnemonError(
                f"a record of {self.metrics_file} needs an integer 'update' of at least {self._last}, got {update!r}: "
                "after going back to a checkpoint call truncate_to first"
            )
        _append(self.metrics_file, plain(record))
        self._last = update

    def save_trajectories(
        self, update: int, trajectories: Sequence[Trajectory], rewards: Sequence[Mapping[str, Any]] = ()
    ) -> Path:
        """Write sample trajectories of one update, as text and JSONL; returns the text file.

        `rewards` holds one mapping per trajectory: the name of a reward term -> a number, or one number per step.
        """
        self._check_open()
        if rewards and len(rewards) != len(trajectories):
            raise MnemonError(f"{len(trajectories)} trajectories need as many rewards, got {len(rewards)}")
        paired = list(zip(trajectories, map(plain, rewards or [{}] * len(trajectories)), strict=True))
        lines = [
            json.dumps(plain(trajectory_json(t, r)), ensure_ascii=False, allow_nan=False) + "\n" for t, r in paired
        ]
        atomic_write_text(self._sample(update, "jsonl"), "".join(lines))
        text = self._sample(update, "txt")
        atomic_write_text(text, "\n\n".join(trajectory_text(t, r) for t, r in paired))
        return text

    def truncate_to(self, update: int) -> int:
        """Drop what was logged after `update`, that of the checkpoint resumed from; returns how many records went."""
        self._check_open()
        records = self.metrics()
        kept = [record for record in records if record["update"] <= update]
        if len(kept) < len(records):
            lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in kept)
            atomic_write_text(self.metrics_file, "".join(lines))
        for path in self.trajectories_folder.glob("update_*"):
            if _update_of(path) > update:
                path.unlink()
        self._last = min(self._last, update)
        return len(records) - len(kept)

    def _check_open(self) -> None:
        if self._lock is None:
            raise MnemonError(f"{self.path} is not open for writing: call start first")

    def _sample(self, update: int, kind: str) -> Path:
        return self.trajectories_folder / f"update_{update:06d}.{kind}"


def _update_of(path: Path) -> int:
    return int(path.stem.removeprefix("update_"))


def _listed(title: str, lines: Collection[str]) -> str:
    return "\n  ".join([f"{title}:", *lines])
