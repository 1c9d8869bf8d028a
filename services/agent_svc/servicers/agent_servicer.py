"""AgentService on the wire."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

from agent_svc.domain.agent import Agent
from agent_svc.domain.export_file import MAX_FILE_BYTES
from agent_svc.managers.agent_factory import AgentFactory
from agent_svc.managers.agent_manager import AgentManager
from agent_svc.managers.export_manager import ExportManager, ToolConflict
from agent_svc.servicers.mapping import agent_to_proto, change_from_proto, draft_from_proto, optional_id
from agent_svc.servicers.paging import Page
from chassis import ids
from chassis.errors import invalid_field
from chassis.idempotency import request_key
from chassis.identity import current
from chassis.once import Once, RequestKey
from chassis.pagination import PageTokens, page_size
from hearth.agent.v1 import agent_service_pb2 as pb
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceServicer

_PART_BYTES: Final = 256 * 1024


class AgentServicer(AgentServiceServicer):
    """Messages in, messages out."""

    def __init__(self, agents: AgentManager, factory: AgentFactory, exports: ExportManager, pages: PageTokens) -> None:
        self._agents = agents
        self._factory = factory
        self._exports = exports
        self._pages = pages

    async def CreateAgent(self, request: pb.CreateAgentRequest, context: Any) -> pb.CreateAgentResponse:
        once = Once[Agent](request_key(request), lambda made: _created(made).SerializeToString())
        return _created(await self._factory.create(current(), draft_from_proto(request), once))

    async def GetAgent(self, request: pb.GetAgentRequest, context: Any) -> pb.GetAgentResponse:
        found = await self._agents.get(current(), optional_id("agent", request.agent_id), request.name)
        return pb.GetAgentResponse(agent=agent_to_proto(found))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Any) -> pb.ListAgentsResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._agents.page(caller, request.tags, request.text, page.id, page_size(request.page_size))
        return pb.ListAgentsResponse(
            agents=[agent_to_proto(one) for one in found],
            next_page_token=page.next(found[-1].id if found else None, more),
        )

    async def UpdateAgent(self, request: pb.UpdateAgentRequest, context: Any) -> pb.UpdateAgentResponse:
        given = request.agent
        change = change_from_proto(given, request.update_mask.paths)
        changed = await self._agents.update(current(), ids.decode("agent", given.id), change, given.etag)
        return pb.UpdateAgentResponse(agent=agent_to_proto(changed))

    async def DeleteAgent(self, request: pb.DeleteAgentRequest, context: Any) -> pb.DeleteAgentResponse:
        await self._agents.delete(current(), ids.decode("agent", request.agent_id))
        return pb.DeleteAgentResponse()

    async def ExportAgent(self, request: pb.ExportAgentRequest, context: Any) -> AsyncIterator[pb.ExportAgentResponse]:
        part = bytearray()
        async for line in self._exports.export(current(), ids.decode("agent", request.agent_id)):
            part += line
            while len(part) >= _PART_BYTES:
                yield pb.ExportAgentResponse(data=bytes(part[:_PART_BYTES]))
                del part[:_PART_BYTES]
        yield pb.ExportAgentResponse(data=bytes(part))

    async def ImportAgent(
        self, request_iterator: AsyncIterator[pb.ImportAgentRequest], context: Any
    ) -> pb.ImportAgentResponse:
        first, data = await _whole_file(request_iterator)
        options = pb.ImportAgentRequest(request_id=first.request_id, name=first.name, tool_conflict=first.tool_conflict)
        key = request_key(options)
        if key is not None:
            digest = hashlib.sha256(key.body_hash + hashlib.sha256(data).digest()).digest()
            key = RequestKey(key.method, key.request_id, digest)
        once = Once[Agent](key, lambda made: _imported(made).SerializeToString())
        conflict = ToolConflict(first.tool_conflict or ToolConflict.REFUSE.value)
        return _imported(await self._exports.import_(current(), data, first.name, conflict, once))


def _created(agent: Agent) -> pb.CreateAgentResponse:
    return pb.CreateAgentResponse(agent=agent_to_proto(agent))


def _imported(agent: Agent) -> pb.ImportAgentResponse:
    return pb.ImportAgentResponse(agent=agent_to_proto(agent))


async def _whole_file(parts: AsyncIterator[pb.ImportAgentRequest]) -> tuple[pb.ImportAgentRequest, bytes]:
    """The first part, and the data of all. Raises InvalidArgument when they are too much."""
    first: pb.ImportAgentRequest | None = None
    data = bytearray()
    async for part in parts:
        first = first or part
        data += part.data
        if len(data) > MAX_FILE_BYTES:
            raise invalid_field("data", f"is more than {MAX_FILE_BYTES // 1024**2} MiB together")
    return first or pb.ImportAgentRequest(), bytes(data)
