"""Whoever comes with tokens of an external issuer."""

import asyncio
import time
from typing import Any

from chassis.errors import DomainError
from hearth.type.v1 import access_pb2
from hearth.user.v1 import (
    token_service_pb2,
    trusted_issuer_pb2,
)
from hearth.user.v1 import trusted_issuer_service_pb2 as pb
from tests.fakes.oidc_issuer import OidcIssuer
from tests.integration.user_svc.conftest import Client
from tests.integration.user_svc.refusals import refused


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
