"""What a call of a tool needs from PostgreSQL, in one round trip: it is asked in every turn that calls one."""

from collections.abc import Collection, Sequence
from typing import LiteralString
from uuid import UUID

from chassis import ids
from chassis.database import Database
from chassis.errors import not_found
from tool_svc.domain.secret import SealedSecret
from tool_svc.domain.tool import Tool
from tool_svc.repositories.tool_repository import tool_of

_TOOL: LiteralString = """
SELECT tools.id, tools.organization_id, tools.name, tools.kind, tools.mcp_server_id, tools.create_time, held.version, held.create_time AS update_time,
       held.description, held.source_code, held.entry_point, held.parameters, held.tags, held.settings
FROM tools LEFT JOIN tool_versions AS held
    ON held.tool_id = tools.id AND held.version = coalesce(nullif(%(version)s, 0), tools.version)
WHERE tools.organization_id = %(organization)s AND tools.delete_time IS NULL AND """
_BY_ID: LiteralString = _TOOL + "tools.id = %(which)s"
_BY_NAME: LiteralString = _TOOL + "tools.name = %(which)s"
_SECRETS: LiteralString = """
SELECT name, key_id, wrapped_key, sealed FROM secrets
WHERE organization_id = %(organization)s AND name = ANY(%(names)s)
"""


class PostgresCallReader:
    """A CallReader over tool_svc's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tool(self, organization_id: UUID, which: UUID | str, version: int) -> Tool | None:
        values = {"organization": organization_id, "which": which, "version": version}
        rows = await self._database.read(organization_id, _BY_NAME if isinstance(which, str) else _BY_ID, values)
        if not rows:
            return None
        if rows[0]["version"] is None:
            raise not_found("version", f"{version} of {ids.encode('tool', rows[0]['id'])}")
        return tool_of(rows[0])

    async def secrets(self, organization_id: UUID, names: Collection[str]) -> Sequence[SealedSecret]:
        values = {"organization": organization_id, "names": list(names)}
        rows = await self._database.read(organization_id, _SECRETS, values)
        return [SealedSecret(row["name"], row["key_id"], row["wrapped_key"], row["sealed"]) for row in rows]
