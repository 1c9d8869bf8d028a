"""ExternalTokenService on the wire."""

from typing import Any

from chassis import ids
from chassis.errors import Unauthenticated
from hearth.user.internal.v1 import external_token_service_pb2 as pb
from hearth.user.internal.v1.external_token_service_pb2_grpc import ExternalTokenServiceServicer
from user_svc.domain.external_token import ExternalIdentity
from user_svc.interfaces.external_tokens import PublishedKeys, TrustedNames
from user_svc.managers.external_token_manager import ExternalTokenManager
from user_svc.servicers.mapping import timestamp


class ExternalTokenServicer(ExternalTokenServiceServicer):
    """Messages in, messages out."""

    def __init__(self, tokens: ExternalTokenManager, issuers: TrustedNames, keys: PublishedKeys) -> None:
        self._tokens = tokens
        self._issuers = issuers
        self._keys = keys

    async def ResolveToken(self, request: pb.ResolveTokenRequest, context: Any) -> pb.ResolveTokenResponse:
        try:
            found = await self._tokens.resolve(request.token)
        except Unauthenticated as error:
            # Said of the token in the request, not of the caller's.
            return pb.ResolveTokenResponse(refusal=pb.Refusal(reason=error.reason, message=error.message))
        return pb.ResolveTokenResponse(identity=_to_proto(found))

    async def ListIssuers(self, request: pb.ListIssuersRequest, context: Any) -> pb.ListIssuersResponse:
        return pb.ListIssuersResponse(issuers=sorted(await self._issuers.trusted()))

    async def GetIssuerJwks(self, request: pb.GetIssuerJwksRequest, context: Any) -> pb.GetIssuerJwksResponse:
        return pb.GetIssuerJwksResponse(keys=[pb.IssuerJwk(**members) for members in self._keys.published()])


def _to_proto(found: ExternalIdentity) -> pb.ExternalIdentity:
    return pb.ExternalIdentity(
        organization_id=ids.encode("org", found.organization_id),
        user_id=ids.encode("user", found.user_id),
        trusted_issuer_id=ids.encode("issuer", found.trusted_issuer_id),
        role=found.role.name,
        limited=found.scopes is not None,
        scopes=sorted(found.scopes or ()),
        resolve_time=timestamp(found.resolve_time),
        keep_until=timestamp(found.keep_until),
        expire_time=timestamp(found.expire_time),
    )
