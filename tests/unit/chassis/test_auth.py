"""Tokens: every way to be wrong is refused, and a good one is verified once."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis import ids
from chassis.auth import TokenVerifier, bearer
from chassis.errors import DomainError, Unauthenticated, Unavailable
from chassis.identity import NO_ORGANIZATION, Role

_ORGANIZATION = ids.new()


class Issuer:
    """Signs tokens, and is the source of its own keys."""

    def __init__(self) -> None:
        self.keys: dict[str, Ed25519PrivateKey] = {}
        self.fetches = 0
        self.down = False
        self.add("one")

    def add(self, key_id: str) -> None:
        self.keys[key_id] = Ed25519PrivateKey.generate()

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        self.fetches += 1
        await asyncio.sleep(0.01)
        if self.down:
            raise Unavailable("down", reason="DEPENDENCY_UNAVAILABLE")
        algorithm = jwt.get_algorithm_by_name("EdDSA")
        return {
            key_id: jwt.PyJWK(json.loads(algorithm.to_jwk(key.public_key())), algorithm="EdDSA")
            for key_id, key in self.keys.items()
        }

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": "hearth",
            "aud": "hearth",
            "sub": "user_1",
            "org": ids.encode("org", _ORGANIZATION),
            "role": "MEMBER",
            "key": "key_1",
            "iat": now,
            "exp": now + 900,
            "jti": "j",
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key_id: str = "one", header: dict[str, Any] | None = None, **changes: Any) -> str:
        return jwt.encode(self.claims(**changes), self.keys[key_id], "EdDSA", headers={"kid": key_id} | (header or {}))


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


async def _reason(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(DomainError) as raised:
        await verifier.verify(token)
    assert isinstance(raised.value, Unauthenticated)
    return raised.value.reason


async def test_a_good_token_is_an_identity(issuer: Issuer) -> None:
    token = issuer.token(obo="user_2")
    identity = await TokenVerifier(issuer).verify(token)
    assert identity.organization_id == _ORGANIZATION
    assert (identity.subject, identity.role, identity.key_id) == ("user_1", Role.MEMBER, "key_1")
    assert (identity.on_behalf_of, identity.token) == ("user_2", token)
    assert identity.expires_at > time.time()


def _segments(token: str) -> list[dict[str, Any]]:
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]


def _encode(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_alg_none_is_refused(issuer: Issuer) -> None:
    header, claims = _segments(issuer.token())
    for algorithm in ("none", "None", "NONE", "nOnE"):
        token = f"{_encode(header | {'alg': algorithm})}.{_encode(claims)}."
        assert await _reason(TokenVerifier(issuer), token) == "TOKEN_INVALID"


async def test_another_algorithm_keyed_with_the_public_key_is_refused(issuer: Issuer) -> None:
    public = issuer.keys["one"].public_key().public_bytes_raw()
    token = jwt.encode(issuer.claims(), public, "HS256", headers={"kid": "one"})
    assert await _reason(TokenVerifier(issuer), token) == "TOKEN_INVALID"


async def test_tampered_claims_are_refused(issuer: Issuer) -> None:
    header, payload, signature = issuer.token().split(".")
    claims = _segments(f"{header}.{payload}.{signature}")[1]
    forged = f"{header}.{_encode(claims | {'role': 'PLATFORM_ADMIN'})}.{signature}"
    assert await _reason(TokenVerifier(issuer), forged) == "TOKEN_INVALID"


async def test_a_key_of_another_issuer_under_our_key_id_is_refused(issuer: Issuer) -> None:
    assert await _reason(TokenVerifier(issuer), Issuer().token()) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"iss": None},
        {"aud": None},
        {"sub": None},
        {"exp": None},
        {"org": None},
        {"org": "nonsense"},
        {"org": ""},
        {"role": None},
        {"role": "KING"},
        {"role": "ROLE_MEMBER"},
        {"nbf": time.time() + 3600},
        {"iat": time.time() + 3600},
    ],
)
async def test_claims_that_do_not_fit_are_refused(issuer: Issuer, changes: dict[str, Any]) -> None:
    assert await _reason(TokenVerifier(issuer), issuer.token(**changes)) == "TOKEN_INVALID"


@pytest.mark.parametrize("token", ["x", "a.b", "a.b.c", "..", "é.é.é", "\0", "e30.e30.e30", "a" * 10_000])
async def test_what_is_no_token_is_refused(issuer: Issuer, token: str) -> None:
    assert await _reason(TokenVerifier(issuer), token) == "TOKEN_INVALID"


async def test_expired_is_its_own_reason(issuer: Issuer) -> None:
    token = issuer.token(iat=int(time.time()) - 1000, exp=int(time.time()) - 100)
    assert await _reason(TokenVerifier(issuer), token) == "TOKEN_EXPIRED"


async def test_missing_is_its_own_reason(issuer: Issuer) -> None:
    assert await _reason(TokenVerifier(issuer), "") == "TOKEN_MISSING"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("", "TOKEN_MISSING"),
        ("Basic abc", "TOKEN_INVALID"),
        ("Bearer", "TOKEN_INVALID"),
        ("Bearer ", "TOKEN_INVALID"),
    ],
)
def test_headers_without_a_token(header: str | None, reason: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        bearer(header)
    assert raised.value.reason == reason


def test_a_header_with_a_token() -> None:
    assert bearer("bearer a.b.c") == "a.b.c"
    assert bearer(b"Bearer a.b.c") == "a.b.c"


async def test_only_a_service_may_act_for_no_organization(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer)
    identity = await verifier.verify(issuer.token(org="", role="SERVICE", sub="svc:gateway"))
    assert identity.organization_id == NO_ORGANIZATION
    assert await _reason(verifier, issuer.token(org="", role="PLATFORM_ADMIN")) == "TOKEN_INVALID"


async def test_a_verified_token_expires_in_the_cache_too(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = TokenVerifier(issuer)
    token = issuer.token()
    await verifier.verify(token)
    later = time.time() + 1000
    monkeypatch.setattr(time, "time", lambda: later)
    assert await _reason(verifier, token) == "TOKEN_EXPIRED"


async def test_a_verified_token_is_not_verified_again(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer)
    token = issuer.token()
    assert await verifier.verify(token) is await verifier.verify(token)
    assert issuer.fetches == 1


async def test_the_cache_is_bounded_and_drops_the_least_used(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer, cache_size=2)
    one, two, three = (issuer.token(jti=name) for name in "abc")
    first, second = await verifier.verify(one), await verifier.verify(two)
    await verifier.verify(one)
    await verifier.verify(three)
    assert await verifier.verify(one) is first
    assert await verifier.verify(two) is not second


async def test_a_new_key_is_found_and_the_old_one_stays_good(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer, min_refresh_s=0)
    await verifier.verify(issuer.token())
    issuer.add("two")
    assert (await verifier.verify(issuer.token("two"))).subject == "user_1"
    assert (await verifier.verify(issuer.token("one", jti="again"))).subject == "user_1"


async def test_unknown_keys_do_not_make_us_ask_for_each(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer, min_refresh_s=60)
    await verifier.verify(issuer.token())
    foreign = Issuer()
    foreign.add("unknown")
    for _ in range(20):
        assert await _reason(verifier, foreign.token("unknown")) == "TOKEN_INVALID"
    assert issuer.fetches == 1


async def test_many_first_calls_fetch_once(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer)
    tokens = [issuer.token(jti=str(number)) for number in range(20)]
    found = await asyncio.gather(*(verifier.verify(token) for token in tokens))
    assert len(found) == 20
    assert issuer.fetches == 1


async def test_known_keys_stay_good_while_the_source_is_down(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer, max_age_s=0, min_refresh_s=0)
    await verifier.verify(issuer.token())
    issuer.down = True
    assert (await verifier.verify(issuer.token(jti="other"))).subject == "user_1"


async def test_without_any_key_the_answer_is_unavailable(issuer: Issuer) -> None:
    issuer.down = True
    verifier = TokenVerifier(issuer, min_refresh_s=0)
    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token())
    issuer.down = False
    assert (await verifier.verify(issuer.token())).subject == "user_1"


async def test_forgetting_a_key_makes_its_tokens_be_verified_again(issuer: Issuer) -> None:
    verifier = TokenVerifier(issuer)
    token = issuer.token()
    first = await verifier.verify(token)
    verifier.forget("another key")
    assert await verifier.verify(token) is first
    verifier.forget("key_1")
    assert await verifier.verify(token) is not first
