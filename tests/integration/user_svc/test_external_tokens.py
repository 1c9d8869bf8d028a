"""Tokens of an external issuer: good ones let their bearers in, as users made at first sight; every bad one is refused."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from chassis.errors import DomainError
from hearth.type.v1 import access_pb2
from hearth.user.v1 import (
    api_key_service_pb2,
    organization_pb2,
    organization_service_pb2,
    token_service_pb2,
    trusted_issuer_pb2,
    user_pb2,
    user_service_pb2,
)
from hearth.user.v1 import trusted_issuer_service_pb2 as pb
from tests.fakes.oidc_issuer import CONFIGURATION, KEYS, OidcIssuer, make_key
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def idp() -> Iterator[OidcIssuer]:
    """An issuer of its own for each test."""
    with OidcIssuer() as running:
        yield running


async def trust(client: Client, idp: OidcIssuer, **fields: Any) -> trusted_issuer_pb2.TrustedIssuer:
    values: dict[str, Any] = {
        "issuer": idp.issuer,
        "audience": "hearth",
        "default_role": access_pb2.ROLE_MEMBER,
        **fields,
    }
    request = pb.CreateTrustedIssuerRequest(**values)
    return (await client.issuers.CreateTrustedIssuer(request, metadata=client.metadata)).trusted_issuer


async def who(client: Client, token: str) -> token_service_pb2.WhoAmIResponse:
    metadata = (("authorization", f"Bearer {token}"),)
    return await client.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=metadata)


async def refusal(client: Client, token: str) -> DomainError:
    got = await refused(who(client, token))
    assert got.code == "UNAUTHENTICATED", got
    return got


async def eventually_refused(client: Client, token: str) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            await who(client, token)
        except Exception:
            break
        assert time.monotonic() < deadline, "still accepted"
        await asyncio.sleep(0.05)
    await refusal(client, token)


async def change_issuer(
    client: Client, issuer: trusted_issuer_pb2.TrustedIssuer, *paths: str
) -> trusted_issuer_pb2.TrustedIssuer:
    request = pb.UpdateTrustedIssuerRequest(trusted_issuer=issuer)
    request.update_mask.paths.extend(paths)
    request.trusted_issuer.etag = ""
    return (await client.issuers.UpdateTrustedIssuer(request, metadata=client.metadata)).trusted_issuer


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


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signed(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    signed = f"{_text(json.dumps(header).encode())}.{_text(json.dumps(claims).encode())}"
    return f"{signed}.{_text(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _attacks(idp: OidcIssuer, other: OidcIssuer) -> dict[str, str]:
    now = int(time.time())
    good = idp.token()
    header, payload, signature = good.split(".")
    public = idp.private().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    as_other = _text(json.dumps(idp.claims(sub="root")).encode())
    stranger = jwt.encode(idp.claims(), make_key("RS256"), "RS256", headers={"kid": "first"})
    return {
        "another audience": idp.token(aud="elsewhere"),
        "no audience": idp.token(aud=None),
        "an empty list of audiences": idp.token(aud=[]),
        "an audience that is no text": idp.token(aud=[{"hearth": 1}]),
        "an audience that is half a character": idp.token(aud=["hearth", "\ud800"]),
        "another issuer": idp.token(iss="https://elsewhere.example"),
        "Hearth as the issuer": idp.token(iss="hearth"),
        "Hearth's own claims": idp.token(iss="hearth", org="org_x", role="PLATFORM_ADMIN", key="", jti="x"),
        "the issuer with a slash": idp.token(iss=idp.issuer + "/"),
        "an issuer that is no text": _signed({"alg": "RS256", "kid": "first"}, idp.claims(iss=["x"]), b"x"),
        "an untrusted issuer": other.token(),
        "a trusted name, a stranger's key": other.token(iss=idp.issuer),
        "a stranger's key of the same id": stranger,
        "an unknown key id": jwt.encode(idp.claims(), idp.private(), "RS256", headers={"kid": "unknown"}),
        "a key id that is no text": _signed({"alg": "RS256", "kid": 7}, idp.claims(), b"x"),
        "alg none": f"{_text(json.dumps({'alg': 'none', 'kid': 'first'}).encode())}.{payload}.",
        "no alg": _signed({"kid": "first"}, idp.claims(), b"x"),
        "HS256 with the public key": _signed({"alg": "HS256", "kid": "first"}, idp.claims(), pem),
        "HS256 with nothing": _signed({"alg": "HS256", "kid": "first"}, idp.claims(), b""),
        "an algorithm of another kind of key": _signed({"alg": "ES256", "kid": "first"}, idp.claims(), b"x"),
        "a critical header": idp.token(header={"crit": ["x"], "x": 1}),
        "expired": idp.token(iat=now - 900, exp=now - 300),
        "no end": idp.token(exp=None),
        "an end that is no number": idp.token(exp=str(now + 600)),
        "not valid yet": idp.token(nbf=now + 300),
        "issued in the future": idp.token(iat=now + 300),
        "no subject": idp.token(sub=None),
        "an empty subject": idp.token(sub=""),
        "a subject that is no text": _signed({"alg": "RS256", "kid": "first"}, idp.claims(sub=7), b"x"),
        "a subject with a NUL": idp.token(sub="a\0b"),
        "a subject that is half a character": idp.token(sub="\ud800"),
        "a long subject": idp.token(sub="x" * 256),
        "a tampered claim": f"{header}.{as_other}.{signature}",
        "a cut signature": f"{header}.{payload}.{signature[:-4]}",
        "no signature": f"{header}.{payload}.",
        "claims nested without end": f"{header}.{_text(b'[' * 4000)}.{signature}",
        "a header nested without end": f"{_text(b'[' * 4000)}.{payload}.{signature}",
        "claims that are a list": f"{header}.{_text(b'[1]')}.{signature}",
        "an endless end": f"{header}.{_text(json.dumps(idp.claims(exp=float('inf'))).encode())}.{signature}",
    }


async def test_every_bad_token_is_refused(world: World, admin: Client, idp: OidcIssuer) -> None:
    trusted = await trust(admin, idp)
    with OidcIssuer() as other:
        for kind, token in _attacks(idp, other).items():
            got = await refused(who(admin, token))
            expected = "TOKEN_EXPIRED" if kind == "expired" else "TOKEN_INVALID"
            assert (got.code, got.reason) == ("UNAUTHENTICATED", expected), f"{kind}: {got}"
    listed = await admin.users.ListUsers(user_service_pb2.ListUsersRequest(), metadata=admin.metadata)
    assert not [user for user in listed.users if user.external_issuer], "a refused token made a user"
    assert (await who(admin, idp.token())).organization.id == trusted.organization_id


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


@pytest.mark.parametrize("place", [CONFIGURATION, KEYS])
@pytest.mark.parametrize("fault", ["fails", "hangs", "trickles", "floods", "redirects", "is no JSON"])
async def test_an_issuer_that_misbehaves_harms_nobody(admin: Client, idp: OidcIssuer, place: str, fault: str) -> None:
    idp.broken[place] = fault
    idp.elsewhere = "http://169.254.169.254/latest/meta-data/"
    trusted = await trust(admin, idp)
    began = time.monotonic()
    got = await refused(who(admin, idp.token()))
    assert (got.code, got.reason) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
    assert time.monotonic() - began < 8
    began = time.monotonic()
    await who(admin, admin.metadata[0][1].removeprefix("Bearer "))
    assert time.monotonic() - began < 1
    get = pb.GetTrustedIssuerRequest(trusted_issuer_id=trusted.id)
    shown = (await admin.issuers.GetTrustedIssuer(get, metadata=admin.metadata)).trusted_issuer
    assert idp.issuer + place in shown.problem
    idp.broken.clear()
    deadline = time.monotonic() + 10
    while (await admin.issuers.GetTrustedIssuer(get, metadata=admin.metadata)).trusted_issuer.problem:
        assert time.monotonic() < deadline, "it is well again, and that was not noticed"
        await asyncio.sleep(0.1)
    assert (await who(admin, idp.token())).user.external_subject == "subject"


async def test_a_configuration_of_another_issuer_is_refused(admin: Client, idp: OidcIssuer) -> None:
    idp.configuration["issuer"] = "https://elsewhere.example"
    await trust(admin, idp)
    assert (await refused(who(admin, idp.token()))).code == "UNAVAILABLE"


async def test_garbage_costs_no_request_to_the_issuer(admin: Client, idp: OidcIssuer) -> None:
    await trust(admin, idp)
    await who(admin, idp.token())
    seen = len(idp.requests)
    for number in range(50):
        claims = idp.claims(sub=str(number))
        await refusal(admin, jwt.encode(claims, idp.private(), "RS256", headers={"kid": f"unknown-{number}"}))
    # One look for unknown keys, and those of the time that went by.
    assert len(idp.requests) - seen <= 2 * 6
