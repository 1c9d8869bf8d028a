"""RunService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from agent_svc.domain.approval import Decision
from agent_svc.domain.frame import Frame
from agent_svc.domain.run import BusyPolicy, Run
from agent_svc.domain.run_input import NO_EXTRAS, ImageDraft
from agent_svc.managers.approval_manager import ApprovalManager
from agent_svc.managers.input_check import InputCheck
from agent_svc.managers.run_manager import RunManager, Target
from agent_svc.managers.watch_manager import WatchManager
from agent_svc.servicers.frames import FrameWriter
from agent_svc.servicers.mapping import context_to_proto, optional_id, run_to_proto
from agent_svc.servicers.paging import Page
from agent_svc.servicers.watch_stream import TokenCheck, WatchStream
from chassis import ids
from chassis.errors import not_implemented
from chassis.idempotency import request_key
from chassis.identity import Identity, current
from chassis.once import RequestKey
from chassis.pagination import PageTokens, page_size
from chassis.revocations import Revocations
from hearth.agent.v1 import event_pb2
from hearth.agent.v1 import run_service_pb2 as pb
from hearth.agent.v1.run_service_pb2_grpc import RunServiceServicer


class RunServicer(RunServiceServicer):
    """Messages in, messages out; streams are batches of what is ready."""

    def __init__(
        self,
        runs: RunManager,
        watching: WatchManager,
        inputs: InputCheck,
        approvals: ApprovalManager,
        check: TokenCheck,
        revocations: Revocations,
        pages: PageTokens,
    ) -> None:
        self._runs = runs
        self._watching = watching
        self._inputs = inputs
        self._approvals = approvals
        self._check = check
        self._revocations = revocations
        self._pages = pages

    async def StartRun(self, request: pb.StartRunRequest, context: Any) -> pb.StartRunResponse:
        return pb.StartRunResponse(run=run_to_proto(await self._start(current(), request)))

    async def SendMessage(self, request: pb.SendMessageRequest, context: Any) -> AsyncIterator[pb.SendMessageResponse]:
        caller = current()
        conversation_id = await self._runs.conversation_of(caller, _target(request.start))
        async with self._watching.feed(conversation_id) as feed:
            run = await self._start(caller, request.start)
            writer = FrameWriter(run.organization_id, run.conversation_id)
            # Its first events wait in the feed already, so the first response carries the run and them; a run that was
            # started before with the same request id may have nothing to say for a while.
            async with aclosing(self._watching.started(feed, run)) as batches:
                first = run_to_proto(run)
                if feed.empty:
                    yield pb.SendMessageResponse(run=first)
                    first = None
                async for batch in batches:
                    yield pb.SendMessageResponse(run=first, frames=_frames(writer, batch))
                    first = None

    async def _start(self, caller: Identity, request: pb.StartRunRequest) -> Run:
        key, body_hash = _request_hash(request)
        policy = BusyPolicy(request.busy_policy or BusyPolicy.QUEUE)
        target, extras = _target(request), NO_EXTRAS
        if request.images or request.output_schema:
            conversation_id = await self._runs.conversation_of(caller, target)
            images = [ImageDraft(one.media_type, one.data, one.url) for one in request.images]
            extras = await self._inputs.accept(caller, conversation_id, images, request.output_schema)
        return await self._runs.start(caller, target, request.text, policy, key, body_hash, extras)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncIterator[pb.WatchRunResponse]:
        organization_id = current().organization_id
        run_id = ids.decode("run", request.run_id)
        async with self._watching.run(organization_id, run_id, request.after_seq) as following:
            writer = FrameWriter(organization_id, following.conversation_id)
            async for batch in following.batches:
                yield pb.WatchRunResponse(frames=_frames(writer, batch))

    async def WatchConversation(
        self, request: pb.WatchConversationRequest, context: Any
    ) -> AsyncIterator[pb.WatchConversationResponse]:
        organization_id = current().organization_id
        conversation_id = ids.decode("conv", request.conversation_id)
        async with self._watching.conversation(organization_id, conversation_id, request.after_seq) as following:
            writer = FrameWriter(organization_id, conversation_id)
            async for batch in following.batches:
                yield pb.WatchConversationResponse(frames=_frames(writer, batch))

    async def Watch(
        self, request_iterator: AsyncIterator[pb.WatchRequest], context: Any
    ) -> AsyncIterator[pb.WatchResponse]:
        stream = WatchStream(self._watching, self._check, self._revocations, current())
        async with aclosing(stream.responses(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:
        run = await self._runs.get(current(), ids.decode("run", request.run_id))
        return pb.GetRunResponse(run=run_to_proto(run))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._runs.page(
            caller,
            optional_id("agent", request.agent_id),
            optional_id("conv", request.conversation_id),
            list(request.states),
            page.id,
            page_size(request.page_size),
        )
        return pb.ListRunsResponse(
            runs=[run_to_proto(one) for one in found], next_page_token=page.next(found[-1].id if found else None, more)
        )

    async def GetRunContext(self, request: pb.GetRunContextRequest, context: Any) -> pb.GetRunContextResponse:
        contexts = await self._runs.contexts(current(), ids.decode("run", request.run_id))
        return pb.GetRunContextResponse(contexts=[context_to_proto(one) for one in contexts])

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.CancelRunResponse:
        run = await self._runs.cancel(current(), ids.decode("run", request.run_id))
        return pb.CancelRunResponse(run=run_to_proto(run))

    async def ResolveApproval(self, request: pb.ResolveApprovalRequest, context: Any) -> pb.ResolveApprovalResponse:
        run = await self._approvals.resolve(
            current(),
            ids.decode("run", request.run_id),
            ids.decode("appr", request.approval_id),
            request.arguments_hash,
            Decision(request.approved, request.reason),
        )
        return pb.ResolveApprovalResponse(run=run_to_proto(run))

    async def SubmitToolResults(
        self, request: pb.SubmitToolResultsRequest, context: Any
    ) -> pb.SubmitToolResultsResponse:
        raise not_implemented("client-side tools")


def _target(request: pb.StartRunRequest) -> Target:
    if request.WhichOneof("target") == "agent_id":
        return Target(agent_id=ids.decode("agent", request.agent_id))
    return Target(conversation_id=ids.decode("conv", request.conversation_id))


def _request_hash(request: pb.StartRunRequest) -> tuple[RequestKey | None, bytes]:
    """The request id with the hash of the rest; without an id there is nothing to compare, and no hash is made."""
    key = request_key(request)
    return key, key.body_hash if key else b""


def _frames(writer: FrameWriter, batch: list[Frame]) -> list[event_pb2.Frame]:
    return [writer.write(frame) for frame in batch]
