"""Whom a service believes, and as whom it calls: everything that it needs of user_svc, in one piece."""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import grpc

from chassis import ids
from chassis.auth import JwksFromUserService, TokenVerifier
from chassis.errors import Unauthenticated
from chassis.external_source import ExternalTokensFromUserService
from chassis.external_tokens import ExternalTokens
from chassis.identity import Identity, use
from chassis.limits import LimitChanges, LimitList
from chassis.revocations import ALL, Revocation, RevocationList
from chassis.service_identity import ServiceTokens
from chassis.settings import ServiceSettings
from chassis.status import from_rpc_error
from hearth.user.internal.v1 import (
    limit_service_pb2,
    limit_service_pb2_grpc,
    purge_service_pb2,
    purge_service_pb2_grpc,
    revocation_service_pb2_grpc,
)
from hearth.user.internal.v1 import revocation_service_pb2 as pb

_TIMEOUT_S = 1.5


class _Asking:
    """Asks user_svc, as this service, on nobody's behalf."""

    def __init__(self, tokens: ServiceTokens) -> None:
        self._tokens = tokens

    @asynccontextmanager
    async def _as_service(self) -> AsyncGenerator[Identity]:
        """Raises DomainError when user_svc does not answer, or not to this service."""
        identity = await self._tokens.identity_for(None)
        try:
            with use(identity):
                yield identity
        except grpc.aio.AioRpcError as error:
            problem = from_rpc_error(error)
            if isinstance(problem, Unauthenticated):
                # A user_svc with other signing keys than before: the next asking brings a token of theirs.
                self._tokens.forget(identity)
            raise problem from error


class RevocationsFromUserService(_Asking):
    """A RevocationSource."""

    def __init__(self, channel: grpc.aio.Channel, tokens: ServiceTokens) -> None:
        super().__init__(tokens)
        self._stub = revocation_service_pb2_grpc.RevocationServiceStub(channel)

    async def after(self, position: int) -> tuple[Sequence[Revocation], int]:
        async with self._as_service():
            request = pb.ListRevocationsRequest(after_position=position)
            answer = await self._stub.ListRevocations(request, timeout=_TIMEOUT_S)
        return [_revocation(one) for one in answer.revocations], answer.position


class LimitsFromUserService(_Asking):
    """A LimitSource."""

    def __init__(self, channel: grpc.aio.Channel, tokens: ServiceTokens) -> None:
        super().__init__(tokens)
        self._stub = limit_service_pb2_grpc.LimitServiceStub(channel)

    async def after(self, position: int) -> LimitChanges:
        async with self._as_service():
            request = limit_service_pb2.ListLimitsRequest(after_position=position)
            answer = await self._stub.ListLimits(request, timeout=_TIMEOUT_S)
        own = [(ids.decode("org", one.organization_id), dict(one.values)) for one in answer.organizations]
        return LimitChanges(dict(answer.defaults), own, answer.position)


class PurgesFromUserService(_Asking):
    """A PurgeSource."""

    def __init__(self, channel: grpc.aio.Channel, tokens: ServiceTokens) -> None:
        super().__init__(tokens)
        self._stub = purge_service_pb2_grpc.PurgeServiceStub(channel)

    async def due(self) -> Sequence[UUID]:
        async with self._as_service():
            answer = await self._stub.ListPurges(purge_service_pb2.ListPurgesRequest(), timeout=_TIMEOUT_S)
        return [ids.decode("org", one) for one in answer.organization_ids]

    async def report(self, organization_id: UUID, removed: Mapping[str, int]) -> None:
        request = purge_service_pb2.ReportPurgeRequest(
            organization_id=ids.encode("org", organization_id), removed=dict(removed)
        )
        async with self._as_service():
            await self._stub.ReportPurge(request, timeout=_TIMEOUT_S)


def _revocation(one: pb.Revocation) -> Revocation:
    void_before = one.void_before.ToNanoseconds() / 1e9 if one.HasField("void_before") else ALL
    expires_at = one.expire_time.ToNanoseconds() / 1e9 if one.HasField("expire_time") else math.inf
    return Revocation(one.subject, void_before, expires_at)


@dataclass(frozen=True, slots=True)
class Trust:
    """`revocations` and `limits` are background work: they go into the Assembly. `purges` is what a Purger asks."""

    verifier: TokenVerifier
    revocations: RevocationList
    limits: LimitList
    purges: PurgesFromUserService
    tokens: ServiceTokens


def trust(user_svc_channel: grpc.aio.Channel, settings: ServiceSettings) -> Trust:
    """For every process but user_svc. Raises ValueError when HEARTH_SERVICE_KEY_FILE is not set."""
    if settings.service_key_file is None:
        raise ValueError("HEARTH_SERVICE_KEY_FILE is not set")
    own = ServiceTokens(user_svc_channel, settings.service_key_file)
    revocations = RevocationList(RevocationsFromUserService(user_svc_channel, own))
    jwks = JwksFromUserService(user_svc_channel)
    external = ExternalTokens(ExternalTokensFromUserService(user_svc_channel, own))
    return Trust(
        TokenVerifier(jwks, settings.jwt_issuer, settings.jwt_audience, revocations=revocations, external=external),
        revocations,
        LimitList(LimitsFromUserService(user_svc_channel, own)),
        PurgesFromUserService(user_svc_channel, own),
        ServiceTokens(user_svc_channel, settings.service_key_file, revocations),
    )
