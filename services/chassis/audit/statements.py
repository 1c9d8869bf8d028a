"""The SQL of the outbox: a record goes in with the effect of its call, and out once it is in the chain."""

from typing import Any, Final

from chassis.audit.record import AuditRecord

COLUMNS: Final = "id, organization_id, actor, on_behalf_of, action, resource, outcome, count, request_id, create_time"
_VALUES: Final = (
    "%(id)s, %(organization_id)s, %(actor)s, %(on_behalf_of)s, %(action)s, %(resource)s, %(outcome)s, %(count)s, "
    "%(request_id)s, %(create_time)s"
)
_TENANT: Final = "SELECT set_config('hearth.organization_id', %(organization_id)s::text, true)"

# Only a transaction that has written something has an id: one that only read leaves the record to the next.
COMMIT_WITH_RECORD: Final = (
    f"{_TENANT}; INSERT INTO audit_outbox ({COLUMNS}) SELECT {_VALUES} "
    "WHERE pg_current_xact_id_if_assigned() IS NOT NULL; COMMIT"
)
# By itself; a record that is written ahead is due when its call must be over, whatever became of it.
PUT: Final = (
    f"INSERT INTO audit_outbox ({COLUMNS}, due_time) "
    f"VALUES ({_VALUES}, now() + %(hold_s)s * interval '1 second') ON CONFLICT (id) DO NOTHING"
)
COMPLETE: Final = (
    "UPDATE audit_outbox SET outcome = %(outcome)s, resource = %(resource)s, due_time = now() "
    "WHERE id = %(id)s AND outcome = ''"
)

_AS_RELAY: Final = "SELECT set_config('hearth.audit_relay', 'on', true)"
# Whoever takes records may die, and what carries them may lose them: they come again, the older the later, within an hour.
CLAIM: Final = f"""{_AS_RELAY};
UPDATE audit_outbox SET outcome = CASE outcome WHEN '' THEN 'UNKNOWN' ELSE outcome END,
    due_time = now() + LEAST(interval '1 hour', GREATEST(interval '1 minute', now() - create_time))
WHERE id IN (
    SELECT id FROM audit_outbox WHERE due_time <= now() ORDER BY due_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING {COLUMNS}"""
RELEASE: Final = f"""{_AS_RELAY};
UPDATE audit_outbox SET due_time = now() + interval '1 second' WHERE id = ANY(%(ids)s)"""
RELEASE_ALL: Final = f"""{_AS_RELAY};
UPDATE audit_outbox SET due_time = now() WHERE due_time > now() AND outcome <> ''"""
REMOVE: Final = f"{_AS_RELAY}; DELETE FROM audit_outbox WHERE id = ANY(%(ids)s)"


def values_of(record: AuditRecord) -> dict[str, Any]:
    """What the statements bind."""
    return {
        "id": record.id,
        "organization_id": record.organization_id,
        "actor": record.actor,
        "on_behalf_of": record.on_behalf_of,
        "action": record.action,
        "resource": record.resource,
        "outcome": record.outcome,
        "count": record.count,
        "request_id": record.request_id,
        "create_time": record.create_time,
    }
