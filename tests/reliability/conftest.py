"""Tests that kill processes share a stack of their own, since others would notice: with two replicas of agent_svc, and failpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import Stack
from tests.fakes.model_control import ThreadedModelServer
from tests.support.fixtures import api, environment, model, model_server

__all__ = ["api", "model", "model_server"]


@pytest.fixture(scope="session")
def failpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which faults wait for the stack's processes, see chassis.failpoints."""
    return tmp_path_factory.mktemp("failpoints")


@pytest.fixture(scope="session")
def stack(model_server: ThreadedModelServer, failpoints: Path) -> Iterator[Stack]:
    """The whole stack, with a second agent_svc: agent_svc_2."""
    more = {"HEARTH_AGENT_REPLICAS": "2", "HEARTH_FAILPOINTS": str(failpoints), "HEARTH_SHUTDOWN_GRACE_S": "2"}
    with Stack(env=environment(model_server) | more) as running:
        yield running
