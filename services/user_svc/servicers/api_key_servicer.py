"""ApiKeyService on the wire."""

from typing import Any

from chassis import ids
from chassis.identity import current
from chassis.pagination import PageTokens, page_size
from hearth.user.v1 import api_key_service_pb2 as pb
from hearth.user.v1.api_key_service_pb2_grpc import ApiKeyServiceServicer
from user_svc.domain.api_key import ApiKeyDraft
from user_svc.managers.api_key_manager import ApiKeyManager
from user_svc.servicers.mapping import api_key_to_proto, moment, optional_id
from user_svc.servicers.paging import Page


class ApiKeyServicer(ApiKeyServiceServicer):
    """Messages in, messages out."""

    def __init__(self, api_keys: ApiKeyManager, pages: PageTokens) -> None:
        self._api_keys = api_keys
        self._pages = pages

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Any) -> pb.CreateApiKeyResponse:
        draft = ApiKeyDraft(
            organization_id=optional_id("org", request.organization_id),
            user_id=optional_id("user", request.user_id),
            display_name=request.display_name,
            expire_time=moment(request.expire_time, "expire_time") if request.HasField("expire_time") else None,
            scopes=frozenset(request.scopes) or None,
        )
        key, secret = await self._api_keys.create(current(), draft)
        return pb.CreateApiKeyResponse(api_key=api_key_to_proto(key), secret=secret)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Any) -> pb.ListApiKeysResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        user_id = optional_id("user", request.user_id)
        found, more = await self._api_keys.page(caller, user_id, page.after, page_size(request.page_size))
        return pb.ListApiKeysResponse(
            api_keys=[api_key_to_proto(one) for one in found],
            next_page_token=page.next(found[-1].id if found else None, more),
        )

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> pb.RevokeApiKeyResponse:
        await self._api_keys.revoke(current(), ids.decode("key", request.api_key_id))
        return pb.RevokeApiKeyResponse()
