"""Streams about runs and conversations that survive their connection: every event exactly once, in order."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Self

from hearth.agent.v1.event_pb2 import Frame
from hearth.agent.v1.run_pb2 import Run, RunState
from hearth.agent.v1.run_service_pb2 import (
    GetRunRequest,
    SendMessageRequest,
    StartRunRequest,
    WatchConversationRequest,
    WatchRunRequest,
)
from hearth_client._backoff import Backoff
from hearth_client._connection import Connection
from hearth_client.errors import (
    UNREACHABLE,
    HearthError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from hearth.agent.v1.run_service_pb2_grpc import RunServiceAsyncStub

_ENDED = frozenset({RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED})
_TERMINAL = frozenset({"run_succeeded", "run_failed", "run_cancelled"})

Batches = AsyncGenerator[Sequence[Frame], None]


class FrameStream(AsyncIterator[Frame], ABC):
    """Frames in order. Each event comes once, however often the connection breaks; deltas and snapshots may repeat themselves (see
    MessageAssembler). Raises HearthError when it cannot go on; `aclose` leaves early.
    """

    def __init__(self, connection: Connection, after_seq: int) -> None:
        self._connection = connection
        self.last_seq = after_seq
        """Seq of the newest event that was seen."""
        self.reconnects = 0
        """How often the connection broke and was made again."""
        self._frames = self._follow()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        return await anext(self._frames)

    async def aclose(self) -> None:
        """Leaves the stream. What is watched goes on."""
        await self._frames.aclose()

    @abstractmethod
    def _open(self) -> Batches:
        """A new connection, from last_seq on."""

    def _patience_s(self) -> float:
        return self._connection.reconnect_for_s

    def _is_last(self, frame: Frame) -> bool:
        return False

    async def _is_over(self) -> bool:
        """Asked when the server closed the stream before its last event."""
        return False

    async def _follow(self) -> AsyncGenerator[Frame, None]:
        backoff = Backoff(self._patience_s())
        while True:
            failure: HearthError
            try:
                async with aclosing(_watched(self._open(), self._connection.silence_s)) as batches:
                    async for batch in batches:
                        backoff.reset()
                        for frame in batch:
                            if not self._is_new(frame):
                                continue
                            yield frame
                            if self._is_last(frame):
                                return
                if await self._is_over():
                    return
                failure = UnavailableError("the server closed the stream early", reason="SHUTTING_DOWN")
            except (UnavailableError, ResourceExhaustedError) as error:
                failure = error
            except UnauthenticatedError as error:
                if error.reason != "TOKEN_EXPIRED":
                    raise
                failure = error
            backoff.patience_s = self._patience_s()
            if not await backoff.pause(failure.retry_after_s):
                raise failure
            self.reconnects += 1

    def _is_new(self, frame: Frame) -> bool:
        if frame.WhichOneof("kind") != "event":
            return True
        if frame.event.seq <= self.last_seq:
            return False
        self.last_seq = frame.event.seq
        return True


class RunStream(FrameStream):
    """The frames of one run, until it has ended. Leaving it early does not stop the run."""

    def __init__(
        self,
        connection: Connection,
        stub: Callable[[], RunServiceAsyncStub],
        *,
        start: StartRunRequest | None = None,
        run_id: str = "",
        after_seq: int = 0,
    ) -> None:
        self.run: Run | None = None
        """The run as it was accepted; None before that, and always None for `watch`."""
        self.run_id = run_id
        """Id of the run; empty before it is accepted."""
        self._stub = stub
        self._start = start
        self._known_ended_at = -1
        super().__init__(connection, after_seq)

    def _open(self) -> Batches:
        return self._send(self._start) if self._start is not None and not self.run_id else self._watch()

    def _patience_s(self) -> float:
        # What was never accepted is given up sooner than what runs.
        return self._connection.reconnect_for_s if self.run_id else self._connection.retry_for_s

    def _is_last(self, frame: Frame) -> bool:
        event = frame.event
        return event.WhichOneof("payload") in _TERMINAL and event.run_id in ("", self.run_id)

    async def _is_over(self) -> bool:
        # A run can end between the last event seen and this question: only what was over before the last look is over.
        if self._known_ended_at == self.last_seq:
            return True
        if not self.run_id:
            return False
        response = await self._connection.call(self._stub().GetRun, GetRunRequest(run_id=self.run_id))
        if response.run.state in _ENDED:
            self._known_ended_at = self.last_seq
        return False

    async def _send(self, start: StartRunRequest) -> Batches:
        stream = self._connection.stream(self._stub().SendMessage, SendMessageRequest(start=start))
        async with aclosing(stream) as responses:
            async for response in responses:
                if response.HasField("run"):
                    self.run = response.run
                    self.run_id = response.run.id
                yield response.frames

    async def _watch(self) -> Batches:
        request = WatchRunRequest(run_id=self.run_id, after_seq=self.last_seq)
        async with aclosing(self._connection.stream(self._stub().WatchRun, request)) as responses:
            async for response in responses:
                yield response.frames


class ConversationStream(FrameStream):
    """The frames of a conversation, without end."""

    def __init__(
        self,
        connection: Connection,
        stub: Callable[[], RunServiceAsyncStub],
        *,
        conversation_id: str,
        after_seq: int = 0,
    ) -> None:
        self._stub = stub
        self._conversation_id = conversation_id
        super().__init__(connection, after_seq)

    async def _batches(self) -> Batches:
        request = WatchConversationRequest(conversation_id=self._conversation_id, after_seq=self.last_seq)
        async with aclosing(self._connection.stream(self._stub().WatchConversation, request)) as responses:
            async for response in responses:
                yield response.frames

    def _open(self) -> Batches:
        return self._batches()


async def _watched(batches: Batches, silence_s: float) -> Batches:
    """The same, but UNAVAILABLE when nothing comes for too long: a dead peer says nothing."""
    async with aclosing(batches):
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    batch = await anext(batches, None)
            except TimeoutError:
                raise UnavailableError("the server fell silent", reason=UNREACHABLE) from None
            if batch is None:
                return
            yield batch
