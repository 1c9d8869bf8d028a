"""Text to vectors, in this process."""

from memory_svc.adapters.embedder.cached import CachedEmbedder
from memory_svc.adapters.embedder.minilm import MiniLmModel

__all__ = ["CachedEmbedder", "MiniLmModel"]
