"""Export and import: lossless, repeatable, and never across organizations."""

from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from chassis.errors import DomainError
from chassis.identity import use
from chassis.status import from_rpc_error
from hearth.memory.v1 import archival_memory_service_pb2 as archival
from hearth.memory.v1 import block_service_pb2 as block_pb
from hearth.memory.v1 import passage_pb2
from hearth.memory.v1 import transfer_service_pb2 as pb
from hearth.memory.v1.transfer_service_pb2_grpc import TransferServiceStub
from tests.integration.memory_svc.service import Organization, answers, new_id
from tests.integration.memory_svc.test_archival import FACTS, find, insert
from tests.integration.memory_svc.test_blocks import create


async def export(organization: Organization, channel: grpc.aio.Channel, agent: str = "") -> list[pb.MemoryRecord]:
    stub = TransferServiceStub(channel)
    pages = await answers(stub.ExportMemory, organization.member.identity, pb.ExportMemoryRequest(agent_id=agent))
    return [record for page in pages for record in page.records]


async def put_back(
    organization: Organization, channel: grpc.aio.Channel, records: Sequence[pb.MemoryRecord], agent: str = ""
) -> tuple[int, int]:
    async def sent() -> AsyncIterator[pb.ImportMemoryRequest]:
        for start in range(0, len(records), 3):
            yield pb.ImportMemoryRequest(records=records[start : start + 3], agent_id=agent if start == 0 else "")

    stored = skipped = 0
    try:
        with use(organization.member.identity):
            stream = TransferServiceStub(channel).ImportMemory(sent())
        async for answer in stream:
            stored, skipped = answer.stored_count, answer.skipped_count
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return stored, skipped


async def fill(organization: Organization) -> None:
    """Blocks and passages with history, metadata and a near duplicate."""
    block = await create(organization, value="Her name is Ada.")
    for text in ("She lives in Bergen.", "She has a cat."):
        edit = block_pb.EditBlockRequest(
            block_id=block.id, append=block_pb.AppendText(text=text), reason="she said so", etag=block.etag
        )
        block = (await organization.member.blocks.EditBlock(edit)).block
    metadata = Struct()
    metadata.update({"year": 2026, "done": True, "source": "mail"})
    await insert(organization, *FACTS, tags=["a"], metadata=metadata, source_message_ids=["msg_1"])
    near = FACTS[0].replace("printer", "scanner") + " And on the warm router in the hall of the house by night."
    stored = (await insert(organization, near, near.replace("house", "flat"))).passages
    changed = passage_pb2.Passage(id=stored[0].id, text="It was all different.")
    await organization.member.archival.UpdatePassage(
        archival.UpdatePassageRequest(passage=changed, update_mask=FieldMask(paths=["text"]))
    )


async def forget(organization: Organization, records: Sequence[pb.MemoryRecord]) -> None:
    for record in records:
        if record.HasField("block"):
            request = block_pb.DeleteBlockRequest(block_id=record.block.block.id)
            await organization.member.blocks.DeleteBlock(request)
        else:
            request = archival.DeletePassageRequest(passage_id=record.passage.passage.id)
            await organization.member.archival.DeletePassage(request)


async def test_what_comes_back_is_what_went_out(organization: Organization, channel: grpc.aio.Channel) -> None:
    await fill(organization)
    records = await export(organization, channel)
    assert len(records) == 1 + len(FACTS) + 2
    assert [version.reason for version in records[0].block.versions] == ["", "she said so", "she said so"]
    await put_back(organization, channel, records)
    assert await export(organization, channel) == records


async def test_memory_moves_to_another_organization_whole(
    organization: Organization, stranger: Organization, channel: grpc.aio.Channel
) -> None:
    await fill(organization)
    records = await export(organization, channel, organization.agent)
    assert await put_back(stranger, channel, records, stranger.agent) == (len(records), 0)
    # Again is no more: a broken import is simply done again.
    assert await put_back(stranger, channel, records, stranger.agent) == (0, len(records))
    copies = await export(stranger, channel)
    assert len(copies) == len(records)
    assert {_identity(record) for record in copies}.isdisjoint({_identity(record) for record in records})
    assert sorted(_bare(record) for record in copies) == sorted(_bare(record) for record in records)
    assert (await find(stranger, "what is her pet's name?"))[0] == FACTS[0]
    # Nothing of the first organization changed, and neither sees the other's.
    assert await export(organization, channel) == records


def _identity(record: pb.MemoryRecord) -> str:
    return record.block.block.id or record.passage.passage.id


def _bare(record: pb.MemoryRecord) -> bytes:
    """A record without what names its home."""
    copy = pb.MemoryRecord()
    copy.CopyFrom(record)
    if copy.HasField("block"):
        block = copy.block.block
        block.id, block.organization_id = "", ""
        del block.agent_ids[:]
        for version in copy.block.versions:
            version.block_id = ""
    else:
        passage = copy.passage.passage
        passage.id, passage.organization_id, passage.agent_id = "", "", ""
        passage.near_duplicate_of = "psg" if passage.near_duplicate_of else ""
    return copy.SerializeToString(deterministic=True)


async def test_what_was_deleted_is_restored_under_its_id(organization: Organization, channel: grpc.aio.Channel) -> None:
    block = await create(organization, value="kept")
    await insert(organization, FACTS[0])
    records = await export(organization, channel)
    await forget(organization, records)
    assert await export(organization, channel) == []
    assert await put_back(organization, channel, records) == (2, 0)
    again = await export(organization, channel)
    assert again == records
    assert again[0].block.block.id == block.id
    assert await find(organization, "what is her pet's name?") == [FACTS[0]]


async def test_an_agent_is_copied_to_another(organization: Organization, channel: grpc.aio.Channel) -> None:
    await fill(organization)
    records = await export(organization, channel, organization.agent)
    twin = new_id("agent")
    assert await put_back(organization, channel, records, twin) == (len(records), 0)
    assert len(await export(organization, channel, twin)) == len(records)
    assert await export(organization, channel, organization.agent) == records


async def test_an_untouched_block_gives_way_and_no_other(organization: Organization, channel: grpc.aio.Channel) -> None:
    await create(organization, value="kept")
    records = await export(organization, channel)
    fresh, used = new_id("agent"), new_id("agent")
    await create(organization, agent_ids=[fresh])
    await create(organization, agent_ids=[used], value="mine")
    assert await put_back(organization, channel, records, fresh) == (1, 0)
    assert [one.block.block.value for one in await export(organization, channel, fresh)] == ["kept"]
    with pytest.raises(DomainError) as refused:
        await put_back(organization, channel, records, used)
    assert refused.value.reason == "BLOCK_LABEL_ATTACHED"
    assert [one.block.block.value for one in await export(organization, channel, used)] == ["mine"]


async def test_an_id_of_others_tells_nothing(
    organization: Organization, stranger: Organization, channel: grpc.aio.Channel
) -> None:
    await fill(organization)
    records = await export(organization, channel)
    claimed = (await create(stranger, value="x", agent_ids=[])).organization_id
    for record in records:
        part = record.block.block if record.HasField("block") else record.passage.passage
        part.organization_id = claimed
    assert await put_back(stranger, channel, records) == (0, len(records))
    assert len(await export(stranger, channel)) == 1
    assert len(await export(organization, channel)) == len(records)


@pytest.mark.parametrize("harm", ["history", "newest", "label", "limit", "empty"])
async def test_what_is_no_record_is_refused_whole(
    organization: Organization, channel: grpc.aio.Channel, harm: str
) -> None:
    await create(organization, value="kept")
    await insert(organization, FACTS[0])
    records = await export(organization, channel)
    await forget(organization, records)
    block = records[0].block
    match harm:
        case "history":
            block.versions[-1].version = 7
        case "newest":
            block.versions[-1].value = "another"
        case "label":
            block.block.label = 'x" onload="'
        case "limit":
            block.block.limit = 2
        case _:
            records[0].Clear()
    with pytest.raises(DomainError) as refused:
        await put_back(organization, channel, records[::-1])
    assert refused.value.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
    assert await export(organization, channel) == []
