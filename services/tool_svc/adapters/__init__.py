"""Implementations of the interfaces that are not repositories: the sandbox, schema reading."""
