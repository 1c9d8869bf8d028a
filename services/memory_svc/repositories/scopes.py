"""A search's scope as conditions on rows: the exact form of what the index filters by."""

import json
import operator

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
    conditions += _metadata_conditions(scope)
    if scope.valid_at is not None:
        conditions.append(table.valid_from.is_(None) | (table.valid_from <= scope.valid_at))
        conditions.append(table.valid_to.is_(None) | (table.valid_to > scope.valid_at))
    return conditions


def _metadata_conditions(scope: Scope) -> list[sa.ColumnElement[bool]]:
    conditions = [_has_term(term) for term in scope.metadata]
    conditions += [sa.or_(*map(_has_term, group)) for group in scope.metadata_any]
    conditions += [sa.not_(_has_term(term)) for term in scope.metadata_none]
    for bounds in scope.metadata_numbers:
        is_number = sa.func.jsonb_typeof(passages.c.metadata[bounds.key]) == "number"
        value = sa.cast(passages.c.metadata[bounds.key].astext, sa.Double)
        within = [
            compare(value, bound)
            for bound, compare in (
                (bounds.at_least, operator.ge),
                (bounds.above, operator.gt),
                (bounds.at_most, operator.le),
                (bounds.below, operator.lt),
            )
            if bound is not None
        ]
        # Evaluated in this order only, so that texts are not cast.
        conditions.append(sa.case((is_number, sa.and_(*within)), else_=sa.false()))
    return conditions


def _has_term(term: str) -> sa.ColumnElement[bool]:
    """A row's metadata holds what a term stands for: a key with a value, or a key alone."""
    match json.loads(term):
        case [key, value]:
            return passages.c.metadata.contains({key: value})
        case [key]:
            return passages.c.metadata.has_key(key)
        case other:
            raise ValueError(f"not a term: {other}")


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
