"""A Hugging Face causal language model in this process, as a policy that samples whole batches.

For a request with prompt x and temperature τ > 0 the t-th token is drawn from

    p(y | x, y₁ … yₜ₋₁) = softmax(logits / τ),      logprob = log_softmax(logits / τ)[y]

by inverting the cumulative distribution at a uniform number that comes from the request's own generator. There is no
top-p, top-k or penalty, so the log-probabilities reported are those of the distribution sampled from, and a reply does
not depend on who else is in the batch (beyond float noise in the logits). τ = 0 takes the most likely token and reports
log-probabilities at τ = 1.

What makes a batch cheap: the tokens that all prompts share are read once, equal prompts are read once, finished rows
leave the batch, the cache is written in place, and prompts of similar length go together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from mnemon.policy.base import EPISODE, LOCKSTEP, Request, request_seed
from mnemon.policy.chat import Chat
from mnemon.types import Completion, Message, MnemonError, ToolSchema

MASK_BUDGET = 1 << 28
"""Most entries of one prefill's attention mask (rows x length x length): long prompts go in smaller batches."""
KEEP_ROWS = 0.8
"""Finished rows are dropped once fewer than this share of the rows still runs."""


class _Buffer(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, capacity, dim], written in place; `update` returns views."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.length = capacity, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys = key_states.new_empty((*key_states.shape[:2], self.capacity, key_states.shape[3]))
        self.values = value_states.new_empty((*value_states.shape[:2], self.capacity, value_states.shape[3]))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        keys, values = self.keys, self.values
        self.lazy_initialization(*(x[:1].expand(len(beam_idx), *x.shape[1:]) for x in (keys, values)))
        self.keys[:, :, : self.length] = keys[:, :, : self.length].index_select(0, beam_idx)
        self.values[:, :, : self.length] = values[:, :, : self.length].index_select(0, beam_idx)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


def _shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many first tokens all prompts have in common, leaving each at least one of its own."""
    low, high = min(prompts), max(prompts)
    limit = min(map(len, prompts)) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


class LocalPolicy:
    """A model and its tokenizer as a `Policy` and a `BatchPolicy`.

    `model` is a causal language model (a PEFT model too), moved to `device` and `dtype` when given. `window` bounds
    prompt + reply in tokens (default: the model's position limit); `max_tokens` bounds the reply; `batch` bounds the
    rows generated together. `policy_version` is stamped on completions: whoever changes the weights counts it up.
    `seed` is used for calls outside any episode.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        chat: Chat | None = None,
        temperature: float = 1.0,
        max_tokens: int = 512,
        window: int | None = None,
        batch: int = 256,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        if temperature < 0 or max_tokens < 1 or batch < 1:
            raise MnemonError(
                f"temperature={temperature}, max_tokens={max_tokens}, batch={batch}: need >= 0, >= 1 and >= 1"
            )
        self.model = model if device is None and dtype is None else model.to(device=device, dtype=dtype)
        self.tokenizer = tokenizer
        self.chat = chat or Chat(tokenizer)
        eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        self.chat.stop_ids |= set(eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos])
        self.temperature, self.max_tokens, self.batch, self.seed = temperature, max_tokens, batch, seed
        config = model.config.get_text_config()
        self.window = window or int(getattr(config, "max_position_embeddings", 0)) or 1 << 30
        kinds = set(getattr(config, "layer_types", None) or ())
        sliding = not kinds and getattr(config, "sliding_window", None) is not None
        self._layers: int = config.num_hidden_layers
        self._plain = sliding or kinds - {"full_attention"} or config._attn_implementation != "sdpa"
        self.policy_version = 0
        self._calls = 0

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        **settings: Any,
    ) -> LocalPolicy:
        """Load from a directory (a model, or a PEFT adapter) or a hub id; `settings` go to the constructor.

        Default device and dtype: CUDA in bfloat16 where there is one, else CPU in float32. Raises `MnemonError` when
        the directory holds no model, the hub does not answer, or the tokenizer has no chat template.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        model, tokenizer = load_model(str(path), dtype)
        return cls(model.to(device).eval(), tokenizer, **settings)

    async def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Completion:
        episode = EPISODE.get()
        self._calls += 1
        key = episode.next() if episode else (self.seed, 0, "", 0, self._calls)
        request = Request(key, tuple(messages), tuple(tools))
        lockstep = LOCKSTEP.get()
        return await lockstep.submit(self, request) if lockstep else self.generate([request])[0]

    def count_tokens(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> int:
        """Length of the prompt in tokens."""
        return self.chat.count_tokens(messages, tools)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in their order. Each is sampled with its own generator, seeded from its key."""
        prompts = [self.chat.render(r.messages, r.tools) for r in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            if not 0 < len(prompt) < self.window:
                raise MnemonError(
                    f"the prompt of request {request.key} has {len(prompt)} tokens, and the window of {self.window} "
                    "must hold it and a reply: let the agent truncate its context (limits), or raise `window`."
                )
        seeds = [request_seed(r.key) for r in requests]
        completions: list[Completion | None] = [None] * len(requests)
        for rows in self._batches(prompts):
            replies = self.sample([prompts[i] for i in rows], [seeds[i] for i in rows])
            for i, (ids, logprobs) in zip(rows, replies, strict=True):
                completions[i] = Completion(
                    message=self.chat.message(ids),
                    prompt_ids=tuple(prompts[i]),
                    token_ids=tuple(ids),
                    logprobs=tuple(logprobs),
                    finish="stop" if ids[-1] in self.chat.stop_ids else "length",
                    policy_version=self.policy_version,
                    prompt_tokens=len(prompts[i]),
                )
        return [c for c in completions if c is not None]

    def sample(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[tuple[list[int], list[float]]]:
        """One batch: for each prompt its sampled ids [T] (stop token included) and their log-probabilities [T]."""
        limits = [min(self.max_tokens, self.window - len(p)) for p in prompts]
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                return self._sample(prompts, seeds, limits)
        finally:
            self.model.train(training)

    def logprobs(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> list[float]:
        """Teacher-forced log-probabilities [T] of a reply at this policy's temperature, without any cache.

        They must equal the sampler's: the check that a run starts with.
        """
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                ids = torch.tensor([[*prompt_ids, *token_ids]], device=self._device)
                logits = self.model(input_ids=ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1]
                logp = torch.log_softmax(logits.float() / (self.temperature or 1.0), -1)
                return [float(x) for x in logp.gather(-1, ids[0, len(prompt_ids) :, None])[:, 0]]
        finally:
            self.model.train(training)

    # ── the sampling loop ──

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def _batches(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Indices of the prompts, by length, in batches that fit `batch` and the mask budget."""
        batches: list[list[int]] = []
        for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i])):
            rows = batches[-1] if batches else []
            longest = len(prompts[rows[0]]) if rows else 0
            if rows and len(rows) < self.batch and (len(rows) + 1) * longest**2 <= MASK_BUDGET:
                rows.append(i)
            else:
                batches.append([i])
        return batches

    def _prefill(self, prompts: Sequence[list[int]], new: int) -> tuple[Cache, Tensor, Tensor, Tensor]:
        """Read the prompts. Returns the cache, last logits [B, V], key mask [B, capacity] and positions [B]."""
        device = self._device
        unique = sorted(set(map(tuple, prompts)))
        shared = _shared_prefix(unique) if len(unique) > 1 and not self._plain else 0
        rest = max(map(len, unique)) - shared
        cache = self._cache(shared + rest + new)
        if shared:
            ids = torch.tensor([unique[0][:shared]], device=device)
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache.reorder_cache(torch.zeros(len(unique), dtype=torch.long, device=device))
        pads = torch.tensor([rest - (len(p) - shared) for p in unique], device=device)[:, None]
        ids = torch.tensor([[0] * (rest + shared - len(p)) + list(p[shared:]) for p in unique], device=device)
        columns = torch.arange(rest, device=device)
        keys = torch.ones((len(unique), shared + rest + new), dtype=torch.bool, device=device)
        keys[:, shared : shared + rest] = columns >= pads
        mask = None if len(unique) == 1 else keys[:, : shared + rest]
        if mask is not None and not self._plain:  # a padding query sees itself, so that no softmax is empty
            square = (columns[:, None] >= columns) & (columns >= pads)[:, None] | torch.eye(
                rest, dtype=torch.bool, device=device
            )
            head = square.new_ones((len(unique), rest, shared))
            mask = torch.cat([head, square], -1)[:, None]
        positions = (columns - pads).clamp(min=0) + shared
        logits = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if cache.get_seq_length() != shared + rest:
            raise MnemonError(f"{type(self.model).__name__} does not use the key-value cache it is given")
        lengths = positions[:, -1] + 1
        order = {p: i for i, p in enumerate(unique)}
        rows = torch.tensor([order[tuple(p)] for p in prompts], device=device)
        cache.reorder_cache(rows)
        return cache, logits[rows], keys[rows], lengths[rows]

    def _cache(self, capacity: int) -> Cache:
        if self._plain:
            return DynamicCache(config=self.model.config)
        return Cache(layers=[_Buffer(capacity) for _ in range(self._layers)])

    def _uniforms(self, seeds: Sequence[int], limits: Sequence[int]) -> Tensor:
        """Uniform numbers [B, max(limits)]; row b comes from the generator of seed b alone."""
        out = torch.zeros((len(seeds), max(limits)), dtype=torch.float64)
        generator = torch.Generator()
        for row, seed, limit in zip(out, seeds, limits, strict=True):
            generator.manual_seed(seed)
            row[:limit].uniform_(generator=generator)
        return out

    def _sample(
        self, prompts: Sequence[list[int]], seeds: Sequence[int], limits: Sequence[int]
    ) -> list[tuple[list[int], list[float]]]:
        device, new = self._device, max(limits)
        cache, logits, keys, positions = self._prefill(prompts, new)
        length = cache.get_seq_length()
        uniform = None if self.temperature == 0 else self._uniforms(seeds, limits).to(device)
        stops = torch.tensor(sorted(self.chat.stop_ids), device=device)
        limit = torch.tensor(limits, device=device)
        tokens = torch.zeros((len(prompts), new), dtype=torch.long, device=device)
        logprobs = torch.zeros((len(prompts), new), device=device)
        count = limit.clone()  # [B] sampled tokens, settled when a row ends
        rows = torch.arange(len(prompts), device=device)  # the request of each row still in the batch
        running = torch.ones(len(prompts), dtype=torch.bool, device=device)
        for step in range(new):
            logp = torch.log_softmax(logits.float() / (self.temperature or 1.0), -1)  # [rows, V]
            if uniform is None:
                token = logp.argmax(-1)
            else:
                total = logp.exp().cumsum(-1, dtype=torch.float64)
                point = uniform[rows, step, None] * total[:, -1:]
                token = torch.searchsorted(total, point, right=True)[:, 0].clamp(max=logp.shape[-1] - 1)
            tokens[rows, step] = token
            logprobs[rows, step] = logp.gather(-1, token[:, None])[:, 0]
            ended = running & (torch.isin(token, stops) | (limit[rows] == step + 1))
            count[rows[ended]] = step + 1
            running &= ~ended
            alive = int(running.sum())
            if alive == 0:
                break
            if alive <= KEEP_ROWS * len(running):
                keep = running.nonzero()[:, 0]
                cache.reorder_cache(keep)
                rows, running, keys, token, positions = (x[keep] for x in (rows, running, keys, token, positions))
            seen = keys[:, : length + step + 1]
            logits = self.model(
                input_ids=token[:, None],
                attention_mask=seen if self._plain else seen[:, None, None],
                position_ids=positions[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            positions = positions + 1
        counts = count.tolist()
        return [(t[:n], p[:n]) for t, p, n in zip(tokens.tolist(), logprobs.tolist(), counts, strict=True)]


# ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def load_model(path: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model and tokenizer of a directory or hub id; a PEFT adapter directory is loaded over its base model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(path)
    local = folder.exists()
    if not local and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise MnemonError(f"there is no model directory {path!r}: check the path, or give a hub id (Qwen/Qwen3-4B)")
    adapter = folder / "adapter_config.json"
    if local and not adapter.is_file() and not (folder / "config.json").is_file():
        raise MnemonError(
            f"{path!r} is not a model directory: it has neither config.json nor adapter_config.json. Point at the "
            "directory that save_pretrained wrote."
        )
    try:
        if local and adapter.is_file():
            from peft import PeftModel

            base = json.loads(adapter.read_text()).get("base_model_name_or_path")
            if not base:
                raise MnemonError(f"{adapter} names no base model: set its base_model_name_or_path")
            model, tokenizer = load_model(base, dtype)
            if (folder / "tokenizer_config.json").is_file():
                tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            return PeftModel.from_pretrained(model, path), tokenizer
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=local)
        return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=local), tokenizer
    except (OSError, ValueError) as error:
        where = "the directory" if local else "the hub (or its local cache)"
        raise MnemonError(
            f"could not load {path!r} from {where}: {error}. Check the name, the files in it, and for a hub id the "
            "network and your access to the model."
        ) from error
