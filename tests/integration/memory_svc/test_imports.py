"""ImportPassages: in batches, resumed where it broke off; and passages that say nearly the same."""

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import grpc
import pytest

from chassis.channels import open_channel
from chassis.errors import DomainError
from chassis.identity import use
from chassis.status import from_rpc_error
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1.archival_memory_service_pb2_grpc import ArchivalMemoryServiceStub
from tests.integration.memory_svc.service import MemoryProcess, Organization, is_error, new_id
from tests.integration.memory_svc.test_archival import FACTS, find, insert
from tests.support.issuer import Issuer


def batch(organization: Organization, import_id: str, offset: int, *texts: str) -> pb.ImportPassagesRequest:
    return pb.ImportPassagesRequest(
        import_id=import_id,
        agent_id=organization.agent,
        offset=offset,
        passages=[pb.PassageSpec(text=text) for text in texts],
    )


async def send(
    organization: Organization, channel: grpc.aio.Channel, *requests: pb.ImportPassagesRequest
) -> list[tuple[int, int]]:
    return [answer async for answer in answers(organization, channel, requests)]


async def answers(
    organization: Organization, channel: grpc.aio.Channel, requests: Iterable[pb.ImportPassagesRequest]
) -> AsyncIterator[tuple[int, int]]:
    async def sent() -> AsyncIterator[pb.ImportPassagesRequest]:
        for request in requests:
            yield request

    try:
        with use(organization.member.identity):
            stream = ArchivalMemoryServiceStub(channel).ImportPassages(sent())
        async for answer in stream:
            yield answer.stored_count, answer.duplicate_count
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def lines(start: int, count: int) -> list[str]:
    return [f"Crate {n} holds {n * 7} lemons and came by sea." for n in range(start, start + count)]


async def stored(organization: Organization) -> int:
    page = await organization.viewer.archival.ListPassages(
        pb.ListPassagesRequest(agent_id=organization.agent, page_size=200)
    )
    return len(page.passages)


async def test_batches_with_progress(organization: Organization, channel: grpc.aio.Channel) -> None:
    await insert(organization, *lines(0, 1))
    name = str(uuid.uuid4())
    progress = await send(
        organization,
        channel,
        batch(organization, name, 0, *lines(0, 40)),
        pb.ImportPassagesRequest(offset=40, passages=[pb.PassageSpec(text=text) for text in lines(40, 30)]),
    )
    assert progress == [(40, 1), (70, 1)]
    assert await stored(organization) == 70
    assert lines(55, 1)[0] in await find(organization, "crate 55")


async def test_a_broken_import_goes_on_where_it_was(organization: Organization, channel: grpc.aio.Channel) -> None:
    name = str(uuid.uuid4())
    with pytest.raises(DomainError) as refused:
        await send(
            organization,
            channel,
            batch(organization, name, 0, *lines(0, 20)),
            batch(organization, name, 20, "fine", " "),
        )
    assert is_error(refused.value, "INVALID_ARGUMENT", "VALIDATION_FAILED")
    # Asking without passages says how far it is; sending again what is stored already changes nothing.
    assert await send(organization, channel, batch(organization, name, 0)) == [(20, 0)]
    assert await send(organization, channel, batch(organization, name, 0, *lines(0, 30))) == [(30, 0)]
    assert await send(organization, channel, batch(organization, name, 10, *lines(10, 15))) == [(30, 0)]
    assert await stored(organization) == 30


async def test_a_killed_service_goes_on_where_it_was(own_service: MemoryProcess, issuer: Issuer) -> None:
    own_service.start()
    name = str(uuid.uuid4())
    seen = 0
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, issuer)
        requests = (batch(organization, name, at, *lines(at, 50)) for at in range(0, 5_000, 50))
        with suppress(DomainError):
            async for seen, _ in answers(organization, channel, requests):
                if seen >= 500:
                    own_service.kill()
        assert 500 <= seen < 5_000
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.connect(channel)
        [(so_far, _)] = await send(organization, channel, batch(organization, name, 0))
        assert seen <= so_far < 5_000
        [(after, duplicates)] = await send(organization, channel, batch(organization, name, so_far, *lines(so_far, 20)))
        assert (after, duplicates) == (so_far + 20, 0)


async def test_what_is_missing_is_not_passed_over(organization: Organization, channel: grpc.aio.Channel) -> None:
    name = str(uuid.uuid4())
    await send(organization, channel, batch(organization, name, 0, *lines(0, 3)))
    with pytest.raises(DomainError) as refused:
        await send(organization, channel, batch(organization, name, 5, "too far"))
    assert refused.value.code == "OUT_OF_RANGE"
    assert refused.value.metadata["stored_count"] == "3"


async def test_an_import_is_of_one_agent_and_one_organization(
    organization: Organization, stranger: Organization, channel: grpc.aio.Channel
) -> None:
    name = str(uuid.uuid4())
    await send(organization, channel, batch(organization, name, 0, *lines(0, 3)))
    other = pb.ImportPassagesRequest(import_id=name, agent_id=new_id("agent"))
    with pytest.raises(DomainError) as refused:
        await send(organization, channel, other)
    assert refused.value.code == "INVALID_ARGUMENT"
    # The same name elsewhere is another import.
    assert await send(stranger, channel, batch(stranger, name, 0)) == [(0, 0)]
    with pytest.raises(DomainError):
        await send(organization, channel, pb.ImportPassagesRequest(import_id=name))


async def test_nearly_the_same_is_marked(organization: Organization, stranger: Organization) -> None:
    text = "The staging server in Bergen fails with a timeout after every restart in the night."
    [first] = (await insert(organization, text, *FACTS)).passages[:1]
    changed = text.replace("Bergen", "Oslo")
    [near, far] = (await insert(organization, changed, "The staging server is old.")).passages
    assert near.near_duplicate_of == first.id
    assert far.near_duplicate_of == ""
    [louder] = (await insert(organization, text.upper())).passages
    assert louder.near_duplicate_of == first.id
    assert (await insert(stranger, changed)).passages[0].near_duplicate_of == ""
