"""Issues tokens for tests and publishes their key the way user_svc does, so that the real verifier is at work."""

import base64
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis import ids
from chassis.identity import Identity, Role
from hearth.user.internal.v1 import (
    limit_service_pb2,
    limit_service_pb2_grpc,
    purge_service_pb2,
    purge_service_pb2_grpc,
    revocation_service_pb2,
    revocation_service_pb2_grpc,
)
from hearth.user.v1 import token_service_pb2 as pb
from hearth.user.v1.token_service_pb2_grpc import TokenServiceServicer, add_TokenServiceServicer_to_server


class Revocations(revocation_service_pb2_grpc.RevocationServiceServicer):
    """Nothing is revoked."""

    def ListRevocations(self, request: Any, context: Any) -> revocation_service_pb2.ListRevocationsResponse:
        return revocation_service_pb2.ListRevocationsResponse(position=request.after_position)


class Limits(limit_service_pb2_grpc.LimitServiceServicer):
    """Limits of organizations, as a test sets them."""

    def __init__(self) -> None:
        self._set: list[tuple[str, dict[str, int]]] = []

    def set(self, organization_id: uuid.UUID, **values: int) -> None:
        """In force once the services have looked: within two seconds and some."""
        self._set.append((ids.encode("org", organization_id), values))

    def ListLimits(self, request: Any, context: Any) -> limit_service_pb2.ListLimitsResponse:
        known = list(self._set)
        new = [
            limit_service_pb2.LimitsOfOrganization(organization_id=organization, values=values)
            for organization, values in known[request.after_position :]
        ]
        return limit_service_pb2.ListLimitsResponse(organizations=new, position=len(known))


class Purges(purge_service_pb2_grpc.PurgeServiceServicer):
    """Nothing has to go."""

    def ListPurges(self, request: Any, context: Any) -> purge_service_pb2.ListPurgesResponse:
        return purge_service_pb2.ListPurgesResponse()

    def ReportPurge(self, request: Any, context: Any) -> purge_service_pb2.ReportPurgeResponse:
        return purge_service_pb2.ReportPurgeResponse()


class Issuer(TokenServiceServicer):
    """A TokenService that publishes its key and gives services tokens, on a loopback port, in threads of its own."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.limits = Limits()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2), options=[("grpc.so_reuseport", 0)])
        add_TokenServiceServicer_to_server(self, self._server)
        revocation_service_pb2_grpc.add_RevocationServiceServicer_to_server(Revocations(), self._server)
        limit_service_pb2_grpc.add_LimitServiceServicer_to_server(self.limits, self._server)
        purge_service_pb2_grpc.add_PurgeServiceServicer_to_server(Purges(), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def GetJwks(self, request: pb.GetJwksRequest, context: Any) -> pb.GetJwksResponse:
        x = base64.urlsafe_b64encode(self._key.public_key().public_bytes_raw()).decode().rstrip("=")
        answer = pb.GetJwksResponse()
        answer.keys.add(kid="test", kty="OKP", crv="Ed25519", x=x, alg="EdDSA")
        return answer

    def IssueToken(self, request: Any, context: Any) -> Any:
        identity = self.identity(uuid.UUID(int=0), Role.SERVICE)
        answer = pb.IssueTokenResponse(token=identity.token)
        answer.expire_time.FromSeconds(int(time.time()) + 900)
        return answer

    def RotateSigningKey(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    def WhoAmI(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "tests sign their own")

    def identity(
        self,
        organization_id: uuid.UUID,
        role: Role = Role.MEMBER,
        on_behalf_of: str = "",
        lifetime_s: int = 900,
        **more: str,
    ) -> Identity:
        """A caller with a good token."""
        subject = (
            "svc:agent_svc" if role is Role.SERVICE else ids.encode("user", uuid.UUID(int=organization_id.int ^ 1))
        )
        claims = {
            "iss": "hearth",
            "aud": "hearth",
            "sub": subject,
            "org": ids.encode("org", organization_id),
            "role": role.name,
            "iat": int(time.time()),
            "exp": int(time.time()) + lifetime_s,
            "jti": uuid.uuid4().hex,
            "obo": on_behalf_of,
            **more,
        }
        token = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": "test"})
        return Identity(organization_id, subject, role, token, on_behalf_of=on_behalf_of)
