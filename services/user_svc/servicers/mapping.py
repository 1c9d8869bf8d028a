"""Domain ⇄ protobuf."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from chassis import ids, validation
from chassis.errors import invalid_field
from chassis.identity import Role
from hearth.type.v1 import access_pb2
from hearth.user.v1 import api_key_pb2, organization_pb2, user_pb2, user_service_pb2
from user_svc.domain.api_key import ApiKey
from user_svc.domain.etag import etag_of
from user_svc.domain.limits import LIMITS
from user_svc.domain.organization import Organization, OrganizationChange, OrganizationState
from user_svc.domain.user import User, UserChange


def timestamp(moment: datetime) -> Timestamp:
    """A moment with its time zone."""
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def moment(value: Timestamp, field: str) -> datetime:
    """A moment in UTC. Raises InvalidArgument naming the field for what is none."""
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid_field(field, "is not a time between the years 1 and 9999") from None


def optional_id(prefix: str, text: str) -> UUID | None:
    """The id in a field that may be empty. Raises NotFound for what is no such id."""
    return ids.decode(prefix, text) if text else None


def role_to_proto(role: Role) -> access_pb2.Role.ValueType:
    """Same numbers on both sides."""
    return access_pb2.Role.ValueType(role.value)


def organization_to_proto(organization: Organization) -> organization_pb2.Organization:
    """As clients see it."""
    message = organization_pb2.Organization(
        id=ids.encode("org", organization.id),
        name=organization.name,
        display_name=organization.display_name,
        state=organization_pb2.OrganizationState.ValueType(organization.state.value),
        create_time=timestamp(organization.create_time),
        update_time=timestamp(organization.update_time),
        etag=etag_of(organization),
        limits=organization_pb2.OrganizationLimits(**organization.limits),
    )
    if organization.delete_time is not None:
        message.delete_time.CopyFrom(timestamp(organization.delete_time))
    return message


def organization_change(organization: organization_pb2.Organization, paths: Collection[str]) -> OrganizationChange:
    """The fields named by the mask. Raises InvalidArgument for values that they cannot have."""
    display_name = organization.display_name if "display_name" in paths else None
    if display_name is not None and len(display_name) > 128:
        raise invalid_field("organization.display_name", "must be at most 128 characters")
    state = None
    if "state" in paths:
        if organization.state not in (OrganizationState.ACTIVE, OrganizationState.DISABLED):
            raise invalid_field("organization.state", "must be ACTIVE or DISABLED")
        state = OrganizationState(organization.state)
    return OrganizationChange(display_name, state, _limits_change(organization.limits, paths))


def _limits_change(limits: organization_pb2.OrganizationLimits, paths: Collection[str]) -> dict[str, int | None] | None:
    """The limits named by the mask, None for those that go back to the default; None when it names none."""
    names = LIMITS if "limits" in paths else [name for name in LIMITS if f"limits.{name}" in paths]
    if not names:
        return None
    given = {field.name: value for field, value in limits.ListFields()}
    return {name: given.get(name) for name in names}


def user_to_proto(user: User) -> user_pb2.User:
    """As clients see it."""
    return user_pb2.User(
        id=ids.encode("user", user.id),
        organization_id=ids.encode("org", user.organization_id),
        name=user.name,
        display_name=user.display_name,
        email=user.email,
        role=role_to_proto(user.role),
        disabled=user.disabled,
        external_issuer=user.external_issuer,
        external_subject=user.external_subject,
        create_time=timestamp(user.create_time),
        update_time=timestamp(user.update_time),
        etag=etag_of(user),
    )


def user_change(user: user_pb2.User, paths: Collection[str]) -> UserChange:
    """The fields named by the mask, which must fit the rules that a new user's fit. Raises InvalidArgument naming them."""
    given = user_service_pb2.CreateUserRequest(name="unchanged")
    for path in ("display_name", "email", "role"):
        if path in paths:
            setattr(given, path, getattr(user, path))
    validation.check(given, prefix="user.")
    if "role" in paths and not user.role:
        raise invalid_field("user.role", "must be set")
    return UserChange(
        display_name=user.display_name if "display_name" in paths else None,
        email=user.email if "email" in paths else None,
        role=Role(user.role) if "role" in paths else None,
        disabled=user.disabled if "disabled" in paths else None,
    )


def api_key_to_proto(key: ApiKey) -> api_key_pb2.ApiKey:
    """As clients see it."""
    message = api_key_pb2.ApiKey(
        id=ids.encode("key", key.id),
        organization_id=ids.encode("org", key.organization_id),
        user_id=ids.encode("user", key.user_id),
        display_name=key.display_name,
        hint=key.hint,
        create_time=timestamp(key.create_time),
        scopes=sorted(key.scopes or ()),
    )
    if key.expire_time is not None:
        message.expire_time.CopyFrom(timestamp(key.expire_time))
    if key.revoke_time is not None:
        message.revoke_time.CopyFrom(timestamp(key.revoke_time))
    if key.last_used_time is not None:
        message.last_used_time.CopyFrom(timestamp(key.last_used_time))
    return message
