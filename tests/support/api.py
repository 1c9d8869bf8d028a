"""A plain gRPC client through the public door, as a backend engineer's would be: generated stubs and a token, no SDK."""

import uuid
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import grpc

from hearth.agent.v1 import agent_pb2, agent_service_pb2, event_pb2, run_pb2, run_service_pb2
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from hearth.agent.v1.model_service_pb2_grpc import ModelServiceStub
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from hearth.memory.v1.archival_memory_service_pb2_grpc import ArchivalMemoryServiceStub
from hearth.memory.v1.block_service_pb2_grpc import BlockServiceStub
from hearth.memory.v1.recall_memory_service_pb2_grpc import RecallMemoryServiceStub
from hearth.tool.v1.mcp_server_service_pb2_grpc import McpServerServiceStub
from hearth.tool.v1.tool_execution_service_pb2_grpc import ToolExecutionServiceStub
from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceStub
from hearth.user.v1 import api_key_service_pb2, organization_service_pb2, token_service_pb2, user_service_pb2
from hearth.user.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from hearth.user.v1.organization_service_pb2_grpc import OrganizationServiceStub
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from hearth.user.v1.user_service_pb2_grpc import UserServiceStub

TERMINAL = ("run_succeeded", "run_failed", "run_cancelled")


class Api:
    """Stubs of all public services over one channel, with a token in the metadata. Use as an async context manager."""

    def __init__(self, url: str, api_key: str) -> None:
        self.channel = grpc.aio.insecure_channel(urlsplit(url).netloc)
        self._api_key = api_key
        self.metadata: tuple[tuple[str, str], ...] = ()
        self.tokens = TokenServiceStub(self.channel)
        self.organizations = OrganizationServiceStub(self.channel)
        self.users = UserServiceStub(self.channel)
        self.keys = ApiKeyServiceStub(self.channel)
        self.agents = AgentServiceStub(self.channel)
        self.conversations = ConversationServiceStub(self.channel)
        self.runs = RunServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)
        self.tools = ToolServiceStub(self.channel)
        self.mcp_servers = McpServerServiceStub(self.channel)
        self.execution = ToolExecutionServiceStub(self.channel)
        self.blocks = BlockServiceStub(self.channel)
        self.archival = ArchivalMemoryServiceStub(self.channel)
        self.recall = RecallMemoryServiceStub(self.channel)

    async def __aenter__(self) -> Self:
        await self.sign_in()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    @property
    def token(self) -> str:
        """The JWT in use."""
        return self.metadata[0][1].removeprefix("Bearer ")

    async def sign_in(self) -> None:
        """Exchanges the API key for a token."""
        answer = await self.tokens.IssueToken(
            token_service_pb2.IssueTokenRequest(api_key=self._api_key), timeout=10, wait_for_ready=True
        )
        self.metadata = (("authorization", f"Bearer {answer.token}"),)

    async def another_organization(self) -> str:
        """An API key of a member of a new organization; for platform administrators."""
        name = f"o-{uuid.uuid4().hex[:12]}"
        organization = organization_service_pb2.CreateOrganizationRequest(name=name)
        made = (await self.organizations.CreateOrganization(organization, metadata=self.metadata)).organization
        user = user_service_pb2.CreateUserRequest(organization_id=made.id, name=name)
        member = (await self.users.CreateUser(user, metadata=self.metadata)).user
        key = api_key_service_pb2.CreateApiKeyRequest(organization_id=made.id, user_id=member.id)
        return (await self.keys.CreateApiKey(key, metadata=self.metadata)).secret

    async def create_agent(
        self, *, tools: tuple[str, ...] = (), passive_recall: bool = True, instructions: str = ""
    ) -> agent_pb2.Agent:
        """An agent with a name of its own and the default model."""
        request = agent_service_pb2.CreateAgentRequest(
            request_id=str(uuid.uuid4()),
            name=f"agent-{uuid.uuid4().hex[:12]}",
            instructions=instructions,
            tools=tools,
            settings=agent_pb2.AgentSettings(passive_recall=passive_recall),
        )
        return (await self.agents.CreateAgent(request, metadata=self.metadata, timeout=10)).agent

    async def start(self, agent_id: str, text: str) -> run_pb2.Run:
        """Starts a run in the agent's default conversation."""
        request = run_service_pb2.StartRunRequest(request_id=str(uuid.uuid4()), agent_id=agent_id, text=text)
        return (await self.runs.StartRun(request, metadata=self.metadata, timeout=10)).run

    async def send(self, agent_id: str, text: str, timeout: float = 30) -> AsyncIterator[event_pb2.Frame]:
        """Sends a message and yields the frames of its run until it has ended."""
        request = run_service_pb2.SendMessageRequest(
            start=run_service_pb2.StartRunRequest(request_id=str(uuid.uuid4()), agent_id=agent_id, text=text)
        )
        async for response in self.runs.SendMessage(request, metadata=self.metadata, timeout=timeout):
            for frame in response.frames:
                yield frame

    async def ask(self, agent_id: str, text: str, timeout: float = 30) -> "Turn":
        """Sends a message and returns what came of it. Raises AssertionError when the stream ends without an end."""
        turn = Turn()
        async for frame in self.send(agent_id, text, timeout):
            turn.add(frame)
        assert turn.outcome, f"the stream ended without a terminal event: {turn.kinds}"
        return turn


class Turn:
    """What a client saw of one run. `add` asserts that events come once and in order, and puts deltas together."""

    def __init__(self) -> None:
        self.events: list[event_pb2.RunEvent] = []
        self.streamed = ""
        self.delta_count = 0
        self.answer = ""
        self.outcome = ""

    @property
    def kinds(self) -> list[str]:
        """Names of the events' payloads, in order."""
        return [event.WhichOneof("payload") or "" for event in self.events]

    def add(self, frame: event_pb2.Frame) -> None:
        """Takes the next frame."""
        match frame.WhichOneof("kind"):
            case "event":
                self._add_event(frame.event)
            case "delta" if frame.delta.kind == event_pb2.DELTA_KIND_TEXT:
                self.delta_count += 1
                if frame.delta.offset == 0:
                    self.streamed = ""
                if frame.delta.offset == len(self.streamed):
                    self.streamed += frame.delta.text
            case "snapshot":
                self.streamed = frame.snapshot.text
            case _:
                pass

    def _add_event(self, event: event_pb2.RunEvent) -> None:
        # Gapless in the conversation; other runs of it may have written in between.
        assert not self.events or event.seq > self.events[-1].seq, f"not in order: {event}"
        assert not self.outcome, f"an event after the end: {event}"
        self.events.append(event)
        kind = event.WhichOneof("payload") or ""
        if kind == "step_restarted":
            self.streamed = ""
        if kind == "message_completed" and event.message_completed.message.role == 2:
            self.answer = event.message_completed.message.text
        if kind in TERMINAL:
            self.outcome = kind
