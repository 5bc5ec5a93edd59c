"""A Hugging Face causal language model in this process, as a policy that answers whole batches.

Prompts come from the chat template (`Chat`), replies from `sampler.sample`: exact ids and log-probabilities, one
generator per request seeded from its episode's key, so that a reply does not depend on the batch it was sampled in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import torch
from safetensors import SafetensorError

from mnemon.policy.base import EPISODE, LOCKSTEP, Request, request_seed
from mnemon.policy.chat import Chat
from mnemon.policy.sampler import Reply, device_of, sample
from mnemon.types import Completion, Message, MnemonError, TooLong, ToolSchema


class LocalPolicy:
    """A model and its tokenizer as a `Policy` and a `BatchPolicy`.

    `model` is a causal language model (a PEFT model too), moved to `device` and `dtype` when given. `window` bounds
    prompt + reply in tokens (default: the model's position limit); `max_tokens` bounds the reply; `batch` bounds the
    rows generated together (halved where the accelerator's memory is short). `autocast` computes in this precision
    whatever the weights are kept in: a policy whose model is trained must sample as its trainer computes.
    `policy_version` is stamped on completions: whoever changes the weights counts it up. `seed` is used for calls
    outside any episode.
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
        autocast: torch.dtype | None = None,
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
        self.autocast = autocast
        config = model.config.get_text_config()
        self.window = window or int(getattr(config, "max_position_embeddings", 0)) or 1 << 30
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
        request = Request(key, tuple(messages), tuple(tools), tuple(self.chat.render(messages, tools)))
        self._check_length(request, request.prompt_ids)  # here, so that it fails its own episode and not its batch
        lockstep = LOCKSTEP.get()
        return await lockstep.submit(self, request) if lockstep else self.generate([request])[0]

    def count_tokens(self, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> int:
        """Length of the prompt in tokens."""
        return self.chat.count_tokens(messages, tools)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in their order. Each is sampled with its own generator, seeded from its key."""
        prompts = [list(r.prompt_ids) or self.chat.render(r.messages, r.tools) for r in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            self._check_length(request, prompt)
        seeds = [request_seed(r.key) for r in requests]
        completions: list[Completion | None] = [None] * len(requests)
        for rows in self._batches(prompts):
            replies = self._sample_in_parts([prompts[i] for i in rows], [seeds[i] for i in rows])
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

    def _sample_in_parts(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Reply]:
        """`sample`; where the accelerator's memory cannot hold the batch, in halves, and later batches are smaller."""
        try:
            return self.sample(prompts, seeds)
        except torch.OutOfMemoryError:
            if len(prompts) == 1:
                raise
        torch.cuda.empty_cache()
        half = self.batch = len(prompts) // 2
        return self._sample_in_parts(prompts[:half], seeds[:half]) + self._sample_in_parts(prompts[half:], seeds[half:])

    def _check_length(self, request: Request, prompt: Sequence[int]) -> None:
        if not 0 < len(prompt) < self.window:
            raise TooLong(
                f"the prompt of request {request.key} has {len(prompt)} tokens, and the window of {self.window} "
                "must hold it and a reply: let the agent truncate its context (limits), or raise `window`."
            )

    def sample(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Reply]:
        """One batch: for each prompt its sampled ids [T] (stop token included) and their log-probabilities [T]."""
        limits = [min(self.max_tokens, self.window - len(p)) for p in prompts]
        with self._evaluating():
            return sample(
                self.model,
                prompts,
                seeds=seeds,
                limits=limits,
                stop_ids=self.chat.stop_ids,
                temperature=self.temperature,
            )

    def logprobs(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> list[float]:
        """Teacher-forced log-probabilities [T] of a reply at this policy's temperature, without any cache."""
        device = device_of(self.model)
        with self._evaluating():
            ids = torch.tensor([[*prompt_ids, *token_ids]], device=device)
            logits = self.model(input_ids=ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1]
            logp = torch.log_softmax(logits.float() / (self.temperature or 1.0), -1)
            return [float(x) for x in logp.gather(-1, ids[0, len(prompt_ids) :, None])[:, 0]]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode, without gradients; the model is given back as it was (a trainer may share it)."""
        training, device = self.model.training, device_of(self.model).type
        self.model.eval()
        try:
            with torch.no_grad(), torch.autocast(device, self.autocast, enabled=self.autocast is not None):
                yield
        finally:
            self.model.train(training)

    def _batches(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Indices of the prompts, sorted by length, in batches of at most `batch`."""
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]


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
    offline = local or not _hub_answers()
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
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=offline)
        with _without_bar(local):
            return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=offline), tokenizer
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise MnemonError(_load_error(path, local, offline, error)) from error


def _load_error(path: str, local: bool, offline: bool, error: Exception) -> str:
    why = next(iter(str(error).splitlines()), type(error).__name__)[:300].rstrip(". ")
    if local:
        return f"could not load {path!r} from the directory: {why}. Check the files in it."
    if offline:
        return (
            f"{path!r} is no directory here, and the hub does not answer: {why}. Check the path, or for a hub id the "
            "network (only models in the local cache can be used without it)."
        )
    return (
        f"could not load {path!r} from the hub (or its local cache): {why}. Check the name, the network and your "
        "access to the model."
    )


def _hub_answers() -> bool:
    """Whether the hub can be reached. One short request; the library would repeat each of many for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx2.head(constants.ENDPOINT, timeout=5.0)
    except httpx2.HTTPError:
        return False
    return True


@contextmanager
def _without_bar(local: bool) -> Iterator[None]:
    """No "Loading weights" bar for a directory; a download keeps its bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if local:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if local and shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
