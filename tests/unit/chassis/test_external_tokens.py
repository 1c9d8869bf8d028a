"""Tokens of trusted issuers in a service: asked about once, kept for as long as they may be, and garbage costs nobody anything."""

import asyncio
import base64
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jwt
import pytest

from chassis import ids
from chassis.auth import TokenVerifier
from chassis.errors import DomainError, ResourceExhausted, Unauthenticated, Unavailable, Unimplemented
from chassis.external_tokens import ExternalTokens, Resolved, foreign_issuer
from chassis.identity import Identity, Role
from chassis.revocations import ALL, Revocation, RevocationList

_IDP = "https://idp.example"


def _token(issuer: object = _IDP, **claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"iss": issuer, "sub": "x", **claims}).encode())
    return f"e30.{payload.decode().rstrip('=')}.c2ln"


class Source:
    """An ExternalTokenSource that counts, and the source of keys and revocations."""

    def __init__(self) -> None:
        self.trusted: Collection[str] = [_IDP]
        self.lists = self.asked = 0
        self.failure: DomainError | None = None
        self.list_failure: DomainError | None = None
        self.void: list[Revocation] = []
        self.lifetime_s = 900.0
        self.keep_s = 900.0

    async def issuers(self) -> Collection[str]:
        self.lists += 1
        if self.list_failure is not None:
            raise self.list_failure
        return self.trusted

    async def resolve(self, token: str) -> Resolved:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.failure is not None:
            raise self.failure
        now = time.time()
        identity = Identity(
            ids.new(), "user_1", Role.MEMBER, token, "issuer_1", expires_at=now + self.lifetime_s, issued_at=now
        )
        return Resolved(identity, now + self.keep_s)

    async def after(self, position: int) -> tuple[Sequence[Revocation], int]:
        return self.void[position:], len(self.void)

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        return {}


@pytest.fixture
def source() -> Source:
    return Source()


def _verifier(source: Source, revocations: RevocationList | None = None) -> TokenVerifier:
    return TokenVerifier(source, revocations=revocations, external=ExternalTokens(source))


async def _refused(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as raised:
        await verifier.verify(token)
    return raised.value.reason


async def test_calls_that_come_together_ask_once(source: Source) -> None:
    verifier, token = _verifier(source), _token()
    seen = await asyncio.gather(*(verifier.verify(token) for _ in range(50)))
    assert {one.subject for one in seen} == {"user_1"}
    await verifier.verify(token)
    assert (source.asked, source.lists) == (1, 1)


async def test_who_leaves_takes_the_answer_from_nobody(source: Source) -> None:
    verifier, token = _verifier(source), _token()
    leaving = asyncio.create_task(verifier.verify(token))
    staying = asyncio.create_task(verifier.verify(token))
    await asyncio.sleep(0.002)
    leaving.cancel()
    assert (await staying).role is Role.MEMBER
    assert source.asked == 1


async def test_a_refused_token_is_not_asked_about_again_at_once(source: Source) -> None:
    verifier, token = _verifier(source), _token()
    source.failure = Unauthenticated("no", reason="TOKEN_EXPIRED")
    for _ in range(20):
        assert await _refused(verifier, token) == "TOKEN_EXPIRED"
    assert source.asked == 1


async def test_tokens_of_strangers_are_never_asked_about(source: Source) -> None:
    verifier = _verifier(source)
    for number in range(200):
        assert await _refused(verifier, _token(f"https://{number}.example")) == "TOKEN_INVALID"
    assert source.asked == 0
    assert source.lists <= 2


async def test_an_issuer_that_is_new_is_known_within_a_second(source: Source) -> None:
    source.trusted = []
    verifier, token = _verifier(source), _token()
    assert await _refused(verifier, token) == "TOKEN_INVALID"
    source.trusted = [_IDP]
    await asyncio.sleep(1.05)
    assert (await verifier.verify(token)).subject == "user_1"


async def test_what_cannot_be_told_is_not_a_refusal(source: Source) -> None:
    verifier, token = _verifier(source), _token()
    source.failure = Unavailable("down", reason="DEPENDENCY_UNAVAILABLE")
    with pytest.raises(Unavailable):
        await verifier.verify(token)
    source.failure = None
    assert (await verifier.verify(token)).subject == "user_1"


async def test_a_list_that_was_never_read_is_no_empty_one(source: Source) -> None:
    verifier, token = _verifier(source), _token()
    source.list_failure = Unavailable("down", reason="DEPENDENCY_UNAVAILABLE")
    with pytest.raises(Unavailable):
        await verifier.verify(token)
    source.list_failure = Unimplemented("an older one", reason="NOT_IMPLEMENTED")
    assert await _refused(verifier, token) == "TOKEN_INVALID"


async def test_it_is_asked_again_when_the_answer_is_old(source: Source) -> None:
    source.keep_s = 0.05
    verifier, token = _verifier(source), _token()
    await verifier.verify(token)
    await asyncio.sleep(0.06)
    await verifier.verify(token)
    assert source.asked == 2
    source.failure = Unauthenticated("disabled meanwhile", reason="TOKEN_INVALID")
    await asyncio.sleep(0.06)
    assert await _refused(verifier, token) == "TOKEN_INVALID"


async def test_a_token_that_has_ended_is_not_asked_about_again(source: Source) -> None:
    source.lifetime_s = -5.0 + 0.05
    verifier, token = _verifier(source), _token()
    await verifier.verify(token)
    await asyncio.sleep(0.06)
    assert await _refused(verifier, token) == "TOKEN_EXPIRED"
    assert source.asked == 1


@pytest.mark.parametrize("subject", ["user_1", "issuer_1"])
async def test_what_is_revoked_is_asked_about_again(source: Source, subject: str) -> None:
    revocations = RevocationList(source)
    verifier, token = _verifier(source, revocations), _token()
    await verifier.verify(token)
    source.void = [Revocation(subject, ALL, time.time() + 900)]
    await revocations.refresh()
    source.failure = Unauthenticated("not any more", reason="TOKEN_INVALID")
    assert await _refused(verifier, token) == "TOKEN_INVALID"
    assert source.asked == 2
    source.failure = None
    # Even if whoever was asked does not know yet.
    assert await _refused(verifier, _token(jti="new")) == "TOKEN_INVALID"


async def test_not_more_than_so_many_are_asked_about_at_once(source: Source) -> None:
    verifier = _verifier(source)
    tries = [verifier.verify(_token(jti=str(number))) for number in range(400)]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert source.asked == 256
    assert sum(isinstance(one, ResourceExhausted) for one in ended) == 144


async def test_without_external_issuers_their_tokens_are_refused(source: Source) -> None:
    assert await _refused(TokenVerifier(source), _token()) in ("TOKEN_INVALID",)


async def test_a_cached_token_costs_little(source: Source) -> None:
    verifier, token = _verifier(source, RevocationList(source)), _token()
    await verifier.verify(token)
    began = time.process_time()
    for _ in range(1_000):
        await verifier.verify(token)
    assert (time.process_time() - began) / 1_000 < 100e-6


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "a.!!.c", "a.W10.c", f"a.{'W1tb' * 2_000}.c", _token("hearth"), _token(7), _token(["x"])],
)
def test_what_is_no_foreign_token(token: str) -> None:
    assert foreign_issuer(token, "hearth") is None


def test_a_foreign_issuer_is_read_and_no_more() -> None:
    assert foreign_issuer(_token(), "hearth") == _IDP
    assert foreign_issuer(_token(pad="x" * 20_000), "hearth") is None
