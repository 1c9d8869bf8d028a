"""A scope as the engine's filter."""

import time
import uuid

from qdrant_edge import FieldCondition, Filter, MatchAny, MatchValue, RangeFloat

from memory_svc.adapters.qdrant_layout import number_path
from memory_svc.domain.search import Scope


def scope_filter(scope: Scope) -> Filter:
    """All conditions of the scope. Goes on every list and on the root of every query."""
    must = [_equals("organization_id", str(scope.organization_id)), _equals("kind", scope.kind.value)]
    if scope.agent_id is not None:
        must.append(_equals("agent_id", str(scope.agent_id)))
    if scope.conversation_id is not None:
        must.append(_equals("conversation_id", str(scope.conversation_id)))
    for name, values in (("role", scope.roles), ("tags", scope.tags_any)):
        if values:
            must.append(FieldCondition(name, match=MatchAny(list(values))))
    must.extend(_equals("tags", tag) for tag in scope.tags_all)
    must.extend(_equals("metadata", term) for term in scope.metadata)
    must.extend(FieldCondition("metadata", match=MatchAny(list(group))) for group in scope.metadata_any)
    must.extend(
        FieldCondition(
            number_path(bounds.key),
            range=RangeFloat(gte=bounds.at_least, gt=bounds.above, lte=bounds.at_most, lt=bounds.below),
        )
        for bounds in scope.metadata_numbers
    )
    if scope.start_time is not None or scope.end_time is not None:
        start = scope.start_time.timestamp() * 1000 if scope.start_time else None
        end = scope.end_time.timestamp() * 1000 if scope.end_time else None
        must.append(FieldCondition("time_ms", range=RangeFloat(gte=start, lt=end)))
    return Filter(must=[*must], must_not=[*_exclusions(scope)])


def _exclusions(scope: Scope) -> list[FieldCondition | Filter]:
    must_not: list[FieldCondition | Filter] = []
    if scope.tags_none:
        must_not.append(FieldCondition("tags", match=MatchAny(list(scope.tags_none))))
    if scope.metadata_none:
        must_not.append(FieldCondition("metadata", match=MatchAny(list(scope.metadata_none))))
    if scope.exclude_conversation_id is not None and scope.exclude_from_seq > 0:
        newest = FieldCondition("seq", range=RangeFloat(gte=scope.exclude_from_seq))
        must_not.append(Filter(must=[_equals("conversation_id", str(scope.exclude_conversation_id)), newest]))
    if scope.valid_at is not None:
        # A point without a bound has no such field and is not excluded by it.
        at_ms = scope.valid_at.timestamp() * 1000
        must_not.append(FieldCondition("valid_from_ms", range=RangeFloat(gt=at_ms)))
        must_not.append(FieldCondition("valid_to_ms", range=RangeFloat(lte=at_ms)))
        must_not.append(FieldCondition("expire_ms", range=RangeFloat(lte=time.time() * 1000)))
    return must_not


def corpus_filter(scope: Scope) -> Filter:
    """Over which texts a word's rarity is counted: the agent's where one is named, else the organization's."""
    must = [_equals("organization_id", str(scope.organization_id)), _equals("kind", scope.kind.value)]
    if scope.agent_id is not None:
        must.append(_equals("agent_id", str(scope.agent_id)))
    return Filter(must=[*must])


def of_organization(organization_id: uuid.UUID) -> Filter:
    """All points of an organization."""
    return Filter(must=[_equals("organization_id", str(organization_id))])


def chunks_of(organization_id: uuid.UUID, item_id: uuid.UUID, first_chunk: int) -> Filter:
    """The chunks of one item from `first_chunk` on."""
    return Filter(
        must=[
            _equals("organization_id", str(organization_id)),
            _equals("item_id", str(item_id)),
            FieldCondition("chunk", range=RangeFloat(gte=first_chunk)),
        ]
    )


def not_newer_than(version: int) -> Filter:
    """Points of this version or a lower one: what an upsert may overwrite."""
    return Filter(must=[FieldCondition("version", range=RangeFloat(lte=version))])


def _equals(name: str, value: str) -> FieldCondition:
    return FieldCondition(name, match=MatchValue(value))
