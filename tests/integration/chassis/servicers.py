"""Servicers for tests of the server's edge: real generated services, with handlers that do what the test needs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from chassis.callcontext import current_call
from chassis.identity import current
from hearth.agent.v1 import file_service_pb2, run_service_pb2
from hearth.agent.v1.file_service_pb2_grpc import FileServiceServicer, add_FileServiceServicer_to_server
from hearth.agent.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server
from hearth.user.v1 import token_service_pb2, user_service_pb2
from hearth.user.v1.token_service_pb2_grpc import TokenServiceServicer, add_TokenServiceServicer_to_server
from hearth.user.v1.user_service_pb2_grpc import UserServiceServicer, add_UserServiceServicer_to_server

# The stubs call them abstract; here methods are left out on purpose, to see them refused.
_Users: Any = UserServiceServicer
_Tokens: Any = TokenServiceServicer
_Runs: Any = RunServiceServicer
_Files: Any = FileServiceServicer


class Users(_Users):
    """GetUser does what it is told; ListUsers answers who calls."""

    def __init__(self, get: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._get = get

    async def GetUser(self, request: user_service_pb2.GetUserRequest, context: Any) -> user_service_pb2.GetUserResponse:
        if self._get is not None:
            await self._get(request.user_id)
        return user_service_pb2.GetUserResponse()

    async def ListUsers(
        self, request: user_service_pb2.ListUsersRequest, context: Any
    ) -> user_service_pb2.ListUsersResponse:
        call, caller = current_call(), current()
        assert call is not None
        answer = f"{caller.subject} {caller.role.name} {call.request_id} {call.traceparent} {call.remaining_s()}"
        return user_service_pb2.ListUsersResponse(next_page_token=answer)


class Tokens(_Tokens):
    """Only what anyone may call."""

    async def GetJwks(
        self, request: token_service_pb2.GetJwksRequest, context: Any
    ) -> token_service_pb2.GetJwksResponse:
        return token_service_pb2.GetJwksResponse()


class Runs(_Runs):
    """Streams: WatchRun sends until it is closed, Watch echoes how many requests it saw."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.sent = 0

    async def WatchRun(
        self, request: run_service_pb2.WatchRunRequest, context: Any
    ) -> AsyncIterator[run_service_pb2.WatchRunResponse]:
        try:
            if request.run_id == "fail":
                yield run_service_pb2.WatchRunResponse()
                raise RuntimeError("secret detail")
            while request.after_seq == 0 or self.sent < request.after_seq:
                self.sent += 1
                yield run_service_pb2.WatchRunResponse()
                await asyncio.sleep(0 if request.after_seq else 0.01)
        finally:
            self.closed.set()

    async def Watch(
        self, request_iterator: AsyncIterator[run_service_pb2.WatchRequest], context: Any
    ) -> AsyncIterator[run_service_pb2.WatchResponse]:
        async for _ in request_iterator:
            yield run_service_pb2.WatchResponse()


class Files(_Files):
    """WriteFile counts what it is sent."""

    async def WriteFile(
        self, request_iterator: AsyncIterator[file_service_pb2.WriteFileRequest], context: Any
    ) -> file_service_pb2.WriteFileResponse:
        size = 0
        async for part in request_iterator:
            size += len(part.data)
        response = file_service_pb2.WriteFileResponse()
        response.file.size = size
        return response


def users(servicer: Users) -> tuple[Any, Any, str]:
    return add_UserServiceServicer_to_server, servicer, "hearth.user.v1.UserService"


def tokens() -> tuple[Any, Any, str]:
    return add_TokenServiceServicer_to_server, Tokens(), "hearth.user.v1.TokenService"


def runs(servicer: Runs) -> tuple[Any, Any, str]:
    return add_RunServiceServicer_to_server, servicer, "hearth.agent.v1.RunService"


def files() -> tuple[Any, Any, str]:
    return add_FileServiceServicer_to_server, Files(), "hearth.agent.v1.FileService"
