"""Atomic checkpoints: at any moment, also of a kill -9 or a full disk, the newest complete one can be resumed.

A checkpoint is one directory ``step-00000012`` inside a run's folder:

    model/       safetensors and configuration for ``from_pretrained`` (or a PEFT adapter), and the tokenizer
    trainer.pt   optimizers, schedule position, critic, own reference, random generators
    meta.json    step, caller's `extra` (data cursor …), configuration, and the size of every file

It is written under a temporary name, flushed to disk, and then renamed: the rename is the only moment at which it comes
into being. There is no pointer file to get out of step; `load_latest` takes the highest complete step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import pickle
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from mnemon.train.ranks import barrier, world
from mnemon.train.trainer import Trainer
from mnemon.types import MnemonError

log = logging.getLogger(__name__)

NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
TEMPORARY = ".writing-"


class Tokenizer(Protocol):
    """What a checkpoint needs of a tokenizer."""

    def save_pretrained(self, save_directory: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    step: int
    extra: dict[str, Any]
    config: dict[str, Any]

    @property
    def model_path(self) -> Path:
        """Folder for ``AutoModelForCausalLM.from_pretrained`` and ``AutoTokenizer.from_pretrained``."""
        return self.path / "model"

    def restore(self, trainer: Trainer) -> None:
        """Load weights, optimizers, counters and all random generators (python, numpy, torch) into a like trainer."""
        from safetensors import SafetensorError

        try:
            saved = torch.load(self.path / "trainer.pt", map_location="cpu", weights_only=True)
            trainer.load_model(self.model_path)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise MnemonError(
                f"Checkpoint {self.path} is damaged ({why:.100}): delete it, then resume from the one before it."
            ) from error
        trainer.load_state_dict(saved["trainer"])
        version, internal, gauss = saved["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, position, has_gauss, cached = saved["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))


def save(
    folder: str | Path,
    step: int,
    trainer: Trainer,
    tokenizer: Tokenizer | None = None,
    extra: Mapping[str, Any] | None = None,
    keep_last: int | None = 3,
) -> Path:
    """Write a checkpoint, then remove all but the `keep_last` newest (None keeps all). Returns its directory.

    Under several processes every process must call it; rank 0 writes. `extra` must be JSON.

    Raises:
        MnemonError: the disk is full or the folder cannot be written. Nothing half-written stays; older checkpoints do.
    """
    if keep_last is not None and keep_last < 1:
        raise MnemonError(f"keep_last must be at least 1 or None, got {keep_last}: the newest checkpoint must stay.")
    root = Path(folder)
    final = root / _free_name(root, step)
    work = root / f"{TEMPORARY}{final.name}-{os.getpid()}"
    leader = world()[0] == 0
    with _explained(final, work):
        if leader:
            _sweep(root)
            work.mkdir(parents=True)
        trainer.save_model(work / "model")
        state = trainer.state_dict(weights=False)
        if leader:
            _write(work, step, trainer, state, tokenizer, dict(extra or {}))
            os.rename(work, final)
            _sync(root)
    barrier()
    if leader and keep_last is not None:
        for old in complete(root)[keep_last:]:
            gone = root / f"{TEMPORARY}old-{old.path.name}"  # a name that is swept, should the removal be killed
            with contextlib.suppress(OSError):
                os.rename(old.path, gone)
            shutil.rmtree(gone, ignore_errors=True)
    return final


def _write(
    work: Path,
    step: int,
    trainer: Trainer,
    state: dict[str, Any],
    tokenizer: Tokenizer | None,
    extra: dict[str, Any],
) -> None:
    """Everything but the rename, flushed to disk."""
    if tokenizer is not None:
        tokenizer.save_pretrained(str(work / "model"))
    name, keys, position, has_gauss, cached = cast(tuple[Any, ...], np.random.get_state())
    generators = {"python": random.getstate(), "numpy": (name, keys.tolist(), position, has_gauss, cached)}
    with open(work / "trainer.pt", "wb") as file:
        torch.save({"trainer": state, **generators}, file)
    sizes = {str(path.relative_to(work)): path.stat().st_size for path in _files(work)}
    meta = {"step": step, "extra": extra, "config": dataclasses.asdict(trainer.config), "files": sizes}
    (work / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    for path in [*_files(work), *(p for p in work.rglob("*") if p.is_dir()), work]:
        _sync(path)


def complete(folder: str | Path) -> list[Checkpoint]:
    """Complete checkpoints, newest first. Anything damaged is skipped with a warning."""
    found = []
    for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
        match = NAME.fullmatch(path.name)
        if match is None:
            continue
        checkpoint = _read(path)
        if checkpoint is not None:
            found.append((checkpoint.step, int(match[2] or 0), checkpoint))
    return [checkpoint for _, _, checkpoint in sorted(found, key=lambda item: item[:2], reverse=True)]


def load_latest(folder: str | Path) -> Checkpoint | None:
    """The newest complete checkpoint of a run's folder, or None."""
    found = complete(folder)
    return found[0] if found else None


def resume(folder: str | Path, trainer: Trainer, fingerprint: str | None = None) -> Checkpoint | None:
    """Load the newest complete checkpoint of a run into a like trainer; None where the run has none yet.

    Raises:
        MnemonError: it was written with another `fingerprint` (in its `extra`), its content is damaged, or there are
            checkpoints but none is complete: then nothing is silently begun anew.
    """
    if world()[0] == 0:
        _sweep(Path(folder))
    found = load_latest(folder)
    if found is None:
        there = sorted(p.name for p in Path(folder).glob("step-*")) if Path(folder).is_dir() else []
        if there:
            raise MnemonError(
                f"{folder} holds {len(there)} checkpoint(s), but none is complete ({there[-1]} is the newest): bring "
                "back their files, or delete them to start from the beginning."
            )
        return None
    if fingerprint is not None and found.extra.get("fingerprint", "") != fingerprint:
        raise MnemonError(
            f"{found.path} was written with other prompts, tools or retrieval settings than this program has now: "
            "start a new run folder, or go back to the version that wrote it."
        )
    found.restore(trainer)
    return found


def _read(path: Path) -> Checkpoint | None:
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        wrong = [name for name, size in meta["files"].items() if (path / name).stat().st_size != size]
        if wrong:
            raise ValueError(f"{wrong[0]} has the wrong size")
        return Checkpoint(path, int(meta["step"]), meta["extra"], meta["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("Checkpoint %s is incomplete and ignored (%s). It can be deleted.", path, error)
        return None


def _free_name(root: Path, step: int) -> str:
    """``step-…``; saving a step again gets a suffix, so that the older one stays until the newer is complete."""
    name, k = f"step-{step:08d}", 0
    while (root / name).exists():
        k += 1
        name = f"step-{step:08d}.{k}"
    return name


def _sweep(root: Path) -> None:
    """Remove what killed writers left behind."""
    for path in root.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sync(path: Path) -> None:
    """Flush a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full(error: BaseException) -> bool:
    """Whether a writer ran out of space; safetensors and torch wrap the operating system's error in their own."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left" in str(chain) or "os error 28" in str(chain):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


@contextmanager
def _explained(final: Path, work: Path) -> Iterator[None]:
    """Remove the temporary directory on any failure, and say what to do about a disk that cannot be written."""
    from safetensors import SafetensorError

    try:
        yield
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if _full(error):
            free = shutil.disk_usage(final.parent).free if final.parent.is_dir() else 0
            raise MnemonError(
                f"The disk is full ({free / 1e6:.0f} MB free): checkpoint {final} was not written; older ones "
                f"are untouched. Free space or lower keep_last, then resume from the latest checkpoint."
            ) from error
        if isinstance(error, (OSError, SafetensorError)):
            raise MnemonError(
                f"Checkpoint {final} could not be written ({error}): check that the folder exists and is writable."
            ) from cast(Exception, error)
        raise
