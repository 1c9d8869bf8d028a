"""The stack that these tests share."""

from tests.support.fixtures import api, model, model_server, stack

__all__ = ["api", "model", "model_server", "stack"]
