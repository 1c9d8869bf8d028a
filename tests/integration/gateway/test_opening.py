"""Opening a socket: credentials, subprotocol, origin, tickets, and the close code of each refusal."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.session import Session
from tests.fakes.scripted_world import ORGANIZATION, STRANGERS, Tokens
from tests.integration.gateway.conftest import Harness


async def test_hello_opens_a_session(harness: Harness) -> None:
    client = await harness.dial()
    answer = await client.request("hello", token=harness.world.tokens.issue(), client={"name": "test", "version": "1"})
    assert answer["type"] == "welcome"
    assert answer["id"] == 1
    assert (answer["ping_ms"], answer["max_subscriptions"], answer["window"]) == (25000, 64, 256)
    assert answer["token_expires"].endswith("Z")
    assert client.socket.protocol == "hearth.v1"


async def test_authorization_header_opens_a_session_without_origin(harness: Harness) -> None:
    headers = {"Authorization": f"Bearer {harness.world.tokens.issue()}"}
    client = await harness.dial(headers=headers, origin=None)
    answer = await client.receive()
    assert answer["type"] == "welcome"
    assert "id" not in answer
    assert (await client.request("call", method="user.WhoAmI"))["result"]["role"] == "ROLE_MEMBER"


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example.org", "http://127.0.0.1:1", "https://friend.example.org.evil.org"]
)
async def test_foreign_origins_are_refused(harness: Harness, origin: str | None) -> None:
    client = await harness.dial(origin=origin)
    closing, code = await client.closed()
    assert code == 4403
    assert closing is not None
    assert (closing["reason"], closing["reconnect"]) == ("FORBIDDEN", False)


async def test_foreign_origin_is_refused_even_with_a_header(harness: Harness) -> None:
    headers = {"Authorization": f"Bearer {harness.world.tokens.issue()}"}
    client = await harness.dial(headers=headers, origin="http://evil.example.org")
    assert (await client.closed())[1] == 4403


async def test_listed_origin_is_admitted(harness: Harness) -> None:
    await harness.connect(origin="https://friend.example.org")


@pytest.mark.parametrize("protocols", [(), ("graphql-ws",)])
async def test_subprotocol_is_required(harness: Harness, protocols: tuple[str, ...]) -> None:
    client = await harness.dial(protocols=protocols)
    assert (await client.closed())[1] == 4406


@pytest.mark.parametrize("token", ["x", "a.b.c", "é" * 40])
async def test_wrong_token_is_unauthenticated(harness: Harness, token: str) -> None:
    client = await harness.dial()
    await client.send(type="hello", id=1, token=token)
    closing, code = await client.closed()
    assert code == 4401
    assert closing is not None
    assert closing["message"].startswith("TOKEN_INVALID")


async def test_expired_and_foreign_tokens_are_unauthenticated(harness: Harness) -> None:
    for token in (harness.world.tokens.issue(lifetime_s=-60), Tokens().issue()):
        client = await harness.dial()
        await client.send(type="hello", id=1, token=token)
        assert (await client.closed())[1] == 4401


async def test_wrong_header_is_unauthenticated(harness: Harness) -> None:
    client = await harness.dial(headers={"Authorization": "Basic abc"}, origin=None)
    assert (await client.closed())[1] == 4401


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ('{"type":"call","id":1,"method":"user.WhoAmI"}', 4401),
        ('{"type":"ping"}', 4401),
        ('{"type":"dance","id":1}', 4401),
        ('{"type":"hello","id":1}', 4400),
        ('{"type":"hello","id":0,"token":"x"}', 4400),
        ("[1]", 4400),
        ("nonsense", 4400),
    ],
)
async def test_first_message_must_be_a_hello(harness: Harness, first: str, code: int) -> None:
    client = await harness.dial()
    await client.socket.send_str(first)
    assert (await client.closed())[1] == code


async def test_silence_is_a_hello_timeout(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocol.HELLO_SECONDS", 0.1)
    client = await harness.dial()
    closing, code = await client.closed()
    assert code == 4408
    assert closing is not None
    assert closing["reason"] == "HELLO_TIMEOUT"


async def ticket(harness: Harness, **headers: str) -> dict[str, Any]:
    async with harness.http.post(f"{harness.origin}/v1/tickets", headers=headers) as answer:
        body: dict[str, Any] = await answer.json()
        return body | {"status": answer.status}


async def test_ticket_is_good_once_and_for_its_origin(harness: Harness) -> None:
    bearer = f"Bearer {harness.world.tokens.issue()}"
    bought = await ticket(harness, Authorization=bearer, Origin=harness.origin)
    url = f"{harness.url}?ticket={bought['ticket']}"
    client = await harness.dial(url=url)
    assert (await client.receive())["type"] == "welcome"
    again = await harness.dial(url=url)
    assert (await again.closed())[1] == 4401

    stolen = await ticket(harness, Authorization=bearer, Origin=harness.origin)
    thief = await harness.dial(url=f"{harness.url}?ticket={stolen['ticket']}", origin="https://friend.example.org")
    assert (await thief.closed())[1] == 4401


async def test_ticket_needs_a_token_and_an_origin_of_ours(harness: Harness) -> None:
    assert (await ticket(harness))["status"] == 401
    assert (await ticket(harness, Authorization="Bearer nonsense"))["reason"] == "TOKEN_INVALID"
    bearer = f"Bearer {harness.world.tokens.issue()}"
    assert (await ticket(harness, Authorization=bearer, Origin="http://evil.example.org"))["status"] == 403


async def test_auth_replaces_the_token_of_the_same_user_only(harness: Harness) -> None:
    tokens = harness.world.tokens
    client = await harness.connect(tokens.issue(lifetime_s=300))
    answer = await client.request("auth", token=tokens.issue(lifetime_s=900))
    assert answer["type"] == "ok"
    assert (await client.request("auth", token="nonsense"))["reason"] == "TOKEN_INVALID"
    assert (await client.request("call", method="user.WhoAmI"))["type"] == "ok"
    await client.send(type="auth", id=99, token=tokens.issue(STRANGERS))
    assert (await client.closed())[1] == 4403


async def test_expiring_token_is_announced_then_closes(harness: Harness) -> None:
    client = await harness.connect(harness.world.tokens.issue(ORGANIZATION, lifetime_s=3))
    assert (await client.receive())["type"] == "auth_expiring"
    closing, code = await client.closed()
    assert code == 4401
    assert closing is not None
    assert closing["message"].startswith("TOKEN_EXPIRED")


async def test_silent_peer_is_pinged_then_closed(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocol.PING_SECONDS", 1.0)
    client = await harness.connect()
    assert (await client.receive())["type"] == "ping"
    await client.send(type="pong")
    assert (await client.receive())["type"] == "ping"
    closing, code = await client.closed()
    assert code == 4504
    assert closing is not None
    assert closing["reconnect"] is True


async def test_a_gateway_that_was_held_up_asks_before_it_closes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.protocol.PING_SECONDS", 1.0)
    client = await harness.connect()
    # The gateway runs in this loop: for longer than two intervals it hears nobody.
    time.sleep(2.5)
    assert (await client.receive())["type"] == "ping"
    await client.send(type="pong")
    assert (await client.receive())["type"] == "ping"


async def test_plain_http_is_told_to_upgrade(harness: Harness) -> None:
    async with harness.http.get(harness.url) as answer:
        assert answer.status == 426


async def test_connection_limit_says_come_back(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    await harness.connect()
    monkeypatch.setattr(harness.built.gateway, "_max_connections", 1)
    second = await harness.dial()
    closing, code = await second.closed()
    assert code == 4503
    assert closing is not None
    assert closing["reconnect"] is True


async def test_an_unexpected_fault_closes_with_internal(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await harness.connect()

    async def broken(self: Session, data: bytes) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Session, "receive", broken)
    await client.send(type="ping")
    assert (await client.closed())[1] == 4500
