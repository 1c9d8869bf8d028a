"""Runs in PostgreSQL, for people who look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from agent_svc.domain.conversation import MessageRole
from agent_svc.domain.history import since_summary
from agent_svc.domain.run import ContextMessage, ContextTokens, Run, RunContext, RunStep, TokenCount
from agent_svc.repositories.message_content import message_from_row, run_from_row
from agent_svc.repositories.tables import messages, run_steps, runs

_RUN = (
    runs.c.id,
    runs.c.organization_id,
    runs.c.agent_id,
    runs.c.conversation_id,
    runs.c.state,
    runs.c.run_seq,
    runs.c.input_preview,
    runs.c.create_time,
    runs.c.stop_reason,
    runs.c.error_reason,
    runs.c.error_message,
    runs.c.input_tokens,
    runs.c.output_tokens,
    runs.c.cached_input_tokens,
    runs.c.steps,
    runs.c.start_time,
    runs.c.end_time,
)


class PostgresRuns:
    """Implements interfaces.unit_of_work.RunRepository."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def get(self, run_id: UUID) -> Run | None:
        row = (await self._session.execute(self._select().where(runs.c.id == run_id))).first()
        return None if row is None else run_from_row(tuple(row))

    async def page(
        self,
        agent_id: UUID | None,
        conversation_id: UUID | None,
        states: Sequence[int],
        before: UUID | None,
        limit: int,
    ) -> Sequence[Run]:
        query = self._select().order_by(runs.c.id.desc()).limit(limit)
        if agent_id is not None:
            query = query.where(runs.c.agent_id == agent_id)
        if conversation_id is not None:
            query = query.where(runs.c.conversation_id == conversation_id)
        if states:
            query = query.where(runs.c.state.in_(states))
        if before is not None:
            query = query.where(runs.c.id < before)
        return [run_from_row(tuple(row)) for row in await self._session.execute(query)]

    async def contexts(self, run_id: UUID) -> Sequence[RunContext]:
        query = (
            sa.select(run_steps)
            .where(run_steps.c.run_id == run_id, run_steps.c.organization_id == self._organization_id)
            .order_by(run_steps.c.step)
        )
        steps = [(row.conversation_id, _step(row)) for row in await self._session.execute(query)]
        return [RunContext(step, await self._sent(conversation_id, run_id, step)) for conversation_id, step in steps]

    async def _sent(self, conversation_id: UUID, run_id: UUID, step: RunStep) -> tuple[ContextMessage, ...]:
        columns = messages.c
        first_seq = sa.select(runs.c.run_seq).where(runs.c.id == run_id).scalar_subquery()
        newest = sa.and_(
            sa.tuple_(columns.run_seq, columns.seq)
            >= sa.tuple_(sa.literal(step.from_run_seq), sa.literal(step.from_seq)),
            columns.seq <= step.through_seq,
            columns.run_seq <= first_seq,
        )
        query = (
            sa.select(
                columns.seq,
                columns.id,
                columns.run_id,
                columns.run_seq,
                columns.role,
                sa.cast(columns.content, sa.Text),
                columns.create_time,
            )
            .where(
                columns.conversation_id == conversation_id,
                columns.organization_id == self._organization_id,
                sa.or_(newest, columns.seq == step.pinned_seq),
            )
            .order_by(columns.run_seq, columns.seq)
        )
        rows: list[Any] = list(await self._session.execute(query))
        found = since_summary([message_from_row(tuple(row)) for row in rows])
        found = sorted(found, key=lambda message: message.role is not MessageRole.SUMMARY)
        return tuple(ContextMessage(one.id, one.role.name.lower(), one.text) for one in found)

    def _select(self) -> Any:
        return sa.select(*_RUN).where(runs.c.organization_id == self._organization_id)


def _step(row: Any) -> RunStep:
    return RunStep(
        step=row.step,
        message_id=row.message_id,
        model=row.model,
        system_text=row.system_text,
        recalled_text=row.recalled_text,
        from_run_seq=row.from_run_seq,
        from_seq=row.from_seq,
        through_seq=row.through_seq,
        pinned_seq=row.pinned_seq,
        tool_names=tuple(row.tool_names),
        estimated_tokens=row.estimated_tokens,
        usage=TokenCount(row.input_tokens, row.output_tokens, row.cached_input_tokens),
        tokens=ContextTokens(*row.section_tokens) if row.section_tokens else None,
    )
