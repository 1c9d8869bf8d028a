"""An organization: a tenant of this Hearth."""

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.errors import FailedPrecondition


class OrganizationState(enum.IntEnum):
    """Where an organization is in its life. Numbers as in hearth.user.v1.OrganizationState."""

    ACTIVE = 1
    DISABLED = 2
    DELETED = 3


@dataclass(frozen=True, slots=True)
class Organization:
    """As stored. `version` counts its changes from 1."""

    id: UUID
    name: str
    display_name: str
    state: OrganizationState
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None
    version: int

    def require_active(self) -> None:
        """Raises FailedPrecondition ORGANIZATION_NOT_ACTIVE unless its users may work."""
        if self.state is not OrganizationState.ACTIVE:
            raise FailedPrecondition("the organization is not active", reason="ORGANIZATION_NOT_ACTIVE")


@dataclass(frozen=True, slots=True)
class OrganizationChange:
    """New values; None leaves one as it is."""

    display_name: str | None = None
    state: OrganizationState | None = None


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
