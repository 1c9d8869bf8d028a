"""TransferService on the wire."""

import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct

from chassis import ids
from chassis.errors import invalid_field
from chassis.identity import current
from hearth.memory.v1 import block_pb2, passage_pb2
from hearth.memory.v1 import transfer_service_pb2 as pb
from hearth.memory.v1.transfer_service_pb2_grpc import TransferServiceServicer
from memory_svc.domain.blocks import DEFAULT_LIMIT, Block, BlockVersion
from memory_svc.domain.passages import Passage, PassageVersion
from memory_svc.domain.transfer import BlockRecord, MemoryRecord, PassageRecord
from memory_svc.managers.transfer_manager import Home, TransferManager
from memory_svc.servicers.callers import optional_id
from memory_svc.servicers.mapping import (
    block_to_proto,
    draft_from_proto,
    metadata_from_proto,
    optional_time,
    passage_to_proto,
    timestamp,
    version_to_proto,
)

_LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class TransferServicer(TransferServiceServicer):
    """Messages in, messages out."""

    def __init__(self, transfers: TransferManager) -> None:
        self._transfers = transfers

    async def ExportMemory(
        self, request: pb.ExportMemoryRequest, context: Any
    ) -> AsyncIterator[pb.ExportMemoryResponse]:
        agent_id = optional_id("agent", request.agent_id)
        async for records in self._transfers.export(current().organization_id, agent_id):
            yield pb.ExportMemoryResponse(records=map(_to_proto, records))

    async def ImportMemory(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ImportMemoryResponse]:
        organization_id = current().organization_id
        agent_id: uuid.UUID | None = None
        stored = skipped = 0
        async for request in request_iterator:
            agent_id = optional_id("agent", request.agent_id) or agent_id
            records = [_from_proto(given, f"records[{place}]") for place, given in enumerate(request.records)]
            new = await self._transfers.store(Home(organization_id, agent_id), records)
            stored += new
            skipped += len(records) - new
            yield pb.ImportMemoryResponse(stored_count=stored, skipped_count=skipped)


def _to_proto(record: MemoryRecord) -> pb.MemoryRecord:
    if isinstance(record, BlockRecord):
        versions = map(version_to_proto, record.versions)
        return pb.MemoryRecord(block=pb.BlockRecord(block=block_to_proto(record.block), versions=versions))
    history = map(_version_to_proto, record.versions)
    return pb.MemoryRecord(passage=pb.PassageRecord(passage=passage_to_proto(record.passage), versions=history))


def _version_to_proto(version: PassageVersion) -> pb.PassageVersion:
    metadata = Struct()
    metadata.update(dict(version.metadata))
    return pb.PassageVersion(
        version=version.version,
        text=version.text,
        tags=version.tags,
        metadata=metadata,
        author=version.author,
        create_time=timestamp(version.create_time),
    )


def _from_proto(given: pb.MemoryRecord, path: str) -> MemoryRecord:
    if given.WhichOneof("record") == "block":
        block = _block(given.block.block, f"{path}.block.block")
        versions = [
            _block_version(block.id, one, f"{path}.block.versions[{place}]")
            for place, one in enumerate(given.block.versions)
        ]
        return BlockRecord(block, versions)
    passage = _passage(given.passage.passage, f"{path}.passage.passage")
    history = [
        _passage_version(one, f"{path}.passage.versions[{place}]") for place, one in enumerate(given.passage.versions)
    ]
    return PassageRecord(passage, history)


def _block(given: block_pb2.Block, path: str) -> Block:
    # What CreateBlock demands; the label stands in the rendered context as it is.
    if _LABEL.fullmatch(given.label) is None:
        raise invalid_field(f"{path}.label", "must be like `human`: small letters, digits, _ and -, at most 63")
    create_time = optional_time(given, "create_time", path) or datetime.now(UTC)
    return Block(
        id=ids.decode("block", given.id),
        organization_id=ids.decode("org", given.organization_id),
        label=given.label,
        value=given.value,
        description=given.description,
        limit=given.limit or DEFAULT_LIMIT,
        read_only=given.read_only,
        version=given.version,
        revision=int(given.etag) if given.etag.isdecimal() and len(given.etag) < 10 else given.version,
        create_time=create_time,
        update_time=optional_time(given, "update_time", path) or create_time,
        agent_ids=tuple(ids.decode("agent", one) for one in given.agent_ids),
    )


def _block_version(block_id: uuid.UUID, given: block_pb2.BlockVersion, path: str) -> BlockVersion:
    moment = optional_time(given, "create_time", path) or datetime.now(UTC)
    return BlockVersion(block_id, given.version, given.value, given.author, given.reason, given.diff, moment)


def _passage(given: passage_pb2.Passage, path: str) -> Passage:
    draft = draft_from_proto(given, path)
    create_time = optional_time(given, "create_time", path) or datetime.now(UTC)
    return Passage(
        id=ids.decode("psg", given.id),
        organization_id=ids.decode("org", given.organization_id),
        agent_id=ids.decode("agent", given.agent_id),
        text=draft.text,
        tags=draft.tags,
        metadata=draft.metadata,
        valid_from=draft.valid_from,
        valid_to=draft.valid_to,
        expire_time=draft.expire_time,
        source_message_ids=draft.source_message_ids,
        near_duplicate_of=optional_id("psg", given.near_duplicate_of),
        version=given.version,
        create_time=create_time,
        update_time=optional_time(given, "update_time", path) or create_time,
    )


def _passage_version(given: pb.PassageVersion, path: str) -> PassageVersion:
    metadata = metadata_from_proto(given.metadata, f"{path}.metadata")
    moment = optional_time(given, "create_time", path) or datetime.now(UTC)
    return PassageVersion(given.version, given.text, tuple(given.tags), metadata, given.author, moment)
