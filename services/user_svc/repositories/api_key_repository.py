"""API keys in PostgreSQL, and their entries in the index that finds them by the hash of their secret."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from user_svc.domain.api_key import ApiKey
from user_svc.repositories.tables import api_key_index, api_key_uses
from user_svc.repositories.tables import api_keys as table

_COLUMNS = [(api_key_uses if field.name == "last_used_time" else table).c[field.name] for field in fields(ApiKey)]


class PostgresApiKeys:
    """An ApiKeyRepository in one transaction, for one organization."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, key: ApiKey, secret_hash: bytes) -> None:
        values = asdict(key) | {"scopes": None if key.scopes is None else sorted(key.scopes)}
        del values["last_used_time"]
        await self._session.execute(table.insert().values(secret_hash=secret_hash, **values))
        entry = {"secret_hash": secret_hash, "organization_id": key.organization_id, "key_id": key.id}
        await self._session.execute(api_key_index.insert().values(entry))

    async def get(self, key_id: UUID) -> ApiKey | None:
        row = (await self._session.execute(self._all().where(table.c.id == key_id))).mappings().one_or_none()
        return None if row is None else _from_row(row)

    async def page(self, user_id: UUID | None, after: UUID | None, limit: int) -> Sequence[ApiKey]:
        query = self._all().order_by(table.c.id).limit(limit)
        if user_id is not None:
            query = query.where(table.c.user_id == user_id)
        if after is not None:
            query = query.where(table.c.id > after)
        return [_from_row(row) for row in (await self._session.execute(query)).mappings()]

    async def revoke(self, key_id: UUID) -> None:
        await self._revoke(table.c.id == key_id)

    async def revoke_all(self, user_id: UUID | None = None) -> None:
        await self._revoke(sa.true() if user_id is None else table.c.user_id == user_id)

    async def is_active_anywhere(self, secret_hash: bytes) -> bool:
        query = sa.select(api_key_index.c.key_id).where(api_key_index.c.secret_hash == secret_hash)
        return (await self._session.execute(query)).first() is not None

    async def has_hash(self, secret_hash: bytes) -> bool:
        query = self._all().where(table.c.secret_hash == secret_hash)
        return (await self._session.execute(query)).first() is not None

    async def _revoke(self, which: sa.ColumnElement[bool]) -> None:
        mine = table.c.organization_id == self._organization_id
        revoked = (
            table.update()
            .where(mine, which, table.c.revoke_time.is_(None))
            .values(revoke_time=sa.func.now())
            .returning(table.c.id)
            .cte("revoked")
        )
        # One statement: the key and its way in go together.
        gone = api_key_index.delete().where(api_key_index.c.key_id.in_(sa.select(revoked.c.id)))
        await self._session.execute(gone)

    def _all(self) -> sa.Select[Any]:
        used = table.outerjoin(api_key_uses, api_key_uses.c.key_id == table.c.id)
        return sa.select(*_COLUMNS).select_from(used).where(table.c.organization_id == self._organization_id)


def _from_row(row: sa.RowMapping) -> ApiKey:
    scopes = row["scopes"]
    values: dict[str, Any] = {**row, "scopes": None if scopes is None else frozenset(scopes)}
    return ApiKey(**values)
