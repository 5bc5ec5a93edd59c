"""What the trainer puts around a causal language model: adapters, critic, optimizer."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mnemon.train.config import Lora, TrainConfig
from mnemon.train.scoring import backbone, unwrap
from mnemon.types import MnemonError

CRITIC_ADAPTER = "critic"


def is_peft(model: nn.Module) -> bool:
    """Whether PEFT adapters are around or in the model."""
    return hasattr(model, "peft_config")


def with_lora(model: nn.Module, lora: Lora) -> nn.Module:
    """The model wrapped in fresh adapters; its own parameters stop training."""
    from peft import LoraConfig, get_peft_model

    if is_peft(model):
        raise MnemonError("The model already has adapters: set lora to None in the training configuration.")
    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    settings = LoraConfig(
        r=lora.r,
        lora_alpha=cast(int, lora.alpha),
        target_modules=modules,
        lora_dropout=lora.dropout,
        task_type="CAUSAL_LM",
    )
    return cast(nn.Module, get_peft_model(cast(Any, model), settings))


def keep_in_float32(parameters: Iterable[nn.Parameter]) -> None:
    """Those that are trained, in place: half-precision parameters lose updates far smaller than themselves."""
    for p in parameters:
        if p.requires_grad and p.dtype in (torch.float16, torch.bfloat16):
            p.data = p.data.float()


def checkpoint_activations(model: nn.Module) -> None:
    """Recompute each layer in the backward pass instead of keeping its activations."""
    inner = unwrap(model)
    # renamed in transformers 5.2x; the old name warns there
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    inner.enable_input_require_grads()


def adamw(parameters: Sequence[nn.Parameter], lr: float, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) with weight decay on matrices only; `base_lr` is what the schedule multiplies."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay, "base_lr": lr},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0, "base_lr": lr},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise MnemonError("The model has no trainable parameters: unfreeze some or set lora in the configuration.")
    return torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=config.eps, fused=True)


class Critic(nn.Module):
    """V(prefix): a backbone with a scalar head started at 0; a position's value precedes the token it predicts."""

    def __init__(self, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, index: Tensor) -> Tensor:
        """Values [N] at the flattened positions `index` [N] of `input_ids` [B, T], float32."""
        return _values(self.trunk, self.head, input_ids, index)

    def trained(self) -> list[nn.Parameter]:
        """The parameters of its optimizer."""
        return [p for p in self.parameters() if p.requires_grad]

    def saved(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return self.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Around every forward and backward pass of the critic."""
        yield


def _values(trunk: nn.Module, head: nn.Linear, input_ids: Tensor, index: Tensor) -> Tensor:
    states: Tensor = trunk(input_ids=input_ids, use_cache=False).last_hidden_state
    picked = states.flatten(0, 1).index_select(0, index)
    with torch.autocast(picked.device.type, enabled=False):  # in bfloat16 a value near 1 is off by up to 0.004
        value: Tensor = head(picked.to(head.weight.dtype)).squeeze(-1)
    return value.float()


class SharedCritic(Critic):
    """A critic on the actor's own base weights: a second LoRA adapter and a head, so the trunk is in memory once."""

    def __init__(self, model: nn.Module, width: int) -> None:
        trunk = backbone(model)
        if not is_peft(model) or trunk is None:
            raise MnemonError("critic='shared' needs LoRA: set lora in the training configuration, or critic='copy'.")
        nn.Module.__init__(self)
        self._model = [cast(Any, model)]  # in a list: the model must not become a submodule of its critic
        self._trunk = [trunk]
        self.actor = self._model[0].active_adapter
        self._model[0].add_adapter(CRITIC_ADAPTER, copy.deepcopy(self._model[0].peft_config[self.actor]))
        self._model[0].set_adapter(self.actor)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, index: Tensor) -> Tensor:
        return _values(self._trunk[0], self.head, input_ids, index)

    def _adapter(self) -> list[nn.Parameter]:
        return [p for name, p in self._model[0].named_parameters() if f".{CRITIC_ADAPTER}." in name]

    def trained(self) -> list[nn.Parameter]:
        return [*self.head.parameters(), *self._adapter()]

    def saved(self) -> dict[str, Any]:
        return {"head": self.head.state_dict(), "adapter": [p.detach().clone() for p in self._adapter()]}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        for p, saved in zip(self._adapter(), state["adapter"], strict=True):
            p.copy_(saved)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        self._model[0].set_adapter(CRITIC_ADAPTER)
        try:
            yield
        finally:
            self._model[0].set_adapter(self.actor)


def make_critic(model: nn.Module, critic: nn.Module | Literal["copy", "shared"] | None) -> Critic | None:
    """The critic that `Trainer(critic=...)` asks for."""
    if critic is None:
        return None
    width = int(unwrap(model).get_output_embeddings().weight.shape[1])
    if critic == "shared":
        return SharedCritic(model, width)
    trunk = critic if isinstance(critic, nn.Module) else backbone(model)
    if not isinstance(critic, nn.Module) and critic != "copy":
        raise MnemonError(f"critic must be None, 'copy', 'shared' or a backbone, got {critic!r}.")
    if trunk is None:
        raise MnemonError("critic='copy' needs a model with a separable backbone: pass a backbone as critic instead.")
    return Critic(copy.deepcopy(trunk) if critic == "copy" else trunk, width)
