"""One string names a policy everywhere: a run's folder, a model directory, a hub id, or the URL of an endpoint."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemon.policy.http import HttpPolicy
from mnemon.types import JSON, MnemonError, Policy


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened policy. `trained` is what the checkpoint says of the agent that it was trained as ({} otherwise)."""

    policy: Policy
    spec: str
    path: Path | None
    trained: Mapping[str, Any]


def is_url(spec: str) -> bool:
    """Whether the text names an endpoint."""
    return spec.startswith(("http://", "https://"))


def newest_checkpoint(folder: Path) -> tuple[Path, JSON] | None:
    """The newest complete checkpoint of a run's folder (or a checkpoint's own folder) and its meta data."""
    candidates = [folder] if (folder / "meta.json").exists() else sorted((folder / "checkpoints").glob("step-*"))
    for path in reversed(candidates):
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(meta, dict) and all(_size(path / name) == size for name, size in meta.get("files", {}).items()):
            return path, meta
    return None


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def model_source(spec: str) -> tuple[str, JSON]:
    """The directory or hub id to load for a spec, and what its checkpoint says ({} where it is no run)."""
    folder = Path(spec)
    if folder.name == "model" and (folder.parent / "meta.json").exists():
        folder = folder.parent  # a checkpoint by its model
    if folder.is_dir():
        found = newest_checkpoint(folder)
        if found is not None:
            return str(found[0] / "model"), found[1].get("extra", {})
        if (folder / "checkpoints").is_dir() or (folder / "metrics.jsonl").exists():
            raise MnemonError(
                f"{spec} is a run without a complete checkpoint: let it train longer (mnemon train … --resume), or "
                "name another run, a model directory, a hub id or a URL"
            )
    return spec, {}


def open_policy(spec: str, *, temperature: float = 0.0, max_tokens: int = 512, **options: Any) -> Opened:
    """Open a policy by its name.

    spec: a run's folder (its newest checkpoint), a Hugging Face model or adapter directory, a hub id, or
    ``http://host:port/v1#model``. Raises `MnemonError` that says what is missing and what to do.
    """
    if is_url(spec):
        return Opened(
            HttpPolicy.from_url(spec, temperature=temperature, max_tokens=max_tokens, **options), spec, None, {}
        )
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        raise MnemonError(
            f"{spec!r} is a local model, which needs torch and transformers: pip install 'mnemon[train]', or give the "
            "URL of an OpenAI-compatible endpoint"
        )
    from mnemon.policy.local import LocalPolicy  # torch only where a local model is asked for

    source, extra = model_source(spec)
    if extra.get("world") == "tiny":
        import torch

        torch.set_num_threads(1)  # the tiny model's matrices are too small to share
    options.pop("concurrency", None)
    policy = LocalPolicy.load(source, temperature=temperature, max_tokens=max_tokens, **options)
    return Opened(policy, spec, Path(source) if Path(source).exists() else None, extra)
