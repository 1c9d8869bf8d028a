"""The roles of turning text into vectors: dense ones that know meaning, sparse ones that know words."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

DenseVector: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Weights of words: `indices` are hashes of words, ascending, `values` the weight of each."""

    indices: Sequence[int]
    values: Sequence[float]


class Urgency(IntEnum):
    """Who waits for a vector; lower goes first."""

    QUERY = 0
    INDEXING = 1


class Embedder(Protocol):
    """Dense vectors of length 1, so that a dot product is the cosine."""

    @property
    def model(self) -> str:
        """Names what made the vectors; vectors of different models are never compared."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        ...

    async def embed(self, texts: Sequence[str], urgency: Urgency) -> list[DenseVector]:
        """One vector for each text, in order. Texts seen lately cost nothing."""
        ...


class LexicalEncoder(Protocol):
    """Sparse vectors for BM25; the index multiplies in how rare a word is."""

    def document(self, text: str) -> SparseVector:
        """Weights of a text that shall be found."""
        ...

    def query(self, text: str) -> SparseVector:
        """Weights of a text that asks."""
        ...
