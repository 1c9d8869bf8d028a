"""What is read from external issuers: only from public addresses, only keys that can be used, and what their claims mean."""

from datetime import UTC, datetime
from typing import Any

import pytest

from chassis import ids
from chassis.errors import AlreadyExists
from chassis.identity import Role
from tests.fakes.oidc_issuer import make_key, to_jwk
from user_svc.adapters.oidc.fetch import FetchError, JsonFetcher, is_public
from user_svc.adapters.oidc.public_keys import ALGORITHMS, nobodys_key, usable_keys
from user_svc.domain.external_token import VerifiedToken, draft_of
from user_svc.domain.trusted_issuer import (
    RoleRule,
    TokenAddress,
    TrustedIssuerDraft,
    new_trusted_issuer,
    require_free,
)

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "198.18.0.1", "192.0.2.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2002:7f00:1::"),
        *("", "localhost", "2130706433", "0x7f.1", "nonsense"),
    ],
)
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_outside_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://idp.example",
            "ftp://idp.example",
            "file:///etc/passwd",
            "https://",
            "https://a:b@idp.example",
            "//x",
        ),
        *("https://127.0.0.1", "https://169.254.169.254/latest", "https://[::1]:8443", "https://[fd00::1]/x", ""),
        *("https://localhost", "https://a.localhost", "https://db.internal", "https://printer.local", "nonsense"),
    ],
)
async def test_addresses_that_are_never_read(address: str) -> None:
    fetcher = JsonFetcher(allow_private=False)
    assert fetcher.refuse(address)
    with pytest.raises(FetchError):
        await fetcher.read(address)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost.", "ip6-localhost", "0"])
async def test_names_that_lead_inside_are_not_followed(host: str) -> None:
    fetcher = JsonFetcher(allow_private=False)
    try:
        with pytest.raises(FetchError):
            await fetcher.read(f"https://{host}:9/")
    finally:
        await fetcher.close()


def test_an_operator_may_allow_what_is_inside() -> None:
    assert JsonFetcher(allow_private=True).refuse("http://127.0.0.1:9/x") == ""
    assert JsonFetcher(allow_private=True).refuse("file:///etc/passwd")


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"])
def test_keys_that_can_be_used(algorithm: str) -> None:
    published = to_jwk(make_key(algorithm), algorithm, kid="k", use="sig")
    (found,) = usable_keys({"keys": [published]})
    assert found.key_id == "k"
    assert algorithm in found.algorithms
    assert found.algorithms <= ALGORITHMS
    (alone,) = usable_keys({"keys": [published | {"alg": algorithm}]})
    assert alone.algorithms == {algorithm}


def _odd_keys() -> dict[str, Any]:
    rsa = to_jwk(make_key("RS256"), "RS256", kid="k")
    curve = to_jwk(make_key("ES256"), "ES256", kid="k")
    return {
        "for encryption": rsa | {"use": "enc"},
        "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
        "no type": {"kid": "k"},
        "a type that is no text": {"kty": ["RSA"]},
        "an unknown type": {"kty": "AKP", "kid": "k"},
        "a small modulus": rsa | {"n": "AQAB"},
        "no modulus": {name: value for name, value in rsa.items() if name != "n"},
        "a modulus that is no text": rsa | {"n": 3},
        "an endless modulus": rsa | {"n": rsa["n"] * 100},
        "no base64": rsa | {"n": "!!"},
        "a symmetric algorithm": rsa | {"alg": "HS256"},
        "alg none": rsa | {"alg": "none"},
        "an algorithm of another kind": rsa | {"alg": "ES256"},
        "an unknown curve": curve | {"crv": "P-192"},
        "a point off the curve": curve | {"y": curve["x"]},
        "a name that is no text": rsa | {"kid": 7},
        "an endless name": rsa | {"kid": "x" * 257},
        "no object": "RSA",
    }


@pytest.mark.parametrize("kind", list(_odd_keys()))
def test_keys_that_cannot_be_used_are_left_out(kind: str) -> None:
    good = to_jwk(make_key("ES256"), "ES256", kid="good")
    assert [key.key_id for key in usable_keys({"keys": [_odd_keys()[kind], good]})] == ["good"]


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": "x"}, {"keys": {}}, {"keys": [None, 1, []]}])
def test_documents_without_keys(document: dict[str, Any]) -> None:
    assert usable_keys(document) == []


def test_private_halves_are_not_passed_on() -> None:
    published = to_jwk(make_key("RS256"), "RS256", kid="k") | {"d": "secret", "p": "secret", "x5c": "y"}
    (found,) = usable_keys({"keys": [published]})
    assert set(found.members) == {"kty", "use", "n", "e", "kid"}


def test_an_issuer_has_so_many_keys_and_no_more() -> None:
    one = to_jwk(make_key("EdDSA"), "EdDSA")
    assert len(usable_keys({"keys": [one] * 1_000})) == 32


def test_nobody_s_key_is_a_key() -> None:
    assert len(usable_keys({"keys": [nobodys_key()]})) == 1
    assert nobodys_key()["x"] != nobodys_key()["x"]


_RULE = RoleRule("groups", (("v", Role.VIEWER), ("m", Role.MEMBER), ("a", Role.ORGANIZATION_ADMIN)), None)


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["v", "a", "m"]}, Role.ORGANIZATION_ADMIN),
        ({"groups": "m"}, Role.MEMBER),
        ({"groups": ["x"]}, None),
        ({"groups": []}, None),
        ({"groups": {"a": 1}}, None),
        ({"groups": [["a"], 1, None, True]}, None),
        ({"groups": "a m"}, None),
        ({}, None),
    ],
)
def test_roles(claims: dict[str, Any], role: Role | None) -> None:
    assert _RULE.role_of(claims) is role


def test_a_claim_is_found_by_its_name_before_its_path() -> None:
    rule = RoleRule("https://x.example/roles", (("m", Role.MEMBER),), Role.VIEWER)
    assert rule.role_of({"https://x.example/roles": "m"}) is Role.MEMBER
    path = RoleRule("a.b.c", (("m", Role.MEMBER),), None)
    assert path.role_of({"a": {"b": {"c": ["m"]}}}) is Role.MEMBER
    assert path.role_of({"a": {"b": "c"}}) is None
    assert path.role_of({"a.b.c": "x", "a": {"b": {"c": "m"}}}) is None


def _address(name: str = "", value: str = "") -> TokenAddress:
    return TokenAddress("https://idp.example", "hearth", name, value)


@pytest.mark.parametrize(
    ("wanted", "taken", "free"),
    [
        (_address(), [], True),
        (_address(), [_address()], False),
        (_address("tid", "a"), [_address()], False),
        (_address(), [_address("tid", "a")], False),
        (_address("tid", "a"), [_address("tid", "a")], False),
        (_address("tid", "a"), [_address("tid", "b"), _address("tid", "c")], True),
        (_address("tid", "a"), [_address("hd", "b")], False),
    ],
)
def test_no_two_organizations_can_be_meant(wanted: TokenAddress, taken: list[TokenAddress], free: bool) -> None:
    if free:
        require_free(wanted, taken)
    else:
        with pytest.raises(AlreadyExists):
            require_free(wanted, taken)


def _token(**claims: Any) -> VerifiedToken:
    return VerifiedToken("https://idp.example", ("hearth",), "sub", _NOW, claims)


@pytest.mark.parametrize(
    ("named", "allowed", "scopes"),
    [
        (None, None, None),
        ("openid email", None, None),
        ("openid agent.read", None, {"agent.read"}),
        ("agent.write", None, {"agent.read", "agent.write"}),
        ("openid", {"tool.read"}, {"tool.read"}),
        ("agent.write", {"agent.read"}, {"agent.read"}),
        ("agent.read", {"agent.write"}, {"agent.read"}),
        ("agent.read", {"tool.write"}, set[str]()),
        (["agent.read"], None, None),
    ],
)
def test_a_token_s_own_scopes_only_narrow(named: object, allowed: set[str] | None, scopes: set[str] | None) -> None:
    given = None if allowed is None else frozenset(allowed)
    assert _token(scope=named).scopes(given) == scopes


@pytest.mark.parametrize(
    ("claims", "start"),
    [
        ({"preferred_username": "Ada.Lovelace"}, "ada.lovelace-"),
        ({"email": "bob@example.org"}, "bob-"),
        ({"name": "Zoë  Ünal"}, "zo-nal-"),
        ({"preferred_username": "'; DROP TABLE users; --"}, "drop-table-users-"),
        ({"preferred_username": "漢字"}, "user-"),
        ({"preferred_username": ["x"], "name": "x" * 500}, "x" * 48 + "-"),
        ({}, "user-"),
    ],
)
def test_handles_can_be_read_and_fit_the_rule(claims: dict[str, Any], start: str) -> None:
    trusted = new_trusted_issuer(
        ids.new(), ids.new(), TrustedIssuerDraft("", _address(), RoleRule("", (), Role.VIEWER), None), _NOW
    )
    name = draft_of(_token(**claims), trusted, Role.VIEWER).name
    assert name.startswith(start)
    assert len(name) <= 64
