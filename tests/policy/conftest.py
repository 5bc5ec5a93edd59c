"""Small tokenizers of both families, built at run time, and a tiny random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures"
SPECIAL = {
    "hermes": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama3": [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|python_tag|>",
    ],
}
EXTRA = {"hermes": ["<think>", "</think>", "<tool_call>", "</tool_call>"], "llama3": []}
EOS = {"hermes": "<|im_end|>", "llama3": "<|eot_id|>"}


def build_tokenizer(form: str) -> Any:
    """Byte-level BPE with a few merges, the special tokens of the family, and its template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL[form],
        show_progress=False,
    )
    inner.train_from_iterator(
        ['{"name": "add", "arguments": {"text": "Anna lives in Oslo"}}\n\nassistant user'] * 9, trainer
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=EOS[form], bos_token=SPECIAL[form][0])
    tokenizer.add_tokens(EXTRA[form])
    tokenizer.chat_template = (FIXTURES / f"{form}.jinja").read_text()
    return tokenizer


@pytest.fixture(scope="session")
def hermes() -> Any:
    return build_tokenizer("hermes")


@pytest.fixture(scope="session")
def llama3() -> Any:
    return build_tokenizer("llama3")


@pytest.fixture(scope="session", params=["hermes", "llama3"])
def family(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)
