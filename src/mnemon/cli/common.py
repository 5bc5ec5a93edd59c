"""What commands share: the libraries they need, options that do not fit together, agents of checkpoints."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from mnemon.agent import Agent, agent_fingerprint
from mnemon.policy.open import Opened
from mnemon.types import MnemonError

ROLES = {"writer": "the writer (Memory Manager)", "reader": "the reader (Answer Agent)"}


def need_torch(what: str) -> None:
    """MnemonError where torch or transformers is not installed; else their notices are switched off."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise MnemonError(f"{what} needs {' and '.join(missing)}: pip install 'mnemon[train]'")
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


@contextmanager
def gpu_memory() -> Iterator[None]:
    """Training under this says what to do when the GPU's memory is full."""
    import torch  # after need_torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MnemonError(
            f"the GPU's memory is full ({str(error).splitlines()[0]}): lower --groups, --members, --max-prompt or "
            "--max-reply, or train adapters with --lora; then --resume"
        ) from error


def refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """MnemonError when any of these options was given on the command line, where it would have no effect."""
    given = [name for name in names if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"]
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise MnemonError(f"{options} {why}")


def check_role(opened: Opened, name: str, role: str) -> None:
    """MnemonError when a checkpoint was trained for the other role."""
    trained = opened.trained.get("role")
    if trained in ROLES and trained != role:
        raise MnemonError(f"{name} was trained as {ROLES[trained]}, not as {ROLES[role]}: were the two swapped?")


def agent_of(make: Callable[..., Agent], opened: Opened, name: str, **changes: Any) -> Agent:
    """The agent that a checkpoint was trained as, with what the command line changes.

    Says loudly when its prompts, tools or retrieval settings are not those of the training. Raises MnemonError for
    settings that this version does not know.
    """
    settings = {
        **opened.trained.get("agent", {}),
        **{key: value for key, value in changes.items() if value is not None},
    }
    try:
        agent = make(**settings)
    except TypeError as error:
        raise MnemonError(
            f"{name} was trained with agent settings that this version of mnemon does not know ({error}): use the "
            "version that trained it, or train again"
        ) from error
    trained = str(opened.trained.get("fingerprint", "")).split("/")[0]
    if trained and trained != agent_fingerprint(agent):
        print(
            f"warning: {name} was trained with other prompts, tools or retrieval settings than these: it will not act "
            "as it was trained. Leave out options that change its agent, use the version of its training, or train "
            "again.",
            file=sys.stderr,
        )
    return agent
