"""A record of the audit log, and the one that a call is yet to leave."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chassis import ids
from chassis.identity import NO_ORGANIZATION, Identity, Role

if TYPE_CHECKING:
    from chassis.audit.declared import Declared

OK = "OK"
# Of a record that is written ahead of its call: not over yet.
OPEN = ""

_RESOURCE = re.compile(r"[\x21-\x7e]{1,128}")
# What a refused call names may be anything, a secret in the wrong field included: only what has the shape of an id is kept.
_ID = re.compile(r"[a-z]{2,8}_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to what, when, on whose behalf, and how it ended. `count` equal refusals are one record."""

    id: UUID
    organization_id: UUID
    actor: str
    on_behalf_of: str
    action: str
    resource: str
    outcome: str
    request_id: str
    create_time: datetime
    count: int = 1


class PendingRecord:
    """The record of a call that is being served. It is settled once it is in the outbox, or need not get there."""

    __slots__ = (
        *("_actor", "_declared", "_id", "_on_behalf_of", "_on_kept", "_organization_id", "_settled", "action"),
        *("answer", "concluded", "request", "request_id", "resource"),
    )

    def __init__(self, declared: Declared, action: str, request_id: str, on_kept: Callable[[], None]) -> None:
        self._declared = declared
        self._on_kept = on_kept
        self._id: UUID | None = None
        self._organization_id: UUID = NO_ORGANIZATION
        self._actor = ""
        self._on_behalf_of = ""
        self._settled = False
        self.action = action
        self.request_id = request_id
        self.resource = ""
        self.request: Any = None
        # Whether the effect is complete, although the answer may still be on its way.
        self.concluded = False
        # The response, or the bytes of the one that is kept for the request id.
        self.answer: Any = None

    @property
    def open(self) -> bool:
        """Whether there is something to record and it has not been."""
        return not self._settled and self._organization_id != NO_ORGANIZATION

    @property
    def owed(self) -> bool:
        """Whether a transaction with the call's effect must hold it."""
        return self.open and not self._declared.ahead

    @property
    def ahead(self) -> bool:
        """Whether it is written before the call and completed after it."""
        return self.open and self._declared.ahead

    def identify(self, identity: Identity) -> None:
        """Says who calls."""
        if self._declared.rule == _SERVICES and identity.role is not Role.SERVICE:
            self._settled = True
        self._organization_id = identity.organization_id
        self._actor = identity.subject
        self._on_behalf_of = identity.on_behalf_of

    def act_as(self, organization_id: UUID, actor: str) -> None:
        """Says who signs in."""
        self._organization_id, self._actor = organization_id, actor

    def settle(self) -> None:
        """Nothing is owed any more."""
        self._settled = True

    def kept(self) -> None:
        """It is in the outbox, committed."""
        self._settled = True
        self._on_kept()

    def record(self, outcome: str) -> AuditRecord:
        """As it is to be kept. The same id each time."""
        if self._id is None:
            self._id = ids.new()
        return AuditRecord(
            id=self._id,
            organization_id=self._organization_id,
            actor=self._actor,
            on_behalf_of=self._on_behalf_of,
            action=self.action,
            resource=self._resource(_RESOURCE if outcome == OK else _ID),
            outcome=outcome,
            request_id=self.request_id,
            create_time=datetime.now(UTC),
        )

    def _resource(self, shape: re.Pattern[str]) -> str:
        found = self.resource
        if not found and self.answer is not None:
            found = self._declared.answered_about(self.answer)
        if not found and self.request is not None:
            found = self._declared.asked_about(self.request)
        return found if shape.fullmatch(found) else ""


# AuditRule.SERVICES, without what its module imports.
_SERVICES = 3
