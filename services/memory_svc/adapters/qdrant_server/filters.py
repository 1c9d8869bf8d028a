"""A scope as the server's filter: the same conditions as adapters/qdrant_edge/filters.py, in the client's classes."""

import time
import uuid

from qdrant_client import models

from memory_svc.adapters.qdrant_layout import number_path
from memory_svc.domain.search import Scope


def scope_filter(scope: Scope) -> models.Filter:
    """All conditions of the scope. Goes on every query."""
    must: list[models.Condition] = [
        _equals("organization_id", str(scope.organization_id)),
        _equals("kind", scope.kind.value),
    ]
    if scope.agent_id is not None:
        must.append(_equals("agent_id", str(scope.agent_id)))
    if scope.conversation_id is not None:
        must.append(_equals("conversation_id", str(scope.conversation_id)))
    for name, values in (("role", scope.roles), ("tags", scope.tags_any)):
        if values:
            must.append(_any_of(name, values))
    must.extend(_equals("tags", tag) for tag in scope.tags_all)
    must.extend(_equals("metadata", term) for term in scope.metadata)
    must.extend(_any_of("metadata", group) for group in scope.metadata_any)
    must.extend(
        _within(number_path(bounds.key), gte=bounds.at_least, gt=bounds.above, lte=bounds.at_most, lt=bounds.below)
        for bounds in scope.metadata_numbers
    )
    if scope.start_time is not None or scope.end_time is not None:
        start = scope.start_time.timestamp() * 1000 if scope.start_time else None
        end = scope.end_time.timestamp() * 1000 if scope.end_time else None
        must.append(_within("time_ms", gte=start, lt=end))
    return models.Filter(must=must, must_not=_exclusions(scope))


def _exclusions(scope: Scope) -> list[models.Condition]:
    must_not: list[models.Condition] = []
    if scope.tags_none:
        must_not.append(_any_of("tags", scope.tags_none))
    if scope.metadata_none:
        must_not.append(_any_of("metadata", scope.metadata_none))
    if scope.exclude_conversation_id is not None and scope.exclude_from_seq > 0:
        conversation = _equals("conversation_id", str(scope.exclude_conversation_id))
        must_not.append(models.Filter(must=[conversation, _within("seq", gte=scope.exclude_from_seq)]))
    if scope.valid_at is not None:
        # A point without a bound has no such field and is not excluded by it.
        at_ms = scope.valid_at.timestamp() * 1000
        must_not.append(_within("valid_from_ms", gt=at_ms))
        must_not.append(_within("valid_to_ms", lte=at_ms))
        must_not.append(_within("expire_ms", lte=time.time() * 1000))
    return must_not


def corpus_filter(scope: Scope) -> models.Filter:
    """Over which texts a word's rarity is counted: the agent's where one is named, else the organization's."""
    must: list[models.Condition] = [
        _equals("organization_id", str(scope.organization_id)),
        _equals("kind", scope.kind.value),
    ]
    if scope.agent_id is not None:
        must.append(_equals("agent_id", str(scope.agent_id)))
    return models.Filter(must=must)


def of_organization(organization_id: uuid.UUID) -> models.Filter:
    """All points of an organization."""
    return models.Filter(must=[_equals("organization_id", str(organization_id))])


def chunks_of(organization_id: uuid.UUID, item_id: uuid.UUID, first_chunk: int) -> models.Filter:
    """The chunks of one item from `first_chunk` on."""
    return models.Filter(
        must=[
            _equals("organization_id", str(organization_id)),
            _equals("item_id", str(item_id)),
            _within("chunk", gte=first_chunk),
        ]
    )


def not_newer_than(version: int) -> models.Filter:
    """Points of this version or a lower one: what an upsert may overwrite."""
    return models.Filter(must=[_within("version", lte=version)])


def _equals(name: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=name, match=models.MatchValue(value=value))


def _any_of(name: str, values: tuple[str, ...]) -> models.FieldCondition:
    return models.FieldCondition(key=name, match=models.MatchAny(any=list(values)))


def _within(
    name: str,
    *,
    gte: float | None = None,
    gt: float | None = None,
    lte: float | None = None,
    lt: float | None = None,
) -> models.FieldCondition:
    return models.FieldCondition(key=name, range=models.Range(gte=gte, gt=gt, lte=lte, lt=lt))
