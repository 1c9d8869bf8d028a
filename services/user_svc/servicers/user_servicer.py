"""UserService on the wire."""

from typing import Any

from chassis import ids
from chassis.idempotency import Once, request_key
from chassis.identity import Role, current
from chassis.pagination import PageTokens, page_size
from hearth.user.v1 import user_service_pb2 as pb
from hearth.user.v1.user_service_pb2_grpc import UserServiceServicer
from user_svc.domain.user import User, UserDraft
from user_svc.managers.user_manager import UserManager
from user_svc.servicers.mapping import optional_id, user_change, user_to_proto
from user_svc.servicers.paging import Page


class UserServicer(UserServiceServicer):
    """Messages in, messages out."""

    def __init__(self, users: UserManager, pages: PageTokens) -> None:
        self._users = users
        self._pages = pages

    async def CreateUser(self, request: pb.CreateUserRequest, context: Any) -> pb.CreateUserResponse:
        draft = UserDraft(
            organization_id=optional_id("org", request.organization_id),
            name=request.name,
            display_name=request.display_name,
            email=request.email,
            role=Role(request.role) if request.role else Role.MEMBER,
        )
        once = Once[User](request_key(request), lambda made: _created(made).SerializeToString())
        return _created(await self._users.create(current(), draft, once))

    async def GetUser(self, request: pb.GetUserRequest, context: Any) -> pb.GetUserResponse:
        found = await self._users.get(current(), ids.decode("user", request.user_id))
        return pb.GetUserResponse(user=user_to_proto(found))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Any) -> pb.ListUsersResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._users.page(caller, page.after, page_size(request.page_size))
        return pb.ListUsersResponse(
            users=[user_to_proto(one) for one in found],
            next_page_token=page.next(found[-1].id if found else None, more),
        )

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Any) -> pb.UpdateUserResponse:
        change = user_change(request.user, request.update_mask.paths)
        user_id = ids.decode("user", request.user.id)
        changed = await self._users.update(current(), user_id, change, request.user.etag)
        return pb.UpdateUserResponse(user=user_to_proto(changed))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Any) -> pb.DeleteUserResponse:
        await self._users.delete(current(), ids.decode("user", request.user_id))
        return pb.DeleteUserResponse()


def _created(user: User) -> pb.CreateUserResponse:
    return pb.CreateUserResponse(user=user_to_proto(user))
