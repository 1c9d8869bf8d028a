"""The stack that these tests share."""

from tests.support.fixtures import api, model_server, stack

__all__ = ["api", "model_server", "stack"]
