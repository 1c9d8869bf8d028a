"""SecretService on the wire."""

from typing import Any

from chassis import ids
from chassis.identity import current
from chassis.pagination import PageTokens, fingerprint, page_size
from hearth.tool.v1 import secret_pb2
from hearth.tool.v1 import secret_service_pb2 as pb
from hearth.tool.v1.secret_service_pb2_grpc import SecretServiceServicer
from tool_svc.domain.secret import Secret
from tool_svc.managers.secret_manager import SecretManager
from tool_svc.servicers.mapping import timestamp


class SecretServicer(SecretServiceServicer):
    """Messages in, messages out; values only in."""

    def __init__(self, secrets: SecretManager, pages: PageTokens) -> None:
        self._secrets = secrets
        self._pages = pages

    async def SetSecret(self, request: pb.SetSecretRequest, context: Any) -> pb.SetSecretResponse:
        return pb.SetSecretResponse(secret=_to_proto(await self._secrets.set(current(), request.name, request.value)))

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Any) -> pb.ListSecretsResponse:
        caller = current()
        query = fingerprint(request, caller.organization_id)
        position = self._pages.verify(request.page_token, query)
        after = None if position is None else str(position[0])
        found, more = await self._secrets.page(caller, after, page_size(request.page_size))
        return pb.ListSecretsResponse(
            secrets=[_to_proto(secret) for secret in found],
            next_page_token=self._pages.sign(query, [found[-1].name]) if more else "",
        )

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, context: Any) -> pb.DeleteSecretResponse:
        await self._secrets.delete(current(), request.name)
        return pb.DeleteSecretResponse()


def _to_proto(secret: Secret) -> secret_pb2.Secret:
    return secret_pb2.Secret(
        id=ids.encode("secret", secret.id),
        organization_id=ids.encode("org", secret.organization_id),
        name=secret.name,
        create_time=timestamp(secret.create_time),
        update_time=timestamp(secret.update_time),
    )
