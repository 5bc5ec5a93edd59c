from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mnemon.policy import local, sampler
from mnemon.policy.base import EPISODE, BatchPolicy, EpisodeKey, Request, request_seed, run_lockstep, run_sync
from mnemon.policy.chat import Chat
from mnemon.policy.local import LocalPolicy, load_model
from mnemon.policy.sampler import invert, sample, shared_prefix, uniforms
from mnemon.types import Completion, Message, MnemonError, Policy, TooLong

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
    "initializer_range": 0.3,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(kind: str = "qwen3", vocabulary: int = 334) -> Any:
    torch.manual_seed(0)
    shape = {**SHAPE, "vocab_size": vocabulary}
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape)).eval()
    if kind == "sliding":
        window = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
        return Qwen3ForCausalLM(Qwen3Config(**shape, **window)).eval()
    return Qwen3ForCausalLM(Qwen3Config(**shape, attn_implementation="eager" if kind == "eager" else "sdpa")).eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return build()


@pytest.fixture
def policy(model: Any, hermes: Any) -> LocalPolicy:
    return LocalPolicy(model, hermes, max_tokens=12)


def prompts(count: int = 9, shared: int = 3, seed: int = 0) -> list[list[int]]:
    """Prompts of 4 to 20 tokens with common first tokens; the last two are equal to the first."""
    rng = random.Random(seed)
    start = [rng.randrange(3, 300) for _ in range(shared)]
    out = [start + [rng.randrange(3, 300) for _ in range(rng.randrange(1, 18))] for _ in range(count - 2)]
    return [*out, list(out[0]), list(out[0])]


def library_greedy(model: Any, prompt: list[int], new: int) -> list[int]:
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new)
    return out[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


# ── the sampler ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["qwen3", "llama", "sliding", "eager"])
@pytest.mark.parametrize("shared", [0, 3])
def test_greedy_is_the_librarys_greedy(kind: str, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, new = build(kind), 14
    assert sampler.full_attention(model) == (kind in ("qwen3", "llama"))
    monkeypatch.setattr(sampler, "PREFILL_TOKENS_CPU", 24)  # several chunks
    batch = prompts(shared=shared)
    expected = [library_greedy(model, p, new) for p in batch]
    stop = expected[1][5]  # a token that ends some replies early, so that rows leave the batch
    wanted = [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in expected]
    assert len({len(ids) for ids in wanted}) > 1
    with torch.no_grad():
        got = sample(model, batch, seeds=[0] * 9, limits=[new] * 9, stop_ids={stop}, temperature=0)
    assert [ids for ids, _ in got] == wanted


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 2.0])
def test_logprobs_are_the_teacher_forced_ones(policy: LocalPolicy, temperature: float) -> None:
    policy.temperature = temperature
    batch = prompts(20)
    replies = policy.sample(batch, list(range(20)))
    for prompt, (ids, logprobs) in zip(batch, replies, strict=True):
        assert len(ids) == len(logprobs) > 0
        forced = policy.logprobs(prompt, ids)
        assert max(abs(a - b) for a, b in zip(forced, logprobs, strict=True)) < 1e-4


@pytest.mark.parametrize("kind", ["qwen3", "llama", "sliding"])
def test_autocast_samples_as_a_trainer_under_autocast_computes(
    kind: str, hermes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights in float32, products in bfloat16: nearer to teacher forcing under autocast than float32 samples are."""
    from mnemon.train.batch import Row
    from mnemon.train.trainer import TrainConfig, Trainer

    kept: set[torch.dtype] = set()
    plain = sampler._Buffer.update

    def update(buffer: Any, *states: Any, **rest: Any) -> Any:
        keys, values = plain(buffer, *states, **rest)
        kept.update((keys.dtype, values.dtype))
        return keys, values

    monkeypatch.setattr(sampler._Buffer, "update", update)
    model, batch = build(kind), prompts(20)
    trainer = Trainer(model, TrainConfig(precision="bfloat16"))

    def apart(policy: LocalPolicy) -> float:
        rows = []
        for i, (prompt, (ids, logprobs)) in enumerate(zip(batch, policy.sample(batch, list(range(20))), strict=True)):
            mask = np.array([0] * len(prompt) + [1] * len(ids), dtype=np.uint8)
            old = np.array([0.0] * len(prompt) + logprobs, dtype=np.float32)
            rows.append(Row(f"t{i}", f"t{i}#0", np.array(prompt + ids), mask, old))
        return float(
            np.concatenate(
                [np.abs(a - row.old_logprobs)[row.sampled] for a, row in zip(trainer.logprobs(rows), rows, strict=True)]
            ).mean()
        )

    same = apart(LocalPolicy(model, hermes, max_tokens=12, autocast=torch.bfloat16))
    assert kept == ({torch.bfloat16} if kind != "sliding" else set())
    assert same < 0.6 * apart(LocalPolicy(model, hermes, max_tokens=12))
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("shared", [0, 2])
def test_a_reply_does_not_depend_on_its_batch(
    policy: LocalPolicy, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, seeds = prompts(12, shared), list(range(100, 112))
    together = policy.sample(batch, seeds)
    assert len({tuple(ids) for ids, _ in together}) > 8  # equal prompts have different replies
    backwards = policy.sample(batch[::-1], seeds[::-1])[::-1]
    monkeypatch.setattr(sampler, "PREFILL_TOKENS_CPU", 1)
    monkeypatch.setattr(sampler, "KEEP_ROWS", 0.0)
    others = [policy.sample([p], [s])[0] for p, s in zip(batch, seeds, strict=True)]
    for a, b, c in zip(together, backwards, others, strict=True):
        assert a[0] == b[0] == c[0]
        assert a[1] == pytest.approx(b[1], abs=1e-5)
        assert a[1] == pytest.approx(c[1], abs=1e-5)


def test_inversion_follows_the_distribution() -> None:
    """A grid of N uniforms meets each token p·N times, give or take one at each border."""
    torch.manual_seed(0)
    logp = torch.log_softmax(torch.randn(1, 7) * 2, -1)
    logp[0, [0, 3]] = -torch.inf
    logp = torch.log_softmax(logp, -1)
    n = 10_000
    tokens = invert(logp.expand(n, 7), torch.arange(n, dtype=torch.float64) / n)
    counts = torch.bincount(tokens, minlength=7)
    assert counts[0] == counts[3] == 0
    assert torch.all((counts - logp[0].exp() * n).abs() <= 1.001)


def test_sampling_follows_the_model(model: Any) -> None:
    prompt, n = [5, 6, 7], 3000
    with torch.no_grad():
        p = torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / 0.5, -1)
        out = sample(model, [prompt] * n, seeds=list(range(n)), limits=[1] * n, stop_ids=(), temperature=0.5)
    counts = torch.bincount(torch.tensor([ids[0] for ids, _ in out]), minlength=len(p))
    top = p.argmax()
    assert abs(counts[top] / n - p[top]) < 4 * (p[top] * (1 - p[top]) / n).sqrt()


def test_uniforms_belong_to_their_seed() -> None:
    a, b = uniforms([1, 2, 3], [4, 9, 2]), uniforms([2], [9])
    assert torch.equal(a[1], b[0])
    assert torch.equal(a[2, :2], uniforms([3], [2])[0])
    assert ((a >= 0) & (a < 1)).all()
    assert uniforms([2**63 - 1], [1]).shape == (1, 1)


def test_shared_prefix_by_brute_force() -> None:
    rng = random.Random(0)
    for _ in range(300):
        some = [tuple(rng.randrange(2) for _ in range(rng.randrange(1, 6))) for _ in range(rng.randrange(1, 5))]
        limit = min(map(len, some)) - 1
        common = max(n for n in range(limit + 1) if len({p[:n] for p in some}) == 1)
        assert shared_prefix(some) == common


def test_limits_are_per_row(model: Any) -> None:
    batch = prompts(6)
    limits = [1, 5, 3, 8, 2, 7]
    with torch.no_grad():
        out = sample(model, batch, seeds=range(6), limits=limits, stop_ids=())
    assert [len(ids) for ids, _ in out] == limits


# ── the policy ───────────────────────────────────────────────────────────────────────────────────────────────────────


def requests(count: int) -> list[Request]:
    return [Request((7, 0, f"t{i}", 0, 1), (Message("user", "x" * (i % 5)),), ()) for i in range(count)]


def test_it_is_a_policy(policy: LocalPolicy) -> None:
    assert isinstance(policy, Policy)
    batch: BatchPolicy = policy
    assert batch.generate([]) == []


def test_completions_carry_what_was_sampled(policy: LocalPolicy, model: Any, hermes: Any) -> None:
    policy.policy_version = 4
    stop = hermes.eos_token_id
    for request, done in zip(requests(40), policy.generate(requests(40)), strict=True):
        assert list(done.prompt_ids) == policy.chat.render(request.messages)
        assert done.prompt_tokens == len(done.prompt_ids) == policy.count_tokens(request.messages)
        assert len(done.token_ids) == len(done.logprobs) <= 12
        assert done.finish == ("stop" if done.token_ids[-1] == stop else "length")
        assert stop not in done.token_ids[:-1]
        assert done.message == policy.chat.message(done.token_ids)
        assert done.policy_version == 4


def test_replies_end_with_any_stop_id_of_the_model(model: Any, hermes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = [2, *range(10, 200)]
    monkeypatch.setattr(model.generation_config, "eos_token_id", stops)
    policy = LocalPolicy(model, hermes, chat=Chat(hermes), max_tokens=60)
    done = policy.generate(requests(20))
    assert {c.finish for c in done} == {"stop"}
    assert any(c.token_ids[-1] != 2 for c in done)
    assert all(set(stops).isdisjoint(c.token_ids[:-1]) for c in done)
    monkeypatch.setattr(sampler, "KEEP_ROWS", 0.0)  # a finished row that stays in the batch is left alone
    assert [c.token_ids for c in policy.generate(requests(20))] == [c.token_ids for c in done]


def test_batches_do_not_change_replies(model: Any, hermes: Any, policy: LocalPolicy) -> None:
    small = LocalPolicy(model, hermes, max_tokens=12, batch=3)
    whole, parts = policy.generate(requests(10)), small.generate(requests(10))
    assert [c.token_ids for c in whole] == [c.token_ids for c in parts]


def test_a_call_outside_any_episode(policy: LocalPolicy) -> None:
    first = run_sync(policy([Message("user", "hi")]))
    second = run_sync(policy([Message("user", "hi")]))
    assert first.token_ids != second.token_ids
    fresh = LocalPolicy(policy.model, policy.tokenizer, max_tokens=12)
    assert run_sync(fresh([Message("user", "hi")])).token_ids == first.token_ids


async def episode(policy: LocalPolicy, task: str, member: int, delays: list[int], sizes: list[int]) -> list[Completion]:
    """Three dependent calls, with some turns of the event loop between them."""
    EPISODE.set(EpisodeKey(seed=1, task=task, member=member))
    messages, out = [Message("user", task)], []
    for delay in delays:
        for _ in range(delay):
            await asyncio.sleep(0)
        done = await policy(messages)
        messages += [done.message, Message("user", "and")]
        out.append(done)
    sizes.append(len(out))
    return out


def test_lockstep_order_does_not_matter(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    generate = LocalPolicy.generate
    monkeypatch.setattr(LocalPolicy, "generate", lambda self, r: (sizes.append(len(r)), generate(self, r))[1])
    names = list(itertools.product(["a", "bb", "ccc"], [0, 1]))
    rng, results = random.Random(0), []
    for order in (names, names[::-1], rng.sample(names, 6)):
        delays = [[rng.randrange(4) for _ in range(3)] for _ in names]
        coros = [episode(policy, t, m, d, []) for (t, m), d in zip(order, delays, strict=True)]
        results.append(dict(zip(order, run_sync(run_lockstep(coros)), strict=True)))
    assert results[0] == results[1] == results[2]  # ids and log-probs, bit for bit
    assert sizes == [6] * 9
    first, second = results[0]["a", 0][:2]
    assert second.prompt_ids[: len(first.prompt_ids + first.token_ids)] == first.prompt_ids + first.token_ids
    alone = run_sync(episode(policy, "ccc", 1, [0, 0, 0], []))
    assert [c.token_ids for c in alone] == [c.token_ids for c in results[0]["ccc", 1]]


def test_the_window_bounds_prompt_and_reply(model: Any, hermes: Any) -> None:
    message = Message("user", "hello")
    length = LocalPolicy(model, hermes).count_tokens([message])
    request = Request((0, 0, "", 0, 1), (message,), ())
    (done,) = LocalPolicy(model, hermes, window=length + 2).generate([request])
    assert len(done.token_ids) <= 2
    with pytest.raises(MnemonError, match=rf"{length} tokens.*window of {length}"):
        LocalPolicy(model, hermes, window=length).generate([request])
    assert LocalPolicy(model, hermes).window == 256
    assert request_seed(request.key) >= 0


def test_a_batch_that_memory_cannot_hold_is_sampled_in_parts(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Request((0, 0, f"t{i}", 0, 1), (Message("user", "hello " * i),), ()) for i in range(1, 8)]
    whole, sizes, plain = policy.generate(requests), [], policy.sample

    def small(prompts: Any, seeds: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("full")
        return plain(prompts, seeds)

    monkeypatch.setattr(policy, "sample", small)
    assert [c.token_ids for c in policy.generate(requests)] == [c.token_ids for c in whole]
    assert policy.batch <= 2 < max(sizes)
    monkeypatch.setattr(policy, "sample", lambda prompts, seeds: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        policy.generate(requests[:1])


def test_a_prompt_that_does_not_fit_fails_its_own_episode_only(model: Any, hermes: Any) -> None:
    """In lock-step: the other requests of the batch are answered."""
    policy = LocalPolicy(model, hermes, window=30, max_tokens=4)

    async def ask(text: str) -> Completion | MnemonError:
        try:
            return await policy([Message("user", text)])
        except TooLong as error:
            return error

    texts = ["hello", "hello " * 40, "hi"]
    found = run_sync(run_lockstep([ask(text) for text in texts]))
    assert [type(one) for one in found] == [Completion, TooLong, Completion]


def test_the_model_is_given_back_as_it_was(hermes: Any) -> None:
    model = build().train()
    LocalPolicy(model, hermes, max_tokens=2).generate(requests(2))
    assert model.training
    assert torch.is_grad_enabled()
    loss = model(torch.tensor([[1, 2, 3]])).logits.sum()
    loss.backward()


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"max_tokens": 0}, {"batch": 0}])
def test_bad_settings(model: Any, hermes: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(MnemonError, match="need >= 0"):
        LocalPolicy(model, hermes, **bad)


def test_a_model_that_ignores_the_cache_is_refused(hermes: Any) -> None:
    model = build()
    forward = model.forward
    model.forward = lambda **kwargs: forward(**{**kwargs, "past_key_values": None})
    with pytest.raises(MnemonError, match="does not use the key-value cache"):
        LocalPolicy(model, hermes).generate(requests(1))


# ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def saved(model: Any, hermes: Any, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    hermes.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_answers_as_before(policy: LocalPolicy, saved: Path) -> None:
    loaded = LocalPolicy.load(saved, device="cpu", max_tokens=12)
    assert [c.token_ids for c in loaded.generate(requests(5))] == [c.token_ids for c in policy.generate(requests(5))]
    assert loaded.chat.fingerprint == policy.chat.fingerprint
    assert loaded.model.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # PEFT reads the old name
def test_an_adapter_is_loaded_over_its_base(saved: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(saved)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    loaded = LocalPolicy.load(tmp_path / "adapter", device="cpu", max_tokens=6)
    direct = LocalPolicy(model, AutoTokenizer.from_pretrained(saved), max_tokens=6)
    plain = LocalPolicy.load(saved, device="cpu", max_tokens=6)
    ids = [[c.token_ids for c in p.generate(requests(6))] for p in (loaded, direct, plain)]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_load_errors_say_what_to_do(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MnemonError, match="no model directory"):
        load_model(str(tmp_path / "nowhere"), torch.float32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MnemonError, match=r"neither config\.json nor adapter_config\.json"):
        LocalPolicy.load(tmp_path / "empty")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(MnemonError, match="names no base model"):
        LocalPolicy.load(tmp_path / "adapter")
    (saved / "model.safetensors").unlink()
    with pytest.raises(MnemonError, match=r"could not load .* from the directory"):
        LocalPolicy.load(saved)

    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", unreachable)
    monkeypatch.setattr(local, "_hub_answers", lambda: False)
    with pytest.raises(MnemonError, match=r"some/model.*the hub does not answer.*couldn't connect.*network"):
        LocalPolicy.load("some/model")


def test_a_model_without_a_chat_template(model: Any, hermes: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    hermes.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(MnemonError, match="no chat template"):
        LocalPolicy.load(tmp_path, device="cpu")
