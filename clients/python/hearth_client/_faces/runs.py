"""Runs: say something to an agent, follow what it does, stop it, see what it saw."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hearth.agent.v1.conversation_pb2 import Image
from hearth.agent.v1.run_pb2 import Run, RunContext, RunState
from hearth.agent.v1.run_service_pb2 import (
    BusyPolicy,
    CancelRunRequest,
    GetRunContextRequest,
    GetRunRequest,
    ListRunsRequest,
    StartRunRequest,
)
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from hearth_client._blocking import BlockingFace, call, follow_run, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages
from hearth_client._stream import RunStream

if TYPE_CHECKING:
    from hearth.agent.v1.run_service_pb2_grpc import RunServiceAsyncStub


class Runs:
    """`client.runs`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> RunServiceAsyncStub:
        return RunServiceStub(self._connection.channel)

    def send(
        self,
        text: str,
        *,
        agent_id: str = "",
        conversation_id: str = "",
        busy_policy: BusyPolicy.ValueType | None = None,
        images: Iterable[Image] = (),
        output_schema: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> RunStream:
        """Says `text` to an agent (in its default conversation) or in a conversation, and streams the run until it has ended.

        `images` are shown with it (`Image(data=…)` or an https `url`); with `output_schema`, a JSON Schema of type object, the answer is
        one JSON object that matches it. Nothing is sent before the stream is read. It reconnects by itself: every event comes exactly once. A run that fails ends the
        stream with its `run_failed` event, not with an exception.
        """
        start = _start(text, agent_id, conversation_id, busy_policy, request_id)
        _add(start, images, output_schema)
        return RunStream(self._connection, lambda: self._stub, start=start)

    async def start(
        self,
        text: str,
        *,
        agent_id: str = "",
        conversation_id: str = "",
        busy_policy: BusyPolicy.ValueType | None = None,
        images: Iterable[Image] = (),
        output_schema: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> Run:
        """Says `text` and returns as soon as it is accepted: the run will end, whatever dies. Follow it with `watch`.

        `images` and `output_schema` as for `send`.
        """
        start = _start(text, agent_id, conversation_id, busy_policy, request_id)
        _add(start, images, output_schema)
        return (await self._connection.call(self._stub.StartRun, start)).run

    def watch(self, run_id: str, *, after_seq: int = 0) -> RunStream:
        """Streams a run until it has ended: events after `after_seq` (0: from its start), then what comes."""
        return RunStream(self._connection, lambda: self._stub, run_id=run_id, after_seq=after_seq)

    async def get(self, run_id: str) -> Run:
        """By id. Raises NotFoundError."""
        return (await self._connection.call(self._stub.GetRun, GetRunRequest(run_id=run_id))).run

    def list(
        self,
        *,
        agent_id: str = "",
        conversation_id: str = "",
        states: Iterable[RunState.ValueType] = (),
        page_size: int = 0,
    ) -> AsyncIterator[Run]:
        """Newest first; of an agent, of a conversation, in some states, or all."""
        wanted = tuple(states)

        async def fetch(token: str) -> tuple[Sequence[Run], str]:
            request = ListRunsRequest(
                agent_id=agent_id,
                conversation_id=conversation_id,
                states=wanted,
                page_size=page_size,
                page_token=token,
            )
            response = await self._connection.call(self._stub.ListRuns, request)
            return response.runs, response.next_page_token

        return pages(fetch)

    async def context(self, run_id: str) -> Sequence[RunContext]:
        """What the model saw, one entry per model call."""
        request = GetRunContextRequest(run_id=run_id)
        return (await self._connection.call(self._stub.GetRunContext, request)).contexts

    async def cancel(self, run_id: str) -> Run:
        """Stops a run: no new model call or tool call starts. Twice is fine; ended otherwise: FailedPreconditionError RUN_ENDED."""
        return (await self._connection.call(self._stub.CancelRun, CancelRunRequest(run_id=run_id))).run


class BlockingRuns(BlockingFace[Runs]):
    """`client.runs`, blocking."""

    send = follow_run(Runs.send)
    start = call(Runs.start)
    watch = follow_run(Runs.watch)
    get = call(Runs.get)
    list = iterate(Runs.list)
    context = call(Runs.context)
    cancel = call(Runs.cancel)


def _start(
    text: str, agent_id: str, conversation_id: str, busy_policy: BusyPolicy.ValueType | None, request_id: str
) -> StartRunRequest:
    if bool(agent_id) == bool(conversation_id):
        raise ValueError("name either agent_id or conversation_id")
    request = StartRunRequest(request_id=request_id or new_request_id(), text=text)
    if agent_id:
        request.agent_id = agent_id
    else:
        request.conversation_id = conversation_id
    if busy_policy is not None:
        request.busy_policy = busy_policy
    return request


def _add(request: StartRunRequest, images: Iterable[Image], output_schema: Mapping[str, Any] | None) -> None:
    request.images.extend(images)
    if output_schema is not None:
        request.output_schema = json.dumps(output_schema)
