"""A Hearth of one process for tests of the client: real gRPC over loopback, answers from a script, breaks on command."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import Message as ProtoMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2

from hearth.agent.v1.agent_service_pb2 import (
    CreateAgentRequest,
    CreateAgentResponse,
    GetAgentRequest,
    GetAgentResponse,
    ListAgentsRequest,
    ListAgentsResponse,
)
from hearth.agent.v1.conversation_pb2 import Message
from hearth.agent.v1.conversation_service_pb2 import ListMessagesRequest, ListMessagesResponse
from hearth.agent.v1.event_pb2 import Frame
from hearth.agent.v1.run_pb2 import Run, RunState
from hearth.agent.v1.run_service_pb2 import (
    CancelRunRequest,
    CancelRunResponse,
    GetRunRequest,
    GetRunResponse,
    SendMessageRequest,
    SendMessageResponse,
    StartRunRequest,
    StartRunResponse,
    WatchRunRequest,
    WatchRunResponse,
)
from hearth.user.v1.api_key_service_pb2 import CreateApiKeyRequest, CreateApiKeyResponse
from hearth.user.v1.token_service_pb2 import IssueTokenRequest, IssueTokenResponse, WhoAmIRequest, WhoAmIResponse
from tests.fakes.run_log import RunLog

API_KEY = "hk_test"
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Break:
    """How a stream breaks: after so many frames of a connection, with a code (None: ends as if all were well)."""

    after_frames: int
    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE


@dataclass
class FakeHearth:
    """Scripted answers, and counts of what was asked. Use it as an async context manager; `url` is its address."""

    log: RunLog = field(default_factory=RunLog)
    breaks: list[Break] = field(default_factory=list)
    """One per stream, in order; streams after the last are whole."""
    token_life_s: float = 900.0
    token_delay_s: float = 0.0
    failures: list[Callable[[], tuple[grpc.StatusCode, status_pb2.Status | None]]] = field(default_factory=list)
    """Unary calls fail so, in order, before any succeeds."""
    expired_tokens: set[str] = field(default_factory=set)
    lose_acceptance: int = 0
    """So many SendMessage calls start their run and break before they say so."""
    refuse_streams: tuple[grpc.StatusCode, status_pb2.Status] | None = None
    """Every stream is refused so."""
    replays_all: bool = False
    """WatchRun begins at the start of the run, whatever it was asked for."""
    silent: bool = False
    """Streams stay open after their frames and say nothing."""
    agents: list[str] = field(default_factory=list)
    history: list[Message] = field(default_factory=list)
    """Messages of every conversation, oldest first."""
    unknown_agents: set[str] = field(default_factory=set)
    calls: list[tuple[str, ProtoMessage]] = field(default_factory=list)
    run_ids: dict[str, str] = field(default_factory=dict)
    """request id → run id: the idempotency table."""
    open_streams: int = 0
    url: str = ""
    port: int = 0

    async def __aenter__(self) -> Self:
        self._idle = asyncio.Event()
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers(self._handlers())
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.url = f"http://127.0.0.1:{self.port}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def all_streams_left(self, timeout_s: float = 5.0) -> None:
        """Waits until nobody reads a stream any more. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._idle.wait()

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(1 for name, _ in self.calls if name == method)

    def _handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        unary: dict[str, dict[str, tuple[Any, type[ProtoMessage]]]] = {
            "hearth.user.v1.TokenService": {
                "IssueToken": (self._issue_token, IssueTokenRequest),
                "WhoAmI": (self._who_am_i, WhoAmIRequest),
            },
            "hearth.user.v1.ApiKeyService": {"CreateApiKey": (self._create_api_key, CreateApiKeyRequest)},
            "hearth.agent.v1.AgentService": {
                "CreateAgent": (self._create_agent, CreateAgentRequest),
                "GetAgent": (self._get_agent, GetAgentRequest),
                "ListAgents": (self._list_agents, ListAgentsRequest),
            },
            "hearth.agent.v1.ConversationService": {"ListMessages": (self._list_messages, ListMessagesRequest)},
            "hearth.agent.v1.RunService": {
                "GetRun": (self._get_run, GetRunRequest),
                "CancelRun": (self._cancel_run, CancelRunRequest),
                "StartRun": (self._start_run, StartRunRequest),
            },
        }
        streams: dict[str, tuple[Any, type[ProtoMessage]]] = {
            "SendMessage": (self._send_message, SendMessageRequest),
            "WatchRun": (self._watch_run, WatchRunRequest),
        }
        handlers: list[grpc.GenericRpcHandler] = []
        for service, methods in unary.items():
            table: dict[str, Any] = {
                name: grpc.unary_unary_rpc_method_handler(
                    self._checked(name, answer),
                    request_deserializer=kind.FromString,
                    response_serializer=_serialize,
                )
                for name, (answer, kind) in methods.items()
            }
            if service.endswith("RunService"):
                for name, (answer, kind) in streams.items():
                    table[name] = grpc.unary_stream_rpc_method_handler(
                        answer, request_deserializer=kind.FromString, response_serializer=_serialize
                    )
            handlers.append(grpc.method_handlers_generic_handler(service, table))
        return handlers

    def _checked(self, name: str, answer: Any) -> Any:
        async def handle(request: ProtoMessage, context: Context) -> ProtoMessage:
            self.calls.append((name, request))
            if name == "IssueToken":
                return await answer(request, context)
            await self._authenticate(context)
            if self.failures:
                code, status = self.failures.pop(0)()
                await abort(context, code, status)
            return await answer(request, context)

        return handle

    async def _authenticate(self, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        token = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        if token in self.expired_tokens:
            await abort(context, *explained(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED", "expired"))
        if not token:
            await abort(context, *explained(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", "no token"))

    async def _issue_token(self, request: IssueTokenRequest, context: Context) -> IssueTokenResponse:
        await asyncio.sleep(self.token_delay_s)
        if request.api_key != API_KEY:
            await abort(context, *explained(grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID", "no such key"))
        now = time.time()
        claims = {"iat": now, "exp": now + self.token_life_s, "jti": self.count("IssueToken")}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        response = IssueTokenResponse(token=f"h.{payload}.s")
        response.expire_time.FromNanoseconds(int(claims["exp"] * 1e9))
        return response

    async def _who_am_i(self, request: WhoAmIRequest, context: Context) -> WhoAmIResponse:
        return WhoAmIResponse(subject="user_1")

    async def _create_api_key(self, request: CreateApiKeyRequest, context: Context) -> CreateApiKeyResponse:
        return CreateApiKeyResponse(secret="hk_new")

    async def _create_agent(self, request: CreateAgentRequest, context: Context) -> CreateAgentResponse:
        response = CreateAgentResponse()
        response.agent.id = "agent_1"
        response.agent.name = request.name
        response.agent.model = "local/tiny"
        response.agent.default_conversation_id = "conv_1"
        return response

    async def _get_agent(self, request: GetAgentRequest, context: Context) -> GetAgentResponse:
        response = GetAgentResponse()
        if request.name in self.unknown_agents:
            await abort(context, *explained(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", "no such agent"))
        response.agent.id = request.agent_id or "agent_1"
        response.agent.name = request.name or request.agent_id
        response.agent.default_conversation_id = "conv_1"
        return response

    async def _list_agents(self, request: ListAgentsRequest, context: Context) -> ListAgentsResponse:
        start = int(request.page_token or 0)
        end = start + (request.page_size or 50)
        response = ListAgentsResponse(next_page_token=str(end) if end < len(self.agents) else "")
        for name in self.agents[start:end]:
            response.agents.add(name=name)
        return response

    async def _list_messages(self, request: ListMessagesRequest, context: Context) -> ListMessagesResponse:
        return ListMessagesResponse(messages=reversed(self.history))

    async def _get_run(self, request: GetRunRequest, context: Context) -> GetRunResponse:
        state = RunState.RUN_STATE_SUCCEEDED if self.log.is_over else RunState.RUN_STATE_RUNNING
        return GetRunResponse(run=Run(id=request.run_id, state=state))

    async def _cancel_run(self, request: CancelRunRequest, context: Context) -> CancelRunResponse:
        self.log.cancel()
        return CancelRunResponse(run=Run(id=request.run_id, state=RunState.RUN_STATE_CANCELLED))

    async def _start_run(self, request: StartRunRequest, context: Context) -> StartRunResponse:
        return StartRunResponse(run=Run(id="run_1", state=RunState.RUN_STATE_QUEUED))

    async def _send_message(self, request: SendMessageRequest, context: Context) -> AsyncIterator[SendMessageResponse]:
        self.calls.append(("SendMessage", request))
        await self._authenticate(context)
        run_id = self.run_ids.setdefault(request.start.request_id or str(uuid.uuid4()), f"run_{len(self.run_ids) + 1}")
        if self.lose_acceptance:
            self.lose_acceptance -= 1
            await abort(context, grpc.StatusCode.UNAVAILABLE)
        yield SendMessageResponse(run=Run(id=run_id))
        async for frame in self._stream(0, context):
            yield SendMessageResponse(frames=[frame])

    async def _watch_run(self, request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        self.calls.append(("WatchRun", request))
        await self._authenticate(context)
        async for frame in self._stream(0 if self.replays_all else request.after_seq, context):
            yield WatchRunResponse(frames=[frame])

    async def _stream(self, after_seq: int, context: Context) -> AsyncIterator[Frame]:
        if self.refuse_streams is not None:
            await abort(context, *self.refuse_streams)
        broken = self.breaks.pop(0) if self.breaks else None
        sent = 0
        self.open_streams += 1
        self._idle.clear()
        try:
            async for frame in self.log.follow(after_seq):
                if broken is not None and sent >= broken.after_frames:
                    break
                yield frame
                sent += 1
            if broken is not None and broken.code is not None:
                await abort(context, broken.code)
            if self.silent:
                await asyncio.Event().wait()
        finally:
            self.open_streams -= 1
            if self.open_streams == 0:
                self._idle.set()


def explained(code: grpc.StatusCode, reason: str, message: str) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """A failure as Hearth's services explain theirs."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="hearth.dev", reason=reason))
    return code, status


async def abort(context: Context, code: grpc.StatusCode, status: status_pb2.Status | None = None) -> None:
    """Ends a call with a failure; without a status it looks like a connection that broke."""
    if status is None:
        await context.abort(code, "broken by the test")
    else:
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, status.message, trailing)


def _serialize(message: ProtoMessage) -> bytes:
    return message.SerializeToString()
