"""What the statements of the run path bind to put the call's record into the audit log with its effect."""

from __future__ import annotations

from typing import Any

from chassis import audit


def audit_values(pending: audit.PendingRecord | None) -> dict[str, Any]:
    """Of the record that the call owes; None for work that is no call's."""
    if pending is None:
        return dict.fromkeys(_NAMES)
    record = pending.record(audit.OK)
    values = (record.id, record.actor, record.on_behalf_of, record.action, record.resource, record.request_id)
    return dict(zip(_NAMES, values, strict=True))


_NAMES = ("audit_id", "audit_actor", "audit_on_behalf_of", "audit_action", "audit_resource", "audit_request")
