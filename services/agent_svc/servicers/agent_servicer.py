"""AgentService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agent_svc.domain.agent import Agent
from agent_svc.managers.agent_factory import AgentFactory
from agent_svc.managers.agent_manager import AgentManager
from agent_svc.servicers.mapping import agent_to_proto, change_from_proto, draft_from_proto, optional_id
from agent_svc.servicers.paging import Page
from chassis import ids
from chassis.errors import not_implemented
from chassis.idempotency import request_key
from chassis.identity import current
from chassis.once import Once
from chassis.pagination import PageTokens, page_size
from hearth.agent.v1 import agent_service_pb2 as pb
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceServicer


class AgentServicer(AgentServiceServicer):
    """Messages in, messages out."""

    def __init__(self, agents: AgentManager, factory: AgentFactory, pages: PageTokens) -> None:
        self._agents = agents
        self._factory = factory
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
        raise not_implemented("exporting agents")
        yield  # makes this a stream

    async def ImportAgent(
        self, request_iterator: AsyncIterator[pb.ImportAgentRequest], context: Any
    ) -> pb.ImportAgentResponse:
        raise not_implemented("importing agents")


def _created(agent: Agent) -> pb.CreateAgentResponse:
    return pb.CreateAgentResponse(agent=agent_to_proto(agent))
