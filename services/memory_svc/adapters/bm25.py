"""The word side of search: BM25 document and query weights, by the engine's own encoder."""

from qdrant_edge import Bm25, Bm25Config

from memory_svc.domain.lexical_text import for_ranking
from memory_svc.interfaces.embedder import SparseVector

# Found on development data: short conversational texts saturate early (k) and differ little in worth by length (b).
_K = 0.9
_B = 0.3


class Bm25Encoder:
    """A LexicalEncoder. `average_words` is the usual length of a text in words; it only scales length against it."""

    def __init__(self, average_words: float) -> None:
        self._model = Bm25(Bm25Config(k=_K, b=_B, avg_len=average_words, language="english"))

    def document(self, text: str) -> SparseVector:
        vector = self._model.embed_document(for_ranking(text))
        return SparseVector(vector.indices, vector.values)

    def query(self, text: str) -> SparseVector:
        vector = self._model.embed_query(for_ranking(text))
        return SparseVector(vector.indices, vector.values)
