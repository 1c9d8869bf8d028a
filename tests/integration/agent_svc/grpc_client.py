"""A user of agent_svc over gRPC."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from chassis import ids
from chassis.errors import DomainError
from chassis.status import from_rpc_error
from hearth.agent.v1 import agent_pb2, agent_service_pb2
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceStub


@dataclass
class Client:
    """The channel and the credential of one user."""

    token: str
    channel: grpc.aio.Channel

    @property
    def md(self) -> tuple[tuple[str, str], ...]:
        """Metadata with the credential."""
        return (("authorization", f"Bearer {self.token}"),)

    async def agent(self, **fields: Any) -> agent_pb2.Agent:
        """A new agent, with a name of its own unless one is given."""
        named: dict[str, Any] = {"name": ids.new().hex, **fields}
        request = agent_service_pb2.CreateAgentRequest(**named)
        return (await AgentServiceStub(self.channel).CreateAgent(request, metadata=self.md)).agent


async def refused(call: Awaitable[Any]) -> DomainError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return from_rpc_error(error.value)
