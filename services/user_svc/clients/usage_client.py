"""The services that count what organizations use, asked as user_svc on behalf of the organization."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc

from chassis.identity import Identity, Role, use
from hearth.agent.internal.v1 import usage_service_pb2 as agent
from hearth.agent.internal.v1.usage_service_pb2_grpc import UsageServiceStub as AgentUsageStub
from hearth.memory.internal.v1 import usage_service_pb2 as memory
from hearth.memory.internal.v1.usage_service_pb2_grpc import UsageServiceStub as MemoryUsageStub
from hearth.tool.internal.v1 import usage_service_pb2 as tool
from hearth.tool.internal.v1.usage_service_pb2_grpc import UsageServiceStub as ToolUsageStub
from user_svc.domain.limits import Usage
from user_svc.domain.purge import OWN
from user_svc.domain.token import Claims
from user_svc.interfaces.signing import SigningKeys, TokenSigner

_log = logging.getLogger(__name__)

_TIMEOUT_S = 0.5
_TOKEN_LIFETIME = timedelta(minutes=1)

Count = Callable[[], Awaitable[int]]


class OwnIdentity:
    """user_svc as the other services know it. It signs its own tokens."""

    def __init__(self, keys: SigningKeys, signer: TokenSigner) -> None:
        self._keys = keys
        self._signer = signer

    async def acting_for(self, organization_id: UUID) -> Identity:
        """A SERVICE identity for one organization, for the next minute. Raises Unavailable without a signing key."""
        now = datetime.now(UTC)
        claims = Claims(f"svc:{OWN}", organization_id, Role.SERVICE, "", "", now, now + _TOKEN_LIFETIME)
        token = self._signer.sign(claims, await self._keys.signing())
        return Identity(organization_id, claims.subject, Role.SERVICE, token)


class UsageClient:
    """Implements interfaces.usage.UsageReader."""

    def __init__(self, identity: OwnIdentity, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._identity = identity
        self._channels = channels

    async def of(self, organization_id: UUID) -> Usage:
        counts = self._counts()
        with use(await self._identity.acting_for(organization_id)):
            found = dict(zip(counts, await asyncio.gather(*map(_answer, counts.values())), strict=True))
        for service in (silent := tuple(name for name, count in found.items() if count is None)):
            _log.info("usage is incomplete", extra={"service": service})
        return Usage(found["agent_svc"], found["memory_svc"], found["tool_svc"], silent)

    def _counts(self) -> Mapping[str, Count]:
        async def runs() -> int:
            stub = AgentUsageStub(self._channels["agent_svc"])
            return (await stub.GetUsage(agent.GetUsageRequest(), timeout=_TIMEOUT_S)).active_runs

        async def passages() -> int:
            stub = MemoryUsageStub(self._channels["memory_svc"])
            return (await stub.GetUsage(memory.GetUsageRequest(), timeout=_TIMEOUT_S)).stored_passages

        async def calls() -> int:
            stub = ToolUsageStub(self._channels["tool_svc"])
            return (await stub.GetUsage(tool.GetUsageRequest(), timeout=_TIMEOUT_S)).tool_calls_last_minute

        return {"agent_svc": runs, "memory_svc": passages, "tool_svc": calls}


async def _answer(count: Count) -> int | None:
    try:
        return await count()
    except grpc.aio.AioRpcError:
        return None
