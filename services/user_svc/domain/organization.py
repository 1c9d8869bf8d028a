"""An organization: a tenant of this Hearth."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.errors import FailedPrecondition


class OrganizationState(enum.IntEnum):
    """Where an organization is in its life. Numbers as in hearth.user.v1.OrganizationState."""

    ACTIVE = 1
    DISABLED = 2
    DELETED = 3


@dataclass(frozen=True, slots=True)
class Organization:
    """As stored. `version` counts its changes from 1; `limits` are its own numbers by name (domain/limits.py).

    `purge_time` is when the removal of its data begins; `purges` holds, for each service that has ended it, `end_time` and `removed`.
    """

    id: UUID
    name: str
    display_name: str
    state: OrganizationState
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None
    version: int
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    purge_time: datetime | None = None
    purge_end_time: datetime | None = None
    purges: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def require_active(self) -> None:
        """Raises FailedPrecondition ORGANIZATION_NOT_ACTIVE unless its users may work."""
        if self.state is not OrganizationState.ACTIVE:
            raise FailedPrecondition("the organization is not active", reason="ORGANIZATION_NOT_ACTIVE")


@dataclass(frozen=True, slots=True)
class OrganizationChange:
    """New values; None leaves one as it is. In `limits` None takes an own number back; what is not named there stays."""

    display_name: str | None = None
    state: OrganizationState | None = None
    limits: Mapping[str, int | None] | None = None

    def merged(self, limits: Mapping[str, int]) -> dict[str, int]:
        """The organization's own numbers after the change."""
        return {name: value for name, value in {**limits, **(self.limits or {})}.items() if value is not None}


def new_organization(identifier: UUID, name: str, display_name: str, now: datetime) -> Organization:
    """An active organization that is not stored yet."""
    return Organization(
        id=identifier,
        name=name,
        display_name=display_name,
        state=OrganizationState.ACTIVE,
        create_time=now,
        update_time=now,
        delete_time=None,
        version=1,
    )
