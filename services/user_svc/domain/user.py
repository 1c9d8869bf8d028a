"""A user: a person or program that works in one organization, and who may manage it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis import ids
from chassis.identity import Identity, Role, role_insufficient


@dataclass(frozen=True, slots=True)
class User:
    """As stored. `version` counts its changes from 1; `delete_time` is None while it exists.

    `external_issuer` and `external_subject` say who it is where it came from; both are empty for those made here.
    """

    id: UUID
    organization_id: UUID
    name: str
    display_name: str
    email: str
    role: Role
    disabled: bool
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None
    version: int
    external_issuer: str = ""
    external_subject: str = ""


@dataclass(frozen=True, slots=True)
class UserDraft:
    """A user to be created. Without an organization it is the caller's."""

    organization_id: UUID | None
    name: str
    display_name: str
    email: str
    role: Role
    external_issuer: str = ""
    external_subject: str = ""


@dataclass(frozen=True, slots=True)
class UserChange:
    """New values; None leaves one as it is."""

    display_name: str | None = None
    email: str | None = None
    role: Role | None = None
    disabled: bool | None = None


def require_reach(caller: Identity, role: Role) -> None:
    """Nobody grants, manages or revokes what is above itself. Raises PermissionDenied ROLE_INSUFFICIENT."""
    if role is Role.SERVICE or not caller.at_least(role):
        raise role_insufficient(role.name)


def target_organization(caller: Identity, wanted: UUID | None) -> UUID:
    """Where a caller may make something: at home, and a platform administrator anywhere.

    Raises the NotFound of an absent organization for everyone else.
    """
    if wanted is None or wanted == caller.organization_id:
        return caller.organization_id
    if not caller.at_least(Role.PLATFORM_ADMIN):
        raise ids.absent("org", wanted)
    return wanted


def new_user(identifier: UUID, organization_id: UUID, draft: UserDraft, now: datetime) -> User:
    """A user that is not stored yet."""
    return User(
        id=identifier,
        organization_id=organization_id,
        name=draft.name,
        display_name=draft.display_name,
        email=draft.email,
        role=draft.role,
        disabled=False,
        create_time=now,
        update_time=now,
        delete_time=None,
        version=1,
        external_issuer=draft.external_issuer,
        external_subject=draft.external_subject,
    )
