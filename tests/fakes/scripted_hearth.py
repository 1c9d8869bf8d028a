"""A Hearth behind the gateway, in one gRPC server: real tokens, an event log per conversation, and scripted replies.

It keeps the promises of `RunService.Watch` (gapless, resumable, one subscription's fault is its own), so the gateway
can be tried before and without agent_svc. The state outlives the server: `stop` and `start` are a restart.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis import ids
from chassis.auth import TokenVerifier
from chassis.errors import DomainError, Unauthenticated, not_found
from chassis.identity import current
from chassis.server import Assembly, Server
from chassis.settings import ServiceSettings
from hearth.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    conversation_pb2,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    event_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    run_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
)
from hearth.memory.v1 import block_pb2, block_service_pb2, block_service_pb2_grpc
from hearth.type.v1 import access_pb2
from hearth.user.v1 import token_pb2, token_service_pb2, token_service_pb2_grpc

ORGANIZATION = UUID("01890000-0000-7000-8000-000000000001")
STRANGERS = UUID("01890000-0000-7000-8000-000000000002")
API_KEY = "hk_" + "a" * 43
SERVICE_KEY = "hk_" + "s" * 43


class Tokens:
    """Signs tokens as user_svc does, and publishes the key."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "test", "alg": "EdDSA", "use": "sig"}
        self.jwk["x"] = base64.urlsafe_b64encode(public).decode().rstrip("=")

    def issue(
        self, organization: UUID = ORGANIZATION, *, role: str = "MEMBER", subject: str = "", lifetime_s: float = 900.0
    ) -> str:
        now = int(time.time())
        org = "" if organization.int == 0 else ids.encode("org", organization)
        claims = {
            "iss": "hearth",
            "aud": "hearth",
            "sub": subject or "user_" + org[4:],
            "org": org,
            "role": role,
            "key": "key_1",
            "iat": now,
            "exp": now + lifetime_s,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": "test"})

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        return {"test": jwt.PyJWK({key: value for key, value in self.jwk.items() if key != "use"})}


@dataclass
class Conversation:
    """A log and whoever waits for it to grow."""

    id: str
    organization: UUID
    agent_id: str
    name: str = ""
    events: list[event_pb2.RunEvent] = field(default_factory=list)
    first_seq: int = 1
    partial: event_pb2.Snapshot | None = None
    queues: set[asyncio.Queue[event_pb2.Frame | None]] = field(default_factory=set)

    def append(self, run_id: str, **payload: Any) -> event_pb2.RunEvent:
        event = event_pb2.RunEvent(seq=len(self.events) + 1, run_id=run_id, conversation_id=self.id, **payload)
        event.create_time.GetCurrentTime()
        self.events.append(event)
        self._publish(event_pb2.Frame(event=event))
        return event

    def delta(self, run_id: str, message_id: str, text: str, *, attempt: int = 1) -> None:
        if self.partial is None or (self.partial.message_id, self.partial.attempt) != (message_id, attempt):
            self.partial = event_pb2.Snapshot(run_id=run_id, message_id=message_id, attempt=attempt)
        offset = len(self.partial.text)
        self.partial.text += text
        delta = event_pb2.Delta(
            run_id=run_id,
            message_id=message_id,
            attempt=attempt,
            kind=event_pb2.DELTA_KIND_TEXT,
            offset=offset,
            text=text,
        )
        self._publish(event_pb2.Frame(delta=delta))

    def complete(self, run_id: str, message: conversation_pb2.Message) -> None:
        message.seq = len(self.events) + 1
        message.conversation_id = self.id
        message.run_id = run_id
        message.create_time.GetCurrentTime()
        self.partial = None
        self.append(run_id, message_completed=event_pb2.MessageCompleted(message=message))

    def checkpoint(self) -> None:
        self._publish(event_pb2.Frame(checkpoint=event_pb2.Checkpoint(head_seq=len(self.events))))

    def _publish(self, frame: event_pb2.Frame) -> None:
        for queue in self.queues:
            queue.put_nowait(frame)


class World:
    """What survives a restart."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self.agents: dict[str, agent_pb2.Agent] = {}
        self.conversations: dict[str, Conversation] = {}
        self.runs: dict[str, str] = {}
        self.blocks: dict[str, block_pb2.Block] = {}
        self.requests: dict[str, run_service_pb2.StartRunResponse] = {}
        self.subscribed: list[run_service_pb2.WatchSubscribe] = []
        self.live = 0
        self.token_pause_s = 0.02
        self.revoked: set[str] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def agent(self, name: str = "Ember", organization: UUID = ORGANIZATION) -> agent_pb2.Agent:
        agent = agent_pb2.Agent(id=ids.encode("agent", ids.new()), name=name, model="scripted/echo")
        agent.organization_id = ids.encode("org", organization)
        agent.create_time.GetCurrentTime()
        agent.default_conversation_id = self.conversation(agent.id, organization).id
        self.agents[agent.id] = agent
        for label, value in (("persona", f"I am {name}. I remember."), ("human", "")):
            block = block_pb2.Block(id=ids.encode("block", ids.new()), label=label, value=value, limit=2000, version=1)
            block.agent_ids.append(agent.id)
            block.update_time.GetCurrentTime()
            self.blocks[block.id] = block
        return agent

    def conversation(self, agent_id: str = "agent_x", organization: UUID = ORGANIZATION) -> Conversation:
        conversation = Conversation(ids.encode("conv", ids.new()), organization, agent_id)
        self.conversations[conversation.id] = conversation
        return conversation

    def find(self, conversation_id: str, organization: UUID) -> Conversation:
        found = self.conversations.get(conversation_id)
        if found is None or found.organization != organization:
            raise not_found("conversation", conversation_id)
        return found

    def work(self, task: Any) -> None:
        running = asyncio.create_task(task)
        self.tasks.add(running)
        running.add_done_callback(self.tasks.discard)


class TokenServicer(token_service_pb2_grpc.TokenServiceServicer):
    def __init__(self, world: World, _: object) -> None:
        self._world = world

    async def GetJwks(self, request: Any, context: Any) -> token_service_pb2.GetJwksResponse:
        return token_service_pb2.GetJwksResponse(keys=[token_pb2.Jwk(**self._world.tokens.jwk)])

    async def IssueToken(self, request: Any, context: Any) -> token_service_pb2.IssueTokenResponse:
        if request.api_key == SERVICE_KEY:
            token = self._world.tokens.issue(UUID(int=0), role="SERVICE", subject="svc:gateway")
        elif request.api_key == API_KEY:
            token = self._world.tokens.issue()
        else:
            raise Unauthenticated("no active key has this secret", reason="API_KEY_INVALID")
        answer = token_service_pb2.IssueTokenResponse(token=token)
        answer.expire_time.FromSeconds(int(time.time()) + 900)
        return answer

    async def WhoAmI(self, request: Any, context: Any) -> token_service_pb2.WhoAmIResponse:
        me = current()
        answer = token_service_pb2.WhoAmIResponse(subject=me.subject)
        answer.role = access_pb2.Role.Value(f"ROLE_{me.role.name}")
        answer.organization.id = ids.encode("org", me.organization_id)
        return answer


class AgentServicer(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, world: World, _: object) -> None:
        self._world = world

    async def CreateAgent(self, request: Any, context: Any) -> agent_service_pb2.CreateAgentResponse:
        return agent_service_pb2.CreateAgentResponse(agent=self._world.agent(request.name))

    async def ListAgents(self, request: Any, context: Any) -> agent_service_pb2.ListAgentsResponse:
        return agent_service_pb2.ListAgentsResponse(agents=reversed(self._world.agents.values()))


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, *_: object) -> None:
        pass

    async def ListModels(self, request: Any, context: Any) -> model_service_pb2.ListModelsResponse:
        model = model_pb2.Model(name="scripted/echo", usable=True, supports_tools=True, default=True)
        return model_service_pb2.ListModelsResponse(models=[model])


class BlockServicer(block_service_pb2_grpc.BlockServiceServicer):
    def __init__(self, world: World, _: object) -> None:
        self._world = world

    async def ListBlocks(self, request: Any, context: Any) -> block_service_pb2.ListBlocksResponse:
        found = [block for block in self._world.blocks.values() if request.agent_id in block.agent_ids]
        return block_service_pb2.ListBlocksResponse(blocks=found)


class ConversationServicer(conversation_service_pb2_grpc.ConversationServiceServicer):
    def __init__(self, world: World, _: object) -> None:
        self._world = world

    def _proto(self, one: Conversation) -> conversation_pb2.Conversation:
        return conversation_pb2.Conversation(
            id=one.id, agent_id=one.agent_id, display_name=one.name, head_seq=len(one.events)
        )

    async def CreateConversation(self, request: Any, context: Any) -> Any:
        made = self._world.conversation(request.agent_id)
        return conversation_service_pb2.CreateConversationResponse(conversation=self._proto(made))

    async def GetConversation(self, request: Any, context: Any) -> Any:
        found = self._world.find(request.conversation_id, current().organization_id)
        return conversation_service_pb2.GetConversationResponse(conversation=self._proto(found))

    async def ListConversations(self, request: Any, context: Any) -> Any:
        found = [one for one in self._world.conversations.values() if one.agent_id == request.agent_id]
        return conversation_service_pb2.ListConversationsResponse(
            conversations=[self._proto(one) for one in reversed(found)]
        )


class RunServicer(run_service_pb2_grpc.RunServiceServicer):
    def __init__(self, world: World, verifier: TokenVerifier) -> None:
        self._world = world
        self._verifier = verifier

    async def StartRun(self, request: Any, context: Any) -> run_service_pb2.StartRunResponse:
        world = self._world
        if request.request_id and request.request_id in world.requests:
            return world.requests[request.request_id]
        conversation_id = request.conversation_id or world.agents[request.agent_id].default_conversation_id
        conversation = world.find(conversation_id, current().organization_id)
        run = run_pb2.Run(
            id=ids.encode("run", ids.new()), conversation_id=conversation_id, state=run_pb2.RUN_STATE_QUEUED
        )
        world.runs[run.id] = conversation_id
        run.first_seq = conversation.append(run.id, run_queued=event_pb2.RunQueued()).seq
        user = conversation_pb2.Message(
            id=ids.encode("msg", ids.new()), role=conversation_pb2.MESSAGE_ROLE_USER, text=request.text
        )
        conversation.complete(run.id, user)
        world.work(reply(world, conversation, run.id, request.text))
        answer = run_service_pb2.StartRunResponse(run=run)
        if request.request_id:
            world.requests[request.request_id] = answer
        return answer

    async def CancelRun(self, request: Any, context: Any) -> run_service_pb2.CancelRunResponse:
        raise not_found("run", request.run_id)

    async def Watch(self, request_iterator: Any, context: Any) -> AsyncIterator[run_service_pb2.WatchResponse]:
        out: asyncio.Queue[run_service_pb2.WatchItem] = asyncio.Queue()
        following: dict[int, asyncio.Task[None]] = {}

        async def read() -> None:
            async for request in request_iterator:
                kind = request.WhichOneof("kind")
                if kind == "subscribe":
                    one = request.subscribe
                    self._world.subscribed.append(one)
                    following[one.subscription] = asyncio.create_task(self._follow(one, out))
                elif kind == "unsubscribe" and request.unsubscribe.subscription in following:
                    following.pop(request.unsubscribe.subscription).cancel()

        reading = asyncio.create_task(read())
        try:
            while True:
                items = [await out.get()]
                while not out.empty() and len(items) < 64:
                    items.append(out.get_nowait())
                yield run_service_pb2.WatchResponse(items=items)
        finally:
            for task in [reading, *following.values()]:
                task.cancel()

    async def _follow(self, one: run_service_pb2.WatchSubscribe, out: asyncio.Queue[run_service_pb2.WatchItem]) -> None:
        def put(**kind: Any) -> None:
            out.put_nowait(run_service_pb2.WatchItem(subscription=one.subscription, **kind))

        self._world.live += 1
        try:
            identity = await self._verifier.verify(one.token)
            if one.token in self._world.revoked:
                raise Unauthenticated("the credential has been revoked", reason="TOKEN_INVALID")
            topic = one.run_id or one.conversation_id
            conversation = self._world.find(self._world.runs.get(topic, topic), identity.organization_id)
            await self._stream(one, conversation, put)
            put(ended=run_service_pb2.WatchEnded(code=0))
        except DomainError as error:
            code = {"UNAUTHENTICATED": 16, "NOT_FOUND": 5}[error.code]
            put(ended=run_service_pb2.WatchEnded(code=code, reason=error.reason, message=error.message))
        finally:
            self._world.live -= 1

    async def _stream(self, one: run_service_pb2.WatchSubscribe, conversation: Conversation, put: Any) -> None:
        head = len(conversation.events)
        after = one.after_seq if one.HasField("after_seq") else head
        resumed = conversation.first_seq - 1 <= after <= head
        put(
            subscribed=run_service_pb2.WatchSubscribed(
                head_seq=head, first_seq=conversation.first_seq, conversation_id=conversation.id, resumed=resumed
            )
        )
        if not resumed:
            await asyncio.Event().wait()
        queue: asyncio.Queue[event_pb2.Frame | None] = asyncio.Queue()
        conversation.queues.add(queue)
        try:
            for event in conversation.events[after:]:
                if self._hand(one, event, put):
                    return
            if conversation.partial is not None:
                put(frame=event_pb2.Frame(snapshot=conversation.partial))
            while True:
                frame = await queue.get()
                if frame is None:
                    return
                if not frame.HasField("event"):
                    put(frame=frame)
                elif frame.event.seq > head and self._hand(one, frame.event, put):
                    return
        finally:
            conversation.queues.discard(queue)

    def _hand(self, one: run_service_pb2.WatchSubscribe, event: event_pb2.RunEvent, put: Any) -> bool:
        """Hands on an event of the topic; True when it ends a watched run."""
        if one.run_id and event.run_id != one.run_id:
            return False
        put(frame=event_pb2.Frame(event=event))
        ends = event.WhichOneof("payload") in {"run_succeeded", "run_failed", "run_cancelled"}
        return bool(one.run_id) and ends


async def reply(world: World, conversation: Conversation, run_id: str, text: str) -> None:
    """Plays a run: `fail` fails, `remember …` calls a tool and changes memory, all else is answered word by word."""
    pause = world.token_pause_s
    conversation.append(run_id, run_started=event_pb2.RunStarted(epoch=1))
    usage = run_pb2.Usage(input_tokens=2**53 + 1, output_tokens=12)
    await asyncio.sleep(pause)
    if text.startswith("fail"):
        error = run_pb2.RunError(reason="MODEL_UNAVAILABLE", message="The model's server cannot be reached.")
        failed = event_pb2.RunFailed(stop_reason=run_pb2.RUN_STOP_REASON_ERROR, error=error, usage=usage)
        conversation.append(run_id, run_failed=failed)
        return
    if text.startswith("remember"):
        await use_tool(world, conversation, run_id, text)
    message_id = ids.encode("msg", ids.new())
    answer = ANSWERS.get(text.split()[0].lower(), f"You said: {text} 🐕 That is noted, word for word.")
    for piece in pieces(answer):
        conversation.delta(run_id, message_id, piece)
        await asyncio.sleep(pause)
    role = conversation_pb2.MESSAGE_ROLE_ASSISTANT
    conversation.complete(run_id, conversation_pb2.Message(id=message_id, role=role, text=answer))
    succeeded = event_pb2.RunSucceeded(stop_reason=run_pb2.RUN_STOP_REASON_FINAL_ANSWER, usage=usage)
    conversation.append(run_id, run_succeeded=succeeded)


ANSWERS = {
    "remember": "Done. I have put that into my **memory**, so I will still know it tomorrow.",
    "markdown": (
        "Here is a short list:\n\n- one *apple*\n- two `pears`\n\n```python\nprint('<b>not bold</b>')\n```\n\n"
        "And a link: https://example.org/a?b=c"
    ),
}


def pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word + (" " if index < len(words) - 1 else "") for index, word in enumerate(words)]


async def use_tool(world: World, conversation: Conversation, run_id: str, text: str) -> None:
    fact = text.removeprefix("remember").strip()
    call = conversation_pb2.ToolCall(
        id="call_1", name="memory_append", arguments_json='{"label": "human", "text": "' + fact + '"}'
    )
    asking = conversation_pb2.Message(
        id=ids.encode("msg", ids.new()), role=conversation_pb2.MESSAGE_ROLE_ASSISTANT, tool_calls=[call]
    )
    conversation.complete(run_id, asking)
    conversation.append(run_id, tool_call_started=event_pb2.ToolCallStarted(message_id=asking.id, tool_call=call))
    await asyncio.sleep(world.token_pause_s * 5)
    changed = ""
    for block in world.blocks.values():
        if block.label == "human" and conversation.agent_id in block.agent_ids:
            block.value = f"{block.value}\n{fact}".strip()
            block.version += 1
            changed = block.id
    succeeded = conversation_pb2.TOOL_CALL_OUTCOME_SUCCEEDED
    done = event_pb2.ToolCallCompleted(tool_call_id="call_1", name="memory_append", outcome=succeeded, duration_ms=4)
    conversation.append(run_id, tool_call_completed=done)
    conversation.append(
        run_id,
        memory_updated=event_pb2.MemoryUpdated(resource_ids=[changed], tool_call_id="call_1", block_label="human"),
    )
    result = conversation_pb2.Message(
        id=ids.encode("msg", ids.new()),
        role=conversation_pb2.MESSAGE_ROLE_TOOL,
        text="Appended to human.",
        tool_call_id="call_1",
        tool_outcome=succeeded,
    )
    conversation.complete(run_id, result)


class ScriptedHearth:
    """The server around a World. `start` again after `stop` listens on the same port."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.port = 0
        self._server: Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        settings = ServiceSettings(listen=f"127.0.0.1:{self.port}", shutdown_grace_s=0)
        verifier = TokenVerifier(self.world.tokens)
        # The methods that a servicer leaves out answer UNIMPLEMENTED.
        made: list[tuple[Any, Any, str]] = [
            (token_service_pb2_grpc.add_TokenServiceServicer_to_server, TokenServicer, "user.v1.TokenService"),
            (agent_service_pb2_grpc.add_AgentServiceServicer_to_server, AgentServicer, "agent.v1.AgentService"),
            (model_service_pb2_grpc.add_ModelServiceServicer_to_server, ModelServicer, "agent.v1.ModelService"),
            (block_service_pb2_grpc.add_BlockServiceServicer_to_server, BlockServicer, "memory.v1.BlockService"),
            (
                conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server,
                ConversationServicer,
                "agent.v1.ConversationService",
            ),
            (run_service_pb2_grpc.add_RunServiceServicer_to_server, RunServicer, "agent.v1.RunService"),
        ]
        servicers = [(add, kind(self.world, verifier), f"hearth.{name}") for add, kind, name in made]
        self._server = Server(Assembly(servicers=servicers, verifier=verifier), settings)
        self.port = await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def close(self) -> None:
        await self.stop()
        for task in list(self.world.tasks):
            task.cancel()


def service_key_file(folder: Path) -> Path:
    """A file with the gateway's service key."""
    path = folder / f"service-{hashlib.sha256(SERVICE_KEY.encode()).hexdigest()[:6]}.key"
    path.write_text(SERVICE_KEY)
    return path
