"""The stack that contract and e2e tests share, so that one run of both starts it once."""

from tests.support.fixtures import api, model, model_server, stack

__all__ = ["api", "model", "model_server", "stack"]
