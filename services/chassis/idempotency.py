"""Request ids: the same id and body return the first answer for 24 hours, another body is refused.

The answer is stored in the transaction of the effect, so there is never one without the other.
"""

import hashlib
import secrets
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chassis import audit
from chassis.errors import InvalidArgument
from chassis.migrations import Operations, enable_row_level_security
from chassis.once import Once, RequestKey

__all__ = ["Once", "Replayed", "RequestKey", "Slot", "create_request_ids", "idempotent", "request_key"]

_KEPT = "24 hours"
_PURGE_ONE_IN = 100
_PURGE_AT_MOST = 200

_metadata = sa.MetaData()
_request_ids = sa.Table(
    "request_ids",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("method", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Uuid, primary_key=True),
    sa.Column("body_hash", sa.LargeBinary, nullable=False),
    sa.Column("response", sa.LargeBinary, nullable=False),
    sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
)


class Replayed(Exception):
    """The request was answered before, and this is the answer. Let it pass through: the server's edge sends it."""

    def __init__(self, response: bytes) -> None:
        super().__init__("answered before")
        self.response = response


@dataclass(slots=True)
class Slot:
    """Where the answer of a request goes. `replay` is the first one's answer, None if this is the first."""

    replay: bytes | None = None
    response: bytes = field(default=b"", repr=False)

    def save(self, response: bytes) -> None:
        """Keeps the answer, serialized, with the effect."""
        self.response = response
        audit.answered(response)


def request_key(message: Message, method: str = "") -> RequestKey | None:
    """The key of a request with a field `request_id`; None when it is empty. `method` defaults to the message's name."""
    identified: Any = message
    text: str = identified.request_id
    if not text:
        return None
    body = type(message)()
    body.CopyFrom(message)
    body.ClearField("request_id")
    digest = hashlib.sha256(body.SerializeToString(deterministic=True)).digest()
    return RequestKey(method or message.DESCRIPTOR.full_name, uuid.UUID(text), digest)


@asynccontextmanager
async def idempotent(session: AsyncSession, organization_id: uuid.UUID, key: RequestKey | None) -> AsyncGenerator[Slot]:
    """Claims a request id for the block, in the session's transaction; stores what the block saves.

    `slot.replay` holds the first answer if there is one; `raise Replayed(slot.replay)` sends it. A second request that
    arrives while the first is running waits for its commit. Without a key every request is the first.
    Raises InvalidArgument REQUEST_ID_REUSED when the id came with another body.
    """
    slot = Slot()
    if key is None:
        yield slot
        return
    if not await _claim(session, organization_id, key):
        slot.replay = await _first_answer(session, organization_id, key)
        yield slot
        return
    yield slot
    await session.execute(_request_ids.update().where(*_is(organization_id, key)).values(response=slot.response))


async def _claim(session: AsyncSession, organization_id: uuid.UUID, key: RequestKey) -> bool:
    """Whether this request is the first with its id (or the first since the old one expired)."""
    expires = sa.func.now() + sa.text(f"interval '{_KEPT}'")
    new = insert(_request_ids).values(
        organization_id=organization_id,
        method=key.method,
        request_id=key.request_id,
        body_hash=key.body_hash,
        response=b"",
        expire_time=expires,
    )
    replaced = {"body_hash": new.excluded.body_hash, "response": b"", "expire_time": expires}
    claim = new.on_conflict_do_update(
        index_elements=[_request_ids.c.organization_id, _request_ids.c.method, _request_ids.c.request_id],
        set_=replaced,
        where=_request_ids.c.expire_time < sa.func.now(),
    ).returning(_request_ids.c.request_id)
    claimed = (await session.execute(claim)).first() is not None
    if claimed and secrets.randbelow(_PURGE_ONE_IN) == 0:
        await _purge(session, organization_id)
    return claimed


async def _first_answer(session: AsyncSession, organization_id: uuid.UUID, key: RequestKey) -> bytes:
    columns = sa.select(_request_ids.c.body_hash, _request_ids.c.response).where(*_is(organization_id, key))
    body_hash, response = (await session.execute(columns)).one()
    if body_hash != key.body_hash:
        raise InvalidArgument("request_id was used before with another body", reason="REQUEST_ID_REUSED")
    return response


async def _purge(session: AsyncSession, organization_id: uuid.UUID) -> None:
    """Removes some expired ids of the organization: as many leave as come, without a sweeper that sees all tenants."""
    old = (
        sa.select(_request_ids.c.method, _request_ids.c.request_id)
        .where(_request_ids.c.organization_id == organization_id, _request_ids.c.expire_time < sa.func.now())
        .limit(_PURGE_AT_MOST)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    await session.execute(
        _request_ids.delete().where(
            _request_ids.c.organization_id == organization_id,
            _request_ids.c.method == old.c.method,
            _request_ids.c.request_id == old.c.request_id,
        )
    )


def _is(organization_id: uuid.UUID, key: RequestKey) -> tuple[sa.ColumnElement[bool], ...]:
    columns: Any = _request_ids.c
    return (
        columns.organization_id == organization_id,
        columns.method == key.method,
        columns.request_id == key.request_id,
    )


def create_request_ids(op: Operations) -> None:
    """Creates the table, with row-level security. For a service's first migration."""
    op.create_table(
        "request_ids",
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("request_id", sa.Uuid, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "method", "request_id"),
    )
    op.create_index("request_ids_expire_time", "request_ids", ["organization_id", "expire_time"])
    enable_row_level_security(op, "request_ids")
