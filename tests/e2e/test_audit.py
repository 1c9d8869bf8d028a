"""The audit log through the public door: whoever did what, on whose behalf, in which call; and how an administrator reads and verifies it."""

import asyncio
import json
import uuid
from collections.abc import Callable

import grpc
import psycopg
import pytest

from deploy.local import Stack
from hearth.type.v1 import access_pb2
from hearth.user.v1 import api_key_service_pb2, token_service_pb2, user_service_pb2
from hearth.user.v1.audit_event_pb2 import AuditEvent
from hearth_client import AsyncHearth
from tests.e2e.test_command import hearth
from tests.e2e.test_tools_and_memory import SHIPPING, push
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api


async def recorded(stack: Stack, fits: Callable[[AuditEvent], bool]) -> list[AuditEvent]:
    """The records that fit, once there are any, in the order of the chain."""
    async with AsyncHearth(stack.url, stack.api_key) as client:
        for _ in range(40):
            if found := [event async for event in client.audit.list(oldest_first=True) if fits(event)]:
                return found
            await asyncio.sleep(0.25)
    raise AssertionError("no such record arrives")


async def me(api: Api) -> str:
    request = token_service_pb2.WhoAmIRequest()
    return (await api.tokens.WhoAmI(request, metadata=api.metadata)).user.id


async def test_a_key_its_sign_in_and_a_refusal(api: Api, stack: Stack) -> None:
    create = user_service_pb2.CreateUserRequest(name=f"u-{uuid.uuid4().hex[:12]}", role=access_pb2.ROLE_VIEWER)
    user = (await api.users.CreateUser(create, metadata=api.metadata)).user
    request_id = str(uuid.uuid4())
    metadata = (*api.metadata, ("x-request-id", request_id))
    made = await api.keys.CreateApiKey(api_key_service_pb2.CreateApiKeyRequest(user_id=user.id), metadata=metadata)
    async with Api(stack.url, made.secret) as viewer:
        delete = user_service_pb2.DeleteUserRequest(user_id=user.id)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await viewer.users.DeleteUser(delete, metadata=viewer.metadata)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    (created,) = await recorded(stack, lambda e: e.resource == made.api_key.id and e.action.endswith("CreateApiKey"))
    assert (created.actor, created.on_behalf_of, created.outcome) == (await me(api), "", "OK")
    assert created.request_id == request_id
    (signed_in,) = await recorded(stack, lambda e: e.actor == user.id and e.action.endswith("IssueToken"))
    assert (signed_in.resource, signed_in.outcome) == (made.api_key.id, "OK")
    (denied,) = await recorded(stack, lambda e: e.actor == user.id and e.action.endswith("DeleteUser"))
    assert (denied.resource, denied.outcome, denied.count) == (user.id, "PERMISSION_DENIED", 1)


async def test_what_an_agent_does_names_its_run_and_whom_it_acts_for(
    api: Api, stack: Stack, model: ThreadedModelServer
) -> None:
    name = await push(api, SHIPPING)
    agent = await api.create_agent(tools=(name,))
    mark = f"audited {uuid.uuid4().hex}"
    model.script(
        mark,
        {
            "tool_calls": [
                {"name": name, "arguments": {"weight_kg": 1}},
                {"name": "core_memory_append", "arguments": {"label": "human", "content": "Sends parcels."}},
                {"name": "archival_memory_insert", "arguments": {"content": "A parcel in May."}},
                {"name": "archival_memory_search", "arguments": {"query": "parcel"}},
                {"name": "conversation_search", "arguments": {"query": "parcel"}},
            ]
        },
        {"text": "Done."},
    )
    turn = await api.ask(agent.id, mark)
    assert turn.outcome == "run_succeeded"
    run_id = turn.events[0].run_id

    user = await me(api)
    (started,) = await recorded(stack, lambda e: e.resource == run_id)
    assert (started.actor, started.action) == (user, "hearth.agent.v1.RunService.SendMessage")
    calls: list[AuditEvent] = []
    for _ in range(20):
        calls = await recorded(stack, lambda e: e.request_id.startswith(f"{run_id}/"))
        if len(calls) >= 5:
            break
        await asyncio.sleep(0.5)
    assert sorted(e.action.rpartition(".")[2] for e in calls) == [
        "EditBlock",
        "ExecuteTool",
        "InsertPassages",
        "SearchMessages",
        "SearchPassages",
    ]
    assert {(e.actor, e.on_behalf_of, e.outcome) for e in calls} == {("svc:agent_svc", user, "OK")}
    executed = next(e for e in calls if e.action.endswith("ExecuteTool"))
    assert executed.resource.startswith("tool_")


async def test_the_command_reads_and_verifies_the_log(api: Api, stack: Stack) -> None:
    agent = await api.create_agent()
    await recorded(stack, lambda e: e.resource == agent.id)
    listed = json.loads(await asyncio.to_thread(hearth, stack, "audit", "list", "--resource", agent.id, "--json"))
    assert [event["action"] for event in listed] == ["hearth.agent.v1.AgentService.CreateAgent"]
    table = await asyncio.to_thread(hearth, stack, "audit", "list", "--since", "1h", "--limit", "0")
    assert agent.id in table
    assert "AgentService.CreateAgent" in table
    said = json.loads(await asyncio.to_thread(hearth, stack, "audit", "verify", "--json"))
    assert said["broken"] is None
    assert said["verified_count"] >= 1
    again = await asyncio.to_thread(hearth, stack, "audit", "verify", "--expect", said["head"])
    assert "head" in again
    seq, _, digest = said["head"].partition(":")
    other = f"{seq}:{digest[::-1]}"
    said = await asyncio.to_thread(hearth, stack, "audit", "verify", "--expect", other, code=1)
    assert f"broken at record {seq} (audit_" in said
    beyond = await asyncio.to_thread(hearth, stack, "audit", "verify", "--expect", f"{10**9}:{digest}", code=1)
    assert "its end was cut off" in beyond


async def test_the_command_names_the_record_that_was_tampered_with(api: Api, stack: Stack) -> None:
    agent = await api.create_agent()
    (event, *_) = await recorded(stack, lambda e: e.resource == agent.id)
    change = "UPDATE audit_events SET actor = %s WHERE resource = %s"
    with psycopg.connect(stack.superuser_url("hearth_user"), autocommit=True) as connection:
        connection.execute(change, ("user_somebody_else", agent.id))
        try:
            said = await asyncio.to_thread(hearth, stack, "audit", "verify", code=1)
            assert f"broken at record {event.seq} ({event.id})" in said
        finally:
            connection.execute(change, (event.actor, agent.id))
    await asyncio.to_thread(hearth, stack, "audit", "verify")
