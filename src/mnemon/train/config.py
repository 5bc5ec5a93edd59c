"""Settings of the trainer and of the loop: plain frozen data, checked where they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mnemon.algos.losses import KLKind, WeightMode
from mnemon.types import MnemonError

Schedule = Literal["constant", "cosine", "linear"]
Precision = Literal["auto", "float32", "bfloat16"]
StepCredit = Literal["joint", "separate", "pooled"]


def _require(ok: bool, name: str, rule: str, value: object) -> None:
    if not ok:
        raise MnemonError(f"{name} must be {rule}, got {value!r}: change it in the training configuration.")


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685): W + (alpha / r)·B·A on the `target_modules` (names as PEFT takes them)."""

    r: int = 16
    alpha: float = 32.0
    target_modules: tuple[str, ...] | str = "all-linear"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _require(self.r > 0, "lora.r", "a positive integer", self.r)
        _require(self.alpha > 0, "lora.alpha", "positive", self.alpha)
        _require(0 <= self.dropout < 1, "lora.dropout", "in [0, 1)", self.dropout)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How the trainer turns rows into new weights.

    Optimizer (AdamW, decay on matrices only): `lr`, `critic_lr` (None: 10·lr), `betas`, `weight_decay`, `eps`,
    `max_grad_norm` (None: no clipping). Schedule: `warmup` updates from 0 to lr, then `schedule` until `total_steps`
    updates; one call of `Trainer.step` or `Trainer.sft` is one update.
    Loss: `clip_low`, `clip_high`, `dual_clip`, `kl_coef` with `kl_kind`, `entropy` (coefficient of the bonus),
    `value_coef`, `value_clip`, `loss_weights` (see `mnemon.algos.losses.weights`) with `loss_constant` (tokens).
    Passes: `epochs` over the rows, in minibatches of `minibatch` whole trajectories (None: all at once).
    Compute: micro-batches hold at most `token_budget` tokens, padding included; it changes no result (None: 1,024 on
    CPU, where they then stay in its caches, 16,384 elsewhere). Rows longer than `max_row_tokens` are left out of the
    loss and counted. `precision` "auto" is float32 on CPU and bfloat16 autocast elsewhere. `temperature` is the
    sampler's. `world_size` asserts the number of processes; `fsdp` shards the model over them.
    """

    lr: float = 1e-6
    critic_lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    eps: float = 1e-8
    schedule: Schedule = "constant"
    warmup: int = 0
    total_steps: int | None = None
    max_grad_norm: float | None = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl_coef: float = 0.0
    kl_kind: KLKind = "k3"
    entropy: float = 0.0
    value_coef: float = 1.0
    value_clip: float | None = None
    loss_weights: WeightMode = "trajectory_mean"
    loss_constant: float | None = None
    epochs: int = 1
    minibatch: int | None = None
    token_budget: int | None = None
    max_row_tokens: int | None = None
    precision: Precision = "auto"
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    temperature: float = 1.0
    seed: int = 0
    world_size: int | None = None
    fsdp: bool = False

    def __post_init__(self) -> None:
        for name in ("lr", "eps", "temperature"):
            _require(getattr(self, name) > 0, name, "positive", getattr(self, name))
        for name in ("critic_lr", "max_grad_norm", "value_clip", "loss_constant"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, "positive or None", value)
        for name in ("weight_decay", "warmup", "kl_coef", "entropy", "value_coef"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        _require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        for name in ("minibatch", "max_row_tokens", "total_steps", "world_size", "token_budget"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "at least 1 or None", value)
        betas_ok = len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)
        _require(betas_ok, "betas", "two numbers in [0, 1)", self.betas)
        _require(0 <= self.clip_low < 1, "clip_low", "in [0, 1)", self.clip_low)
        _require(self.clip_high >= 0, "clip_high", "at least 0", self.clip_high)
        _require(self.dual_clip is None or self.dual_clip > 1, "dual_clip", "greater than 1 or None", self.dual_clip)
        for name, kind in (
            ("schedule", Schedule),
            ("precision", Precision),
            ("kl_kind", KLKind),
            ("loss_weights", WeightMode),
        ):
            _require(getattr(self, name) in get_args(kind), name, f"one of {get_args(kind)}", getattr(self, name))
        _require(
            self.loss_weights != "constant" or self.loss_constant is not None,
            "loss_constant",
            "set (in tokens) when loss_weights is 'constant'",
            self.loss_constant,
        )
        _require(
            self.schedule == "constant" or self.total_steps is not None,
            "total_steps",
            f"set when schedule is {self.schedule!r}",
            self.total_steps,
        )


def lr_factor(update: int, config: TrainConfig) -> float:
    """Multiplier of the learning rate for update 0, 1, …

    (u + 1) / warmup                         u < warmup
    1 | ½(1 + cos πp) | 1 − p                else, p = (u − warmup) / (total_steps − warmup), capped at 1
    """
    if update < config.warmup:
        return (update + 1) / config.warmup
    if config.schedule == "constant" or config.total_steps is None:
        return 1.0
    p = min((update - config.warmup) / max(config.total_steps - config.warmup, 1), 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * p)) if config.schedule == "cosine" else 1.0 - p


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How much, how often, and how credit is given.

    updates; groups (tasks per update) × members (rollouts per task). algo: "grpo" (group-relative advantage, optionally
    not divided by the standard deviation) or "ppo" (critic, GAE with gamma and lam over the whole trajectory).
    constant (GRPO only: PPO trains on every trajectory): groups without variance are left out ("skip") or replaced by
    further tasks, at most `resample_rounds` times ("resample").
    step_credit (GRPO, where a reward is per step; see `mnemon.train.credit`): "joint" compares trajectory and step
    terms together at every step, "separate" compares each apart and adds the two, "pooled" has one baseline for all
    steps of all members, also where no reward is per step.
    max_unscorable: share of a batch above which the run stops.
    """

    updates: int = 40
    groups: int = 24
    members: int = 8
    algo: Literal["grpo", "ppo"] = "grpo"
    scale: bool = True
    ddof: int = 1
    eps: float = 1e-4
    gamma: float = 1.0
    lam: float = 1.0
    constant: Literal["skip", "resample"] = "skip"
    resample_rounds: int = 2
    step_credit: StepCredit = "joint"
    eval_every: int = 10
    checkpoint_every: int = 5
    sample_every: int = 10
    keep_last: int = 2
    max_unscorable: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("updates", "groups", "members", "eval_every", "checkpoint_every", "sample_every", "keep_last"):
            if getattr(self, name) < 1:
                raise MnemonError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("gamma", "lam", "max_unscorable"):
            if not 0 <= getattr(self, name) <= 1:
                raise MnemonError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        for name, known in (
            ("algo", ("grpo", "ppo")),
            ("constant", ("skip", "resample")),
            ("ddof", (0, 1)),
            ("step_credit", get_args(StepCredit)),
        ):
            if getattr(self, name) not in known:
                raise MnemonError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        if self.resample_rounds < 0 or self.eps < 0:
            raise MnemonError(f"resample_rounds={self.resample_rounds}, eps={self.eps}: both must be at least 0")
        if self.algo == "ppo" and self.step_credit != "joint":
            raise MnemonError(
                f"step_credit={self.step_credit!r} is a choice of GRPO: PPO's critic gives credit by step"
            )
        if self.algo == "grpo" and self.members < 2:
            raise MnemonError("GRPO compares members of a group: set members to at least 2, or use algo='ppo'")
