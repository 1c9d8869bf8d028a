"""TokenService on the wire."""

from datetime import UTC, datetime
from typing import Any

from chassis.identity import current
from hearth.user.v1 import token_pb2
from hearth.user.v1 import token_service_pb2 as pb
from hearth.user.v1.token_service_pb2_grpc import TokenServiceServicer
from user_svc.managers.signing_key_manager import SigningKeyManager
from user_svc.managers.token_manager import TokenManager
from user_svc.servicers.mapping import optional_id, organization_to_proto, role_to_proto, timestamp, user_to_proto


class TokenServicer(TokenServiceServicer):
    """Messages in, messages out."""

    def __init__(self, tokens: TokenManager, keys: SigningKeyManager) -> None:
        self._tokens = tokens
        self._keys = keys

    async def IssueToken(self, request: pb.IssueTokenRequest, context: Any) -> pb.IssueTokenResponse:
        organization_id = optional_id("org", request.on_behalf_of_organization_id)
        issued = await self._tokens.issue(request.api_key, organization_id, request.on_behalf_of_user_id)
        return pb.IssueTokenResponse(token=issued.token, expire_time=timestamp(issued.expire_time))

    async def GetJwks(self, request: pb.GetJwksRequest, context: Any) -> pb.GetJwksResponse:
        return pb.GetJwksResponse(keys=[token_pb2.Jwk(**key.jwk()) for key in await self._keys.usable()])

    async def RotateSigningKey(self, request: pb.RotateSigningKeyRequest, context: Any) -> pb.RotateSigningKeyResponse:
        rotation = await self._keys.rotate(current())
        return pb.RotateSigningKeyResponse(
            key_id=rotation.key_id,
            activate_time=timestamp(rotation.activate_time),
            previous_retire_time=timestamp(rotation.previous_retire_time),
        )

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Any) -> pb.WhoAmIResponse:
        caller = current()
        organization, user = await self._tokens.who_am_i(caller)
        return pb.WhoAmIResponse(
            organization=None if organization is None else organization_to_proto(organization),
            user=None if user is None else user_to_proto(user),
            subject=caller.subject,
            role=role_to_proto(caller.role),
            expire_time=timestamp(datetime.fromtimestamp(caller.expires_at, UTC)),
            scopes=sorted(caller.scopes or ()),
        )
