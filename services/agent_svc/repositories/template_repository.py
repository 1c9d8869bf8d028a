"""Templates in PostgreSQL: a row for each, and one for each of its versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from agent_svc.domain.template import Template, TemplateVariable
from agent_svc.repositories.tables import template_versions as versions
from agent_svc.repositories.tables import templates

_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    templates.c.id,
    templates.c.organization_id,
    templates.c.name,
    templates.c.create_time,
    versions.c.version,
    versions.c.description,
    versions.c.create_time.label("update_time"),
)
_WHOLE: tuple[sa.ColumnElement[Any], ...] = (*_COLUMNS, versions.c.document, versions.c.variables)


class PostgresTemplates:
    """Implements interfaces.unit_of_work.TemplateRepository."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add_or_lock(self, template: Template, author: str) -> Template | None:
        new = insert(templates).values(
            id=template.id,
            organization_id=self._organization_id,
            name=template.name,
            version=template.version,
            create_time=template.create_time,
        )
        # Whoever makes the same name at once waits here for the other's commit.
        made = await self._session.execute(
            new.on_conflict_do_nothing(constraint="templates_name").returning(templates.c.id)
        )
        if made.first() is not None:
            await self._add_version_row(template, author)
            return None
        lock = sa.select(templates.c.id).where(self._is(template.name)).with_for_update()
        await self._session.execute(lock)
        return await self.named(template.name, 0)

    async def add_version(self, template: Template, author: str) -> None:
        await self._session.execute(
            templates.update()
            .where(templates.c.id == template.id, templates.c.organization_id == self._organization_id)
            .values(version=template.version)
        )
        await self._add_version_row(template, author)

    async def named(self, name: str, version: int) -> Template | None:
        query = self._select(_WHOLE).where(self._is(name))
        query = query.where(versions.c.version == (version or templates.c.version))
        row = (await self._session.execute(query)).first()
        return None if row is None else _template(row, row.document, row.variables)

    async def page(self, text: str, before: UUID | None, limit: int) -> Sequence[Template]:
        query = self._select(_COLUMNS).where(versions.c.version == templates.c.version)
        query = query.order_by(templates.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(templates.c.id < before)
        if text:
            matches = templates.c.name.icontains(text, autoescape=True)
            query = query.where(sa.or_(matches, versions.c.description.icontains(text, autoescape=True)))
        return [_template(row) for row in await self._session.execute(query)]

    async def versions(self, template_id: UUID, before: int | None, limit: int) -> Sequence[Template]:
        query = self._select(_COLUMNS).where(templates.c.id == template_id)
        query = query.order_by(versions.c.version.desc()).limit(limit)
        if before is not None:
            query = query.where(versions.c.version < before)
        return [_template(row) for row in await self._session.execute(query)]

    async def delete(self, name: str) -> None:
        gone = await self._session.execute(templates.delete().where(self._is(name)).returning(templates.c.id))
        for template_id in gone.scalars().all():
            await self._session.execute(
                versions.delete().where(
                    versions.c.template_id == template_id, versions.c.organization_id == self._organization_id
                )
            )

    async def _add_version_row(self, template: Template, author: str) -> None:
        await self._session.execute(
            versions.insert().values(
                template_id=template.id,
                version=template.version,
                organization_id=self._organization_id,
                description=template.description,
                document=template.document,
                variables=msgspec.to_builtins(template.variables),
                author=author,
                create_time=template.update_time,
            )
        )

    def _select(self, columns: Sequence[Any]) -> sa.Select[*tuple[Any, ...]]:
        joined = templates.join(versions, versions.c.template_id == templates.c.id)
        return sa.select(*columns).select_from(joined).where(templates.c.organization_id == self._organization_id)

    def _is(self, name: str) -> sa.ColumnElement[bool]:
        return sa.and_(templates.c.name == name, templates.c.organization_id == self._organization_id)


def _template(row: Any, document: str = "", variables: Any = ()) -> Template:
    return Template(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        version=row.version,
        description=row.description,
        document=document,
        variables=msgspec.convert(variables, tuple[TemplateVariable, ...]),
        create_time=row.create_time,
        update_time=row.update_time,
    )
