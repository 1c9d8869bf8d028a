"""Text to vectors: in this process, or by an endpoint (imported only where one is used)."""

from memory_svc.adapters.embedder.cached import CachedEmbedder
from memory_svc.adapters.embedder.minilm import MiniLmModel

__all__ = ["CachedEmbedder", "MiniLmModel"]
