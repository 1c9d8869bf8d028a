"""Revocations: what is void, since when, who is told, and what happens while user_svc does not answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from chassis import ids
from chassis.auth import TokenVerifier
from chassis.errors import DomainError, Unauthenticated, Unavailable
from chassis.identity import NO_ORGANIZATION, Identity, Role
from chassis.revocations import ALL, NothingRevoked, Revocation, RevocationList, holding
from tests.unit.chassis.test_auth import Issuer

_ORGANIZATION = UUID(int=7)


class Source:
    """A user_svc; `entries` is its table, the place in it the position."""

    def __init__(self) -> None:
        self.entries: list[Revocation] = []
        self.down = False
        self.asked: list[int] = []

    def revoke(self, subject: str, before: float = ALL, life_s: float = 900) -> None:
        self.entries.append(Revocation(subject, before, time.time() + life_s))

    async def after(self, position: int) -> tuple[Sequence[Revocation], int]:
        self.asked.append(position)
        await asyncio.sleep(0.005)
        if self.down:
            raise Unavailable("down", reason="DEPENDENCY_UNAVAILABLE")
        return self.entries[position:], len(self.entries)


def _identity(**changes: object) -> Identity:
    now = time.time()
    values: dict[str, object] = {
        "organization_id": _ORGANIZATION,
        "subject": "user_1",
        "role": Role.MEMBER,
        "token": "t",
        "key_id": "key_1",
        "expires_at": now + 900,
        "issued_at": float(int(now)),
    }
    return Identity(**(values | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def running(source: Source) -> AsyncIterator[RevocationList]:
    revocations = RevocationList(source, interval_s=0.02)
    await revocations.start()
    yield revocations
    await revocations.stop()


@pytest.mark.parametrize("subject", ["key_1", "user_1", ids.encode("org", _ORGANIZATION)])
async def test_a_key_a_user_or_an_organization_is_void_and_no_other(source: Source, subject: str) -> None:
    revocations = RevocationList(source)
    await revocations.refresh()
    assert not revocations.is_void(_identity())
    source.revoke(subject)
    await revocations.refresh()
    assert revocations.is_void(_identity())
    other = _identity(organization_id=ids.new(), subject="user_2", key_id="key_2")
    assert not revocations.is_void(other)
    assert not revocations.is_void(_identity(organization_id=NO_ORGANIZATION, subject="svc:gateway", key_id=""))


async def test_tokens_issued_since_are_good_again(source: Source) -> None:
    revocations = RevocationList(source)
    source.revoke("user_1")
    await revocations.refresh()
    assert revocations.is_void(_identity())
    source.revoke("user_1", before=1_000.0)
    await revocations.refresh()
    assert revocations.is_void(_identity(issued_at=999.0))
    assert not revocations.is_void(_identity(issued_at=1_000.0))


async def test_only_what_is_new_is_asked_for_and_what_is_over_is_forgotten(source: Source) -> None:
    revocations = RevocationList(source)
    source.revoke("key_1", life_s=-1)
    source.revoke("key_2")
    await revocations.refresh()
    assert not revocations.is_void(_identity())
    assert source.asked == [0, 2]
    await revocations.refresh()
    assert source.asked == [0, 2, 2]


async def test_who_waits_is_told_once_and_may_stop_waiting(source: Source, running: RevocationList) -> None:
    told: list[str] = []
    running.when_void(_identity(), lambda: told.append("first"))
    running.when_void(_identity(), lambda: told.append("second"))()
    running.when_void(_identity(key_id="key_2"), lambda: told.append("other"))
    source.revoke("key_1")
    await asyncio.sleep(0.2)
    assert told == ["first"]
    running.when_void(_identity(), lambda: told.append("late"))
    assert told == ["first", "late"]


async def test_what_is_known_stays_in_force_while_user_svc_is_down(source: Source, running: RevocationList) -> None:
    source.revoke("key_1")
    await running.load()
    source.down = True
    source.revoke("key_2")
    await asyncio.sleep(0.1)
    assert running.is_void(_identity())
    assert not running.is_void(_identity(key_id="key_2"))
    source.down = False
    known = asyncio.Event()
    running.when_void(_identity(key_id="key_2"), known.set)
    await asyncio.wait_for(known.wait(), 3)


async def test_before_the_first_answer_no_token_is_good(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.revocations._LOAD_S", 0.2)
    issuer = Issuer()
    verifier = TokenVerifier(issuer, revocations=RevocationList(source))
    source.down = True
    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token())
    source.down = False
    assert (await verifier.verify(issuer.token())).subject == "user_1"


async def test_a_cached_token_is_refused_as_soon_as_it_is_revoked(source: Source) -> None:
    issuer = Issuer()
    revocations = RevocationList(source)
    verifier = TokenVerifier(issuer, revocations=revocations)
    token = issuer.token()
    other = issuer.token(key="key_2")
    await verifier.verify(token)
    source.revoke("key_1")
    await revocations.refresh()
    for _ in range(2):
        with pytest.raises(Unauthenticated) as raised:
            await verifier.verify(token)
        assert (raised.value.reason, raised.value.message) == ("TOKEN_INVALID", "the credential has been revoked")
    await verifier.verify(other)


async def test_many_who_wait_for_the_first_answer_share_it(source: Source) -> None:
    revocations = RevocationList(source)
    await asyncio.gather(*(revocations.load() for _ in range(50)))
    assert len(source.asked) <= 2


async def _hold(identity: Identity, revocations: RevocationList | NothingRevoked) -> DomainError:
    with pytest.raises(Unauthenticated) as raised:
        async with asyncio.timeout(5), holding(identity, revocations):
            await asyncio.sleep(10)
    return raised.value


async def test_a_stream_ends_when_its_credential_is_revoked(source: Source, running: RevocationList) -> None:
    holding_on = asyncio.create_task(_hold(_identity(), running))
    await asyncio.sleep(0.05)
    source.revoke("user_1")
    error = await holding_on
    assert (error.reason, error.message) == ("TOKEN_INVALID", "the credential has been revoked")
    assert (await _hold(_identity(), running)).reason == "TOKEN_INVALID"


async def test_a_stream_ends_when_its_token_expires_but_a_service_s_goes_on() -> None:
    nearly = time.time() - 4.9
    assert (await _hold(_identity(expires_at=nearly), NothingRevoked())).reason == "TOKEN_EXPIRED"
    async with holding(_identity(expires_at=nearly, role=Role.SERVICE), NothingRevoked()):
        await asyncio.sleep(0.3)


async def test_errors_and_timeouts_of_the_block_itself_pass(running: RevocationList) -> None:
    with pytest.raises(TimeoutError):
        async with holding(_identity(), running):
            raise TimeoutError
    with pytest.raises(ZeroDivisionError):
        async with holding(None, running):
            raise ZeroDivisionError


async def test_checking_a_known_token_costs_less_than_a_tenth_of_a_millisecond(source: Source) -> None:
    issuer = Issuer()
    revocations = RevocationList(source)
    for number in range(10_000):
        source.revoke(f"key_{number + 100}")
    await revocations.refresh()
    verifier = TokenVerifier(issuer, revocations=revocations)
    token = issuer.token()
    await verifier.verify(token)
    began = time.process_time()
    for _ in range(5_000):
        await verifier.verify(token)
    spent_us = (time.process_time() - began) / 5_000 * 1e6
    print(f"{spent_us:.1f} CPU-µs a check")
    assert spent_us < 100
