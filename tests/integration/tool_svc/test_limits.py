"""How many calls of tools an organization may make in a minute: one count over all replicas."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from chassis.channels import open_channel
from chassis.errors import DomainError
from hearth.tool.internal.v1 import usage_service_pb2
from hearth.tool.internal.v1.usage_service_pb2_grpc import UsageServiceStub
from tests.integration.tool_svc.service import Caller, Organization, ToolProcess
from tests.support.databases import FreshDatabase
from tests.support.issuer import Issuer

IN_FORCE_S = 3.0
TOOL = "def one() -> int:\n    return 1\n"


async def _used(organization: Organization, channel: grpc.aio.Channel) -> int:
    stub = UsageServiceStub(channel)
    metadata = (("authorization", f"Bearer {organization.service.identity.token}"),)
    return (await stub.GetUsage(usage_service_pb2.GetUsageRequest(), metadata=metadata)).tool_calls_last_minute


async def _early_in_a_minute() -> None:
    """So that the minute does not end in the middle of the test."""
    if (second := time.time() % 60) > 35:
        await asyncio.sleep(60.1 - second)


async def test_two_replicas_let_exactly_the_limit_through(
    organization: Organization,
    stranger: Organization,
    issuer: Issuer,
    channel: grpc.aio.Channel,
    tool_database: FreshDatabase,
    sandbox_dir: Path,
    tmp_path: Path,
) -> None:
    other = ToolProcess(tool_database.url, issuer, tmp_path, sandbox_dir / tmp_path.name)
    issuer.limits.set(organization.id, tool_calls_per_minute=12)
    other.start()
    try:
        await asyncio.sleep(IN_FORCE_S)
        await _early_in_a_minute()
        tool = await organization.member.create(TOOL)
        async with open_channel(other.address) as second_channel:
            second = Caller(second_channel, organization.member.identity)

            async def call(number: int) -> DomainError | None:
                try:
                    await (second if number % 2 else organization.member).execute(tool)
                except DomainError as error:
                    return error
                return None

            refusals = [error for error in await asyncio.gather(*map(call, range(40))) if error is not None]
        assert {(error.code, error.reason) for error in refusals} == {("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")}
        assert len(refusals) == 28
        error = refusals[0]
        assert error.metadata == {"limit": "tool_calls_per_minute", "value": "12", "used": "12"}
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 120
        assert await _used(organization, channel) == 12
        theirs = await stranger.member.create(TOOL)
        await stranger.member.execute(theirs)
    finally:
        other.stop()


async def test_zero_allows_none(organization: Organization, issuer: Issuer, channel: grpc.aio.Channel) -> None:
    issuer.limits.set(organization.id, tool_calls_per_minute=0)
    await asyncio.sleep(IN_FORCE_S)
    tool = await organization.member.create(TOOL)
    with pytest.raises(DomainError, match="the limit of 0 tool calls per minute") as refused:
        await organization.member.execute(tool)
    assert refused.value.retry_after_s is None
    assert await _used(organization, channel) == 0
