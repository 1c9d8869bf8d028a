"""Whom external tokens stand for, as user_svc tells the other services."""

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import grpc

from chassis import ids
from chassis.errors import Unauthenticated, Unavailable
from chassis.external_tokens import Resolved
from chassis.identity import Identity, Role, use
from chassis.service_identity import ServiceTokens
from chassis.status import from_rpc_error
from hearth.user.internal.v1 import external_token_service_pb2 as pb
from hearth.user.internal.v1 import external_token_service_pb2_grpc

# Longer than user_svc waits for an issuer.
_TIMEOUT_S = 8.0
Answer = TypeVar("Answer")


class ExternalTokensFromUserService:
    """An ExternalTokenSource that asks user_svc, as this service."""

    def __init__(self, channel: grpc.aio.Channel, tokens: ServiceTokens) -> None:
        self._stub = external_token_service_pb2_grpc.ExternalTokenServiceStub(channel)
        self._tokens = tokens

    async def issuers(self) -> Collection[str]:
        answer = await self._as_service(lambda: self._stub.ListIssuers(pb.ListIssuersRequest(), timeout=_TIMEOUT_S))
        return answer.issuers

    async def resolve(self, token: str) -> Resolved:
        request = pb.ResolveTokenRequest(token=token)
        answer = await self._as_service(lambda: self._stub.ResolveToken(request, timeout=_TIMEOUT_S))
        if answer.WhichOneof("outcome") != "identity":
            refusal = answer.refusal
            raise Unauthenticated(refusal.message, reason=refusal.reason or "TOKEN_INVALID")
        return _resolved(token, answer.identity)

    async def _as_service(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Raises DomainError, never Unauthenticated: that is what is said of the caller's token, not of this service's."""
        identity = await self._own()
        try:
            with use(identity):
                return await call()
        except grpc.aio.AioRpcError as error:
            problem = from_rpc_error(error)
            if isinstance(problem, Unauthenticated):
                self._tokens.forget(identity)
                raise _cannot_tell() from error
            raise problem from error

    async def _own(self) -> Identity:
        try:
            return await self._tokens.identity_for(None)
        except Unauthenticated as error:
            raise _cannot_tell() from error


def _cannot_tell() -> Unavailable:
    return Unavailable("tokens cannot be checked now", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)


def _resolved(token: str, found: pb.ExternalIdentity) -> Resolved:
    identity = Identity(
        organization_id=ids.decode("org", found.organization_id),
        subject=found.user_id,
        role=Role[found.role],
        token=token,
        key_id=found.trusted_issuer_id,
        expires_at=found.expire_time.ToNanoseconds() / 1e9,
        issued_at=found.resolve_time.ToNanoseconds() / 1e9,
        scopes=frozenset(found.scopes) if found.limited else None,
    )
    return Resolved(identity, found.keep_until.ToNanoseconds() / 1e9)
