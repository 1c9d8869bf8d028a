"""Implementations of the interfaces that are not Postgres: the embedder, the lexical encoder, the vector index."""
