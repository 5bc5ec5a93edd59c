"""`LocalEmbedder` on a tiny random BERT made at run time, against a plain computation of its pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemon.memory.embed import Embedder
from mnemon.types import MnemonError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from mnemon.policy.embed import LocalEmbedder  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"anna lives in oslo the cat eats fish".split()]
TEXTS = ["anna", "the cat eats fish in oslo", "anna lives in oslo"]


def save_bert(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import
        yield


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


def hidden(folder: Path, text: str) -> np.ndarray[Any, Any]:
    """Last hidden states [T, d] of one text alone, without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states: np.ndarray[Any, Any] = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
    return states


def test_mean_pooling_ignores_padding_and_keeps_the_order(bert: Path) -> None:
    embed = LocalEmbedder.load(bert, batch=2)
    vectors = embed(TEXTS)
    assert isinstance(embed, Embedder)
    assert (vectors.shape, vectors.dtype, embed.dim) == ((3, 16), np.float32, 16)
    for text, vector in zip(TEXTS, vectors, strict=True):
        mean = hidden(bert, text).mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert embed([]).shape == (0, 16)
    assert embed.truncated == 0


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_a_model_says_how_it_pools(tmp_path: Path, config: dict[str, Any], pooling: str) -> None:
    folder = save_bert(tmp_path / "m")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    embed = LocalEmbedder.load(folder)
    assert embed.pooling == pooling
    states = hidden(folder, TEXTS[1])
    expected = states[0] if pooling == "cls" else states.mean(0)
    np.testing.assert_allclose(embed([TEXTS[1]])[0], expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("config", [{"pooling_mode_max_tokens": True}, {"pooling_mode": "lasttoken"}, {}])
def test_unknown_pooling_is_refused_unless_chosen(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = save_bert(tmp_path / "m")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(MnemonError, match="only mean and cls are known"):
        LocalEmbedder.load(folder)
    assert LocalEmbedder.load(folder, pooling="mean").pooling == "mean"


def test_long_texts_are_cut_and_counted(bert: Path) -> None:
    embed = LocalEmbedder.load(bert)
    assert embed.max_tokens == 12
    short, long = embed(["anna " * 10, "anna " * 30])
    np.testing.assert_allclose(short, long, atol=1e-5)
    assert embed.truncated == 1
    assert LocalEmbedder.load(bert, max_tokens=4).max_tokens == 4


def test_the_id_follows_weights_and_settings(bert: Path, tmp_path: Path) -> None:
    same, other = save_bert(tmp_path / "a" / "tiny-bert"), save_bert(tmp_path / "b" / "tiny-bert", seed=1)
    first = LocalEmbedder.load(bert).id
    assert first.startswith("tiny-bert#")
    assert LocalEmbedder.load(same).id == first
    ids = {first, LocalEmbedder.load(other).id, LocalEmbedder.load(bert, pooling="cls").id}
    assert len(ids | {LocalEmbedder.load(bert, max_tokens=4).id}) == 4


def test_errors_are_clear(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(MnemonError, match=r"cannot be loaded.*config.json"):
        LocalEmbedder.load(tmp_path / "nothing")
    with pytest.raises(MnemonError, match="cannot be loaded"):
        LocalEmbedder.load("no/such-model-anywhere")
    embed = LocalEmbedder.load(bert)
    with pytest.raises(MnemonError, match="text 0 to embed"):
        embed([""])
    with torch.no_grad():
        embed.model.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(MnemonError, match="zero or not finite"):
        embed(["anna"])


def test_a_tokenizer_without_padding_is_refused(bert: Path) -> None:
    embed = LocalEmbedder.load(bert)
    embed.tokenizer.pad_token = None
    with pytest.raises(MnemonError, match="no padding token"):
        LocalEmbedder(embed.model, embed.tokenizer, "x", max_tokens=8)
