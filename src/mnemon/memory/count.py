"""Token counters by name: sizes are only comparable when they name who counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mnemon.memory.memory import count_words
from mnemon.types import MnemonError


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """``counter(text)`` is a number of tokens; `name` is written beside every size that it gave."""

    name: str
    count: Callable[[str], int]

    def __call__(self, text: str) -> int:
        return self.count(text)


def count_bytes(text: str) -> int:
    """UTF-8 bytes: the tokens of a byte-level model."""
    return len(text.encode("utf-8", "surrogatepass"))


WORDS = TokenCounter("words", count_words)
BYTES = TokenCounter("bytes", count_bytes)


def token_counter(name: str) -> TokenCounter:
    """``"words"``, ``"bytes"``, or a tokenizer: a folder with tokenizer.json, that file, or a Hugging Face hub id.

    A local tokenizer is named by its folder and the first 8 hex digits of the file's sha256. Special tokens are not
    counted. Raises MnemonError where there is no such tokenizer.
    """
    for known in (WORDS, BYTES):
        if name == known.name:
            return known
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MnemonError(
            f"counter {name!r}: a tokenizer needs pip install 'mnemon[train]'; or words, bytes"
        ) from error
    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        raw = file.read_bytes()
        title = f"{path.name if path.is_dir() else file.stem}@{hashlib.sha256(raw).hexdigest()[:8]}"
        read: Callable[[], Any] = partial(Tokenizer.from_buffer, raw)
    elif path.exists():
        raise MnemonError(f"counter {name!r}: the folder has no tokenizer.json (a fast tokenizer's file)")
    elif path.suffix == ".json":
        raise MnemonError(f"counter {name!r} is no tokenizer: there is no such file")
    else:
        title = name
        read = partial(Tokenizer.from_pretrained, name)
    try:
        tokenizer = read()
    except Exception as error:  # the library raises bare Exception
        raise MnemonError(
            f"counter {name!r} is no tokenizer ({str(error).splitlines()[0]}); "
            "use words, bytes, a folder with tokenizer.json, or a hub id"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenCounter(title, lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids))
