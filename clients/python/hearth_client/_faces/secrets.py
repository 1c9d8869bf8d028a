"""Secrets that tools get as environment variables: set and forgotten, never read back."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from hearth.tool.v1.secret_pb2 import Secret
from hearth.tool.v1.secret_service_pb2 import DeleteSecretRequest, ListSecretsRequest, SetSecretRequest
from hearth.tool.v1.secret_service_pb2_grpc import SecretServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.tool.v1.secret_service_pb2_grpc import SecretServiceAsyncStub


class Secrets:
    """`client.secrets`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> SecretServiceAsyncStub:
        return SecretServiceStub(self._connection.channel)

    async def set(self, name: str, value: str) -> Secret:
        """Makes or replaces a secret; for administrators of the organization. `name`: upper-case letters, digits, underscores."""
        request = SetSecretRequest(name=name, value=value)
        return (await self._connection.call(self._stub.SetSecret, request)).secret

    def list(self, *, page_size: int = 0) -> AsyncIterator[Secret]:
        """By name, without values."""

        async def fetch(token: str) -> tuple[Sequence[Secret], str]:
            request = ListSecretsRequest(page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListSecrets, request)
            return response.secrets, response.next_page_token

        return pages(fetch)

    async def delete(self, name: str) -> None:
        """Removes a secret; for administrators of the organization. One that is not there is fine."""
        await self._connection.call(self._stub.DeleteSecret, DeleteSecretRequest(name=name))


class BlockingSecrets(BlockingFace[Secrets]):
    """`client.secrets`, blocking."""

    set = call(Secrets.set)
    list = iterate(Secrets.list)
    delete = call(Secrets.delete)
