"""The public keys of user_svc, as other services fetch them."""

from collections.abc import Mapping

import grpc
import jwt

from chassis.errors import Unavailable
from chassis.status import from_rpc_error
from hearth.user.v1 import token_service_pb2, token_service_pb2_grpc

_TIMEOUT_S = 5.0


class JwksFromUserService:
    """A JwksSource that asks TokenService.GetJwks over a channel of `chassis.channels`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = token_service_pb2_grpc.TokenServiceStub(channel)

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        """All published keys by key id. Raises DomainError when user_svc does not answer."""
        try:
            answer = await self._stub.GetJwks(token_service_pb2.GetJwksRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        try:
            return {
                key.kid: jwt.PyJWK({"kty": key.kty, "crv": key.crv, "x": key.x, "kid": key.kid, "alg": key.alg})
                for key in answer.keys
            }
        except jwt.InvalidKeyError as error:
            raise Unavailable("tokens cannot be checked now", reason="DEPENDENCY_UNAVAILABLE") from error
