"""Blocks: edits under concurrency, limits, history, attachment."""

import asyncio

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis.errors import DomainError
from hearth.memory.v1 import block_pb2
from hearth.memory.v1 import block_service_pb2 as pb
from tests.integration.memory_svc.service import Organization, new_id, request_id


async def create(organization: Organization, **fields: object) -> block_pb2.Block:
    given = {"label": "human", "value": "", "agent_ids": [organization.agent], **fields}
    request = pb.CreateBlockRequest(**given)  # pyright: ignore[reportArgumentType]
    return (await organization.member.blocks.CreateBlock(request)).block


async def edit(organization: Organization, block_id: str, **operation: object) -> block_pb2.Block:
    request = pb.EditBlockRequest(block_id=block_id, **operation)  # pyright: ignore[reportArgumentType]
    return (await organization.member.blocks.EditBlock(request)).block


async def get(organization: Organization, block_id: str) -> block_pb2.Block:
    return (await organization.viewer.blocks.GetBlock(pb.GetBlockRequest(block_id=block_id))).block


def refused(error: pytest.ExceptionInfo[DomainError]) -> tuple[str, str]:
    return error.value.code, error.value.reason


async def test_what_is_created_is_read(organization: Organization) -> None:
    made = await create(organization, value="Her name is Ada.", description="The person.", read_only=True)
    assert await get(organization, made.id) == made
    assert (made.version, made.limit, list(made.agent_ids)) == (1, 5000, [organization.agent])
    page = await organization.viewer.blocks.ListBlocks(pb.ListBlocksRequest(agent_id=organization.agent))
    assert list(page.blocks) == [made]


async def test_concurrent_edits_lose_nothing(organization: Organization) -> None:
    block = await create(organization)
    lines = [f"fact {number}" for number in range(40)]
    await asyncio.gather(*(edit(organization, block.id, append=pb.AppendText(text=line)) for line in lines))
    after = await get(organization, block.id)
    assert sorted(after.value.split("\n")) == sorted(lines)
    assert after.version == 41


async def test_of_two_writers_with_one_etag_one_wins(organization: Organization) -> None:
    block = await create(organization, value="0")

    async def write(value: str) -> str:
        given = block_pb2.Block(id=block.id, value=value, etag=block.etag)
        try:
            request = pb.UpdateBlockRequest(block=given, update_mask=FieldMask(paths=["value"]))
            return (await organization.member.blocks.UpdateBlock(request)).block.value
        except DomainError as error:
            return error.reason

    written = await asyncio.gather(*(write(str(number)) for number in range(1, 9)))
    [winner] = [value for value in written if value != "ETAG_MISMATCH"]
    assert (await get(organization, block.id)).value == winner


async def test_each_operation(organization: Organization) -> None:
    block = await create(organization, value="one\ntwo")
    assert (await edit(organization, block.id, append=pb.AppendText(text="three"))).value == "one\ntwo\nthree"
    assert (await edit(organization, block.id, insert=pb.InsertText(text="zero", line=0))).value.startswith("zero\none")
    replaced = await edit(organization, block.id, replace=pb.ReplaceText(old_text="two\n", new_text=""))
    assert replaced.value == "zero\none\nthree"
    assert (await edit(organization, block.id, rethink=pb.RethinkText(text="all new"))).value == "all new"
    with pytest.raises(DomainError) as many:
        await edit(organization, block.id, replace=pb.ReplaceText(old_text="l", new_text="x"))
    assert refused(many) == ("FAILED_PRECONDITION", "EDIT_MATCH_COUNT")
    assert many.value.metadata["matches"] == "2"
    with pytest.raises(DomainError) as beyond:
        await edit(organization, block.id, insert=pb.InsertText(text="x", line=2))
    assert refused(beyond) == ("OUT_OF_RANGE", "VALIDATION_FAILED")


async def test_the_limit_holds(organization: Organization) -> None:
    block = await create(organization, value="12345", limit=10)
    with pytest.raises(DomainError) as over:
        await edit(organization, block.id, append=pb.AppendText(text="67890"))
    assert refused(over) == ("FAILED_PRECONDITION", "BLOCK_LIMIT_EXCEEDED")
    assert over.value.metadata == {"limit": "10", "length": "11"}
    assert (await get(organization, block.id)).value == "12345"
    given = block_pb2.Block(id=block.id, limit=3, etag=block.etag)
    lower = pb.UpdateBlockRequest(block=given, update_mask=FieldMask(paths=["limit"]))
    with pytest.raises(DomainError) as lowered:
        await organization.member.blocks.UpdateBlock(lower)
    assert refused(lowered) == ("FAILED_PRECONDITION", "BLOCK_LIMIT_EXCEEDED")
    with pytest.raises(DomainError) as created:
        await create(organization, label="other", value="x" * 11, limit=10)
    assert refused(created) == ("FAILED_PRECONDITION", "BLOCK_LIMIT_EXCEEDED")


async def test_history_and_restore(organization: Organization) -> None:
    block = await create(organization, value="first")
    await edit(organization, block.id, rethink=pb.RethinkText(text="second"), reason="it changed")
    request = pb.EditBlockRequest(
        agent_block=pb.AgentBlock(agent_id=organization.agent, label="human"),
        append=pb.AppendText(text="third"),
        editor_agent_id=organization.agent,
    )
    newest = (await organization.service.blocks.EditBlock(request)).block
    history = await organization.viewer.blocks.ListBlockVersions(pb.ListBlockVersionsRequest(block_id=block.id))
    versions = list(history.block_versions)
    assert [version.value for version in versions] == ["second\nthird", "second", "first"]
    member = organization.member.identity.subject
    assert [version.author for version in versions] == [organization.agent, member, member]
    assert versions[1].reason == "it changed"
    assert "-first" in versions[1].diff
    assert "+second" in versions[1].diff
    restore = pb.RestoreBlockRequest(block_id=block.id, version=1, etag=newest.etag)
    restored = (await organization.member.blocks.RestoreBlock(restore)).block
    assert (restored.value, restored.version) == ("first", 4)
    with pytest.raises(DomainError) as stale:
        await organization.member.blocks.RestoreBlock(restore)
    assert refused(stale) == ("ABORTED", "ETAG_MISMATCH")
    restore.etag, restore.version = restored.etag, 99
    with pytest.raises(DomainError) as absent:
        await organization.member.blocks.RestoreBlock(restore)
    assert refused(absent) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    first = pb.ListBlockVersionsRequest(block_id=block.id, page_size=3)
    page = await organization.viewer.blocks.ListBlockVersions(first)
    first.page_token = page.next_page_token
    rest = await organization.viewer.blocks.ListBlockVersions(first)
    assert [v.version for v in [*page.block_versions, *rest.block_versions]] == [4, 3, 2, 1]


async def test_read_only_binds_agents_and_not_people(organization: Organization) -> None:
    block = await create(organization, value="policy", read_only=True)
    request = pb.EditBlockRequest(
        block_id=block.id, rethink=pb.RethinkText(text="x"), editor_agent_id=organization.agent
    )
    with pytest.raises(DomainError) as agent:
        await organization.service.blocks.EditBlock(request)
    assert refused(agent) == ("FAILED_PRECONDITION", "BLOCK_READ_ONLY")
    assert (await edit(organization, block.id, rethink=pb.RethinkText(text="new policy"))).value == "new policy"
    request.editor_agent_id = new_id("agent")
    with pytest.raises(DomainError) as other:
        await organization.service.blocks.EditBlock(request)
    assert refused(other) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_labels_are_unique_for_an_agent_and_blocks_are_shared(organization: Organization) -> None:
    shared, other = await create(organization, label="team"), new_id("agent")
    with pytest.raises(DomainError) as taken:
        await create(organization, label="team")
    assert refused(taken) == ("FAILED_PRECONDITION", "BLOCK_LABEL_ATTACHED")
    attach = pb.AttachBlockRequest(block_id=shared.id, agent_id=other)
    for _ in range(2):
        attached = (await organization.member.blocks.AttachBlock(attach)).block
        assert set(attached.agent_ids) == {organization.agent, other}
    edit_as_other = pb.EditBlockRequest(
        agent_block=pb.AgentBlock(agent_id=other, label="team"), append=pb.AppendText(text="hello")
    )
    await organization.member.blocks.EditBlock(edit_as_other)
    assert (await get(organization, shared.id)).value == "hello"
    detach = pb.DetachBlockRequest(block_id=shared.id, agent_id=other)
    for _ in range(2):
        assert list((await organization.member.blocks.DetachBlock(detach)).block.agent_ids) == [organization.agent]
    with pytest.raises(DomainError) as gone:
        await organization.member.blocks.EditBlock(edit_as_other)
    assert refused(gone) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_delete_twice(organization: Organization) -> None:
    block = await create(organization)
    for _ in range(2):
        await organization.member.blocks.DeleteBlock(pb.DeleteBlockRequest(block_id=block.id))
    with pytest.raises(DomainError) as gone:
        await get(organization, block.id)
    assert refused(gone) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_requests_are_answered_once(organization: Organization) -> None:
    creation = pb.CreateBlockRequest(request_id=request_id(), label="once")
    first = await organization.member.blocks.CreateBlock(creation)
    assert await organization.member.blocks.CreateBlock(creation) == first
    append = pb.EditBlockRequest(request_id=request_id(), block_id=first.block.id, append=pb.AppendText(text="x"))
    answers = await asyncio.gather(*(organization.member.blocks.EditBlock(append) for _ in range(5)))
    assert {answer.block.value for answer in answers} == {"x"}
    assert (await get(organization, first.block.id)).version == 2


async def test_foreign_blocks_do_not_exist(organization: Organization, stranger: Organization) -> None:
    block = await create(organization, value="secret")
    absent = new_id("block")
    for block_id in (block.id, absent):
        for call in (
            stranger.member.blocks.GetBlock(pb.GetBlockRequest(block_id=block_id)),
            stranger.member.blocks.AttachBlock(pb.AttachBlockRequest(block_id=block_id, agent_id=stranger.agent)),
            stranger.member.blocks.ListBlockVersions(pb.ListBlockVersionsRequest(block_id=block_id)),
            stranger.member.blocks.EditBlock(
                pb.EditBlockRequest(block_id=block_id, rethink=pb.RethinkText(text="mine"))
            ),
        ):
            with pytest.raises(DomainError) as refusal:
                await call
            assert refused(refusal) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
            assert refusal.value.message == f"block {block_id} was not found"
    await stranger.member.blocks.DeleteBlock(pb.DeleteBlockRequest(block_id=block.id))
    assert (await get(organization, block.id)).value == "secret"
    page = await stranger.member.blocks.ListBlocks(pb.ListBlocksRequest(agent_id=organization.agent))
    assert not page.blocks


async def test_pages_by_label(organization: Organization) -> None:
    for label in ("b", "a", "c", "a"):
        await create(organization, label=label, agent_ids=[])
    labels: list[str] = []
    request = pb.ListBlocksRequest(page_size=3)
    while True:
        page = await organization.viewer.blocks.ListBlocks(request)
        labels += [block.label for block in page.blocks]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert labels == ["a", "a", "b", "c"]
