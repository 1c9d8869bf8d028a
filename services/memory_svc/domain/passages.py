"""Passages: archival memory, text that an agent finds by searching."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from chassis import ids
from chassis.errors import invalid_field

MetadataValue: TypeAlias = str | float | bool
Metadata: TypeAlias = Mapping[str, MetadataValue]

MAX_BATCH = 500
_MAX_TEXT_BYTES = 1_048_576
_MAX_TAGS = 64
_MAX_TAG = 128
_MAX_KEYS = 64
_MAX_METADATA_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class PassageDraft:
    """What a caller says of a passage."""

    text: str
    tags: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict[str, MetadataValue])
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    expire_time: datetime | None = None
    source_message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage. It holds from `valid_from` to `valid_to`, and is forgotten at `expire_time`."""

    id: uuid.UUID
    organization_id: uuid.UUID
    agent_id: uuid.UUID
    text: str
    tags: tuple[str, ...]
    metadata: Metadata
    valid_from: datetime | None
    valid_to: datetime | None
    expire_time: datetime | None
    source_message_ids: tuple[str, ...]
    near_duplicate_of: uuid.UUID | None
    version: int
    create_time: datetime
    update_time: datetime

    @property
    def etag(self) -> str:
        """Changes with every change of the passage."""
        return str(self.version)

    @property
    def ranked_text(self) -> str:
        """What is searched."""
        return self.text

    @property
    def place(self) -> None:
        """A passage stands for itself."""
        return


@dataclass(frozen=True, slots=True)
class PassageVersion:
    """What a passage said after one change, and who made it."""

    version: int
    text: str
    tags: tuple[str, ...]
    metadata: Metadata
    author: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is: passages stored so far, and how many of them the agent had already."""

    id: uuid.UUID
    agent_id: uuid.UUID
    stored_count: int = 0
    duplicate_count: int = 0


def passage_from_draft(organization_id: uuid.UUID, agent_id: uuid.UUID, draft: PassageDraft, now: datetime) -> Passage:
    """A new passage of an agent."""
    return Passage(
        id=ids.new(),
        organization_id=organization_id,
        agent_id=agent_id,
        text=draft.text,
        tags=draft.tags,
        metadata=draft.metadata,
        valid_from=draft.valid_from,
        valid_to=draft.valid_to,
        expire_time=draft.expire_time,
        source_message_ids=draft.source_message_ids,
        near_duplicate_of=None,
        version=1,
        create_time=now,
        update_time=now,
    )


def check_draft(draft: PassageDraft, path: str, now: datetime) -> None:
    """Raises InvalidArgument naming the field under `path` that breaks a rule."""
    if not draft.text.strip():
        raise invalid_field(f"{path}.text", "must not be blank")
    if len(draft.text.encode()) > _MAX_TEXT_BYTES:
        raise invalid_field(f"{path}.text", f"must have at most {_MAX_TEXT_BYTES} bytes")
    if len(draft.tags) > _MAX_TAGS or len(set(draft.tags)) < len(draft.tags):
        raise invalid_field(f"{path}.tags", f"must be at most {_MAX_TAGS}, each once")
    if not all(0 < len(tag) <= _MAX_TAG for tag in draft.tags):
        raise invalid_field(f"{path}.tags", f"must each have 1 to {_MAX_TAG} characters")
    if draft.valid_from and draft.valid_to and draft.valid_to <= draft.valid_from:
        raise invalid_field(f"{path}.valid_to_time", "must lie after valid_from_time")
    if draft.expire_time and draft.expire_time <= now:
        raise invalid_field(f"{path}.expire_time", "must lie in the future")
    check_metadata(draft.metadata, f"{path}.metadata")


def check_metadata(metadata: Metadata, path: str) -> None:
    """Raises InvalidArgument where there are too many keys or they are too large."""
    if len(metadata) > _MAX_KEYS:
        raise invalid_field(path, f"must have at most {_MAX_KEYS} keys")
    if len(json.dumps(dict(metadata)).encode()) > _MAX_METADATA_BYTES:
        raise invalid_field(path, f"must have at most {_MAX_METADATA_BYTES} bytes")


def metadata_terms(metadata: Metadata) -> tuple[str, ...]:
    """Each key with its value as one text, so that equality can be looked up. 3 and 3.0 are the same."""
    return tuple(metadata_term(key, value) for key, value in sorted(metadata.items()))


def metadata_term(key: str, value: MetadataValue) -> str:
    """Stands for a key with this value."""
    return json.dumps([key, _canonical(value)], ensure_ascii=False)


def key_term(key: str) -> str:
    """Stands for a key, whatever its value."""
    return json.dumps([key], ensure_ascii=False)


def content_hash(text: str) -> bytes:
    """Equal for exact duplicates: the same text but for space around it."""
    return hashlib.blake2b(text.strip().encode(), digest_size=16).digest()


def _canonical(value: MetadataValue) -> MetadataValue | int:
    return int(value) if isinstance(value, float) and value.is_integer() else value
