"""A service's own identity, for work that no caller is waiting for, always on behalf of one organization."""

import asyncio
import time
from collections import OrderedDict
from pathlib import Path
from uuid import UUID

import grpc
import jwt

from chassis import ids
from chassis.errors import Unavailable
from chassis.identity import NO_ORGANIZATION, Identity, Role
from chassis.revocations import NothingRevoked, Revocations
from chassis.status import from_rpc_error
from hearth.user.v1 import token_service_pb2, token_service_pb2_grpc

_RENEW_BEFORE_S = 60.0
_MAX_CACHED = 10_000
_TIMEOUT_S = 5.0


class ServiceTokens:
    """Gets SERVICE tokens from user_svc with this process's key and keeps each until a minute before it expires, or until its
    organization is disabled or deleted.

    `use(await tokens.identity_for(organization_id))` makes outgoing calls carry it.
    """

    def __init__(
        self, user_svc_channel: grpc.aio.Channel, key_file: Path | str, revocations: Revocations | None = None
    ) -> None:
        self._stub = token_service_pb2_grpc.TokenServiceStub(user_svc_channel)
        self._key_file = Path(key_file)
        self._revocations = revocations or NothingRevoked()
        self._cache: OrderedDict[tuple[UUID, str], Identity] = OrderedDict()
        self._asking: dict[tuple[UUID, str], asyncio.Lock] = {}

    async def identity_for(self, organization_id: UUID | None, user: str = "") -> Identity:
        """Acts as this service for an organization; `user` (`user_…`) is who caused it, for the record.

        None: for no organization, as a stream needs that carries many; such a token reaches no organization's data.

        Raises what IssueToken answers as DomainError: Unavailable when user_svc does not answer, Unauthenticated
        API_KEY_INVALID for a wrong key, FailedPrecondition ORGANIZATION_NOT_ACTIVE, NotFound.
        """
        wanted = (organization_id or NO_ORGANIZATION, user)
        known = self._fresh(wanted)
        if known is not None:
            return known
        lock = self._asking.setdefault(wanted, asyncio.Lock())
        try:
            async with lock:
                return self._fresh(wanted) or await self._issue(wanted)
        finally:
            if not lock.locked():
                self._asking.pop(wanted, None)

    def forget(self, identity: Identity) -> None:
        """Gives this one out no more: it was refused."""
        wanted = (identity.organization_id, identity.on_behalf_of)
        if self._cache.get(wanted) is identity:
            del self._cache[wanted]

    def _fresh(self, wanted: tuple[UUID, str]) -> Identity | None:
        known = self._cache.get(wanted)
        if known is None or known.expires_at - time.time() < _RENEW_BEFORE_S:
            return None
        if self._revocations.is_void(known):
            return None
        self._cache.move_to_end(wanted)
        return known

    async def _issue(self, wanted: tuple[UUID, str]) -> Identity:
        organization_id, user = wanted
        request = token_service_pb2.IssueTokenRequest(
            api_key=self._key(),
            on_behalf_of_organization_id=""
            if organization_id == NO_ORGANIZATION
            else ids.encode("org", organization_id),
            on_behalf_of_user_id=user,
        )
        try:
            answer = await self._stub.IssueToken(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        identity = Identity(
            organization_id=organization_id,
            subject="",
            role=Role.SERVICE,
            token=answer.token,
            on_behalf_of=user,
            expires_at=answer.expire_time.seconds + answer.expire_time.nanos / 1e9,
            issued_at=_issued_at(answer.token),
        )
        self._cache[wanted] = identity
        if len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return identity

    def _key(self) -> str:
        """Read at each use, once in minutes: so a key can be changed without a restart."""
        try:
            return self._key_file.read_text().strip()
        except OSError as error:
            raise Unavailable("this service cannot read its own key", reason="DEPENDENCY_UNAVAILABLE") from error


def _issued_at(token: str) -> float:
    """By user_svc's clock. Whoever gets the token verifies it; here it comes from the one who signed it."""
    try:
        return float(jwt.decode(token, options={"verify_signature": False})["iat"])
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
        raise Unavailable("user_svc gave something that is no token", reason="DEPENDENCY_UNAVAILABLE") from None
