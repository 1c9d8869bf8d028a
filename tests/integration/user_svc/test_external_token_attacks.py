"""Tokens and issuers that mean harm: every bad token is refused, and an issuer that misbehaves harms nobody but itself."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from hearth.user.v1 import trusted_issuer_service_pb2 as pb
from hearth.user.v1 import (
    user_service_pb2,
)
from tests.fakes.oidc_issuer import CONFIGURATION, KEYS, OidcIssuer, make_key
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.outsiders import refusal, trust, who
from tests.integration.user_svc.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
