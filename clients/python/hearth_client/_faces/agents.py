"""Agents: create, read, change, delete."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from hearth.agent.v1.agent_pb2 import Agent, AgentSettings, ToolRule
from hearth.agent.v1.agent_service_pb2 import (
    BlockSpec,
    CreateAgentRequest,
    DeleteAgentRequest,
    ExportAgentRequest,
    GetAgentRequest,
    ImportAgentRequest,
    ListAgentsRequest,
    ToolConflict,
    UpdateAgentRequest,
)
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

_PART_BYTES = 512 * 1024


class Agents:
    """`client.agents`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> AgentServiceAsyncStub:
        return AgentServiceStub(self._connection.channel)

    async def create(
        self,
        name: str = "",
        *,
        model: str = "",
        instructions: str = "",
        description: str = "",
        tools: Iterable[str] = (),
        blocks: Mapping[str, str] | Sequence[BlockSpec] = (),
        block_ids: Iterable[str] = (),
        tags: Iterable[str] = (),
        settings: AgentSettings | None = None,
        metadata: Mapping[str, str] | None = None,
        tool_rules: Iterable[ToolRule] = (),
        template: str = "",
        template_version: int = 0,
        variables: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Agent:
        """A new agent. Empty `model` and `instructions` mean the server's defaults; `tools` are ids or names; `blocks` are label → value, or
        BlockSpecs; `tool_rules` name tools that the agent has. With a `template` (version 0: the newest) only what is given here differs from
        it. Raises AlreadyExistsError NAME_TAKEN, InvalidArgumentError MODEL_UNKNOWN.
        """
        specs = [BlockSpec(label=k, value=v) for k, v in blocks.items()] if isinstance(blocks, Mapping) else blocks
        request = CreateAgentRequest(
            request_id=request_id or new_request_id(),
            name=name,
            model=model,
            instructions=instructions,
            description=description,
            tools=tools,
            blocks=specs,
            block_ids=block_ids,
            tags=tags,
            settings=settings,
            metadata=metadata,
            tool_rules=tool_rules,
            template=template,
            template_version=template_version,
            variables=variables,
        )
        return (await self._connection.call(self._stub.CreateAgent, request)).agent

    async def get(self, agent_id: str = "", *, name: str = "") -> Agent:
        """By id or by name. Raises NotFoundError."""
        request = GetAgentRequest(name=name) if name else GetAgentRequest(agent_id=agent_id)
        return (await self._connection.call(self._stub.GetAgent, request)).agent

    def list(self, *, tags: Iterable[str] = (), text: str = "", page_size: int = 0) -> AsyncIterator[Agent]:
        """Newest first; only those with all `tags` and with `text` in name or description."""
        wanted = tuple(tags)

        async def fetch(token: str) -> tuple[Sequence[Agent], str]:
            request = ListAgentsRequest(tags=wanted, text=text, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListAgents, request)
            return response.agents, response.next_page_token

        return pages(fetch)

    async def update(self, agent: Agent, *paths: str) -> Agent:
        """Changes the fields named by `paths` to what `agent` holds. Raises AbortedError ETAG_MISMATCH if its etag is set and stale."""
        request = UpdateAgentRequest(agent=agent, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._stub.UpdateAgent, request)).agent

    async def delete(self, agent_id: str) -> None:
        """Removes the agent, its conversations and its memory. Twice is fine."""
        await self._connection.call(self._stub.DeleteAgent, DeleteAgentRequest(agent_id=agent_id))

    async def export(self, agent_id: str) -> AsyncIterator[bytes]:
        """The agent as a file (docs/export.md), in parts. Raises NotFoundError."""
        async for part in self._connection.stream(self._stub.ExportAgent, ExportAgentRequest(agent_id=agent_id)):
            yield part.data

    async def import_file(
        self,
        data: bytes,
        *,
        name: str = "",
        tool_conflict: ToolConflict.ValueType = ToolConflict.TOOL_CONFLICT_REFUSE,
        request_id: str = "",
    ) -> Agent:
        """A new agent as the file says, called `name` if given. Raises InvalidArgumentError EXPORT_INVALID, AlreadyExistsError NAME_TAKEN."""

        async def requests() -> AsyncIterator[ImportAgentRequest]:
            yield ImportAgentRequest(request_id=request_id or new_request_id(), name=name, tool_conflict=tool_conflict)
            for start in range(0, len(data), _PART_BYTES):
                yield ImportAgentRequest(data=data[start : start + _PART_BYTES])

        return (await self._connection.upload(self._stub.ImportAgent, requests())).agent


class BlockingAgents(BlockingFace[Agents]):
    """`client.agents`, blocking."""

    create = call(Agents.create)
    get = call(Agents.get)
    list = iterate(Agents.list)
    update = call(Agents.update)
    delete = call(Agents.delete)
    export = iterate(Agents.export)
    import_file = call(Agents.import_file)
