"""The trainer: rows in, new weights out. It knows nothing of memory, agents or rewards.

    loss = Σ_tokens w · ( −min(ρA, clip(ρ)A) + kl_coef·KL − entropy·H )          actor, own optimizer
         + Σ_tokens w · value_coef · ½(V − R)²                                    critic, own optimizer

The weights w are computed once on each optimizer batch (a set of whole trajectories) before micro-batches and
processes, so the loss and its gradient depend on neither.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnemon.algos.losses import clipped_surrogate, kl_estimate, value_loss, weights
from mnemon.train.batch import Batch, Row, micro_batches, pad
from mnemon.train.config import Lora, TrainConfig, lr_factor
from mnemon.train.ranks import broadcast_parameters, check_world, reduce_gradients, shards, world
from mnemon.train.scoring import Critic, Scorer, backbone, unwrap
from mnemon.types import MnemonError

__all__ = ["Lora", "TrainConfig", "Trainer"]

Floats = NDArray[np.float32]


class _Sums:
    """Sums of per-token quantities, kept on the device until the end of an update (no synchronisation before)."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Tensor]] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.parts.setdefault(name, []).append(value.detach().sum().double())

    def total(self, device: torch.device) -> dict[str, float]:
        """Sums over micro-batches and processes (every process must have added the same names)."""
        names = sorted(self.parts)
        if not names:
            return {}
        flat = torch.stack([torch.stack(self.parts[name]).sum() for name in names]).to(device)
        if world()[1] > 1:
            torch.distributed.all_reduce(flat)
        return dict(zip(names, flat.tolist(), strict=True))


class Trainer:
    """Optimizer, reference, critic, precision and processes around a causal language model.

    Args:
        model: a transformers causal LM (or a PEFT model). Trained in place: a policy that holds it is always current.
        config: see `TrainConfig`; ``config.lora`` wraps the model in adapters (then use ``trainer.model``).
        reference: model of the KL term. Default: under LoRA the base with adapters off, else a frozen copy of the model
            as it is now, made only when ``kl_coef > 0``.
        critic: None; "copy" (of the backbone, with a scalar head started at 0); "shared" (a second adapter on the same
            base, LoRA only); or a backbone that ends in hidden states.
        device: default is where the model is.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        *,
        reference: nn.Module | None = None,
        critic: nn.Module | Literal["copy", "shared"] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.config = config
        self.size = check_world(config.world_size)
        if config.lora is not None:
            model = _with_lora(model, config.lora)
        self.model = model.to(device) if device is not None else model
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.autocast = config.precision == "bfloat16" or (config.precision == "auto" and self.device.type != "cpu")
        if config.gradient_checkpointing:
            unwrap(self.model).gradient_checkpointing_enable({"use_reentrant": False})
            unwrap(self.model).enable_input_require_grads()
        for p in self.model.parameters():
            if p.requires_grad and p.dtype in (torch.float16, torch.bfloat16):
                p.data = p.data.float()  # half-precision parameters lose updates far smaller than themselves
        broadcast_parameters(self.model)
        self.scorer = Scorer(self.model)
        self._own_reference = reference is None and config.kl_coef > 0 and not _is_peft(self.model)
        self.reference = self._make_reference(reference)
        self.critic = self._make_critic(critic)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = _adamw(self.parameters, config.lr, config)
        self.critic_optimizer = None
        if self.critic is not None:
            critic_lr = config.critic_lr if config.critic_lr is not None else 10 * config.lr
            self.critic_optimizer = _adamw([p for p in self.critic.parameters() if p.requires_grad], critic_lr, config)
        self.updates = 0
        self.optimizer_steps = 0
        self.rng = np.random.default_rng(config.seed)
        self.model.eval()

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_reference(self, reference: nn.Module | None) -> Scorer | None:
        if self.config.kl_coef == 0:
            return None
        if reference is None and _is_peft(self.model):
            return self.scorer
        frozen = reference if reference is not None else copy.deepcopy(self.model)
        return Scorer(frozen.to(self.device).requires_grad_(False).eval())

    def _make_critic(self, critic: nn.Module | str | None) -> Critic | None:
        if critic is None:
            return None
        trunk = backbone(self.model) if isinstance(critic, str) else critic
        if trunk is None:
            raise MnemonError("critic='copy' needs a model with a separable backbone: pass a backbone as critic instead.")
        if isinstance(critic, str):
            if critic != "copy":
                raise MnemonError(f"critic must be None, 'copy' or a module, got {critic!r}.")
            trunk = copy.deepcopy(trunk)
        width = unwrap(self.model).get_output_embeddings().weight.shape[1]
        made = Critic(trunk, int(width)).to(self.device)
        broadcast_parameters(made)
        return made.eval()

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.autocast:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _set_lr(self) -> float:
        factor = lr_factor(self.updates, self.config)
        for optimizer in (self.optimizer, self.critic_optimizer):
            for group in optimizer.param_groups if optimizer is not None else ():
                group["lr"] = group["base_lr"] * factor
        return self.config.lr * factor

    # ── scoring without gradients ────────────────────────────────────────────────────────────────────────────────────

    def _score(self, rows: Sequence[Row], score: Any) -> list[Floats]:
        """Apply `score(batch) -> [N]` to micro-batches; per row an array [T], 0 where nothing was sampled."""
        out = [np.zeros(len(row), dtype=np.float32) for row in rows]
        with torch.no_grad(), self._precision():
            for indices in micro_batches(rows, self.config.token_budget):
                chosen = [rows[i] for i in indices]
                if not any(row.loss_mask.any() for row in chosen):
                    continue
                flat = score(pad(chosen, device=self.device)).float().cpu().numpy()
                offset = 0
                for i, row in zip(indices, chosen, strict=True):
                    at = row.sampled
                    out[i][at] = flat[offset : offset + at.size]
                    offset += at.size
        return out

    def logprobs(self, rows: Sequence[Row]) -> list[Floats]:
        """Teacher-forced log-probs [T] of the sampled tokens under the current weights, at the config's temperature."""
        t = self.config.temperature
        return self._score(rows, lambda b: self.scorer(b.input_ids, b.index, b.targets, t)[0])

    def reference_logprobs(self, rows: Sequence[Row]) -> list[Floats]:
        """Log-probs [T] under the reference model."""
        reference, t = self.reference, self.config.temperature
        if reference is None:
            raise MnemonError("There is no reference model, because kl_coef is 0: set kl_coef > 0 to have one.")
        off = self.model.disable_adapter() if reference is self.scorer else contextlib.nullcontext()  # type: ignore[operator]
        with off:
            return self._score(rows, lambda b: reference(b.input_ids, b.index, b.targets, t)[0])

    def values(self, rows: Sequence[Row]) -> list[Floats]:
        """The critic's values [T] before each sampled token, 0 elsewhere."""
        critic = self.critic
        if critic is None:
            raise MnemonError("There is no critic: make the trainer with critic='copy' for PPO.")
        return self._score(rows, lambda b: critic(b.input_ids, b.index))

    # ── updates ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, rows: Sequence[Row]) -> dict[str, float]:
        """One update: `epochs` passes over `rows` in minibatches of whole trajectories.

        Every row needs `advantages` (and `returns` when there is a critic). With `row.weight` set on all rows those
        weights are used as they are; with None on all rows they are computed per minibatch by ``loss_weights``. Rows
        whose gradient is exactly zero (no advantage, no KL, entropy or value term) cost no forward pass but stay in the
        denominators; so do rows longer than ``max_row_tokens``, which are left out of the loss as a whole.

        Returns:
            Means over tokens (policy_loss, kl, clip_fraction, ratio, approx_kl between sampler and current weights,
            surprisal = mean −log p, entropy when its coefficient is not 0, value_loss) of the tokens computed, means over optimizer
            steps (loss, grad_norm, critic_grad_norm), lr, and counts (tokens, rows_dropped, rows_skipped,
            optimizer_steps, seconds).
        """
        started = time.perf_counter()
        self._check(rows)
        lr = self._set_lr()
        references = self._references(rows)
        sums, norms = _Sums(), []
        dropped = skipped = 0
        self.model.train()
        for _ in range(self.config.epochs):
            for minibatch in self._minibatches(rows):
                kept, token_weights, n_dropped, n_skipped = self._prepare([rows[i] for i in minibatch])
                dropped, skipped = dropped + n_dropped, skipped + n_skipped
                chosen = [minibatch[i] for i in kept]
                mine = shards([rows[i] for i in chosen], self.size)[world()[0]]
                batches = self._batches(
                    [rows[chosen[i]] for i in mine],
                    [token_weights[i] for i in mine],
                    None if references is None else [references[chosen[i]] for i in mine],
                )
                norms.append(self._optimize(batches, sums))
        self.model.eval()
        self.updates += 1
        metrics = self._metrics(sums, norms)
        metrics |= {"lr": lr, "rows_dropped": float(dropped), "rows_skipped": float(skipped)}
        return metrics | {"seconds": time.perf_counter() - started}

    def _check(self, rows: Sequence[Row]) -> None:
        if not rows:
            raise MnemonError("Trainer.step got no rows: collect at least one trajectory with sampled tokens.")
        for row in rows:
            if row.advantages is None:
                raise MnemonError(f"Row of {row.trajectory_id} has no advantages: write credit into the rows first.")
            if self.critic is not None and row.returns is None:
                raise MnemonError(f"Row of {row.trajectory_id} has no returns for the critic: see batch.place_gae.")
        if len({row.weight is None for row in rows}) > 1:
            raise MnemonError("Some rows have weights and some have none: set row.weight on all rows or on none.")

    def _references(self, rows: Sequence[Row]) -> list[Floats] | None:
        if self.config.kl_coef == 0:
            return None
        if all(row.ref_logprobs is not None for row in rows):
            return [cast(Floats, row.ref_logprobs) for row in rows]
        return self.reference_logprobs(rows)

    def _minibatches(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Indices of rows, as even sets of whole trajectories; shuffled when there is more than one set."""
        members: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            members.setdefault(row.trajectory_id, []).append(i)
        ids = list(members)
        count = -(-len(ids) // (self.config.minibatch or len(ids)))
        order = self.rng.permutation(len(ids)) if count > 1 else np.arange(len(ids))
        for part in np.array_split(order, count):
            yield [i for j in part for i in members[ids[j]]]

    def _prepare(self, rows: Sequence[Row]) -> tuple[list[int], list[Floats], int, int]:
        """Weights on the whole optimizer batch, then which rows are computed: (kept, their weights, dropped, skipped)."""
        config = self.config
        if rows[0].weight is None:
            all_weights = weights(rows, config.loss_weights, config.loss_constant)
        else:
            all_weights = [cast(Floats, row.weight) for row in rows]
        always = self.critic is not None or config.kl_coef > 0 or config.entropy > 0
        kept, dropped, skipped = [], 0, 0
        for i, row in enumerate(rows):
            signal = all_weights[i] if always else all_weights[i] * cast(Floats, row.advantages)
            if config.max_row_tokens is not None and len(row) > config.max_row_tokens:
                dropped += 1
            elif not np.any(signal[row.loss_mask != 0]):
                skipped += 1
            else:
                kept.append(i)
        return kept, [all_weights[i] for i in kept], dropped, skipped

    def _batches(
        self, rows: Sequence[Row], token_weights: Sequence[Floats], references: Sequence[Floats] | None
    ) -> Iterator[Batch]:
        for indices in micro_batches(rows, self.config.token_budget):
            chosen = [rows[i] for i in indices]
            batch = pad(chosen, [token_weights[i] for i in indices], self.device)
            if references is not None:
                flat = np.concatenate([references[i][rows[i].sampled] for i in indices])
                batch.columns["ref_logprobs"] = torch.from_numpy(flat).to(self.device)
            yield batch

    def _optimize(self, batches: Iterator[Batch], sums: _Sums) -> dict[str, Tensor]:
        """One optimizer step of actor and critic over all micro-batches; returns the gradient norms."""
        sums.add(**{name: torch.zeros((), device=self.device) for name in self._names()})
        for batch in batches:
            with self._precision():
                loss = self._actor_loss(batch, sums)
            loss.backward()  # type: ignore[no-untyped-call]
            if self.critic is not None:
                with self._precision():
                    loss = self._critic_loss(self.critic, batch, sums)
                loss.backward()  # type: ignore[no-untyped-call]
        norms = {"grad_norm": self._apply(self.optimizer, self.parameters)}
        if self.critic is not None and self.critic_optimizer is not None:
            params = [p for p in self.critic.parameters() if p.requires_grad]
            norms["critic_grad_norm"] = self._apply(self.critic_optimizer, params)
        self.optimizer_steps += 1
        return norms

    def _names(self) -> list[str]:
        names = ["loss", "policy_loss", "ratio", "clip_fraction", "approx_kl", "surprisal", "tokens"]
        names += ["kl"] if self.config.kl_coef > 0 else []
        names += ["entropy"] if self.config.entropy > 0 else []
        return names + (["value_loss"] if self.critic is not None else [])

    def _actor_loss(self, batch: Batch, sums: _Sums) -> Tensor:
        config, c = self.config, batch.columns
        logp, entropies = self.scorer(
            batch.input_ids, batch.index, batch.targets, config.temperature, config.entropy > 0
        )
        policy, ratio, clipped = clipped_surrogate(
            logp, c["old_logprobs"], c["advantages"], config.clip_low, config.clip_high, config.dual_clip
        )
        per_token = policy
        if config.kl_coef > 0:
            kl = kl_estimate(logp, c["ref_logprobs"], config.kl_kind)
            per_token = per_token + config.kl_coef * kl
            sums.add(kl=kl)
        if entropies is not None:
            per_token = per_token - config.entropy * entropies
            sums.add(entropy=entropies)
        loss = (c["weight"] * per_token).sum()
        with torch.no_grad():
            sums.add(loss=loss, policy_loss=policy, ratio=ratio, clip_fraction=clipped, surprisal=-logp)
            sums.add(approx_kl=ratio - 1 - (logp - c["old_logprobs"]), tokens=torch.ones_like(logp))
        return loss

    def _critic_loss(self, critic: Critic, batch: Batch, sums: _Sums) -> Tensor:
        c = batch.columns
        value = critic(batch.input_ids, batch.index)
        per_token = value_loss(value, c["returns"], c.get("values"), self.config.value_clip)
        sums.add(value_loss=per_token)
        return self.config.value_coef * (c["weight"] * per_token).sum()

    def _apply(self, optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> Tensor:
        """Sum gradients over processes, clip, step, forget. Refuses non-finite gradients before they reach the weights."""
        reduce_gradients(params, optimizer.state)
        limit = self.config.max_grad_norm
        norm = nn.utils.clip_grad_norm_(params, limit if limit is not None else float("inf"))
        if not torch.isfinite(norm):
            optimizer.zero_grad()
            raise MnemonError(
                f"The gradient is not finite at update {self.updates}: the weights were left as they were. Lower the "
                f"learning rate, use precision='float32', and check advantages and log-probs of the rows."
            )
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def _metrics(self, sums: _Sums, norms: list[dict[str, Tensor]]) -> dict[str, float]:
        totals = sums.total(self.device)
        tokens = totals.pop("tokens", 0.0)
        loss = totals.pop("loss", 0.0)
        metrics = {name: value / max(tokens, 1.0) for name, value in totals.items()}
        for name in norms[0] if norms else ():
            metrics[name] = float(torch.stack([norm[name] for norm in norms]).mean())
        metrics |= {"loss": loss / max(len(norms), 1), "tokens": tokens, "optimizer_steps": float(len(norms))}
        return metrics

    def sft(self, rows: Sequence[Row]) -> dict[str, float]:
        """One supervised update on all rows: L = − Σ w·mask·log p / Σ w·mask (w = `row.weight`, 1 where None).

        Temperature is 1 here, whatever the sampler's. Returns loss, accuracy (share of weighted tokens that are the
        most likely one is not computed: see `logprobs`), grad_norm, lr, tokens, seconds.
        """
        started = time.perf_counter()
        if not rows:
            raise MnemonError("Trainer.sft got no rows.")
        lr = self._set_lr()
        flags = [(row.loss_mask != 0).astype(np.float32) for row in rows]
        token_weights = [f if row.weight is None else f * row.weight for f, row in zip(flags, rows, strict=True)]
        total = float(sum(float(w.sum()) for w in token_weights))
        if total <= 0:
            raise MnemonError("Trainer.sft got rows whose weights are all 0: nothing to learn from.")
        mine = shards(rows, self.size)[world()[0]]
        sums = _Sums()
        sums.add(loss=torch.zeros((), device=self.device), tokens=torch.zeros((), device=self.device))
        self.model.train()
        for batch in self._batches([rows[i] for i in mine], [token_weights[i] / total for i in mine], None):
            with self._precision():
                logp, _ = self.scorer(batch.input_ids, batch.index, batch.targets)
                loss = -(batch.columns["weight"] * logp).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            sums.add(loss=loss, tokens=(batch.columns["weight"] > 0).float())
        norm = self._apply(self.optimizer, self.parameters)
        self.optimizer_steps += 1
        self.model.eval()
        self.updates += 1
        return sums.total(self.device) | {
            "grad_norm": float(norm), "lr": lr, "seconds": time.perf_counter() - started
        }

    # ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def state_dict(self, weights: bool = True) -> dict[str, Any]:
        """Everything that resuming needs: optimizers, critic, own reference, counters and random generators.

        ``weights=False`` leaves out the model, for callers that save it in its own format (`mnemon.train.checkpoint`).
        """
        state: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "optimizer_steps": self.optimizer_steps,
            "rng": {"shuffle": self.rng.bit_generator.state, "torch": torch.get_rng_state()},
        }
        if weights:
            state["model"] = self.model.state_dict()
        if torch.cuda.is_available():
            state["rng"]["cuda"] = torch.cuda.get_rng_state_all()
        if self.critic is not None and self.critic_optimizer is not None:
            state["critic"] = self.critic.state_dict()
            state["critic_optimizer"] = self.critic_optimizer.state_dict()
        if self._own_reference and self.reference is not None:
            state["reference"] = self.reference.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; the next update is then bit for bit that of an uninterrupted run (CPU)."""
        if "model" in state:
            self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates, self.optimizer_steps = int(state["updates"]), int(state["optimizer_steps"])
        self.rng.bit_generator.state = state["rng"]["shuffle"]
        torch.set_rng_state(state["rng"]["torch"].cpu())
        if torch.cuda.is_available() and "cuda" in state["rng"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in state["rng"]["cuda"]])
        if (self.critic is not None) != ("critic" in state):
            raise MnemonError("The saved state and this trainer differ in having a critic: use the settings it was saved with.")
        if self.critic is not None and self.critic_optimizer is not None:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        if self._own_reference and self.reference is not None:
            if "reference" not in state:
                raise MnemonError("The saved state has no reference model, but kl_coef > 0 now: it was saved with kl_coef 0.")
            self.reference.load_state_dict(state["reference"])


def _is_peft(model: nn.Module) -> bool:
    return hasattr(model, "peft_config")


def _with_lora(model: nn.Module, lora: Lora) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    if _is_peft(model):
        raise MnemonError("The model already has adapters: set lora to None in the training configuration.")
    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    settings = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, target_modules=modules, lora_dropout=lora.dropout, task_type="CAUSAL_LM"
    )
    return cast(nn.Module, get_peft_model(cast(Any, model), settings))


def _adamw(parameters: Sequence[nn.Parameter], lr: float, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) with weight decay on matrices only."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay, "base_lr": lr},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0, "base_lr": lr},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=config.eps, fused=True)
