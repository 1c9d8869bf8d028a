"""A backend engineer's way in: gRPC through Envoy, with generated stubs."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Awaitable

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from hearth.agent.v1 import agent_service_pb2, conversation_service_pb2, run_service_pb2
from hearth.user.v1 import token_service_pb2
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The ErrorInfo's reason of a failed call; empty if it has none."""
    status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType]
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return info.reason
    return ""


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """The error that a call must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_token_says_who_it_stands_for(api: Api) -> None:
    me = await api.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=api.metadata, timeout=10)

    assert me.organization.name == "default"
    assert me.user.name == "admin"
    assert me.subject == me.user.id


async def test_an_answer_streams_and_makes_up_the_message(api: Api, model: ThreadedModelServer) -> None:
    agent = await api.create_agent()
    model.default(mode="echo", token_delay_ms=40)

    turn = await api.ask(agent.id, "Tell me about the seven seas and what lives in them.")

    assert turn.outcome == "run_succeeded"
    assert turn.delta_count > 1, "the answer came in one piece"
    assert turn.streamed == turn.answer != ""
    assert turn.kinds[:2] == ["run_queued", "message_completed"]
    assert [event.seq for event in turn.events] == list(range(1, len(turn.events) + 1))


async def test_a_watcher_that_comes_late_sees_the_same_log(api: Api) -> None:
    agent = await api.create_agent()
    turn = await api.ask(agent.id, "First things first.")

    for after in range(len(turn.events)):
        seen = []
        request = run_service_pb2.WatchRunRequest(run_id=turn.events[0].run_id, after_seq=after)
        async for response in api.runs.WatchRun(request, metadata=api.metadata, timeout=10):
            seen.extend(frame.event for frame in response.frames if frame.WhichOneof("kind") == "event")
        assert seen == turn.events[after:]


async def test_the_same_request_id_starts_one_run(api: Api) -> None:
    agent = await api.create_agent()
    request = run_service_pb2.StartRunRequest(request_id=str(uuid.uuid4()), agent_id=agent.id, text="Once, please.")

    answers = await asyncio.gather(*(api.runs.StartRun(request, metadata=api.metadata, timeout=10) for _ in range(5)))

    assert len({answer.run.id for answer in answers}) == 1
    request.text = "Something else."
    error = await refusal(api.runs.StartRun(request, metadata=api.metadata, timeout=10))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_eight_messages_at_once_are_all_answered_in_one_order(api: Api) -> None:
    agent = await api.create_agent()

    turns = await asyncio.gather(*(api.ask(agent.id, f"Message number {n}.", timeout=60) for n in range(8)))

    assert [turn.outcome for turn in turns] == ["run_succeeded"] * 8
    request = conversation_service_pb2.ListMessagesRequest(conversation_id=agent.default_conversation_id)
    messages = (await api.conversations.ListMessages(request, metadata=api.metadata, timeout=10)).messages
    assert len(messages) == 16
    said = {m.text for m in messages if m.role == 1}
    assert said == {f"Message number {n}." for n in range(8)}
    # Each answer belongs to its own run, whatever came in between.
    assert len({m.run_id for m in messages if m.role == 2}) == 8
    # All runs' events together are the conversation's log, without a gap.
    seqs = sorted(event.seq for turn in turns for event in turn.events)
    assert seqs == list(range(1, len(seqs) + 1))


async def test_no_token_and_no_good_token_are_unauthenticated(api: Api) -> None:
    header, payload, signature = api.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["role"] = "PLATFORM_ADMIN"
    forged = (
        base64.urlsafe_b64encode(json.dumps(claims | {"exp": int(time.time()) + 9999}).encode()).rstrip(b"=").decode()
    )
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    for token in ("", "nonsense", f"{header}.{forged}.{signature}", f"{none}.{payload}."):
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        error = await refusal(
            api.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=metadata, timeout=10)
        )
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, token
        assert error.details(), "no reason given"


async def test_a_wrong_key_is_unauthenticated(api: Api) -> None:
    for key in ("hk_" + "A" * 43, "nonsense", "x" * 256):
        error = await refusal(api.tokens.IssueToken(token_service_pb2.IssueTokenRequest(api_key=key), timeout=10))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID"), key


async def test_unknown_ids_are_not_found(api: Api) -> None:
    absent: list[Awaitable[object]] = [
        api.agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id=text), metadata=api.metadata, timeout=10)
        for text in ("agent_00000000000000000000000000", "nonsense", "run_00000000000000000000000000")
    ]
    absent.append(
        api.runs.StartRun(
            run_service_pb2.StartRunRequest(agent_id="agent_00000000000000000000000000", text="Hello?"),
            metadata=api.metadata,
            timeout=10,
        )
    )
    for call in absent:
        error = await refusal(call)
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_what_breaks_the_schema_is_refused_by_field(api: Api) -> None:
    error = await refusal(
        api.agents.CreateAgent(agent_service_pb2.CreateAgentRequest(name="x" * 200), metadata=api.metadata, timeout=10)
    )

    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType]
    bad = error_details_pb2.BadRequest()
    assert status is not None
    assert any(detail.Unpack(bad) for detail in status.details)
    assert bad.field_violations[0].field == "name"


async def test_internal_methods_have_no_route(api: Api) -> None:
    call = api.channel.unary_unary("/hearth.memory.internal.v1.ContextService/CompileContext")

    error = await refusal(call(b"", metadata=api.metadata, timeout=10))

    assert error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
