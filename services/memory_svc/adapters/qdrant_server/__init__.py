"""A Qdrant server or cluster, through qdrant-client. Importing this costs a second and is done only where it is used."""

from memory_svc.adapters.qdrant_server.index import QdrantServerIndex, open_client

__all__ = ["QdrantServerIndex", "open_client"]
