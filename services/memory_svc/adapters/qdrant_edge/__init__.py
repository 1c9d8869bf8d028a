"""The vector index as Qdrant Edge: the real engine inside this process, in a folder."""

from memory_svc.adapters.qdrant_edge.index import QdrantEdgeIndex

__all__ = ["QdrantEdgeIndex"]
