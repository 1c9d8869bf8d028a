"""Who is who: organizations, users, API keys, tokens."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from hearth.type.v1.access_pb2 import Role
from hearth.user.v1.api_key_pb2 import ApiKey
from hearth.user.v1.api_key_service_pb2 import (
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
)
from hearth.user.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from hearth.user.v1.organization_pb2 import Organization
from hearth.user.v1.organization_service_pb2 import (
    CreateOrganizationRequest,
    DeleteOrganizationRequest,
    GetOrganizationRequest,
    ListOrganizationsRequest,
    UpdateOrganizationRequest,
)
from hearth.user.v1.organization_service_pb2_grpc import OrganizationServiceStub
from hearth.user.v1.token_pb2 import Jwk
from hearth.user.v1.token_service_pb2 import (
    GetJwksRequest,
    IssueTokenResponse,
    RotateSigningKeyRequest,
    RotateSigningKeyResponse,
    WhoAmIRequest,
    WhoAmIResponse,
)
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from hearth.user.v1.user_pb2 import User
from hearth.user.v1.user_service_pb2 import (
    CreateUserRequest,
    DeleteUserRequest,
    GetUserRequest,
    ListUsersRequest,
    UpdateUserRequest,
)
from hearth.user.v1.user_service_pb2_grpc import UserServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.user.v1.api_key_service_pb2_grpc import ApiKeyServiceAsyncStub
    from hearth.user.v1.organization_service_pb2_grpc import OrganizationServiceAsyncStub
    from hearth.user.v1.token_service_pb2_grpc import TokenServiceAsyncStub
    from hearth.user.v1.user_service_pb2_grpc import UserServiceAsyncStub


class Organizations:
    """`client.organizations`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> OrganizationServiceAsyncStub:
        return OrganizationServiceStub(self._connection.channel)

    async def create(self, name: str, *, display_name: str = "", request_id: str = "") -> Organization:
        """A new organization; for platform administrators. Raises AlreadyExistsError NAME_TAKEN."""
        request = CreateOrganizationRequest(
            request_id=request_id or new_request_id(), name=name, display_name=display_name
        )
        return (await self._connection.call(self._stub.CreateOrganization, request)).organization

    async def get(
        self, organization_id: str = "", *, include_usage: bool = False, include_deleted: bool = False
    ) -> Organization:
        """By id; without one, the caller's own. `include_usage` also asks what it uses now; `include_deleted` also finds a deleted one,
        with how far the removal of its data is (platform administrators only).
        """
        request = GetOrganizationRequest(
            organization_id=organization_id, include_usage=include_usage, include_deleted=include_deleted
        )
        return (await self._connection.call(self._stub.GetOrganization, request)).organization

    def list(self, *, page_size: int = 0) -> AsyncIterator[Organization]:
        """All of this Hearth, oldest first; for platform administrators."""

        async def fetch(token: str) -> tuple[Sequence[Organization], str]:
            request = ListOrganizationsRequest(page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListOrganizations, request)
            return response.organizations, response.next_page_token

        return pages(fetch)

    async def update(self, organization: Organization, *paths: str) -> Organization:
        """Changes the fields named by `paths`: display_name, state, limits or one of them as in limits.concurrent_runs."""
        request = UpdateOrganizationRequest(organization=organization, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._stub.UpdateOrganization, request)).organization

    async def delete(self, organization_id: str, *, purge_now: bool = False) -> None:
        """Refuses its credentials at once and removes its data after the operator's time of grace, or now. Twice is fine."""
        request = DeleteOrganizationRequest(organization_id=organization_id, purge_now=purge_now)
        await self._connection.call(self._stub.DeleteOrganization, request)


class BlockingOrganizations(BlockingFace[Organizations]):
    """`client.organizations`, blocking."""

    create = call(Organizations.create)
    get = call(Organizations.get)
    list = iterate(Organizations.list)
    update = call(Organizations.update)
    delete = call(Organizations.delete)


class Users:
    """`client.users`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> UserServiceAsyncStub:
        return UserServiceStub(self._connection.channel)

    async def create(
        self,
        name: str,
        *,
        display_name: str = "",
        email: str = "",
        role: Role.ValueType = Role.ROLE_UNSPECIFIED,
        organization_id: str = "",
        request_id: str = "",
    ) -> User:
        """A new user of the caller's organization (of another: platform administrators only). Default role MEMBER."""
        request = CreateUserRequest(
            request_id=request_id or new_request_id(),
            organization_id=organization_id,
            name=name,
            display_name=display_name,
            email=email,
            role=role,
        )
        return (await self._connection.call(self._stub.CreateUser, request)).user

    async def get(self, user_id: str) -> User:
        """By id. Raises NotFoundError."""
        return (await self._connection.call(self._stub.GetUser, GetUserRequest(user_id=user_id))).user

    def list(self, *, page_size: int = 0) -> AsyncIterator[User]:
        """Oldest first."""

        async def fetch(token: str) -> tuple[Sequence[User], str]:
            request = ListUsersRequest(page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListUsers, request)
            return response.users, response.next_page_token

        return pages(fetch)

    async def update(self, user: User, *paths: str) -> User:
        """Changes the fields named by `paths`: display_name, email, role, disabled."""
        request = UpdateUserRequest(user=user, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._stub.UpdateUser, request)).user

    async def delete(self, user_id: str) -> None:
        """Removes a user and revokes its keys. Twice is fine."""
        await self._connection.call(self._stub.DeleteUser, DeleteUserRequest(user_id=user_id))


class BlockingUsers(BlockingFace[Users]):
    """`client.users`, blocking."""

    create = call(Users.create)
    get = call(Users.get)
    list = iterate(Users.list)
    update = call(Users.update)
    delete = call(Users.delete)


class ApiKeys:
    """`client.api_keys`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> ApiKeyServiceAsyncStub:
        return ApiKeyServiceStub(self._connection.channel)

    async def create(
        self,
        *,
        display_name: str = "",
        user_id: str = "",
        organization_id: str = "",
        expire_time: datetime | None = None,
        scopes: Sequence[str] = (),
    ) -> CreateApiKeyResponse:
        """A new key of the caller, or of another user (of another organization: platform administrators only). `.secret` is shown this once.
        `scopes`, as `agent.read` or `memory.write`, limit it; without any it may do all that the role allows. Never retried: each try would make a key.
        """
        request = CreateApiKeyRequest(
            user_id=user_id, display_name=display_name, organization_id=organization_id, scopes=scopes
        )
        if expire_time is not None:
            expiry = Timestamp()
            expiry.FromDatetime(expire_time)
            request.expire_time.CopyFrom(expiry)
        return await self._connection.call(self._stub.CreateApiKey, request, retry=False)

    def list(self, *, user_id: str = "", page_size: int = 0) -> AsyncIterator[ApiKey]:
        """Oldest first, revoked ones included: the caller's own, or all for organization administrators."""

        async def fetch(token: str) -> tuple[Sequence[ApiKey], str]:
            request = ListApiKeysRequest(user_id=user_id, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListApiKeys, request)
            return response.api_keys, response.next_page_token

        return pages(fetch)

    async def revoke(self, api_key_id: str) -> None:
        """Makes a key useless. Twice is fine."""
        await self._connection.call(self._stub.RevokeApiKey, RevokeApiKeyRequest(api_key_id=api_key_id))


class BlockingApiKeys(BlockingFace[ApiKeys]):
    """`client.api_keys`, blocking."""

    create = call(ApiKeys.create)
    list = iterate(ApiKeys.list)
    revoke = call(ApiKeys.revoke)


class Tokens:
    """`client.tokens`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> TokenServiceAsyncStub:
        return TokenServiceStub(self._connection.channel)

    async def issue(self) -> IssueTokenResponse:
        """A fresh token for the client's API key, for use elsewhere: the client gets its own by itself."""
        return await self._connection.issue_token()

    async def whoami(self) -> WhoAmIResponse:
        """Who the caller is, and in which organization."""
        return await self._connection.call(self._stub.WhoAmI, WhoAmIRequest())

    async def signing_keys(self) -> Sequence[Jwk]:
        """The public keys that tokens may be signed with, newest first."""
        return (await self._connection.call(self._stub.GetJwks, GetJwksRequest())).keys

    async def rotate_signing_key(self) -> RotateSigningKeyResponse:
        """Has a new key take over signing tokens, without a pause. Twice is fine while it waits. For platform administrators."""
        return await self._connection.call(self._stub.RotateSigningKey, RotateSigningKeyRequest())


class BlockingTokens(BlockingFace[Tokens]):
    """`client.tokens`, blocking."""

    issue = call(Tokens.issue)
    whoami = call(Tokens.whoami)
    signing_keys = call(Tokens.signing_keys)
    rotate_signing_key = call(Tokens.rotate_signing_key)
