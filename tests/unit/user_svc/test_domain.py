"""The rules of user_svc that need no database."""

import base64
import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from chassis import ids
from chassis.errors import FailedPrecondition, NotFound, PermissionDenied
from chassis.identity import Identity, Role
from user_svc.domain.api_key import hash_secret, hint_of, is_secret, new_secret
from user_svc.domain.etag import etag_of
from user_svc.domain.organization import Organization, OrganizationState, new_organization
from user_svc.domain.token import KeyHolder, thumbprint
from user_svc.domain.user import require_reach, target_organization

_NOW = datetime(2030, 1, 1, tzinfo=UTC)
_ROLES = [Role.VIEWER, Role.MEMBER, Role.ORGANIZATION_ADMIN, Role.PLATFORM_ADMIN]


def _caller(role: Role) -> Identity:
    return Identity(ids.new(), "user_x", role, token="t")


@pytest.mark.parametrize("own", _ROLES)
@pytest.mark.parametrize("granted", _ROLES)
def test_nobody_reaches_above_the_own_role(own: Role, granted: Role) -> None:
    if granted <= own:
        require_reach(_caller(own), granted)
    else:
        with pytest.raises(PermissionDenied):
            require_reach(_caller(own), granted)


@pytest.mark.parametrize("own", list(Role))
def test_nobody_grants_service_and_a_service_grants_nothing(own: Role) -> None:
    with pytest.raises(PermissionDenied):
        require_reach(_caller(own), Role.SERVICE)
    with pytest.raises(PermissionDenied):
        require_reach(_caller(Role.SERVICE), own)


@pytest.mark.parametrize("role", list(Role))
def test_only_platform_administrators_work_elsewhere(role: Role) -> None:
    caller, elsewhere = _caller(role), ids.new()
    assert target_organization(caller, None) == caller.organization_id
    assert target_organization(caller, caller.organization_id) == caller.organization_id
    if role is Role.PLATFORM_ADMIN:
        assert target_organization(caller, elsewhere) == elsewhere
    else:
        with pytest.raises(NotFound):
            target_organization(caller, elsewhere)


def _holder(active: bool = True, disabled: bool = False, expires: datetime | None = None) -> KeyHolder:
    return KeyHolder(ids.new(), active, ids.new(), expires, None, ids.new(), Role.MEMBER, disabled)


def test_who_may_work() -> None:
    assert _holder().may_work(_NOW)
    assert _holder(expires=_NOW + timedelta(microseconds=1)).may_work(_NOW)
    assert not _holder(expires=_NOW).may_work(_NOW)
    assert not _holder(active=False).may_work(_NOW)
    assert not _holder(disabled=True).may_work(_NOW)


def _organization(state: OrganizationState) -> Organization:
    return Organization(uuid.uuid4(), "x", "", state, _NOW, _NOW, None, 1)


def test_only_active_organizations_are_active() -> None:
    _organization(OrganizationState.ACTIVE).require_active()
    for state in (OrganizationState.DISABLED, OrganizationState.DELETED):
        with pytest.raises(FailedPrecondition) as raised:
            _organization(state).require_active()
        assert raised.value.reason == "ORGANIZATION_NOT_ACTIVE"


def test_secrets_have_256_bits_and_their_form() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert is_secret(secret)
        assert len(base64.urlsafe_b64decode(secret.removeprefix("hk_") + "=")) == 32
        assert hash_secret(secret) == hashlib.sha256(secret.encode()).digest()
        assert len(hint_of(secret)) == 8


@pytest.mark.parametrize(
    "text", ["", "hk_", "hk_" + "a" * 42, "hk_" + "a" * 44, "HK_" + "a" * 43, "hk_" + "a" * 42 + "!"]
)
def test_what_is_no_secret(text: str) -> None:
    assert not is_secret(text)
    assert not is_secret(text + "\n")


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    members = {"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    assert thumbprint(public) == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_an_etag_follows_the_version() -> None:
    organization = new_organization(ids.new(), "x", "", _NOW)
    assert etag_of(organization) == "v1"
