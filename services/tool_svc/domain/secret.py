"""A secret as it is listed, and as it is kept. The value itself is a `str` only while it is sealed or given to a call."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that tools get as an environment variable; it is never shown again."""

    id: uuid.UUID
    organization_id: uuid.UUID
    name: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key, encrypted under the wrapping key that `key_id` names."""

    key_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A value encrypted under a data key of its own, and that key wrapped."""

    name: str
    key_id: str
    wrapped_key: bytes
    sealed: bytes = field(repr=False)
