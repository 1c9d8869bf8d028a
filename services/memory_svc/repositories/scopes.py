"""A search's scope as conditions on rows: the exact form of what the index filters by."""

import json

import sqlalchemy as sa

from memory_svc.domain.search import Scope
from memory_svc.repositories.tables import messages, passages

PASSAGE_WORDS = sa.func.to_tsvector(sa.literal_column("'english'"), sa.func.left(passages.c.text, 100000))
MESSAGE_WORDS = sa.func.to_tsvector(
    sa.literal_column("'english'"),
    sa.func.left(messages.c.speaker + sa.literal_column("': '") + messages.c.text, 100000),
)


def words_query(query: str) -> sa.ColumnElement[str]:
    """Any of the query's words, stemmed."""
    all_of = sa.cast(sa.func.plainto_tsquery(sa.literal_column("'english'"), query), sa.Text)
    return sa.func.replace(all_of, sa.literal_column("' & '"), sa.literal_column("' | '")).op("::")(
        sa.literal_column("tsquery")
    )


def passage_conditions(scope: Scope) -> list[sa.ColumnElement[bool]]:
    """Passages that exist and lie in the scope now."""
    table = passages.c
    conditions = [
        table.organization_id == scope.organization_id,
        table.delete_time.is_(None),
        table.expire_time.is_(None) | (table.expire_time > sa.func.now()),
        *tag_conditions(scope),
    ]
    if scope.agent_id is not None:
        conditions.append(table.agent_id == scope.agent_id)
    if scope.start_time is not None:
        conditions.append(table.create_time >= scope.start_time)
    if scope.end_time is not None:
        conditions.append(table.create_time < scope.end_time)
    if scope.metadata:
        wanted = dict(json.loads(term) for term in scope.metadata)
        conditions.append(table.metadata.contains(wanted))
    if scope.valid_at is not None:
        conditions.append(table.valid_from.is_(None) | (table.valid_from <= scope.valid_at))
        conditions.append(table.valid_to.is_(None) | (table.valid_to > scope.valid_at))
    return conditions


def tag_conditions(scope: Scope) -> list[sa.ColumnElement[bool]]:
    """Passages with the right tags."""
    conditions: list[sa.ColumnElement[bool]] = []
    if scope.tags_any:
        conditions.append(passages.c.tags.overlap(list(scope.tags_any)))
    if scope.tags_all:
        conditions.append(passages.c.tags.contains(list(scope.tags_all)))
    if scope.tags_none:
        conditions.append(sa.not_(passages.c.tags.overlap(list(scope.tags_none))))
    return conditions


def message_conditions(scope: Scope) -> list[sa.ColumnElement[bool]]:
    """Messages that exist and lie in the scope."""
    table = messages.c
    conditions = [table.organization_id == scope.organization_id, table.delete_time.is_(None)]
    if scope.agent_id is not None:
        conditions.append(table.agent_id == scope.agent_id)
    if scope.conversation_id is not None:
        conditions.append(table.conversation_id == scope.conversation_id)
    if scope.roles:
        conditions.append(table.role.in_(scope.roles))
    if scope.start_time is not None:
        conditions.append(table.create_time >= scope.start_time)
    if scope.end_time is not None:
        conditions.append(table.create_time < scope.end_time)
    if scope.exclude_conversation_id is not None and scope.exclude_from_seq > 0:
        older = table.seq < scope.exclude_from_seq
        conditions.append((table.conversation_id != scope.exclude_conversation_id) | older)
    return conditions
