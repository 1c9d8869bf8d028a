"""Limits through the door: what an organization's users see of them, and that a flood is theirs alone."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis.errors import DomainError
from chassis.status import from_rpc_error
from deploy.local import Stack
from hearth.agent.v1 import run_service_pb2
from hearth.tool.v1 import tool_service_pb2
from hearth.user.v1 import organization_pb2, token_service_pb2
from hearth.user.v1 import organization_service_pb2 as organizations
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from tests.e2e.test_json_and_grpc_web import post
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api

IN_FORCE_S = 3.0
RATE, TOKEN_RATE = 60, 20
TOOL = 'def double(number: int) -> int:\n    """Doubles a number."""\n    return 2 * number\n'


@pytest.fixture
async def member(stack: Stack, api: Api) -> AsyncIterator[Api]:
    """A member of a new organization."""
    async with Api(stack.url, await api.another_organization()) as client:
        yield client


async def _organization(caller: Api) -> organization_pb2.Organization:
    request = organizations.GetOrganizationRequest(include_usage=True)
    return (await caller.organizations.GetOrganization(request, metadata=caller.metadata)).organization


async def _limit(admin: Api, member: Api, **limits: int) -> None:
    organization = organization_pb2.Organization(id=(await _organization(member)).id)
    for name, value in limits.items():
        setattr(organization.limits, name, value)
    mask = FieldMask(paths=[f"limits.{name}" for name in limits])
    request = organizations.UpdateOrganizationRequest(organization=organization, update_mask=mask)
    await admin.organizations.UpdateOrganization(request, metadata=admin.metadata)
    await asyncio.sleep(IN_FORCE_S)


async def test_a_model_is_told_of_a_used_up_quota_and_the_run_goes_on(
    api: Api, member: Api, model: ThreadedModelServer
) -> None:
    await _limit(api, member, tool_calls_per_minute=1)
    made = tool_service_pb2.UpsertToolRequest(tool=tool_service_pb2.ToolSpec(source_code=TOOL))
    await member.tools.UpsertTool(made, metadata=member.metadata)
    agent = await member.create_agent(tools=("double",), passive_recall=False)
    mark = uuid.uuid4().hex
    call = {"name": "double", "arguments": {"number": 21}}
    model.script(mark, {"tool_calls": [call]}, {"tool_calls": [call]}, {"text": "It is 42."}, scope="last_user")
    turn = await member.ask(agent.id, mark)
    assert (turn.outcome, turn.answer) == ("run_succeeded", "It is 42.")
    results = [
        event.message_completed.message.text
        for event in turn.events
        if event.HasField("message_completed") and event.message_completed.message.tool_call_id
    ]
    assert results[0] == "42"
    assert results[1].startswith("The tool was not run: the limit of 1 tool calls per minute is reached; try again in ")


async def test_usage_stands_beside_the_limits(api: Api, member: Api, model: ThreadedModelServer) -> None:
    await _limit(api, member, concurrent_runs=2)
    agent = await member.create_agent(passive_recall=False)
    mark = uuid.uuid4().hex
    model.script(mark, {"stall_before_head": True}, repeat=True, scope="last_user")
    runs = [await member.start(agent.id, mark) for _ in range(2)]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await member.start(agent.id, mark)
    error = from_rpc_error(raised.value)
    assert (error.reason, error.metadata["limit"], error.retry_after_s) == ("QUOTA_EXCEEDED", "concurrent_runs", 1.0)
    usage = (await _organization(member)).usage
    assert (usage.active_runs, usage.limits.concurrent_runs, usage.stored_passages) == (2, 2, 0)
    assert list(usage.unanswered) == []
    for run in runs:
        cancel = run_service_pb2.CancelRunRequest(run_id=run.id)
        await member.runs.CancelRun(cancel, metadata=member.metadata)
    assert (await _organization(member)).usage.active_runs == 0


@pytest.fixture(scope="module")
def door() -> Iterator[Stack]:
    """A door that lets little through, with user_svc behind it."""
    rates = {"HEARTH_DOOR_ORGANIZATION_RATE": RATE, "HEARTH_DOOR_USER_RATE": RATE, "HEARTH_DOOR_TOKEN_RATE": TOKEN_RATE}
    with Stack(env={name: str(rate) for name, rate in rates.items()}, only=("user_svc", "envoy")) as stack:
        yield stack


async def _who_am_i(caller: Api) -> DomainError | None:
    try:
        await caller.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=caller.metadata)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


async def test_who_floods_is_cut_off_and_nobody_else(door: Stack) -> None:
    async with Api(door.url, door.api_key) as quiet, Api(door.url, await quiet.another_organization()) as loud:
        flood = asyncio.gather(*(_who_am_i(loud) for _ in range(10 * RATE)))
        heard = [await _who_am_i(quiet) for _ in range(RATE // 2)]
        answers = await flood
        assert heard == [None] * (RATE // 2)
        refused = [error for error in answers if error is not None]
        # What filled up while it lasted is far less than the flood.
        assert RATE <= len(answers) - len(refused) <= 5 * RATE
        assert {(error.code, error.reason, error.retry_after_s) for error in refused} == {
            ("RESOURCE_EXHAUSTED", "RATE_LIMITED", 1.0)
        }
        status, body = 200, ""
        for _ in range(3 * RATE):
            status, body = await post(door, "hearth.user.v1.TokenService/WhoAmI", {}, loud.token)
            if status != 200:
                break
            await asyncio.gather(*(_who_am_i(loud) for _ in range(RATE)))
        told = json.loads(body)
        assert (status, told["code"]) == (429, 8)
        assert [detail.get("reason") or detail.get("retry_delay") for detail in told["details"]] == [
            "RATE_LIMITED",
            "1s",
        ]


async def test_guessing_keys_is_slowed_down_by_address(door: Stack) -> None:
    await asyncio.sleep(1)
    async with grpc.aio.insecure_channel(door.target) as channel:
        stub = TokenServiceStub(channel)

        async def guess() -> str:
            try:
                await stub.IssueToken(token_service_pb2.IssueTokenRequest(api_key="hk_" + "A" * 43))
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason
            return ""

        reasons = Counter(await asyncio.gather(*(guess() for _ in range(10 * TOKEN_RATE))))
    assert set(reasons) == {"API_KEY_INVALID", "RATE_LIMITED"}
    assert TOKEN_RATE <= reasons["API_KEY_INVALID"] <= 4 * TOKEN_RATE
