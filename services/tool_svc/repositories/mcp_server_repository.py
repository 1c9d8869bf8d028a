"""MCP servers in PostgreSQL."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.errors import AlreadyExists
from tool_svc.domain.mcp_server import McpConnection, McpServer, McpTransport
from tool_svc.repositories.tables import mcp_servers


class PostgresMcpServers:
    """An McpServerRepository in one transaction, for one organization."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, server_id: UUID, name: str, connection: McpConnection) -> McpServer:
        values = {
            "id": server_id,
            "organization_id": self._organization_id,
            "name": name,
            **_columns(connection),
            "revision": 1,
            "sync_error": "",
            "create_time": sa.func.clock_timestamp(),
            "update_time": sa.func.clock_timestamp(),
        }
        try:
            return await self._changed(sa.insert(mcp_servers).values(values))
        except IntegrityError as error:
            if getattr(getattr(error.orig, "diag", None), "constraint_name", None) != "mcp_servers_name":
                raise
            raise AlreadyExists("this name is taken", reason="NAME_TAKEN", metadata={"field": "name"}) from error

    async def get(self, server_id: UUID) -> McpServer | None:
        return await self._one(self._existing().where(mcp_servers.c.id == server_id))

    async def get_for_update(self, server_id: UUID) -> McpServer | None:
        return await self._one(self._existing().where(mcp_servers.c.id == server_id).with_for_update())

    async def exists(self, server_id: UUID) -> bool:
        query = sa.select(mcp_servers.c.id).where(*self._mine(server_id))
        return (await self._session.execute(query)).first() is not None

    async def count(self) -> int:
        query = sa.select(sa.func.count()).select_from(self._existing().subquery())
        return (await self._session.execute(query)).scalar_one()

    async def page(self, after_name: str | None, limit: int) -> Sequence[McpServer]:
        query = self._existing().order_by(mcp_servers.c.name).limit(limit)
        if after_name is not None:
            query = query.where(mcp_servers.c.name > after_name)
        return [_server(row) for row in (await self._session.execute(query)).mappings()]

    async def change(self, server_id: UUID, connection: McpConnection) -> McpServer:
        values = {
            **_columns(connection),
            "revision": mcp_servers.c.revision + 1,
            "update_time": sa.func.clock_timestamp(),
        }
        return await self._changed(mcp_servers.update().where(*self._mine(server_id)).values(values))

    async def record_sync(self, server_id: UUID, error: str) -> McpServer:
        values: dict[str, Any] = {"sync_error": error}
        if not error:
            values["sync_time"] = sa.func.clock_timestamp()
        return await self._changed(mcp_servers.update().where(*self._mine(server_id)).values(values))

    async def delete(self, server_id: UUID) -> None:
        mine = (*self._mine(server_id), mcp_servers.c.delete_time.is_(None))
        await self._session.execute(mcp_servers.update().where(*mine).values(delete_time=sa.func.now()))

    def _mine(self, server_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return mcp_servers.c.organization_id == self._organization_id, mcp_servers.c.id == server_id

    def _existing(self) -> sa.Select[Any]:
        mine = mcp_servers.c.organization_id == self._organization_id
        return sa.select(mcp_servers).where(mine, mcp_servers.c.delete_time.is_(None))

    async def _one(self, query: sa.Select[Any]) -> McpServer | None:
        row = (await self._session.execute(query)).mappings().one_or_none()
        return None if row is None else _server(row)

    async def _changed(self, statement: Any) -> McpServer:
        return _server((await self._session.execute(statement.returning(mcp_servers))).mappings().one())


def _columns(connection: McpConnection) -> dict[str, Any]:
    return {
        "transport": connection.transport,
        "url": connection.url,
        "command": list(connection.command),
        "header_secrets": dict(connection.header_secrets),
        "secrets": list(connection.secrets),
        "timeout_ms": connection.timeout_ms,
    }


def _server(row: sa.RowMapping) -> McpServer:
    connection = McpConnection(
        transport=McpTransport(row["transport"]),
        url=row["url"],
        command=tuple(row["command"]),
        header_secrets=row["header_secrets"],
        secrets=tuple(row["secrets"]),
        timeout_ms=row["timeout_ms"],
    )
    return McpServer(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        connection=connection,
        revision=row["revision"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        sync_time=row["sync_time"],
        sync_error=row["sync_error"],
    )
