"""Resources of memory as messages, and back."""

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from chassis import ids
from chassis.errors import invalid_field
from hearth.memory.v1 import archival_memory_service_pb2 as archival_pb
from hearth.memory.v1 import block_pb2, passage_pb2, search_pb2
from hearth.memory.v1 import recall_memory_service_pb2 as recall_pb
from memory_svc.domain.blocks import Block, BlockVersion
from memory_svc.domain.messages import ROLES, RecallMessage
from memory_svc.domain.passages import MetadataValue, Passage, PassageDraft, metadata_term
from memory_svc.domain.search import NumberBounds, SearchMode, Signal, SignalScore

_MODES: Mapping[int, SearchMode] = {
    search_pb2.SEARCH_MODE_UNSPECIFIED: SearchMode.HYBRID,
    search_pb2.SEARCH_MODE_HYBRID: SearchMode.HYBRID,
    search_pb2.SEARCH_MODE_DENSE: SearchMode.DENSE,
    search_pb2.SEARCH_MODE_LEXICAL: SearchMode.LEXICAL,
}
# Where the wire says it otherwise.
_SIGNALS = {Signal.LEXICAL: "bm25", Signal.WINDOW: "bm25_window"}


def block_to_proto(block: Block) -> block_pb2.Block:
    return block_pb2.Block(
        id=ids.encode("block", block.id),
        organization_id=ids.encode("org", block.organization_id),
        label=block.label,
        value=block.value,
        description=block.description,
        limit=block.limit,
        read_only=block.read_only,
        agent_ids=[ids.encode("agent", agent_id) for agent_id in block.agent_ids],
        version=block.version,
        create_time=timestamp(block.create_time),
        update_time=timestamp(block.update_time),
        etag=block.etag,
    )


def version_to_proto(version: BlockVersion) -> block_pb2.BlockVersion:
    return block_pb2.BlockVersion(
        block_id=ids.encode("block", version.block_id),
        version=version.version,
        value=version.value,
        author=version.author,
        reason=version.reason,
        diff=version.diff,
        create_time=timestamp(version.create_time),
    )


def passage_to_proto(passage: Passage) -> passage_pb2.Passage:
    metadata = Struct()
    metadata.update(dict(passage.metadata))
    near = passage.near_duplicate_of
    return passage_pb2.Passage(
        id=ids.encode("psg", passage.id),
        organization_id=ids.encode("org", passage.organization_id),
        agent_id=ids.encode("agent", passage.agent_id),
        text=passage.text,
        tags=passage.tags,
        metadata=metadata,
        valid_from_time=optional_timestamp(passage.valid_from),
        valid_to_time=optional_timestamp(passage.valid_to),
        expire_time=optional_timestamp(passage.expire_time),
        source_message_ids=passage.source_message_ids,
        near_duplicate_of=ids.encode("psg", near) if near else "",
        version=passage.version,
        create_time=timestamp(passage.create_time),
        update_time=timestamp(passage.update_time),
        etag=passage.etag,
    )


def draft_from_proto(given: archival_pb.PassageSpec | passage_pb2.Passage, path: str) -> PassageDraft:
    """What a caller says of a passage. Raises InvalidArgument naming the field under `path`."""
    return PassageDraft(
        text=given.text,
        tags=tuple(given.tags),
        metadata=metadata_from_proto(given.metadata, f"{path}.metadata"),
        valid_from=optional_time(given, "valid_from_time", path),
        valid_to=optional_time(given, "valid_to_time", path),
        expire_time=optional_time(given, "expire_time", path),
        source_message_ids=tuple(given.source_message_ids),
    )


def metadata_from_proto(given: Struct, path: str) -> Mapping[str, MetadataValue]:
    """Raises InvalidArgument for anything but strings, numbers and booleans."""
    values: dict[str, MetadataValue] = {}
    for key, value in given.fields.items():
        values[key] = _metadata_value(value, f"{path}.{key}")
    return values


def any_term(given: search_pb2.MetadataCondition, path: str) -> tuple[str, ...]:
    """The terms of which one must match. Raises InvalidArgument like metadata_from_proto."""
    values = (_metadata_value(value, f"{path}.any_of.values[{at}]") for at, value in enumerate(given.any_of.values))
    return tuple(metadata_term(given.key, value) for value in values)


def bounds_of(given: search_pb2.MetadataCondition) -> NumberBounds:
    """The bounds of a number."""
    number = given.number
    return NumberBounds(
        given.key,
        at_least=number.min if number.HasField("min") else None,
        above=number.above if number.HasField("above") else None,
        at_most=number.max if number.HasField("max") else None,
        below=number.below if number.HasField("below") else None,
    )


def _metadata_value(value: Value, path: str) -> MetadataValue:
    kind = value.WhichOneof("kind")
    if kind not in ("string_value", "number_value", "bool_value"):
        raise invalid_field(path, "must be a string, a number or a boolean")
    found: MetadataValue = getattr(value, kind)
    if isinstance(found, float) and not math.isfinite(found):
        raise invalid_field(path, "must be a finite number")
    return found


def message_to_proto(message: RecallMessage) -> recall_pb.RecallMessage:
    return recall_pb.RecallMessage(
        message_id=ids.encode("msg", message.id),
        agent_id=ids.encode("agent", message.agent_id),
        conversation_id=ids.encode("conv", message.conversation_id),
        seq=message.seq,
        role=message.role,
        speaker=message.speaker,
        text=message.text,
        create_time=timestamp(message.create_time),
    )


def message_from_proto(given: recall_pb.RecallMessage, organization_id: uuid.UUID, path: str) -> RecallMessage:
    """Raises InvalidArgument naming the field under `path`, NotFound for an id that is none."""
    if given.role not in ROLES:
        raise invalid_field(f"{path}.role", f"must be one of {', '.join(ROLES)}")
    return RecallMessage(
        id=ids.decode("msg", given.message_id),
        organization_id=organization_id,
        agent_id=ids.decode("agent", given.agent_id),
        conversation_id=ids.decode("conv", given.conversation_id),
        seq=given.seq,
        role=given.role,
        speaker=given.speaker[:128],
        text=given.text,
        create_time=optional_time(given, "create_time", path) or datetime.now(UTC),
    )


def mode_from_proto(mode: int) -> SearchMode:
    return _MODES[mode]


def explanation(signals: tuple[SignalScore, ...]) -> search_pb2.Explanation:
    return search_pb2.Explanation(
        signals=[
            search_pb2.SignalScore(
                signal=_SIGNALS.get(part.signal, part.signal.value),
                score=part.score,
                rank=part.rank,
                contribution=part.contribution,
            )
            for part in signals
        ]
    )


def timestamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def optional_timestamp(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else timestamp(moment)


def optional_time(message: Message, name: str, path: str) -> datetime | None:
    """A Timestamp field as a time, None where it is absent. Raises InvalidArgument where it is no time."""
    if not message.HasField(name):
        return None
    value: Any = getattr(message, name)
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise invalid_field(f"{path}.{name}", "is not a time between the years 1 and 9999") from None
