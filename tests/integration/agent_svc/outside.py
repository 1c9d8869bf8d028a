"""What stands behind agent_svc's interfaces in these tests: memory, tools and identities in this process."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from agent_svc.domain.agent import BlockDraft
from agent_svc.domain.conversation import ToolCallOutcome
from agent_svc.domain.log import Unindexed
from agent_svc.domain.prompt import CompiledMemory
from agent_svc.domain.tool import Tool, ToolResult, failed
from agent_svc.interfaces.agent_specs import BadSpec, SpecFault
from agent_svc.interfaces.memory import MemoryChange
from agent_svc.interfaces.tools import ToolSource
from chassis import ids
from chassis.errors import NotFound, Unavailable
from chassis.identity import Identity, Role, current

Behaviour = Callable[[dict[str, object]], Awaitable[str]]


class MemoryInProcess:
    """All roles of memory; `away` makes every call fail as if memory_svc were down."""

    def __init__(self) -> None:
        self.away = False
        self.core = "<memory_blocks></memory_blocks>"
        self.recalled = ""
        self.compiled: list[tuple[str, int, int]] = []
        self.changes: dict[UUID, str] = {}
        self.blocks: dict[UUID, list[str]] = {}
        self.drafts: dict[UUID, list[BlockDraft]] = {}
        self.refused_labels: set[str] = set()
        self.forgotten: list[UUID] = []
        self.indexed: list[tuple[UUID, int, str]] = []

    def _call(self) -> None:
        assert current().role is Role.SERVICE or current().subject.startswith("user_")
        if self.away:
            raise Unavailable("memory is away", reason="DEPENDENCY_UNAVAILABLE")

    async def compile(
        self, agent_id: UUID, conversation_id: UUID, text: str, *, recall_tokens: int, exclude_from_seq: int
    ) -> CompiledMemory:
        self._call()
        self.compiled.append((text, recall_tokens, exclude_from_seq))
        return CompiledMemory(self.core, self.recalled if recall_tokens else "")

    async def append(self, agent_id: UUID, label: str, text: str, request_id: UUID) -> MemoryChange:
        self._call()
        if label != "human":
            raise NotFound(f"block {label} was not found", reason="RESOURCE_NOT_FOUND")
        self.changes[request_id] = text
        return MemoryChange("block_1", label)

    async def replace(self, agent_id: UUID, label: str, old: str, new: str, request_id: UUID) -> MemoryChange:
        self._call()
        self.changes[request_id] = f"{old}->{new}"
        return MemoryChange("block_1", label)

    async def insert(self, agent_id: UUID, text: str, tags: Sequence[str], request_id: UUID) -> MemoryChange:
        self._call()
        self.changes[request_id] = text
        return MemoryChange("psg_1")

    async def search_passages(self, agent_id: UUID, query: str, top_k: int) -> Sequence[str]:
        self._call()
        return [f"- passage about {query}"]

    async def search_messages(self, agent_id: UUID, query: str, top_k: int) -> Sequence[str]:
        self._call()
        return []

    async def create_block(self, agent_id: UUID, block: BlockDraft, request_id: UUID) -> None:
        self._call()
        if block.label in self.refused_labels:
            raise Unavailable("memory is away", reason="DEPENDENCY_UNAVAILABLE")
        self.blocks.setdefault(agent_id, []).append(block.label)
        self.drafts.setdefault(agent_id, []).append(block)

    async def blocks_of(self, agent_id: UUID) -> Sequence[BlockDraft]:
        self._call()
        return self.drafts.get(agent_id, [])

    async def attach_block(self, agent_id: UUID, block_id: str) -> None:
        self._call()
        if not block_id.startswith("block_"):
            raise NotFound(f"block {block_id} was not found", reason="RESOURCE_NOT_FOUND")
        self.blocks.setdefault(agent_id, []).append(block_id)

    async def forget_agent(self, agent_id: UUID) -> None:
        self._call()
        self.forgotten.append(agent_id)

    async def forget_conversation(self, conversation_id: UUID) -> None:
        self._call()
        self.forgotten.append(conversation_id)

    async def index(self, conversations: Sequence[Unindexed]) -> None:
        self._call()
        for one in conversations:
            self.indexed += [(one.conversation_id, message.seq, message.text) for message in one.messages]


class ToolsInProcess:
    """Tools that are Python functions; `executed` records every begun call."""

    def __init__(self) -> None:
        self.tools: dict[UUID, Tool] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self.specs: dict[str, dict[str, object]] = {}
        self.executed: list[tuple[str, str]] = []
        self.running = 0
        self.most_running = 0

    def add(self, name: str, behaviour: Behaviour, *, idempotent: bool = False, asks: bool = False) -> UUID:
        tool_id = ids.new()
        schema = {"type": "object", "properties": {}}
        self.tools[tool_id] = Tool(name, f"Does {name}.", schema, tool_id, 1, idempotent, asks)
        self.behaviours[name] = behaviour
        return tool_id

    async def get_many(self, tool_ids: Sequence[UUID]) -> Sequence[Tool]:
        return [self.tools[tool_id] for tool_id in tool_ids if tool_id in self.tools]

    async def resolve(self, reference: str) -> Tool:
        for tool in self.tools.values():
            if reference == tool.name or (tool.id and reference == ids.encode("tool", tool.id)):
                return tool
        raise NotFound(f"tool {reference} was not found", reason="RESOURCE_NOT_FOUND")

    async def sources(self, tool_ids: Sequence[UUID]) -> Sequence[ToolSource]:
        return [self._source(self.tools[tool_id]) for tool_id in tool_ids if tool_id in self.tools]

    async def named(self, name: str) -> ToolSource | None:
        return next((self._source(tool) for tool in self.tools.values() if tool.name == name), None)

    async def checked(self, name: str, spec: dict[str, object]) -> ToolSource:
        if set(spec) != {"name", "source_code"}:
            raise BadSpec([SpecFault("", "is not what a tool is made of")])
        return ToolSource(name, spec)

    async def put(self, source: ToolSource) -> None:
        async def nothing(_: dict[str, object]) -> str:
            return ""

        if await self.named(source.name) is None:
            self.add(source.name, nothing)
        self.specs[source.name] = dict(source.spec or {})

    def _source(self, tool: Tool) -> ToolSource:
        return ToolSource(tool.name, self.specs.get(tool.name, {"name": tool.name, "source_code": f"# {tool.name}"}))

    async def execute(self, tool: Tool, arguments_json: str, request_id: str) -> ToolResult:
        self.executed.append((tool.name, request_id))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            text = await self.behaviours[tool.name](json.loads(arguments_json))
        except ValueError as error:
            return failed(f"ValueError: {error}")
        finally:
            self.running -= 1
        return ToolResult(ToolCallOutcome.SUCCEEDED, text)


class IdentitiesInProcess:
    """Identities as user_svc would give them."""

    async def identity_for(self, organization_id: UUID | None, user: str = "") -> Identity:
        await asyncio.sleep(0)
        return Identity(organization_id or UUID(int=0), "svc:agent_svc", Role.SERVICE, "token", on_behalf_of=user)
