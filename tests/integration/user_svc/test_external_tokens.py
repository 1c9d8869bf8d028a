"""Tokens of an external issuer: good ones let their bearers in, as users made at first sight, for as long as they are trusted."""

import asyncio
import time
from typing import Any

import pytest

from hearth.type.v1 import access_pb2
from hearth.user.v1 import (
    api_key_service_pb2,
    organization_pb2,
    organization_service_pb2,
    trusted_issuer_pb2,
    user_pb2,
    user_service_pb2,
)
from hearth.user.v1 import trusted_issuer_service_pb2 as pb
from tests.fakes.oidc_issuer import OidcIssuer
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.outsiders import change_issuer, eventually_refused, refusal, trust, who
from tests.integration.user_svc.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_bearer_becomes_a_user_at_first_sight(admin: Client, idp: OidcIssuer) -> None:
    trusted = await trust(admin, idp)
    profile: dict[str, Any] = {
        "email": "ada@example.org",
        "email_verified": True,
        "preferred_username": "Ada L.",
        "name": "Ada",
    }
    me = await who(admin, idp.token(sub="ada", **profile))
    assert me.organization.id == trusted.organization_id == admin.organization_id
    assert (me.role, me.user.role) == (access_pb2.ROLE_MEMBER, access_pb2.ROLE_MEMBER)
    assert (me.user.external_issuer, me.user.external_subject) == (idp.issuer, "ada")
    assert (me.user.email, me.user.display_name) == ("ada@example.org", "Ada")
    assert me.user.name.startswith("ada-l-")
    assert (await who(admin, idp.token(sub="ada", jti="another"))).user.id == me.user.id
    assert (await who(admin, idp.token(sub="bob"))).user.id != me.user.id
    listed = await admin.users.ListUsers(user_service_pb2.ListUsersRequest(), metadata=admin.metadata)
    assert {user.external_subject for user in listed.users if user.external_issuer == idp.issuer} == {"ada", "bob"}


async def test_many_at_once_make_one_user(world: World, admin: Client, idp: OidcIssuer) -> None:
    await trust(admin, idp)
    tokens = [
        idp.token(sub="eve", jti=str(number), email="eve@example.org", email_verified=True) for number in range(12)
    ]
    seen = await asyncio.gather(*(who(admin, token) for token in tokens))
    assert len({one.user.id for one in seen}) == 1


async def test_an_address_proves_nothing(admin: Client, idp: OidcIssuer) -> None:
    victim = await admin.create_user(email="victim@example.org")
    await trust(admin, idp)
    thief = await who(admin, idp.token(sub="thief", email="victim@example.org", email_verified=True))
    assert thief.user.id != victim.id
    assert thief.user.email == ""
    assert (await who(admin, idp.token(sub="liar", email="liar@example.org"))).user.email == ""
    odd: dict[str, Any] = {
        "email": ["a@b.org"],
        "name": {"x": 1},
        "preferred_username": "\u202e\u0000;DROP",
        "email_verified": True,
    }
    assert (await who(admin, idp.token(sub="odd", **odd))).user.email == ""
    halves = await who(admin, idp.token(sub="halves", name="A\ud800da\0", preferred_username="\udfff"))
    assert halves.user.display_name == "Ada"


async def test_the_role_follows_the_claim(admin: Client, idp: OidcIssuer) -> None:
    mappings = [
        trusted_issuer_pb2.RoleMapping(value="readers", role=access_pb2.ROLE_VIEWER),
        trusted_issuer_pb2.RoleMapping(value="chiefs", role=access_pb2.ROLE_ORGANIZATION_ADMIN),
    ]
    rules = {"default_role": 0, "role_claim": "realm_access.roles", "role_mappings": mappings}
    await trust(admin, idp, **rules)

    def token(*roles: object) -> str:
        return idp.token(sub="ada", realm_access={"roles": list(roles)}, jti=str(roles))

    assert (await who(admin, token("x", "readers"))).role == access_pb2.ROLE_VIEWER
    chief = await who(admin, token("readers", "chiefs", 7, None))
    assert (chief.role, chief.user.role) == (access_pb2.ROLE_ORGANIZATION_ADMIN,) * 2
    again = await who(admin, token("readers"))
    assert again.user.id == chief.user.id
    for none in (token("x"), token(), idp.token(sub="ada"), idp.token(sub="ada", realm_access="chiefs")):
        assert (await refusal(admin, none)).reason == "TOKEN_INVALID"


async def test_scopes_limit_what_its_tokens_may(admin: Client, idp: OidcIssuer) -> None:
    await trust(admin, idp, scopes=["user.read", "agent.write"])
    assert (await who(admin, idp.token(scope="openid"))).scopes == ["agent.write", "user.read"]
    narrowed = await who(admin, idp.token(scope="openid user.read tool.write"))
    assert narrowed.scopes == ["user.read"]
    request = api_key_service_pb2.CreateApiKeyRequest(scopes=["user.read"])
    metadata = (("authorization", f"Bearer {idp.token()}"),)
    got = await refused(admin.api_keys.CreateApiKey(request, metadata=metadata))
    assert got.reason == "SCOPE_INSUFFICIENT"
    got = await refused(who(admin, idp.token(scope="agent.read")))
    assert got.reason == "SCOPE_INSUFFICIENT"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "RS512", "ES256", "ES384", "ES512", "EdDSA"])
async def test_asymmetric_algorithms_are_accepted(admin: Client, idp: OidcIssuer, algorithm: str) -> None:
    idp.rotate("other", algorithm)
    await trust(admin, idp)
    assert (await who(admin, idp.token(key_id="other"))).user.external_subject == "subject"
    assert (await who(admin, idp.token(key_id="other", header={"kid": None}, jti="nameless"))).user.id


async def test_a_token_that_is_meant_for_two_organizations_is_refused(
    world: World, first_admin: Client, admin: Client, idp: OidcIssuer
) -> None:
    await trust(admin, idp, audience="one")
    organization = await first_admin.create_organization()
    second = await world.member_of(first_admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    await trust(second, idp, audience="two")
    assert (await who(admin, idp.token(aud="one"))).organization.id == admin.organization_id
    assert (await who(admin, idp.token(aud=["two", "three"]))).organization.id == organization.id
    assert (await refusal(admin, idp.token(aud=["one", "two"]))).reason == "TOKEN_INVALID"


async def test_a_required_claim_tells_organizations_apart(
    world: World, first_admin: Client, admin: Client, idp: OidcIssuer
) -> None:
    await trust(admin, idp, required_claim=trusted_issuer_pb2.RequiredClaim(name="tid", value="a"))
    organization = await first_admin.create_organization()
    second = await world.member_of(first_admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    await trust(second, idp, required_claim=trusted_issuer_pb2.RequiredClaim(name="tid", value="b"))
    a, b = await who(admin, idp.token(tid="a")), await who(admin, idp.token(tid="b"))
    assert (a.organization.id, b.organization.id) == (admin.organization_id, organization.id)
    assert a.user.id != b.user.id
    for tid in ("c", ["a"], ["a", "b"], None, "A", ""):
        assert (await refusal(admin, idp.token(tid=tid))).reason == "TOKEN_INVALID"


async def test_a_disabled_user_stays_out_and_comes_back(admin: Client, idp: OidcIssuer) -> None:
    await trust(admin, idp)
    token = idp.token(sub="ada")
    user = (await who(admin, token)).user
    await _disable(admin, user, True)
    await refusal(admin, token)
    await refusal(admin, idp.token(sub="ada", jti="new"))
    await _disable(admin, user, False)
    await asyncio.sleep(1)
    assert (await who(admin, idp.token(sub="ada", jti="newer"))).user.id == user.id


async def _disable(admin: Client, user: user_pb2.User, disabled: bool) -> None:
    request = user_service_pb2.UpdateUserRequest(user=user_pb2.User(id=user.id, disabled=disabled))
    request.update_mask.paths.append("disabled")
    await admin.users.UpdateUser(request, metadata=admin.metadata)


async def test_an_issuer_that_is_disabled_changed_or_deleted_counts_at_once(admin: Client, idp: OidcIssuer) -> None:
    trusted = await trust(admin, idp)
    token = idp.token()
    assert (await who(admin, token)).role == access_pb2.ROLE_MEMBER
    trusted.default_role = access_pb2.ROLE_VIEWER
    await change_issuer(admin, trusted, "default_role")
    assert (await who(admin, token)).role == access_pb2.ROLE_VIEWER
    trusted.state = trusted_issuer_pb2.TRUSTED_ISSUER_STATE_DISABLED
    await change_issuer(admin, trusted, "state")
    await refusal(admin, token)
    trusted.state = trusted_issuer_pb2.TRUSTED_ISSUER_STATE_ENABLED
    await change_issuer(admin, trusted, "state")
    assert (await who(admin, idp.token(jti="new"))).role == access_pb2.ROLE_VIEWER
    delete = pb.DeleteTrustedIssuerRequest(trusted_issuer_id=trusted.id)
    await admin.issuers.DeleteTrustedIssuer(delete, metadata=admin.metadata)
    await refusal(admin, idp.token(jti="new"))


async def test_the_tokens_of_an_organization_that_is_disabled_or_deleted_are_refused(
    world: World, first_admin: Client, idp: OidcIssuer
) -> None:
    organization = await first_admin.create_organization()
    local = await world.member_of(first_admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    await trust(local, idp)
    token = idp.token()
    await who(local, token)
    disabled = organization_pb2.OrganizationState.ORGANIZATION_STATE_DISABLED
    request = organization_service_pb2.UpdateOrganizationRequest(
        organization=organization_pb2.Organization(id=organization.id, state=disabled)
    )
    request.update_mask.paths.append("state")
    await first_admin.organizations.UpdateOrganization(request, metadata=first_admin.metadata)
    await eventually_refused(local, token)
    await refusal(local, idp.token(jti="new"))
    delete = organization_service_pb2.DeleteOrganizationRequest(organization_id=organization.id)
    await first_admin.organizations.DeleteOrganization(delete, metadata=first_admin.metadata)
    await refusal(local, idp.token(jti="newer"))
    # What it had trusted is free again.
    other = await first_admin.create_organization()
    second = await world.member_of(first_admin, other.id, "ROLE_ORGANIZATION_ADMIN")
    await trust(second, idp)
    assert (await who(second, idp.token(jti="newest"))).organization.id == other.id


async def test_new_keys_are_found_and_old_ones_refused(admin: Client, idp: OidcIssuer) -> None:
    await trust(admin, idp)
    old = idp.token(jti="old")
    await who(admin, old)
    idp.rotate("second")
    deadline = time.monotonic() + 10
    while True:
        try:
            await who(admin, idp.token(key_id="second"))
            break
        except Exception:
            assert time.monotonic() < deadline, "the new key was not found"
            await asyncio.sleep(0.2)
    assert (await refusal(admin, idp.token(jti="withdrawn"))).reason == "TOKEN_INVALID"


async def test_an_issuer_that_is_down_is_not_needed_for_known_keys(admin: Client, idp: OidcIssuer) -> None:
    await trust(admin, idp)
    await who(admin, idp.token(sub="before"))
    idp.stop()
    await asyncio.sleep(2.5)
    assert (await who(admin, idp.token(sub="while"))).user.external_subject == "while"
    idp.start_again()
