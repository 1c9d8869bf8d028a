"""Tests that kill processes share a stack of their own, since others would notice."""

from tests.support.fixtures import api, model, model_server, stack

__all__ = ["api", "model", "model_server", "stack"]
