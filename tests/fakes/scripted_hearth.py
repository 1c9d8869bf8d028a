"""A Hearth behind the gateway, in one gRPC server: real tokens, an event log per conversation, and scripted replies.

It keeps the promises of `RunService.Watch` (gapless, resumable, one subscription's fault is its own), so the gateway
can be tried without the services. The world outlives the server: `stop` and `start` are a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

from chassis import ids
from chassis.auth import TokenVerifier
from chassis.errors import DomainError, Unauthenticated, Unavailable, not_found
from chassis.identity import current
from chassis.server import Assembly, Server
from chassis.settings import ServiceSettings
from hearth.agent.v1 import (
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
from hearth.memory.v1 import block_service_pb2, block_service_pb2_grpc
from hearth.type.v1 import access_pb2
from hearth.user.internal.v1 import revocation_service_pb2, revocation_service_pb2_grpc
from hearth.user.v1 import token_pb2, token_service_pb2, token_service_pb2_grpc
from tests.fakes.scripted_world import Conversation, World, reply

API_KEY = "hk_" + "a" * 43
SERVICE_KEY = "hk_" + "s" * 43


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


class RevocationServicer(revocation_service_pb2_grpc.RevocationServiceServicer):
    def __init__(self, world: World, _: object) -> None:
        self._world = world

    async def ListRevocations(self, request: Any, context: Any) -> revocation_service_pb2.ListRevocationsResponse:
        found = [
            revocation_service_pb2.Revocation(subject=subject) for subject in self._world.void[request.after_position :]
        ]
        return revocation_service_pb2.ListRevocationsResponse(revocations=found, position=len(self._world.void))


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
            if self._world.hiccups:
                self._world.hiccups -= 1
                raise Unavailable("not now", reason="DEPENDENCY_UNAVAILABLE")
            topic = one.run_id or one.conversation_id
            conversation = self._world.find(self._world.runs.get(topic, topic), identity.organization_id)
            await self._stream(one, conversation, put)
            put(ended=run_service_pb2.WatchEnded(code=0))
        except DomainError as error:
            code = {"UNAUTHENTICATED": 16, "NOT_FOUND": 5, "UNAVAILABLE": 14}[error.code]
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
            (
                revocation_service_pb2_grpc.add_RevocationServiceServicer_to_server,
                RevocationServicer,
                "user.internal.v1.RevocationService",
            ),
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
    path = folder / "service.key"
    path.write_text(SERVICE_KEY)
    return path
