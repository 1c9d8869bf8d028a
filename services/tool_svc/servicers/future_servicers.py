"""Services of the API that this version does not have.

Secrets come together with the encryption at rest that they need. Until then every method answers UNIMPLEMENTED
NOT_IMPLEMENTED, and tools that ask for secrets or the network are refused when they are made: better no secret store than one that keeps them badly.
"""

from typing import Any

from chassis.errors import Unimplemented, not_implemented
from hearth.tool.v1 import secret_service_pb2 as secret_pb
from hearth.tool.v1.secret_service_pb2_grpc import SecretServiceServicer


class SecretServicer(SecretServiceServicer):
    """Answers that secrets cannot be kept yet."""

    async def SetSecret(self, request: secret_pb.SetSecretRequest, context: Any) -> secret_pb.SetSecretResponse:
        raise _secrets()

    async def ListSecrets(self, request: secret_pb.ListSecretsRequest, context: Any) -> secret_pb.ListSecretsResponse:
        raise _secrets()

    async def DeleteSecret(
        self, request: secret_pb.DeleteSecretRequest, context: Any
    ) -> secret_pb.DeleteSecretResponse:
        raise _secrets()


def _secrets() -> Unimplemented:
    return not_implemented("secrets of tools")
