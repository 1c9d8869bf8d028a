"""Trusted issuers: external identity providers whose tokens an organization accepts."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from hearth.type.v1.access_pb2 import Role
from hearth.user.v1.trusted_issuer_pb2 import RequiredClaim, RoleMapping, TrustedIssuer
from hearth.user.v1.trusted_issuer_service_pb2 import (
    CreateTrustedIssuerRequest,
    DeleteTrustedIssuerRequest,
    GetTrustedIssuerRequest,
    ListTrustedIssuersRequest,
    UpdateTrustedIssuerRequest,
)
from hearth.user.v1.trusted_issuer_service_pb2_grpc import TrustedIssuerServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.user.v1.trusted_issuer_service_pb2_grpc import TrustedIssuerServiceAsyncStub


class TrustedIssuers:
    """`client.trusted_issuers`, for organization administrators."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> TrustedIssuerServiceAsyncStub:
        return TrustedIssuerServiceStub(self._connection.channel)

    async def create(
        self,
        issuer: str,
        audience: str,
        *,
        display_name: str = "",
        required_claim: tuple[str, str] | None = None,
        role_claim: str = "",
        roles: Mapping[str, Role.ValueType] | None = None,
        default_role: Role.ValueType = Role.ROLE_UNSPECIFIED,
        scopes: Sequence[str] = (),
        request_id: str = "",
    ) -> TrustedIssuer:
        """Trusts an OpenID Connect issuer for an audience. `roles` says which values of `role_claim` mean which role; others get `default_role`,
        or are refused without one. Raises AlreadyExistsError ISSUER_TAKEN.
        """
        request = CreateTrustedIssuerRequest(
            request_id=request_id or new_request_id(),
            issuer=issuer,
            audience=audience,
            display_name=display_name,
            role_claim=role_claim,
            role_mappings=[RoleMapping(value=value, role=role) for value, role in (roles or {}).items()],
            default_role=default_role,
            scopes=scopes,
        )
        if required_claim is not None:
            request.required_claim.CopyFrom(RequiredClaim(name=required_claim[0], value=required_claim[1]))
        return (await self._connection.call(self._stub.CreateTrustedIssuer, request)).trusted_issuer

    async def get(self, trusted_issuer_id: str) -> TrustedIssuer:
        """By id. Raises NotFoundError."""
        request = GetTrustedIssuerRequest(trusted_issuer_id=trusted_issuer_id)
        return (await self._connection.call(self._stub.GetTrustedIssuer, request)).trusted_issuer

    def list(self, *, page_size: int = 0) -> AsyncIterator[TrustedIssuer]:
        """Oldest first."""

        async def fetch(token: str) -> tuple[Sequence[TrustedIssuer], str]:
            request = ListTrustedIssuersRequest(page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListTrustedIssuers, request)
            return response.trusted_issuers, response.next_page_token

        return pages(fetch)

    async def update(self, trusted_issuer: TrustedIssuer, *paths: str) -> TrustedIssuer:
        """Changes the fields named by `paths`: display_name, role_claim, role_mappings, default_role, scopes, state."""
        request = UpdateTrustedIssuerRequest(trusted_issuer=trusted_issuer, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._stub.UpdateTrustedIssuer, request)).trusted_issuer

    async def delete(self, trusted_issuer_id: str) -> None:
        """Refuses its tokens; users that came with them stay. Twice is fine."""
        request = DeleteTrustedIssuerRequest(trusted_issuer_id=trusted_issuer_id)
        await self._connection.call(self._stub.DeleteTrustedIssuer, request)


class BlockingTrustedIssuers(BlockingFace[TrustedIssuers]):
    """`client.trusted_issuers`, blocking."""

    create = call(TrustedIssuers.create)
    get = call(TrustedIssuers.get)
    list = iterate(TrustedIssuers.list)
    update = call(TrustedIssuers.update)
    delete = call(TrustedIssuers.delete)
