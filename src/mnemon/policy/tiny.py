"""The tiny model: the Qwen3 architecture at half a million weights, and a word-level tokenizer, in Hugging Face format.

It is loaded, sampled and trained by the same code as a model a thousand times larger. Trained from scratch it must
first learn to copy words from its prompt, which plain initialisation makes the bottleneck; `induction_init` gives it
the two circuits that copying needs (an attention head that looks at the previous token, and one that looks for earlier
occurrences of the current token). It is an initialisation only: every weight is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

END, START = "<|im_end|>", "<|im_start|>"
CALL_PIECES = (
    '{"name": "add", "arguments": {"text": "',
    '{"name": "update", "arguments": {"id": "',
    '{"name": "delete", "arguments": {"id": "',
    '{"name": "noop", "arguments": {}}',
    '", "text": "',
    '"}}',
)
"""The fixed text of the four calls: one token each, so that a call is a handful of tokens and always valid JSON."""
OPERATIONS = {"add": CALL_PIECES[0], "update": CALL_PIECES[1], "delete": CALL_PIECES[2], "noop": CALL_PIECES[3]}

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content %}{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}{% set f = c.function if c.function is defined else c %}"
    '<tool_call>{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(words: Sequence[str], call_pieces: Sequence[str] = CALL_PIECES) -> Any:
    """One token per word and per piece of a call; white space only separates. Decoding joins by single spaces and
    closes up JSON strings.
    """
    specials = ["<pad>", "<unk>", START, END]
    pieces = ["<think>", "</think>", "<tool_call>", "</tool_call>", "**Answer:**", *call_pieces]
    every = dict.fromkeys([*specials, *pieces, "user", "assistant", "system", "tool", *words])
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(every)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex("^"), " "),
            decoders.Fuse(),
            decoders.Replace(Regex('(?<=": ") | (?="}}|", ")|^ '), ""),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in specials])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in pieces])
    fast: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.chat_template = TEMPLATE
    return fast


def build_model(
    tokenizer: Any, *, width: int = 128, layers: int = 2, heads: int = 4, feed_forward: int = 384, seed: int = 0
) -> Qwen3ForCausalLM:
    """A fresh model with `induction_init`; float32, CPU."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.pad_token_id,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    induction_init(model, seed)
    torch.random.set_rng_state(state)
    return model


def _orthogonal(size: int, generator: torch.Generator) -> Tensor:
    q: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return q


@torch.no_grad()
def induction_init(model: Qwen3ForCausalLM, seed: int = 0, gain: float = 2.0, copy: float = 1.1) -> None:
    """Previous-token heads in the first layer, matching heads in the last, orthogonal copies through both.

    First layer, position i: queries and keys are driven by one constant coordinate of the embeddings. With rotary
    frequencies ω_f and the keys turned ahead by ω_f, the score of position j is Σ_f cos(ω_f (i − j − 1)), largest at
    j = i − 1. Values and outputs copy that token through a rotation R into a place of its own: h_i = x_i + R x_{i−1}.
    Last layer: queries read x_i, keys read Rᵀh_j ≈ x_{j−1}, so that i attends to what followed its token earlier, and
    values and outputs (√copy·Q, √copy·Qᵀ up to scale) write x_j where the tied output embedding reads it.
    """
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    width, heads, dim = config.hidden_size, config.num_attention_heads, config.head_dim
    half = dim // 2
    weight = model.model.embed_tokens.weight
    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    weight[:, 0] = 1.0  # the constant coordinate
    frequencies = 10000.0 ** (-torch.arange(half) / half)
    place = _orthogonal(width, generator)  # R
    first, last = model.model.layers[0].self_attn, model.model.layers[-1].self_attn
    for attention in (first, last):
        attention.q_norm.weight.fill_(gain)
        attention.k_norm.weight.fill_(gain)
    noise = 0.02
    for projection in (first.q_proj, first.k_proj):
        projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator) * noise * 0.25)
    for head in range(heads):
        for f in range(3):  # the three highest frequencies; a pair is (f, f + half)
            angle = float(frequencies[f])
            first.q_proj.weight[head * dim + f, 0] = 1.0
            first.k_proj.weight[head * dim + f, 0] = math.cos(angle)
            first.k_proj.weight[head * dim + f + half, 0] = math.sin(angle)
    turn = _orthogonal(width, generator)
    turn_no_constant = turn.clone()
    turn_no_constant[:, 0] = 0.0
    first.v_proj.weight.copy_(0.47 * turn_no_constant)
    first.o_proj.weight.copy_(0.47 * place @ turn.T)
    if config.num_hidden_layers < 2:
        return
    low = torch.cat([torch.arange(4, half), torch.arange(4, half) + half])  # slow pairs: content, not position
    queries = torch.randn(heads * dim, width, generator=generator) * noise
    keys = torch.randn(heads * dim, width, generator=generator) * noise
    for head in range(heads):
        reading = _orthogonal(width, generator)[: len(low)]
        reading[:, 0] = 0.0
        queries[head * dim + low] = reading
        keys[head * dim + low] = reading @ place.T
    last.q_proj.weight.copy_(queries)
    last.k_proj.weight.copy_(keys)
    turn = _orthogonal(width, generator)
    values = copy * turn.clone()
    values[:, 0] = 0.0
    last.v_proj.weight.copy_(values)
    last.o_proj.weight.copy_(copy * turn.T)
    model.model.norm.weight.fill_(0.3)
