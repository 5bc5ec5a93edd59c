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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnemon.algos.losses import clipped_surrogate, kl_estimate, value_loss, weights
from mnemon.train import fsdp, state
from mnemon.train.batch import Batch, Row, micro_batches, pad
from mnemon.train.config import Lora, TrainConfig, lr_factor
from mnemon.train.models import (
    Critic,
    adamw,
    checkpoint_activations,
    is_peft,
    keep_in_float32,
    make_critic,
    with_lora,
)
from mnemon.train.ranks import broadcast_parameters, check_world, fill_gradients, gather, shards, sum_gradients, world
from mnemon.train.scoring import Scorer, backbone
from mnemon.train.sums import Sums, metrics
from mnemon.types import MnemonError

__all__ = ["Lora", "TrainConfig", "Trainer"]

Floats = NDArray[np.float32]


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
        self.rank, self.size = world()[0], check_world(config.world_size)
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        model = with_lora(model, config.lora) if config.lora is not None else model
        self.model = model.to(self.device)
        self.autocast = config.precision == "bfloat16" or (config.precision == "auto" and self.device.type != "cpu")
        self.token_budget = config.token_budget or (1024 if self.device.type == "cpu" else 16384)
        if config.gradient_checkpointing:
            checkpoint_activations(self.model)
        keep_in_float32(self.model.parameters())
        broadcast_parameters(self.model)
        self.scorer = Scorer(self.model, sparse=not config.gradient_checkpointing)
        self._own_reference = reference is None and config.kl_coef > 0 and not is_peft(self.model)
        self.reference = self._make_reference(reference)
        self.critic: Critic | None = make_critic(self.model, critic)
        if self.critic is not None:
            self.critic = self.critic.to(self.device).eval()
            keep_in_float32(self.critic.trained())
            broadcast_parameters(self.critic)
        if config.fsdp:
            self._shard()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = adamw(self.parameters, config.lr, config)
        self.critic_optimizer: torch.optim.Optimizer | None = None
        if self.critic is not None:
            critic_lr = config.critic_lr if config.critic_lr is not None else 10 * config.lr
            self.critic_optimizer = adamw(self.critic.trained(), critic_lr, config)
        self.updates = 0
        self.optimizer_steps = 0
        self.rng = np.random.default_rng(config.seed)
        self.model.eval()

    def _make_reference(self, reference: nn.Module | None) -> Scorer | None:
        if self.config.kl_coef == 0:
            return None
        if reference is None and is_peft(self.model):
            return self.scorer
        frozen = reference if reference is not None else copy.deepcopy(self.model)
        return Scorer(frozen.to(self.device).requires_grad_(False).eval())

    def _shard(self) -> None:
        if self.critic is not None or is_peft(self.model):
            raise MnemonError("fsdp=True shards a whole model without critic or adapters: set fsdp=False for those.")
        fsdp.shard(self.scorer, backbone(self.model), self.autocast)
        if self.reference is not None:
            fsdp.shard(self.reference, backbone(self.reference.model), self.autocast)

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

    def _score(self, rows: Sequence[Row], score: Callable[[Batch], Tensor]) -> list[Floats]:
        """`score(batch) -> [N]` over micro-batches, split over processes; per row an array [T], 0 where not sampled."""
        mine, batches = self._batches(rows, [row.loss_mask for row in rows])
        flat: list[Floats] = []
        with torch.no_grad(), self._precision():
            for batch in batches:
                flat.append(score(batch).float().cpu().numpy())
        done: dict[int, Floats] = {}
        for indices, values in zip(mine, flat, strict=False):  # dummy batches of other processes come last
            offset = 0
            for i in indices:
                at = rows[i].sampled
                done[i] = np.zeros(len(rows[i]), dtype=np.float32)
                done[i][at] = values[offset : offset + at.size]
                offset += at.size
        everywhere = dict(gather(list(done.items())))
        return [everywhere[i] for i in range(len(rows))]

    def logprobs(self, rows: Sequence[Row]) -> list[Floats]:
        """Teacher-forced log-probs [T] of the sampled tokens under the current weights, at the config's temperature."""
        t = self.config.temperature
        return self._score(rows, lambda b: self.scorer(b.input_ids, b.index, b.targets, t)[0])

    def reference_logprobs(self, rows: Sequence[Row]) -> list[Floats]:
        """Log-probs [T] under the reference model."""
        reference, t = self.reference, self.config.temperature
        if reference is None:
            raise MnemonError("There is no reference model, because kl_coef is 0: set kl_coef > 0 to have one.")
        off = cast(Any, self.model).disable_adapter() if reference is self.scorer else contextlib.nullcontext()
        with off:
            return self._score(rows, lambda b: reference(b.input_ids, b.index, b.targets, t)[0])

    def values(self, rows: Sequence[Row]) -> list[Floats]:
        """The critic's values [T] before each sampled token, 0 elsewhere."""
        critic = self.critic
        if critic is None:
            raise MnemonError("There is no critic: make the trainer with critic='copy' for PPO.")
        with critic.active():
            return self._score(rows, lambda b: critic(b.input_ids, b.index))

    # ── updates ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, rows: Sequence[Row]) -> dict[str, float]:
        """One update: `epochs` passes over `rows` in minibatches of whole trajectories.

        Every row needs `advantages` (and `returns` when there is a critic). With `row.weight` set on all rows those
        weights are used as they are; with None on all rows they are computed per minibatch by ``loss_weights``. Rows
        whose gradient is exactly zero (no advantage, no KL, entropy or value term) cost no forward pass but stay in the
        denominators; so do rows longer than ``max_row_tokens``, which are left out of the loss as a whole. Under
        several processes every process passes the same rows.

        Returns:
            Means over the tokens computed (policy_loss, kl, clip_fraction, ratio, approx_kl between sampler and current
            weights, surprisal = mean −log p, entropy when its coefficient is not 0, value_loss); means over optimizer
            steps (loss, grad_norm, critic_grad_norm); lr; counts (tokens, rows_dropped, rows_skipped,
            optimizer_steps); seconds.

        Raises:
            MnemonError: rows lack something, or the gradient is not finite (the weights are then left as they were).
        """
        started = time.perf_counter()
        self._check(rows)
        lr = self._set_lr()
        references = self._references(rows)
        sums, norms = Sums(self._names(), self.device), []
        dropped = skipped = 0
        self.model.train()
        for _ in range(self.config.epochs):
            for minibatch in self._minibatches(rows):
                kept, token_weights, n_dropped, n_skipped = self._prepare([rows[i] for i in minibatch])
                dropped, skipped = dropped + n_dropped, skipped + n_skipped
                chosen = [minibatch[i] for i in kept]
                refs = None if references is None else [references[i] for i in chosen]
                _, batches = self._batches([rows[i] for i in chosen], token_weights, refs)
                norms.append(self._optimize(batches, sums))
        self.model.eval()
        self.updates += 1
        result = metrics(sums, norms)
        result |= {"lr": lr, "rows_dropped": float(dropped), "rows_skipped": float(skipped)}
        return result | {"seconds": time.perf_counter() - started}

    def sft(self, rows: Sequence[Row]) -> dict[str, float]:
        """One supervised update on all rows: L = − Σ w·mask·log p / Σ w·mask (w = `row.weight`, 1 where None).

        Temperature is 1 here, whatever the sampler's. Returns loss, grad_norm, lr, tokens (of weight > 0), seconds.
        """
        started = time.perf_counter()
        lr = self._set_lr()
        flags = [(row.loss_mask != 0).astype(np.float32) for row in rows]
        token_weights = [f if row.weight is None else f * row.weight for f, row in zip(flags, rows, strict=True)]
        total = float(sum(float(w.sum()) for w in token_weights))
        if total <= 0:
            raise MnemonError(
                "Trainer.sft got no token with a positive weight: check loss_mask and weight of the rows."
            )
        sums = Sums(["loss", "tokens"], self.device)
        self.model.train()
        for batch in self._batches(rows, [w / total for w in token_weights])[1]:
            weight = batch.columns["weight"]
            with self._precision():
                logp, _ = self.scorer(batch.input_ids, batch.index, batch.targets)
            loss = -(weight * logp).sum()
            self._backward(loss)
            sums.add(loss=loss, tokens=weight > 0)
        norm = self._apply(self.optimizer, self.parameters)
        self.optimizer_steps += 1
        self.model.eval()
        self.updates += 1
        return sums.total() | {"grad_norm": float(norm), "lr": lr, "seconds": time.perf_counter() - started}

    def _check(self, rows: Sequence[Row]) -> None:
        if not rows:
            raise MnemonError("Trainer.step got no rows: collect at least one trajectory with sampled tokens.")
        for row in rows:
            if row.advantages is None:
                raise MnemonError(f"Row of {row.trajectory_id} has no advantages: write credit into the rows first.")
            if self.critic is not None and row.returns is None:
                raise MnemonError(f"Row of {row.trajectory_id} has no returns for the critic: see batch.place_gae.")
            if self.config.value_clip is not None and self.critic is not None and row.values is None:
                raise MnemonError(f"Row of {row.trajectory_id} has no values for value_clip: see Trainer.values.")
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
        """Weights on the whole optimizer batch, then what is computed: (rows kept, their weights, dropped, skipped)."""
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
        self, rows: Sequence[Row], token_weights: Sequence[NDArray[Any]], references: Sequence[Floats] | None = None
    ) -> tuple[list[list[int]], Iterator[Batch]]:
        """This process's micro-batches: (indices of rows in each, the batches).

        A sharded model needs every process in every forward pass, so processes with fewer batches add ones of weight 0.
        """
        plans = [
            [[part[j] for j in cut] for cut in micro_batches([rows[i] for i in part], self.token_budget)]
            for part in shards(rows, self.size)
        ]
        mine = plans[self.rank]
        missing = max(map(len, plans)) - len(mine) if self.config.fsdp else 0

        def made() -> Iterator[Batch]:
            for indices in mine:
                refs = None if references is None else [references[i] for i in indices]
                yield pad([rows[i] for i in indices], [token_weights[i] for i in indices], refs, self.device)
            for _ in range(missing):
                refs = None if references is None else [references[0]]
                yield pad(rows[:1], [np.zeros(len(rows[0]))], refs, self.device, live=False)

        return mine, made()

    def _names(self) -> list[str]:
        names = ["loss", "policy_loss", "ratio", "clip_fraction", "approx_kl", "surprisal", "tokens"]
        names += ["kl"] if self.config.kl_coef > 0 else []
        names += ["entropy"] if self.config.entropy > 0 else []
        return names + (["value_loss"] if self.critic is not None else [])

    def _optimize(self, batches: Iterator[Batch], sums: Sums) -> dict[str, Tensor]:
        """One optimizer step of actor and critic over all micro-batches; returns the gradient norms."""
        made = list(batches)
        for batch in made:
            with self._precision():
                loss = self._actor_loss(batch, sums)
            self._backward(loss)
        norms = {"grad_norm": self._apply(self.optimizer, self.parameters)}
        if self.critic is not None and self.critic_optimizer is not None:
            with self.critic.active():
                for batch in made:
                    with self._precision():
                        loss = self._critic_loss(self.critic, batch, sums)
                    self._backward(loss)
                norms["critic_grad_norm"] = self._apply(self.critic_optimizer, self.critic.trained())
        self.optimizer_steps += 1
        return norms

    def _actor_loss(self, batch: Batch, sums: Sums) -> Tensor:
        config, c = self.config, batch.columns
        logp, entropies = self.scorer(
            batch.input_ids, batch.index, batch.targets, config.temperature, config.entropy > 0
        )
        policy, ratio, clipped = clipped_surrogate(
            logp, c["old_logprobs"], c["advantages"], config.clip_low, config.clip_high, config.dual_clip
        )
        measured = {"policy_loss": policy, "ratio": ratio, "clip_fraction": clipped}
        per_token = policy
        if config.kl_coef > 0:
            kl = kl_estimate(logp, c["ref_logprobs"], config.kl_kind)
            per_token = per_token + config.kl_coef * kl
            measured["kl"] = kl
        if entropies is not None:
            per_token = per_token - config.entropy * entropies
            measured["entropy"] = entropies
        loss = (c["weight"] * per_token).sum()
        if batch.live:
            with torch.no_grad():
                measured["approx_kl"] = ratio - 1 - (logp - c["old_logprobs"])
                sums.add(loss=loss, surprisal=-logp, tokens=torch.ones_like(logp), **measured)
        return loss

    def _critic_loss(self, critic: Critic, batch: Batch, sums: Sums) -> Tensor:
        c = batch.columns
        value = critic(batch.input_ids, batch.index)
        per_token = value_loss(value, c["returns"], c.get("values"), self.config.value_clip)
        if batch.live:
            sums.add(value_loss=per_token)
        return self.config.value_coef * (c["weight"] * per_token).sum()

    def _backward(self, loss: Tensor) -> None:
        """Gradients of the summed loss; FSDP averages over processes, so it is given the loss times their number."""
        (loss * self.size if self.config.fsdp else loss).backward()  # type: ignore[no-untyped-call]

    def _apply(self, optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> Tensor:
        """Sum gradients over processes, clip, step, forget. Non-finite gradients are refused before they do harm."""
        chosen = fill_gradients(params, optimizer.state)
        if not self.config.fsdp:
            sum_gradients(chosen)
        limit = self.config.max_grad_norm
        norm = fsdp.full(nn.utils.clip_grad_norm_(params, limit if limit is not None else float("inf")))
        if not torch.isfinite(norm):
            optimizer.zero_grad()
            raise MnemonError(
                f"The gradient is not finite at update {self.updates}: the weights were left as they were. Lower the "
                f"learning rate, use precision='float32', and check advantages and log-probs of the rows."
            )
        optimizer.step()
        optimizer.zero_grad()
        return norm

    # ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def state_dict(self, weights: bool = True) -> dict[str, Any]:
        """Everything that resuming needs: optimizers, critic, own reference, counters and random generators.

        ``weights=False`` leaves out the model, for callers that save it in its own format (`save_model`). Under
        ``fsdp`` a collective call: every process must make it, and only rank 0 gets tensors.
        """
        return state.collect(self, weights)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; the next update is then bit for bit that of an uninterrupted run (CPU)."""
        state.restore(self, saved)

    def save_model(self, folder: Path) -> None:
        """Write the model (or its adapter) as safetensors for ``from_pretrained``. Collective; only rank 0 writes."""
        state.save_model(self, folder)

    def load_model(self, folder: Path) -> None:
        """Load what `save_model` wrote into the model, in place. Every process must call it."""
        state.load_model(self, folder)
