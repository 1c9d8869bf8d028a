"""Whom a service believes, and as whom it calls: everything that it needs of user_svc, in one piece."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from chassis.auth import JwksFromUserService, TokenVerifier
from chassis.errors import Unauthenticated
from chassis.external_source import ExternalTokensFromUserService
from chassis.external_tokens import ExternalTokens
from chassis.identity import use
from chassis.revocations import ALL, Revocation, RevocationList
from chassis.service_identity import ServiceTokens
from chassis.settings import ServiceSettings
from chassis.status import from_rpc_error
from hearth.user.internal.v1 import revocation_service_pb2 as pb
from hearth.user.internal.v1 import revocation_service_pb2_grpc

_TIMEOUT_S = 1.5


class RevocationsFromUserService:
    """A RevocationSource that asks user_svc, as this service."""

    def __init__(self, channel: grpc.aio.Channel, tokens: ServiceTokens) -> None:
        self._stub = revocation_service_pb2_grpc.RevocationServiceStub(channel)
        self._tokens = tokens

    async def after(self, position: int) -> tuple[Sequence[Revocation], int]:
        """Raises DomainError when user_svc does not answer, or not to this service."""
        identity = await self._tokens.identity_for(None)
        try:
            with use(identity):
                request = pb.ListRevocationsRequest(after_position=position)
                answer = await self._stub.ListRevocations(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            problem = from_rpc_error(error)
            if isinstance(problem, Unauthenticated):
                # A user_svc with other signing keys than before: the next reading brings a token of theirs.
                self._tokens.forget(identity)
            raise problem from error
        return [_revocation(one) for one in answer.revocations], answer.position


def _revocation(one: pb.Revocation) -> Revocation:
    void_before = one.void_before.ToNanoseconds() / 1e9 if one.HasField("void_before") else ALL
    expires_at = one.expire_time.ToNanoseconds() / 1e9 if one.HasField("expire_time") else math.inf
    return Revocation(one.subject, void_before, expires_at)


@dataclass(frozen=True, slots=True)
class Trust:
    """`revocations` is background work: it goes into the Assembly."""

    verifier: TokenVerifier
    revocations: RevocationList
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
        ServiceTokens(user_svc_channel, settings.service_key_file, revocations),
    )
