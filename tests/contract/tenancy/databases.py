"""The four databases from outside: which tables there are, and what an organization has in them."""

import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg import sql

from deploy.local import Stack

DATABASES: Mapping[str, str] = {
    "user_svc": "hearth_user",
    "tool_svc": "hearth_tool",
    "memory_svc": "hearth_memory",
    "agent_svc": "hearth_agent",
}
# Where an organization's own calls arrive in the audit log, some time after they were answered.
_ARRIVING = {"audit_outbox", "audit_events", "audit_heads"}
_GUARDED = """
SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relrowsecurity ORDER BY 1
"""


class Contents:
    """What the databases hold, as the superuser sees it. A context manager."""

    def __init__(self, stack: Stack) -> None:
        self.connections = {
            service: psycopg.connect(stack.superuser_url(database), autocommit=True)
            for service, database in DATABASES.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self.connections.values():
            connection.close()

    def guarded(self, service: str) -> list[str]:
        """The tables under row-level security."""
        return [str(name) for (name,) in self.rows(service, _GUARDED)]

    def rows(self, service: str, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.connections[service].execute(query.encode(), parameters).fetchall()

    def actors(self, organization_id: UUID) -> set[str]:
        """Whoever has left a record in an organization's audit log, or has one on its way there."""
        found = {row[0] for service in DATABASES for row in self._actors("audit_outbox", service, organization_id)}
        return found | {row[0] for row in self._actors("audit_events", "user_svc", organization_id)}

    def _actors(self, table: str, service: str, organization_id: UUID) -> list[tuple[Any, ...]]:
        return self.rows(service, f"SELECT DISTINCT actor FROM {table} WHERE organization_id = %s", (organization_id,))

    def digests(self, organization_id: UUID) -> dict[str, str]:
        """`service.table` → a digest of all rows of an organization there, its audit log aside."""
        return {
            f"{service}.{table}": digest
            for service in DATABASES
            for table, digest in self._digests_of(service, organization_id).items()
        }

    def _digests_of(self, service: str, organization_id: UUID) -> dict[str, str]:
        tables = [name for name in self.guarded(service) if name not in _ARRIVING]
        one = sql.SQL("SELECT {name}, to_jsonb(t)::text FROM {table} AS t WHERE organization_id = {organization}")
        queries = [
            one.format(name=sql.Literal(name), table=sql.Identifier(name), organization=sql.Literal(organization_id))
            for name in tables
        ]
        found: dict[str, list[str]] = {name: [] for name in tables}
        for name, row in self.connections[service].execute(sql.SQL(" UNION ALL ").join(queries)):
            found[name].append(row)
        return {name: hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest() for name, rows in found.items()}
