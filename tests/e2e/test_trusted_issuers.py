"""An external issuer's tokens at the door: accepted like Hearth's own by Envoy and every service, socket and ticket included, for as
long as they are trusted.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import jwt
import pytest

from deploy.local import Stack
from hearth.agent.v1 import agent_service_pb2
from hearth.memory.v1 import block_service_pb2
from hearth.tool.v1 import tool_service_pb2
from hearth.type.v1 import access_pb2
from hearth.user.internal.v1 import external_token_service_pb2
from hearth.user.internal.v1.external_token_service_pb2_grpc import ExternalTokenServiceStub
from hearth.user.v1 import token_service_pb2, trusted_issuer_pb2, trusted_issuer_service_pb2
from hearth.user.v1.trusted_issuer_service_pb2_grpc import TrustedIssuerServiceStub
from tests.fakes.oidc_issuer import OidcIssuer, make_key
from tests.support.api import Api

# The door reads the issuers' keys every ten seconds.
_DOOR_S = 20.0
_PROMISE_S = 5.0
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trust:
    """An issuer that the stack's first organization trusts."""

    api: Api
    idp: OidcIssuer
    issuer_id: str

    @property
    def service(self) -> Any:
        return TrustedIssuerServiceStub(self.api.channel)

    async def problem(self, token: str) -> list[grpc.aio.AioRpcError | None]:
        """What a call to each service through the door fails with, None where it works."""
        metadata: Metadata = (("authorization", f"Bearer {token}"),)
        api = self.api
        calls = (
            api.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=metadata, timeout=10),
            api.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=metadata, timeout=10),
            api.tools.ListTools(tool_service_pb2.ListToolsRequest(), metadata=metadata, timeout=10),
            api.blocks.ListBlocks(block_service_pb2.ListBlocksRequest(), metadata=metadata, timeout=10),
        )
        ended = await asyncio.gather(*calls, return_exceptions=True)
        return [one if isinstance(one, grpc.aio.AioRpcError) else None for one in ended]

    async def accepted(self, token: str, within_s: float = _DOOR_S) -> None:
        """Returns once every service takes a token."""
        deadline = time.monotonic() + within_s
        while any(problems := await self.problem(token)):
            assert time.monotonic() < deadline, problems
            await asyncio.sleep(0.2)

    async def refused(self, token: str, within_s: float = _PROMISE_S) -> None:
        """Returns once every service refuses it."""
        deadline = time.monotonic() + within_s
        while not all(problems := await self.problem(token)):
            assert time.monotonic() < deadline, problems
            await asyncio.sleep(0.1)
        assert {one.code() for one in problems if one} == {grpc.StatusCode.UNAUTHENTICATED}


@pytest.fixture
def idp() -> Iterator[OidcIssuer]:
    with OidcIssuer() as running:
        yield running


@pytest.fixture
async def trust(api: Api, idp: OidcIssuer) -> AsyncIterator[Trust]:
    async with _trusting(api, idp) as made:
        yield made


@asynccontextmanager
async def _trusting(api: Api, idp: OidcIssuer) -> AsyncGenerator[Trust]:
    service = TrustedIssuerServiceStub(api.channel)
    request = trusted_issuer_service_pb2.CreateTrustedIssuerRequest(
        issuer=idp.issuer, audience="hearth", default_role=access_pb2.ROLE_MEMBER
    )
    made = (await service.CreateTrustedIssuer(request, metadata=api.metadata)).trusted_issuer
    yield Trust(api, idp, made.id)
    delete = trusted_issuer_service_pb2.DeleteTrustedIssuerRequest(trusted_issuer_id=made.id)
    await service.DeleteTrustedIssuer(delete, metadata=api.metadata)


async def test_a_person_from_outside_works_and_is_shut_out_when_no_longer_trusted(stack: Stack, trust: Trust) -> None:
    token = trust.idp.token(sub=f"ada-{uuid.uuid4()}")
    await trust.accepted(token)
    api = Api(stack.url, stack.api_key)
    api.metadata = (("authorization", f"Bearer {token}"),)
    agent = await api.create_agent()
    turn = await api.ask(agent.id, "My cat is called Io.")
    assert turn.outcome == "run_succeeded"

    async with aiohttp.ClientSession() as http, _socket(http, stack, token) as socket:
        assert (await _hello(socket, token))["type"] == "welcome"
        async with _socket(http, stack, token, await _ticket(http, stack, token)) as by_ticket:
            assert json.loads((await by_ticket.receive(timeout=10)).data)["type"] == "welcome"
            change = trusted_issuer_service_pb2.UpdateTrustedIssuerRequest(
                trusted_issuer=trusted_issuer_pb2.TrustedIssuer(
                    id=trust.issuer_id, state=trusted_issuer_pb2.TRUSTED_ISSUER_STATE_DISABLED
                )
            )
            change.update_mask.paths.append("state")
            await trust.service.UpdateTrustedIssuer(change, metadata=trust.api.metadata)
            began = time.monotonic()
            await trust.refused(token)
            for one in (socket, by_ticket):
                while (message := await one.receive(timeout=_PROMISE_S)).type is aiohttp.WSMsgType.TEXT:
                    pass
                assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
                assert one.close_code == 4401
            assert time.monotonic() - began <= _PROMISE_S
        async with http.post(f"{stack.url}/v1/tickets", headers={"authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 401
    await api.channel.close()


def _socket(
    http: aiohttp.ClientSession, stack: Stack, token: str, ticket: str = ""
) -> "aiohttp.client._WSRequestContextManager":
    query = f"?ticket={ticket}" if ticket else ""
    return http.ws_connect(f"{stack.url}/v1/socket{query}", protocols=["hearth.v1"], headers={"origin": stack.url})


async def _hello(socket: aiohttp.ClientWebSocketResponse[bool], token: str) -> dict[str, str]:
    await socket.send_json({"type": "hello", "id": 1, "token": token})
    return json.loads((await socket.receive(timeout=10)).data)


async def _ticket(http: aiohttp.ClientSession, stack: Stack, token: str) -> str:
    headers = {"authorization": f"Bearer {token}", "origin": stack.url}
    async with http.post(f"{stack.url}/v1/tickets", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["ticket"])


async def test_bad_tokens_get_nowhere(trust: Trust) -> None:
    idp = trust.idp
    await trust.accepted(idp.token())
    now = int(time.time())
    header, payload, signature = idp.token().split(".")
    with OidcIssuer() as untrusted:
        bad = {
            "another audience": idp.token(aud="elsewhere"),
            "Hearth as the issuer": idp.token(iss="hearth", role="PLATFORM_ADMIN", org="org_x", jti="x"),
            "a trusted name, another's key": untrusted.token(iss=idp.issuer),
            "an untrusted issuer": untrusted.token(),
            "a stranger's key of the same id": jwt.encode(
                idp.claims(), make_key("RS256"), "RS256", headers={"kid": "first"}
            ),
            "no key id, a stranger's key": jwt.encode(idp.claims(), make_key("RS256"), "RS256"),
            "expired": idp.token(iat=now - 900, exp=now - 300),
            "no end": idp.token(exp=None),
            "not valid yet": idp.token(nbf=now + 300),
            "tampered": f"{header}.{payload[:-6]}AAAAAA.{signature}",
            "no signature": f"{header}.{payload}.",
        }
    for kind, token in bad.items():
        problems = await trust.problem(token)
        assert all(problems), f"{kind} was served"
        assert {one.code() for one in problems if one} == {grpc.StatusCode.UNAUTHENTICATED}, f"{kind}: {problems}"
    await trust.accepted(idp.token(), within_s=1)


async def test_two_issuers_with_keys_of_the_same_name_and_of_none(api: Api) -> None:
    with OidcIssuer() as one, OidcIssuer() as other:
        one.add_key("nameless", "ES256", kid="")
        async with _trusting(api, one) as first, _trusting(api, other) as second:
            await first.accepted(one.token(sub="a"))
            await second.accepted(other.token(sub="a"))
            await first.accepted(one.token(key_id="nameless", header={"kid": None}, sub="b"))
            # The door cannot know whose key fits; each service does.
            await second.refused(one.token(iss=other.issuer), within_s=0)
            await first.refused(other.token(iss=one.issuer), within_s=0)


async def test_an_issuer_changes_its_keys(trust: Trust) -> None:
    old = trust.idp.token()
    await trust.accepted(old)
    trust.idp.rotate("second", "ES256")
    await trust.accepted(trust.idp.token(key_id="second"))
    assert all(
        await trust.problem(jwt.encode(trust.idp.claims(), make_key("RS256"), "RS256", headers={"kid": "first"}))
    )


async def test_the_keys_for_the_door_are_not_for_clients(stack: Stack) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{stack.url}/.well-known/issuer-jwks.json") as answer:
            assert answer.status == 404
        path = "/hearth.user.internal.v1.ExternalTokenService/GetIssuerJwks"
        async with http.post(f"{stack.url}{path}", json={}) as answer:
            assert answer.status in (401, 404)
    async with grpc.aio.insecure_channel(stack.address("user_svc")) as channel:
        service = ExternalTokenServiceStub(channel)
        found = await service.GetIssuerJwks(external_token_service_pb2.GetIssuerJwksRequest(), timeout=10)
    # With nobody trusted too: the door would ask for an empty set again and again.
    assert "nobody" in {key.kid for key in found.keys}
