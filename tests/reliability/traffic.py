"""Many users who talk to their agents through whatever answers, come back when it does not, and write down what they see."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from chassis.errors import FailedPrecondition
from chassis.status import from_rpc_error
from deploy.local import Stack
from hearth.agent.v1 import run_service_pb2 as pb
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from tests.reliability.checker import Accepted, History, Seen
from tests.support.api import TERMINAL, Api

T = TypeVar("T")

# What a client of a system in trouble may be told; it comes back then.
_PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
_OPTIONS = (("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100))


class Doors:
    """Ways to RunService: the public door, and each replica itself. Use as an async context manager."""

    def __init__(self, stack: Stack, api: Api, chance: random.Random) -> None:
        self._chance = chance
        self._metadata = api.metadata
        addresses = [stack.address("agent_svc"), stack.address("agent_svc_2"), stack.target]
        self._channels = [grpc.aio.insecure_channel(address, options=_OPTIONS) for address in addresses]
        self._stubs = [RunServiceStub(channel) for channel in self._channels]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def call(self, method: str, request: Any, limit_s: float = 60.0) -> Any:
        """A unary call through any door, until it is answered. Raises DomainError for an answer that is no passing trouble."""
        async with asyncio.timeout(limit_s):
            while True:
                stub = self._chance.choice(self._stubs)
                try:
                    return await getattr(stub, method)(request, metadata=self._metadata, timeout=5)
                except grpc.aio.AioRpcError as error:
                    await self._pass(error)

    async def stream(self, method: str, request: Any, cut_s: float) -> AsyncIterator[Any]:
        """Responses of a stream through any door; ends when the stream does, fails, or after `cut_s` seconds."""
        stub = self._chance.choice(self._stubs)
        try:
            async for response in getattr(stub, method)(request, metadata=self._metadata, timeout=cut_s):
                yield response
        except grpc.aio.AioRpcError as error:
            await self._pass(error)

    async def _pass(self, error: grpc.aio.AioRpcError) -> None:
        # Envoy can only reset a stream whose upstream died after the answer began; gRPC calls that INTERNAL.
        if error.code() is grpc.StatusCode.CANCELLED or "RST_STREAM" in (error.details() or ""):
            return
        problem = from_rpc_error(error)
        if problem.code not in _PASSING:
            raise problem from error
        if problem.code != "DEADLINE_EXCEEDED":
            await asyncio.sleep(0.5)


@dataclass
class Traffic:
    """The users. `history` is what they were answered and what they saw."""

    doors: Doors
    chance: random.Random
    history: History = field(default_factory=History)
    # After how many seconds a stream is cut, at the earliest and at the latest.
    cut_s: tuple[float, float] = (0.3, 6.0)
    # Streams that were opened.
    streams: int = 0
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _heads: dict[str, int] = field(default_factory=dict[str, int])

    async def start(
        self, conversation_id: str, text: str, policy: pb.BusyPolicy.ValueType = pb.BUSY_POLICY_QUEUE
    ) -> str:
        """StartRun, repeated under its request id until it is answered. Returns the run's id."""
        request = pb.StartRunRequest(
            request_id=str(uuid.uuid4()), conversation_id=conversation_id, text=text, busy_policy=policy
        )
        run = (await self.doors.call("StartRun", request)).run
        self.history.accepted.append(Accepted(run.id, conversation_id, text))
        return run.id

    async def cancel(self, run_id: str) -> bool:
        """CancelRun; whether it was in time."""
        try:
            await self.doors.call("CancelRun", pb.CancelRunRequest(run_id=run_id))
        except FailedPrecondition:
            return False
        self.history.cancelled.append(run_id)
        return True

    async def follow_run(self, conversation_id: str, run_id: str) -> None:
        """WatchRun to the run's end, over as many streams as it takes."""
        seen = self.history.follow(conversation_id, run_id)
        while not seen.through_end:
            request = pb.WatchRunRequest(run_id=run_id, after_seq=seen.seq)
            async for response in self.doors.stream("WatchRun", request, self._cut()):
                seen.frames += response.frames
            self.streams += 1
            events = seen.events
            seen.through_end = bool(events) and events[-1].WhichOneof("payload") in TERMINAL

    async def follow_conversation(self, conversation_id: str, after_seq: int = 0) -> None:
        """WatchConversation until `finish`, and then to the head."""
        seen = self.history.follow(conversation_id, after_seq=after_seq)
        while not seen.through_end:
            request = pb.WatchConversationRequest(conversation_id=conversation_id, after_seq=seen.seq)
            async for response in self.doors.stream("WatchConversation", request, self._cut()):
                seen.frames += response.frames
                if self._at_head(seen):
                    break
            self.streams += 1
            seen.through_end = self._at_head(seen)

    def finish(self, heads: dict[str, int]) -> None:
        """All is at rest: conversations are followed to these seqs."""
        self._heads = heads
        self._over.set()

    def _at_head(self, seen: Seen) -> bool:
        return self._over.is_set() and seen.seq >= self._heads[seen.conversation_id]

    def _cut(self) -> float:
        return self.chance.uniform(*self.cut_s)


async def eventually(condition: Callable[[], Awaitable[T | None]], limit_s: float) -> T:
    """The first answer that is not None. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while True:
            answer = await condition()
            if answer is not None:
                return answer
            await asyncio.sleep(0.2)
