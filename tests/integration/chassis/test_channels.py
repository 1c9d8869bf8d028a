"""Channels: what travels along, and what happens when the other side is away."""

import asyncio
import time

import grpc
import pytest

from chassis import errors
from chassis.auth import TokenVerifier
from chassis.callcontext import Call, set_call
from chassis.channels import open_channel
from chassis.identity import Identity, Role, use
from chassis.status import from_rpc_error
from hearth.agent.v1 import run_service_pb2
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from hearth.user.v1 import user_service_pb2
from hearth.user.v1.user_service_pb2_grpc import UserServiceStub
from tests.integration.chassis.conftest import Serve
from tests.integration.chassis.identities import ORGANIZATION, Issuer
from tests.integration.chassis.servicers import Runs, Users, runs, users

_TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def _identity(issuer: Issuer) -> Identity:
    return Identity(ORGANIZATION, "user_1", Role.MEMBER, issuer.token(Role.MEMBER))


async def test_identity_request_id_trace_and_deadline_go_along(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    channel = open_channel(address)
    set_call(Call("/a/B", "request-1", _TRACE, time.monotonic() + 3))
    try:
        with use(_identity(issuer)):
            answer = await UserServiceStub(channel).ListUsers(user_service_pb2.ListUsersRequest())
    finally:
        set_call(None)
        await channel.close()
    subject, role, request_id, traceparent, remaining = answer.next_page_token.split()
    assert (subject, role, request_id) == ("user_1", "MEMBER", "request-1")
    assert traceparent.split("-")[1] == "a" * 32
    assert traceparent != _TRACE
    assert 1 < float(remaining) <= 3


async def test_outside_of_a_call_there_is_no_identity_and_a_limit(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    channel = open_channel(address)
    stub = UserServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.ListUsers(user_service_pb2.ListUsersRequest())
    assert from_rpc_error(raised.value).reason == "TOKEN_MISSING"
    with use(_identity(issuer)):
        answer = await stub.ListUsers(user_service_pb2.ListUsersRequest())
    await channel.close()
    assert len(answer.next_page_token.split()[2]) == 32
    assert 8 < float(answer.next_page_token.split()[-1]) < 11


async def test_an_explicit_credential_is_not_replaced(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    channel = open_channel(address)
    with use(_identity(issuer)):
        metadata = issuer.metadata(Role.SERVICE)
        answer = await UserServiceStub(channel).ListUsers(user_service_pb2.ListUsersRequest(), metadata=metadata)
    await channel.close()
    assert answer.next_page_token.startswith("svc:test SERVICE")


async def test_a_passed_deadline_ends_the_call_here(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    channel = open_channel(address)
    set_call(Call("/a/B", "r", "", time.monotonic() - 1))
    try:
        with use(_identity(issuer)), pytest.raises(grpc.aio.AioRpcError) as raised:
            await UserServiceStub(channel).ListUsers(user_service_pb2.ListUsersRequest())
    finally:
        set_call(None)
        await channel.close()
    assert isinstance(from_rpc_error(raised.value), errors.DeadlineExceeded)


async def test_unavailable_is_retried(serve: Serve, issuer: Issuer) -> None:
    attempts: list[str] = []

    async def get(user_id: str) -> None:
        attempts.append(user_id)
        if len(attempts) < 3:
            raise errors.Unavailable("not yet", reason="DEPENDENCY_UNAVAILABLE")

    address = await serve(TokenVerifier(issuer), users(Users(get)))
    channel = open_channel(address)
    with use(_identity(issuer)):
        await UserServiceStub(channel).GetUser(user_service_pb2.GetUserRequest(user_id="x"))
    await channel.close()
    assert len(attempts) == 3


async def test_unavailable_is_not_retried_where_it_must_not_be(serve: Serve, issuer: Issuer) -> None:
    attempts: list[str] = []

    async def get(user_id: str) -> None:
        attempts.append(user_id)
        raise errors.Unavailable("died in the middle", reason="DEPENDENCY_UNAVAILABLE")

    address = await serve(TokenVerifier(issuer), users(Users(get)))
    channel = open_channel(address, retry=False)
    with use(_identity(issuer)), pytest.raises(grpc.aio.AioRpcError):
        await UserServiceStub(channel).GetUser(user_service_pb2.GetUserRequest(user_id="x"))
    await channel.close()
    assert len(attempts) == 1


async def test_other_errors_are_not_retried(serve: Serve, issuer: Issuer) -> None:
    attempts: list[str] = []

    async def get(user_id: str) -> None:
        attempts.append(user_id)
        raise errors.Aborted("stale", reason="ETAG_MISMATCH")

    address = await serve(TokenVerifier(issuer), users(Users(get)))
    channel = open_channel(address)
    with use(_identity(issuer)), pytest.raises(grpc.aio.AioRpcError):
        await UserServiceStub(channel).GetUser(user_service_pb2.GetUserRequest(user_id="x"))
    await channel.close()
    assert len(attempts) == 1


async def test_nobody_there_is_unavailable_and_names_no_address(issuer: Issuer) -> None:
    channel = open_channel("127.0.0.1:1")
    with use(_identity(issuer)), pytest.raises(grpc.aio.AioRpcError) as raised:
        await UserServiceStub(channel).ListUsers(user_service_pb2.ListUsersRequest())
    await channel.close()
    got = from_rpc_error(raised.value)
    assert isinstance(got, errors.Unavailable)
    assert "127.0.0.1" not in got.message


async def test_streams_carry_the_identity_and_have_no_limit_of_their_own(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), runs(Runs()))
    channel = open_channel(address)
    stub = RunServiceStub(channel)
    with use(_identity(issuer)):
        request = run_service_pb2.WatchRunRequest(run_id="x", after_seq=20)
        assert len([one async for one in stub.WatchRun(request)]) == 20
        call = stub.Watch()
        one = run_service_pb2.WatchRequest()
        one.unsubscribe.subscription = 1
        await call.write(one)
        assert await call.read() == run_service_pb2.WatchResponse()
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
    await channel.close()


async def test_concurrent_calls_keep_their_own_identity(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    channel = open_channel(address)
    stub = UserServiceStub(channel)

    async def call(role: Role) -> bool:
        identity = Identity(ORGANIZATION, "", role, issuer.token(role))
        with use(identity):
            await asyncio.sleep(0)
            answer = await stub.ListUsers(user_service_pb2.ListUsersRequest())
        return answer.next_page_token.split()[1] == role.name

    assert all(await asyncio.gather(*(call(role) for role in list(Role) * 5)))
    await channel.close()
