"""Templates: an organization's library of recipes for agents, every change of one a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agent_svc.domain.changes import etag
from agent_svc.domain.template import Template
from agent_svc.interfaces.agent_specs import AgentSpecs
from agent_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from agent_svc.managers.template_rendering import proven, rendered
from chassis import ids
from chassis.errors import NotFound, etag_mismatch
from chassis.identity import Identity
from chassis.once import Once


class TemplateManager:
    """Business rules of templates."""

    def __init__(self, work: UnitOfWork, specs: AgentSpecs) -> None:
        self._work = work
        self._specs = specs

    async def upsert(
        self, caller: Identity, name: str, text: str, given_etag: str, once: Once[tuple[Template, bool]]
    ) -> tuple[Template, bool]:
        """The template as it is then, and whether it was made; the same text makes no version.

        Raises InvalidArgument TEMPLATE_INVALID, Aborted ETAG_MISMATCH.
        """
        document = proven(text, self._specs)
        now = datetime.now(UTC)
        wanted = Template(
            ids.new(), caller.organization_id, name, 1, document.description, text, document.variables, now, now
        )
        async with self._work.of(caller.organization_id) as transaction, transaction.once(once.key) as answer:
            found = await transaction.templates.add_or_lock(wanted, caller.subject)
            if given_etag and (found is None or given_etag != etag(found.version)):
                raise etag_mismatch()
            stored = wanted if found is None else found
            if found is not None and found.document != text:
                stored = replace(wanted, id=found.id, version=found.version + 1, create_time=found.create_time)
                await transaction.templates.add_version(stored, caller.subject)
            result = (stored, found is None)
            answer.save(once.encode(result))
        return result

    async def get(self, caller: Identity, name: str, version: int) -> Template:
        """`version` 0: the newest. Raises NotFound."""
        async with self._work.of(caller.organization_id) as transaction:
            return await template_named(transaction, name, version)

    async def page(
        self, caller: Identity, text: str, before: UUID | None, size: int
    ) -> tuple[Sequence[Template], bool]:
        """The newest version of each, newest first, and whether there are more."""
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.templates.page(text, before, size + 1)
        return found[:size], len(found) > size

    async def versions(
        self, caller: Identity, name: str, before: int | None, size: int
    ) -> tuple[Sequence[Template], bool]:
        """Newest first, and whether there are more. Raises NotFound."""
        async with self._work.of(caller.organization_id) as transaction:
            newest = await template_named(transaction, name, 0)
            found = await transaction.templates.versions(newest.id, before, size + 1)
        return found[:size], len(found) > size

    async def delete(self, caller: Identity, name: str) -> None:
        """With all versions. Twice is OK."""
        async with self._work.of(caller.organization_id) as transaction:
            await transaction.templates.delete(name)

    async def render(
        self, caller: Identity, name: str, version: int, text: str, variables: Mapping[str, str]
    ) -> dict[str, Any]:
        """The values of an agent, of a stored template or (without a name) of a text.

        Raises NotFound, InvalidArgument TEMPLATE_INVALID, TEMPLATE_VARIABLES_INVALID.
        """
        if name:
            text = (await self.get(caller, name, version)).document
        values, _ = rendered(text, variables, self._specs)
        return values


async def template_named(transaction: Transaction, name: str, version: int) -> Template:
    """`version` 0: the newest. Raises NotFound."""
    found = await transaction.templates.named(name, version)
    if found is None:
        which = f" in version {version}" if version else ""
        raise NotFound(
            f"template {name!r} was not found{which}", reason="RESOURCE_NOT_FOUND", metadata={"resource": name}
        )
    return found
