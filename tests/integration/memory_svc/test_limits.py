"""How many passages an organization may store: exact, whoever stores at the same time."""

import asyncio

import grpc
import pytest

from chassis.errors import DomainError
from hearth.memory.internal.v1 import usage_service_pb2
from hearth.memory.internal.v1.usage_service_pb2_grpc import UsageServiceStub
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from tests.integration.memory_svc.service import Organization, new_id, request_id
from tests.support.issuer import Issuer

IN_FORCE_S = 3.0


def _insert(agent: str, *texts: str, key: str = "") -> pb.InsertPassagesRequest:
    passages = [pb.PassageSpec(text=text) for text in texts]
    return pb.InsertPassagesRequest(request_id=key or request_id(), agent_id=agent, passages=passages)


async def _used(organization: Organization, channel: grpc.aio.Channel) -> int:
    stub = UsageServiceStub(channel)
    identity = organization.service.identity
    metadata = (("authorization", f"Bearer {identity.token}"),)
    return (await stub.GetUsage(usage_service_pb2.GetUsageRequest(), metadata=metadata)).stored_passages


async def test_fifty_inserters_fill_a_limit_exactly(
    organization: Organization, issuer: Issuer, channel: grpc.aio.Channel
) -> None:
    issuer.limits.set(organization.id, stored_passages=20)
    await asyncio.sleep(IN_FORCE_S)
    agents = [new_id("agent") for _ in range(5)]

    async def insert(number: int) -> DomainError | None:
        try:
            await organization.member.archival.InsertPassages(_insert(agents[number % 5], f"passage {number}"))
        except DomainError as error:
            return error
        return None

    refusals = [error for error in await asyncio.gather(*map(insert, range(50))) if error is not None]
    assert len(refusals) == 30
    assert {(error.code, error.reason) for error in refusals} == {("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")}
    assert refusals[0].metadata == {"limit": "stored_passages", "value": "20", "used": "20"}
    assert refusals[0].retry_after_s is None
    assert await _used(organization, channel) == 20


async def test_deleting_gives_back_and_what_is_stored_already_costs_nothing(
    organization: Organization, issuer: Issuer, channel: grpc.aio.Channel
) -> None:
    issuer.limits.set(organization.id, stored_passages=2)
    await asyncio.sleep(IN_FORCE_S)
    archival, agent, key = organization.member.archival, organization.agent, request_id()
    stored = await archival.InsertPassages(_insert(agent, "one", "two", key=key))
    # All or none.
    with pytest.raises(DomainError, match="the limit of 2 stored passages is reached"):
        await archival.InsertPassages(_insert(agent, "three", "four"))
    assert await archival.InsertPassages(_insert(agent, "one", "two", key=key)) == stored
    again = await archival.InsertPassages(_insert(agent, "two"))
    assert again.passages[0].id == stored.passages[1].id
    delete = pb.DeletePassageRequest(passage_id=stored.passages[0].id)
    await archival.DeletePassage(delete)
    await archival.DeletePassage(delete)
    assert await _used(organization, channel) == 1
    await archival.InsertPassages(_insert(agent, "three"))
    with pytest.raises(DomainError, match="reached"):
        await archival.InsertPassages(_insert(new_id("agent"), "four"))
    assert await _used(organization, channel) == 2


async def test_zero_allows_none_and_others_are_not_limited(
    organization: Organization, stranger: Organization, issuer: Issuer
) -> None:
    issuer.limits.set(organization.id, stored_passages=0)
    await asyncio.sleep(IN_FORCE_S)
    with pytest.raises(DomainError, match="the limit of 0 stored passages"):
        await organization.member.archival.InsertPassages(_insert(organization.agent, "one"))
    await stranger.member.archival.InsertPassages(_insert(stranger.agent, "one"))
