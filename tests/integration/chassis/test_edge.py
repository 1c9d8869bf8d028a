"""What surrounds every handler, over real sockets: errors, authentication, schema, deadlines, streams."""

import asyncio
import logging
from collections.abc import Awaitable

import grpc
import pytest

from chassis import errors
from chassis.auth import TokenVerifier
from chassis.errors import DomainError
from chassis.idempotency import Replayed
from chassis.identity import Role
from chassis.methods import UndeclaredAccess, methods_of
from chassis.status import from_rpc_error
from hearth.agent.v1 import file_service_pb2, run_service_pb2
from hearth.agent.v1.file_service_pb2_grpc import FileServiceStub
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from hearth.user.v1 import token_service_pb2, user_service_pb2
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from hearth.user.v1.user_service_pb2_grpc import UserServiceStub
from tests.integration.chassis.conftest import Serve
from tests.integration.chassis.identities import Issuer
from tests.integration.chassis.servicers import Runs, Users, files, runs, tokens, users

_GET = user_service_pb2.GetUserRequest(user_id="x")


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


async def _error(call: Awaitable[object]) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return from_rpc_error(raised.value)


def _raises(error: BaseException) -> Users:
    async def get(_: str) -> None:
        raise error

    return Users(get)


@pytest.mark.parametrize("kind", [kind for kind in errors.BY_CODE.values() if kind is not errors.Internal])
async def test_domain_errors_arrive_as_they_were_raised(serve: Serve, issuer: Issuer, kind: type[DomainError]) -> None:
    sent = kind("the message", reason="NAME_TAKEN", metadata={"field": "name"}, retry_after_s=2.0)
    address = await serve(TokenVerifier(issuer), users(_raises(sent)))
    async with grpc.aio.insecure_channel(address) as channel:
        got = await _error(UserServiceStub(channel).GetUser(_GET, metadata=issuer.metadata()))
    assert type(got) is kind
    assert (got.message, got.reason, got.metadata, got.retry_after_s) == (
        "the message",
        "NAME_TAKEN",
        {"field": "name"},
        2.0,
    )


async def test_a_fault_says_nothing_and_is_logged_with_its_id(
    serve: Serve, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    address = await serve(TokenVerifier(issuer), users(_raises(ZeroDivisionError("secret detail"))))
    async with grpc.aio.insecure_channel(address) as channel:
        with caplog.at_level(logging.ERROR):
            got = await _error(UserServiceStub(channel).GetUser(_GET, metadata=issuer.metadata()))
    assert isinstance(got, errors.Internal)
    assert got.message == "internal error"
    record = next(record for record in caplog.records if record.name == "chassis.call")
    assert vars(record)["error_id"] == got.metadata["error_id"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_a_stored_answer_is_sent_as_it_is(serve: Serve, issuer: Issuer) -> None:
    stored = user_service_pb2.GetUserResponse()
    stored.user.name = "first"
    address = await serve(TokenVerifier(issuer), users(_raises(Replayed(stored.SerializeToString()))))
    async with grpc.aio.insecure_channel(address) as channel:
        assert await UserServiceStub(channel).GetUser(_GET, metadata=issuer.metadata()) == stored


@pytest.mark.parametrize(
    ("header", "reason"),
    [(None, "TOKEN_MISSING"), ("Bearer x.y.z", "TOKEN_INVALID"), ("Basic eDp5", "TOKEN_INVALID")],
)
async def test_without_a_good_token_nothing_is_reached(
    serve: Serve, issuer: Issuer, header: str | None, reason: str
) -> None:
    reached: list[str] = []

    async def get(user_id: str) -> None:
        reached.append(user_id)

    address = await serve(TokenVerifier(issuer), users(Users(get)))
    async with grpc.aio.insecure_channel(address) as channel:
        metadata = () if header is None else (("authorization", header),)
        got = await _error(UserServiceStub(channel).GetUser(_GET, metadata=metadata))
    assert isinstance(got, errors.Unauthenticated)
    assert (got.reason, reached) == (reason, [])


async def test_roles_are_enforced(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = UserServiceStub(channel)
        delete = user_service_pb2.DeleteUserRequest(user_id="x")
        for role in (Role.VIEWER, Role.MEMBER, Role.SERVICE):
            got = await _error(stub.DeleteUser(delete, metadata=issuer.metadata(role)))
            assert isinstance(got, errors.PermissionDenied)
            assert got.reason == "ROLE_INSUFFICIENT"
        got = await _error(stub.DeleteUser(delete, metadata=issuer.metadata(Role.ORGANIZATION_ADMIN)))
        assert isinstance(got, errors.Unimplemented)
        assert got.reason == "NOT_IMPLEMENTED"
        await stub.GetUser(_GET, metadata=issuer.metadata(Role.SERVICE))


async def test_anonymous_methods_need_no_token_and_ignore_a_bad_one(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), tokens())
    async with grpc.aio.insecure_channel(address) as channel:
        stub = TokenServiceStub(channel)
        await stub.GetJwks(token_service_pb2.GetJwksRequest())
        await stub.GetJwks(token_service_pb2.GetJwksRequest(), metadata=(("authorization", "Bearer nonsense"),))
        got = await _error(stub.WhoAmI(token_service_pb2.WhoAmIRequest()))
    assert got.reason == "TOKEN_MISSING"


async def test_the_caller_is_checked_before_the_request(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    async with grpc.aio.insecure_channel(address) as channel:
        got = await _error(UserServiceStub(channel).GetUser(user_service_pb2.GetUserRequest()))
        assert got.reason == "TOKEN_MISSING"
        got = await _error(
            UserServiceStub(channel).GetUser(user_service_pb2.GetUserRequest(), metadata=issuer.metadata())
        )
        assert [violation.field for violation in got.field_violations] == ["user_id"]


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x05x"])
async def test_bytes_that_are_no_message_are_the_client_s_fault(serve: Serve, issuer: Issuer, raw: bytes) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/hearth.user.v1.UserService/GetUser")
        got = await _error(call(raw, metadata=issuer.metadata()))
    assert isinstance(got, errors.InvalidArgument)


async def test_unknown_methods_are_unimplemented(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    async with grpc.aio.insecure_channel(address) as channel:
        got = await _error(channel.unary_unary("/hearth.user.v1.UserService/Nonsense")(b""))
    assert isinstance(got, errors.Unimplemented)


async def test_request_id_trace_and_deadline_reach_the_handler(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(Users()))
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with grpc.aio.insecure_channel(address) as channel:
        extra = (("x-request-id", "mine"), ("traceparent", trace))
        stub = UserServiceStub(channel)
        request = user_service_pb2.ListUsersRequest()
        answer = await stub.ListUsers(request, metadata=issuer.metadata() + extra, timeout=5)
        subject, role, request_id, traceparent, remaining = answer.next_page_token.split()
        assert (subject, role, request_id, traceparent) == ("user_1", "MEMBER", "mine", trace)
        # gRPC rounds up what it sends.
        assert 3 < float(remaining) <= 5.1
        answer = await stub.ListUsers(request, metadata=issuer.metadata())
        assert 8 < float(answer.next_page_token.split()[-1]) < 11
        for bad in ("x" * 129, "with space"):
            answer = await stub.ListUsers(request, metadata=(*issuer.metadata(), ("x-request-id", bad)))
            assert len(answer.next_page_token.split(" ", 2)[2].split()[0]) == 32


async def test_a_call_without_a_deadline_gets_one(
    serve: Serve, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.edge.UNARY_DEADLINE_S", 0.2)
    ended = asyncio.Event()

    async def get(_: str) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    address = await serve(TokenVerifier(issuer), users(Users(get)))
    async with grpc.aio.insecure_channel(address) as channel:
        got = await _error(UserServiceStub(channel).GetUser(_GET, metadata=issuer.metadata()))
    assert isinstance(got, errors.DeadlineExceeded)
    assert got.reason == "DEADLINE_EXCEEDED"
    assert ended.is_set()


async def test_a_timeout_inside_a_handler_is_a_fault_and_no_deadline(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), users(_raises(TimeoutError("inner"))))
    async with grpc.aio.insecure_channel(address) as channel:
        assert isinstance(
            await _error(UserServiceStub(channel).GetUser(_GET, metadata=issuer.metadata())), errors.Internal
        )


async def test_a_client_that_goes_cancels_its_call(serve: Serve, issuer: Issuer) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def get(_: str) -> None:
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    address = await serve(TokenVerifier(issuer), users(Users(get)))
    async with grpc.aio.insecure_channel(address) as channel:
        call = UserServiceStub(channel).GetUser(_GET, metadata=issuer.metadata())
        await asyncio.wait_for(started.wait(), 5)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_stream_that_is_cancelled_closes_its_handler_at_once(serve: Serve, issuer: Issuer) -> None:
    servicer = Runs()
    address = await serve(TokenVerifier(issuer), runs(servicer))
    async with grpc.aio.insecure_channel(address) as channel:
        call = RunServiceStub(channel).WatchRun(run_service_pb2.WatchRunRequest(run_id="x"), metadata=issuer.metadata())
        assert await call.read() == run_service_pb2.WatchRunResponse()
        call.cancel()
        await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_streams_end_and_fail_like_calls(serve: Serve, issuer: Issuer) -> None:
    servicer = Runs()
    address = await serve(TokenVerifier(issuer), runs(servicer))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = RunServiceStub(channel)
        request = run_service_pb2.WatchRunRequest(run_id="x", after_seq=50)
        assert len([one async for one in stub.WatchRun(request, metadata=issuer.metadata())]) == 50
        for request, metadata, kind in (
            (run_service_pb2.WatchRunRequest(run_id="fail"), issuer.metadata(), errors.Internal),
            (run_service_pb2.WatchRunRequest(), issuer.metadata(), errors.InvalidArgument),
            (run_service_pb2.WatchRunRequest(run_id="x"), (), errors.Unauthenticated),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                _ = [one async for one in stub.WatchRun(request, metadata=metadata)]
            got = from_rpc_error(raised.value)
            assert isinstance(got, kind)
            assert "secret" not in got.message


async def test_each_message_of_a_client_s_stream_is_checked(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), files())
    part = file_service_pb2.WriteFileRequest
    async with grpc.aio.insecure_channel(address) as channel:
        stub = FileServiceStub(channel)
        answer = await stub.WriteFile(iter([part(data=b"abc"), part(data=b"de")]), metadata=issuer.metadata())
        assert answer.file.size == 5
        got = await _error(stub.WriteFile(iter([part(data=b"abc"), part()]), metadata=issuer.metadata()))
        assert isinstance(got, errors.InvalidArgument)


async def test_both_sides_may_stream(serve: Serve, issuer: Issuer) -> None:
    address = await serve(TokenVerifier(issuer), runs(Runs()))
    one = run_service_pb2.WatchRequest()
    one.unsubscribe.subscription = 1
    async with grpc.aio.insecure_channel(address) as channel:
        call = RunServiceStub(channel).Watch(iter([one] * 3), metadata=issuer.metadata())
        assert len([answer async for answer in call]) == 3
        one.unsubscribe.subscription = 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            _ = [answer async for answer in RunServiceStub(channel).Watch(iter([one]), metadata=issuer.metadata())]
        assert isinstance(from_rpc_error(raised.value), errors.InvalidArgument)


def test_a_service_without_declared_access_is_refused() -> None:
    import grpc_health.v1.health_pb2

    assert grpc_health.v1.health_pb2
    with pytest.raises(UndeclaredAccess, match=r"/grpc\.health\.v1\.Health/Check"):
        methods_of("grpc.health.v1.Health")


async def test_a_service_under_another_name_is_refused(serve: Serve, issuer: Issuer) -> None:
    add, servicer, _ = users(Users())
    with pytest.raises(ValueError, match="UserService"):
        await serve(TokenVerifier(issuer), (add, servicer, "hearth.user.v1.TokenService"))
