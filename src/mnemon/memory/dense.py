"""Ranking by sentence embeddings: exact cosine over one matrix. Needs numpy only; the model is the embedder's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnemon.memory.retrieve import Keep, Ranking, top
from mnemon.types import MnemonError

if TYPE_CHECKING:
    from mnemon.memory.embed import Embedder


@dataclass(frozen=True)
class Dense:
    """Cosine of sentence embeddings, exact. Scores are rounded to 6 decimals, so that equal texts tie.

    A blank text has no vector: such a document scores 0, such a query ranks nothing.

    `query_prefix` and `document_prefix` are put before the texts, for models trained with instructions.
    """

    embedder: Embedder
    fields: tuple[str, ...] = ("text",)
    query_prefix: str = ""
    document_prefix: str = ""

    @property
    def id(self) -> str:
        prefixes = f"{self.query_prefix!r},{self.document_prefix!r}"
        return f"dense({self.embedder.id},prefixes={prefixes},fields={'+'.join(self.fields)})"

    def index(self) -> DenseIndex:
        return DenseIndex(self)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n] texts -> [n, d]; MnemonError where the embedder breaks its contract."""
        vectors_N_D = np.asarray(self.embedder(texts), dtype=np.float32)
        if vectors_N_D.ndim != 2 or len(vectors_N_D) != len(texts):
            raise MnemonError(
                f"Embedder {self.embedder.id!r} returned shape {vectors_N_D.shape} for {len(texts)} texts; "
                "it must return one row per text."
            )
        if not np.allclose(np.linalg.norm(vectors_N_D, axis=1), 1, atol=1e-2):
            raise MnemonError(
                f"Embedder {self.embedder.id!r} returned rows that are not of length 1; normalise them "
                "(a row of zeros or of NaN means that a text could not be embedded)."
            )
        return vectors_N_D


class DenseIndex:
    """Vectors in one matrix, one slot per document; new texts are embedded together at the next search or copy."""

    def __init__(self, settings: Dense) -> None:
        self.settings = settings
        self._matrix_C_D: NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)  # C slots, len(self) in use
        self._ids: list[int] = []
        self._slot: dict[int, int] = {}
        self._pending: dict[int, str] = {}
        self._blank: set[int] = set()
        self._shared = False

    def __len__(self) -> int:
        return len(self._ids) + len(self._pending) + len(self._blank)

    def add(self, entry_id: int, text: str) -> None:
        if entry_id in self._slot or entry_id in self._pending or entry_id in self._blank:
            self.remove(entry_id)
        if text.strip():
            self._pending[entry_id] = text
        else:
            self._blank.add(entry_id)

    def remove(self, entry_id: int) -> None:
        if entry_id in self._blank:
            self._blank.remove(entry_id)
            return
        if entry_id in self._pending:
            del self._pending[entry_id]
            return
        slot, last = self._slot.pop(entry_id), self._ids.pop()
        if last != entry_id:  # the last document moves into the free slot
            self._own(len(self._ids) + 1)
            self._matrix_C_D[slot] = self._matrix_C_D[len(self._ids)]
            self._ids[slot], self._slot[last] = last, slot

    def search(self, query: str, k: int, among: Keep | None = None, all: bool = False) -> Ranking:
        if k <= 0 or not len(self):
            return []
        self._flush()
        scores: dict[int, float] = {}
        if query.strip() and self._ids:
            query_D = self.settings.embed([self.settings.query_prefix + query])[0]
            cosine_N = (self._matrix_C_D[: len(self._ids)] @ query_D).astype(np.float64).round(6)
            scores = dict(zip(self._ids, cosine_N.tolist(), strict=True))
        return top(scores, k, (*self._ids, *self._blank), among, all)

    def copy(self) -> DenseIndex:
        self._flush()
        other = DenseIndex(self.settings)
        other._matrix_C_D = self._matrix_C_D
        self._shared = other._shared = True
        other._ids, other._slot, other._blank = self._ids.copy(), self._slot.copy(), self._blank.copy()
        return other

    def _own(self, capacity: int) -> None:
        """Make the matrix this index's own and at least `capacity` rows long."""
        rows, width = self._matrix_C_D.shape
        if self._shared or rows < capacity:
            grown = np.zeros((max(capacity, rows, min(2 * rows, rows + 4096)), width), dtype=np.float32)
            grown[:rows] = self._matrix_C_D
            self._matrix_C_D, self._shared = grown, False

    def _flush(self) -> None:
        if not self._pending:
            return
        prefix = self.settings.document_prefix
        new_M_D = self.settings.embed([prefix + text for text in self._pending.values()])
        if not self._ids:
            self._matrix_C_D, self._shared = new_M_D.copy(), False
        else:
            if new_M_D.shape[1] != self._matrix_C_D.shape[1]:
                raise MnemonError(
                    f"Embedder {self.settings.embedder.id!r} returned {new_M_D.shape[1]} numbers per text, before "
                    f"{self._matrix_C_D.shape[1]}; index all entries with one model."
                )
            self._own(len(self._ids) + len(new_M_D))
            self._matrix_C_D[len(self._ids) : len(self._ids) + len(new_M_D)] = new_M_D
        for entry_id in self._pending:
            self._slot[entry_id] = len(self._ids)
            self._ids.append(entry_id)
        self._pending = {}
