"""Sharding a model over processes with PyTorch's FSDP2, and full state dicts of sharded models."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from mnemon.types import MnemonError


def shard(root: nn.Module, trunk: nn.Module | None, bfloat16: bool) -> None:
    """Shard `root` in place: each layer of `trunk` on its own, the rest together. `root` owns every forward pass."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    layers = getattr(trunk, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise MnemonError(
            "fsdp=True needs a model whose backbone has a list of `layers`: set fsdp=False for this model."
        )
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if bfloat16 else None
    settings: dict[str, Any] = {"mp_policy": policy} if policy is not None else {}
    for layer in layers:
        fully_shard(layer, **settings)
    fully_shard(root, **settings)


def full(tensor: Tensor) -> Tensor:
    """The whole tensor of a sharded one (a collective call), or the tensor itself."""
    gather = getattr(tensor, "full_tensor", None)
    return cast(Tensor, gather()) if callable(gather) else tensor


def _options(everywhere: bool = False) -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    # with offloading only rank 0 gets tensors, without it every rank does
    return StateDictOptions(full_state_dict=True, cpu_offload=not everywhere)


def gather_model(module: nn.Module, everywhere: bool = False) -> dict[str, Any]:
    """The whole state of a sharded module: on CPU on rank 0 and empty elsewhere, or on every rank. Collective."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    return get_model_state_dict(module, options=_options(everywhere))


def gather_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """(module state, optimizer state), whole and on CPU on rank 0, empty elsewhere. Collective."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    return cast(tuple[dict[str, Any], dict[str, Any]], get_state_dict(module, optimizer, options=_options()))


def scatter_model(module: nn.Module, state: dict[str, Any]) -> Any:
    """Load a whole state into a sharded module; returns missing and unexpected keys.

    Collective; every process must pass the same state.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    return set_model_state_dict(module, state, options=StateDictOptions(full_state_dict=True, strict=False))


def scatter_state(
    module: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any], optimizer_state: dict[str, Any]
) -> None:
    """Load whole states of module and optimizer. Collective; every process must pass the same states."""
    from torch.distributed.checkpoint.state_dict import set_state_dict

    set_state_dict(
        module, optimizer, model_state_dict=state, optim_state_dict=cast(Any, optimizer_state), options=_options()
    )
