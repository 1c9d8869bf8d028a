"""Tools in PostgreSQL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.errors import AlreadyExists
from tool_svc.domain.tool import Tool, ToolContent, ToolFilter, ToolKind, ToolSettings, ToolVersion
from tool_svc.repositories.tables import CONTENT, tool_versions, tools

# Bytes of sources and schemas on one page, well below what a message may have.
_PAGE_BYTES = 4 * 1024 * 1024


class PostgresTools:
    """A ToolRepository in one transaction, for one organization."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, tool_id: UUID, name: str, kind: ToolKind, content: ToolContent, author: str) -> Tool:
        statement = insert(tools).values(self._new_row(tool_id, name, kind, content)).returning(tools)
        try:
            row = (await self._session.execute(statement)).mappings().one()
        except IntegrityError as error:
            if getattr(getattr(error.orig, "diag", None), "constraint_name", None) != "tools_name":
                raise
            raise _name_taken() from error
        return await self._record(row, author)

    async def put(self, tool_id: UUID, name: str, kind: ToolKind, content: ToolContent, author: str) -> Tool:
        return (await self._put(self._new_row(tool_id, name, kind, content), author))[0]

    async def put_remote(
        self, tool_id: UUID, name: str, server_id: UUID, content: ToolContent, author: str
    ) -> tuple[Tool, bool]:
        row = self._new_row(tool_id, name, ToolKind.MCP, content)
        return await self._put({**row, "mcp_server_id": server_id}, author)

    async def _put(self, row: dict[str, Any], author: str) -> tuple[Tool, bool]:
        """The tool, and whether this made a version."""
        statement = insert(tools).values(row)
        new = statement.excluded
        stored = sa.tuple_(*(tools.c[column] for column in CONTENT))
        given = sa.tuple_(*(new[column] for column in CONTENT))
        same_origin = sa.and_(tools.c.kind == new.kind, tools.c.mcp_server_id.is_not_distinct_from(new.mcp_server_id))
        statement = statement.on_conflict_do_update(
            index_elements=["organization_id", "name"],
            index_where=tools.c.delete_time.is_(None),
            set_={
                **{column: new[column] for column in CONTENT},
                "version": tools.c.version + 1,
                "update_time": sa.func.clock_timestamp(),
            },
            where=sa.and_(same_origin, stored.is_distinct_from(given)),
        ).returning(tools)
        changed = (await self._session.execute(statement)).mappings().one_or_none()
        if changed is not None:
            return await self._record(changed, author), True
        # The same already, or another's. The statement above has locked it, so it is still there.
        there = await self._one(self._existing().where(tools.c.name == row["name"]))
        assert there is not None
        if (there.kind, there.mcp_server_id) != (row["kind"], row["mcp_server_id"]):
            raise _name_taken()
        return there, False

    async def of_server(self, server_id: UUID) -> Sequence[Tool]:
        query = self._existing().where(tools.c.mcp_server_id == server_id).order_by(tools.c.name)
        return [tool_of(row) for row in (await self._session.execute(query)).mappings()]

    async def get(self, tool_id: UUID) -> Tool | None:
        return await self._one(self._existing().where(tools.c.id == tool_id))

    async def named(self, name: str) -> Tool | None:
        return await self._one(self._existing().where(tools.c.name == name))

    async def get_for_update(self, tool_id: UUID) -> Tool | None:
        return await self._one(self._existing().where(tools.c.id == tool_id).with_for_update())

    async def exists(self, tool_id: UUID) -> bool:
        mine = (tools.c.organization_id == self._organization_id, tools.c.id == tool_id)
        return (await self._session.execute(sa.select(tools.c.id).where(*mine))).first() is not None

    async def page(self, which: ToolFilter, after_name: str | None, limit: int) -> Sequence[Tool]:
        columns: list[sa.ColumnElement[Any]] = [tools.c.id, tools.c.name, _bytes_of(tools).label("size")]
        wanted: sa.Select[Any] = sa.select(*columns).where(*self._are(which))
        if after_name is not None:
            wanted = wanted.where(tools.c.name > after_name)
        rows = _within_bytes(wanted.order_by(tools.c.name).limit(limit), "name")
        query = sa.select(tools).join(rows, rows.c.id == tools.c.id).where(_fits(rows)).order_by(tools.c.name)
        return [tool_of(row) for row in (await self._session.execute(query)).mappings()]

    async def change(self, tool_id: UUID, content: ToolContent, author: str) -> Tool:
        statement = (
            tools.update()
            .where(tools.c.organization_id == self._organization_id, tools.c.id == tool_id)
            .values(**_columns(content), version=tools.c.version + 1, update_time=sa.func.clock_timestamp())
            .returning(tools)
        )
        row = (await self._session.execute(statement)).mappings().one()
        return await self._record(row, author)

    async def delete(self, tool_id: UUID) -> None:
        mine = (tools.c.organization_id == self._organization_id, tools.c.id == tool_id, tools.c.delete_time.is_(None))
        await self._session.execute(tools.update().where(*mine).values(delete_time=sa.func.now()))

    async def version(self, tool: Tool, version: int) -> Tool | None:
        query = self._versions_of(tool).where(tool_versions.c.version == version)
        row = (await self._session.execute(query)).mappings().one_or_none()
        return None if row is None else _at_version(tool, row)

    async def versions(self, tool: Tool, before: int | None, limit: int) -> Sequence[ToolVersion]:
        wanted = self._versions_of(tool, tool_versions.c.version, _bytes_of(tool_versions).label("size"))
        if before is not None:
            wanted = wanted.where(tool_versions.c.version < before)
        newest_first = sa.desc(tool_versions.c.version)
        rows = _within_bytes(wanted.order_by(newest_first).limit(limit), "version", descending=True)
        query = (
            self._versions_of(tool)
            .join(rows, rows.c.version == tool_versions.c.version)
            .where(_fits(rows))
            .order_by(newest_first)
        )
        found = (await self._session.execute(query)).mappings()
        return [ToolVersion(_at_version(tool, row), row["author"]) for row in found]

    def _new_row(self, tool_id: UUID, name: str, kind: ToolKind, content: ToolContent) -> dict[str, Any]:
        # The clock, not the transaction's start: of two writers that waited for each other the later has the later time.
        now = sa.func.clock_timestamp()
        return {
            "id": tool_id,
            "organization_id": self._organization_id,
            "name": name,
            "kind": kind,
            "mcp_server_id": None,
            **_columns(content),
            "version": 1,
            "create_time": now,
            "update_time": now,
        }

    async def _record(self, row: sa.RowMapping, author: str) -> Tool:
        """Add the version row of a change."""
        values = {column: row[column] for column in CONTENT}
        await self._session.execute(
            tool_versions.insert().values(
                tool_id=row["id"],
                version=row["version"],
                organization_id=row["organization_id"],
                author=author,
                create_time=row["update_time"],
                **values,
            )
        )
        return tool_of(row)

    async def _one(self, query: sa.Select[Any]) -> Tool | None:
        row = (await self._session.execute(query)).mappings().one_or_none()
        return None if row is None else tool_of(row)

    def _existing(self) -> sa.Select[Any]:
        return sa.select(tools).where(tools.c.organization_id == self._organization_id, tools.c.delete_time.is_(None))

    def _are(self, which: ToolFilter) -> list[sa.ColumnElement[bool]]:
        conditions = [tools.c.organization_id == self._organization_id, tools.c.delete_time.is_(None)]
        if which.name_prefix:
            conditions.append(tools.c.name.startswith(which.name_prefix, autoescape=True))
        if which.tags:
            conditions.append(tools.c.tags.contains(list(which.tags)))
        if which.kind is not None:
            conditions.append(tools.c.kind == which.kind)
        if which.ids is not None:
            conditions.append(tools.c.id.in_(which.ids))
        return conditions

    def _versions_of(self, tool: Tool, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        mine = (tool_versions.c.organization_id == self._organization_id, tool_versions.c.tool_id == tool.id)
        return sa.select(*(columns or (tool_versions,))).where(*mine)


def _name_taken() -> AlreadyExists:
    return AlreadyExists("this name is taken", reason="NAME_TAKEN", metadata={"field": "name"})


def _bytes_of(table: sa.Table) -> sa.ColumnElement[int]:
    return sa.func.octet_length(table.c.source_code) + sa.func.pg_column_size(table.c.parameters)


def _within_bytes(wanted: sa.Select[Any], key: str, *, descending: bool = False) -> sa.Subquery:
    """Adds to each wanted row how many bytes it and those before it have, and its place."""
    inner = wanted.subquery()
    order = sa.desc(inner.c[key]) if descending else inner.c[key]
    total = sa.func.sum(inner.c.size).over(order_by=order).label("total")
    return sa.select(inner, total, sa.func.row_number().over(order_by=order).label("place")).subquery()


def _fits(rows: sa.Subquery) -> sa.ColumnElement[bool]:
    return sa.or_(rows.c.total <= _PAGE_BYTES, rows.c.place == 1)


def _columns(content: ToolContent) -> dict[str, Any]:
    return {
        "description": content.description,
        "source_code": content.source_code,
        "entry_point": content.entry_point,
        "parameters": dict(content.parameters),
        "tags": list(content.tags),
        "settings": {name: value for name, value in asdict(content.settings).items() if value not in (None, ())},
    }


def _content(row: sa.RowMapping | Mapping[str, Any]) -> ToolContent:
    settings: dict[str, Any] = dict(row["settings"])
    for name in ("allowed_hosts", "secrets", "requirements"):
        settings[name] = tuple(settings.get(name, ()))
    return ToolContent(
        description=row["description"],
        source_code=row["source_code"],
        entry_point=row["entry_point"],
        parameters=row["parameters"],
        tags=tuple(row["tags"]),
        settings=ToolSettings(**settings),
    )


def tool_of(row: sa.RowMapping | Mapping[str, Any]) -> Tool:
    """The tool that a row of these columns says."""
    return Tool(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        kind=ToolKind(row["kind"]),
        content=_content(row),
        version=row["version"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        mcp_server_id=row["mcp_server_id"],
    )


def _at_version(tool: Tool, row: sa.RowMapping) -> Tool:
    return replace(tool, content=_content(row), version=row["version"], update_time=row["create_time"])
