"""What of a trainer goes into a checkpoint, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file

from mnemon.train import fsdp
from mnemon.train.models import is_peft
from mnemon.types import MnemonError

if TYPE_CHECKING:
    from mnemon.train.trainer import Trainer


def collect(trainer: Trainer, weights: bool) -> dict[str, Any]:
    """See `Trainer.state_dict`."""
    state: dict[str, Any] = {
        "updates": trainer.updates,
        "optimizer_steps": trainer.optimizer_steps,
        "rng": {"shuffle": trainer.rng.bit_generator.state, "torch": torch.get_rng_state()},
    }
    if torch.cuda.is_available():
        state["rng"]["cuda"] = torch.cuda.get_rng_state_all()
    if trainer.config.fsdp:
        model, state["optimizer"] = fsdp.gather_state(trainer.scorer, trainer.optimizer)
    else:
        state["optimizer"] = trainer.optimizer.state_dict()
        model = trainer.scorer.state_dict() if weights else {}
    if weights:
        state["model"] = model
    if trainer.critic is not None and trainer.critic_optimizer is not None:
        state["critic"] = trainer.critic.saved()
        state["critic_optimizer"] = trainer.critic_optimizer.state_dict()
    if trainer._own_reference and trainer.reference is not None:
        sharded = trainer.config.fsdp
        state["reference"] = fsdp.gather_model(trainer.reference) if sharded else trainer.reference.state_dict()
    return state


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """See `Trainer.load_state_dict`."""
    if (trainer.critic is not None) != ("critic" in state):
        raise MnemonError(
            "The saved state and this trainer differ in having a critic: use the settings it was saved with."
        )
    if trainer._own_reference and "reference" not in state:
        raise MnemonError("The saved state has no reference model, but kl_coef > 0 now: it was saved with kl_coef 0.")
    if trainer.config.fsdp:
        model = state["model"] if "model" in state else fsdp.gather_model(trainer.scorer, everywhere=True)
        fsdp.scatter_state(trainer.scorer, trainer.optimizer, model, state["optimizer"])
    else:
        if "model" in state:
            trainer.scorer.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.updates, trainer.optimizer_steps = int(state["updates"]), int(state["optimizer_steps"])
    trainer.rng.bit_generator.state = state["rng"]["shuffle"]
    torch.set_rng_state(state["rng"]["torch"].cpu())
    if torch.cuda.is_available() and "cuda" in state["rng"]:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["rng"]["cuda"]])
    if trainer.critic is not None and trainer.critic_optimizer is not None:
        trainer.critic.restore(state["critic"])
        trainer.critic_optimizer.load_state_dict(state["critic_optimizer"])
    if trainer._own_reference and trainer.reference is not None:
        if trainer.config.fsdp:
            fsdp.scatter_model(trainer.reference, state["reference"])
        else:
            trainer.reference.load_state_dict(state["reference"])


def save_model(trainer: Trainer, folder: Path) -> None:
    """See `Trainer.save_model`."""
    from transformers.utils import logging as hf_logging

    model = cast(Any, trainer.model)
    settings: dict[str, Any] = {}
    if trainer.config.fsdp:
        whole = fsdp.gather_model(trainer.scorer)
        settings["state_dict"] = {name.removeprefix("model."): tensor for name, tensor in whole.items()}
    if is_peft(model):
        settings["selected_adapters"] = [model.active_adapter]
    if trainer.rank == 0:
        bars = hf_logging.is_progress_bar_enabled()
        hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model.save_pretrained(folder, **settings)
        finally:
            if bars:
                hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_model(trainer: Trainer, folder: Path) -> None:
    """See `Trainer.load_model`."""
    from peft import set_peft_model_state_dict

    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    if not tensors:
        raise MnemonError(f"{folder} holds no *.safetensors file: it is not the model folder of a checkpoint.")
    if is_peft(trainer.model):
        adapter = cast(Any, trainer.model).active_adapter
        result: Any = set_peft_model_state_dict(trainer.model, tensors, adapter_name=adapter)
        missing = [name for name in result.missing_keys if f".{adapter}." in name]
    elif trainer.config.fsdp:
        result = fsdp.scatter_model(trainer.scorer, {f"model.{name}": t for name, t in tensors.items()})
        missing = []
    else:
        result = trainer.model.load_state_dict(tensors, strict=False)
        tied = _tied(trainer.model, set(tensors))
        missing = [name for name in result.missing_keys if name not in tied]
    if missing or result.unexpected_keys:
        raise MnemonError(
            f"{folder} does not fit the model: missing {missing[:3]}, unexpected {list(result.unexpected_keys)[:3]}. "
            f"Resume with the same model settings as the checkpoint's."
        )


def _tied(model: torch.nn.Module, present: set[str]) -> set[str]:
    """Names of parameters that are the same tensor as one in `present` (saved once)."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for group in names.values() if present & set(group) for name in group}
