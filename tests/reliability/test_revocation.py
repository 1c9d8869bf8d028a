"""A credential that is revoked stops working everywhere within five seconds, and signing keys change under full use."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import jwt
import psycopg
import pytest

from chassis import ids
from deploy.local import Stack
from hearth.agent.v1 import agent_service_pb2, run_service_pb2
from hearth.memory.v1 import block_service_pb2
from hearth.tool.v1 import tool_service_pb2
from hearth.type.v1 import access_pb2
from hearth.user.v1 import (
    api_key_service_pb2,
    organization_pb2,
    organization_service_pb2,
    token_service_pb2,
    user_pb2,
    user_service_pb2,
)
from tests.e2e.test_socket import Socket, connected
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api
from tests.support.fixtures import PUBLICATION_S

PROMISE_S = 5.0


@dataclass(frozen=True)
class Person:
    """A user with one key, signed in."""

    api: Api
    user_id: str
    key_id: str
    organization_id: str


@asynccontextmanager
async def person(stack: Stack, admin: Api, organization_id: str = "", user_id: str = "") -> AsyncGenerator[Person]:
    """A new user, or another key of one."""
    if not user_id:
        create = user_service_pb2.CreateUserRequest(
            name=f"u-{uuid.uuid4().hex[:12]}", organization_id=organization_id, role=access_pb2.ROLE_MEMBER
        )
        user_id = (await admin.users.CreateUser(create, metadata=admin.metadata)).user.id
    request = api_key_service_pb2.CreateApiKeyRequest(user_id=user_id, organization_id=organization_id)
    made = await admin.keys.CreateApiKey(request, metadata=admin.metadata)
    async with Api(stack.url, made.secret) as api:
        yield Person(api, user_id, made.api_key.id, made.api_key.organization_id)


async def organization(admin: Api) -> str:
    request = organization_service_pb2.CreateOrganizationRequest(name=f"o-{uuid.uuid4().hex[:12]}")
    return (await admin.organizations.CreateOrganization(request, metadata=admin.metadata)).organization.id


def calls(api: Api) -> list[Callable[[], Awaitable[object]]]:
    """One call to each service, through the door."""
    metadata = api.metadata
    return [
        lambda: api.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=metadata, timeout=5),
        lambda: api.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=metadata, timeout=5),
        lambda: api.tools.ListTools(tool_service_pb2.ListToolsRequest(), metadata=metadata, timeout=5),
        lambda: api.blocks.ListBlocks(block_service_pb2.ListBlocksRequest(), metadata=metadata, timeout=5),
    ]


async def problem(call: Callable[[], Awaitable[object]]) -> grpc.aio.AioRpcError | None:
    """What a call fails with, None if it does not."""
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def refusal(call: Callable[[], Awaitable[object]]) -> float:
    """The moment from which a call is refused as revoked. A restarted service may be UNAVAILABLE for a moment."""
    while True:
        error = await problem(call)
        if error is not None and error.code() is not grpc.StatusCode.UNAVAILABLE:
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED, error
            assert error.details() == "the credential has been revoked"
            return time.monotonic()
        await asyncio.sleep(0.05)


async def success(call: Callable[[], Awaitable[object]]) -> None:
    """Returns once a call works."""
    while True:
        if await problem(call) is None:
            return
        await asyncio.sleep(0.05)


async def stream_end(api: Api, conversation_id: str) -> float:
    """The moment at which an open stream ends, for being revoked."""
    request = run_service_pb2.WatchConversationRequest(conversation_id=conversation_id)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in api.runs.WatchConversation(request, metadata=api.metadata):
            pass
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert raised.value.details() == "the credential has been revoked"
    return time.monotonic()


async def subscription_end(on: Api, api: Api, conversation_id: str) -> float:
    """The moment at which a subscription ends that is one person's on the `Watch` stream of another, which goes on."""
    call = on.runs.Watch(metadata=on.metadata)
    try:
        subscribe = run_service_pb2.WatchSubscribe(
            subscription=1, token=api.token, conversation_id=conversation_id, after_seq=0
        )
        await call.write(run_service_pb2.WatchRequest(subscribe=subscribe))
        async for response in call:
            for item in response.items:
                if item.WhichOneof("kind") == "ended":
                    assert (item.ended.code, item.ended.reason) == (16, "TOKEN_INVALID")
                    assert item.ended.message == "the credential has been revoked"
                    assert not call.done()
                    return time.monotonic()
    finally:
        call.cancel()
    raise AssertionError("the stream ended before its subscription")


async def socket_end(socket: Socket) -> float:
    """The moment at which an open socket is closed, for being revoked."""
    await socket.closed()
    assert socket.connection.close_code == 4401
    return time.monotonic()


@dataclass(frozen=True)
class Everything:
    """All ways in that a person has open."""

    person: Person
    conversation_id: str
    ends: list[asyncio.Task[float]]

    async def slowest_end(self, since: float) -> float:
        """Seconds until every way is closed and every call refused."""
        refused = [asyncio.create_task(refusal(call)) for call in calls(self.person.api)]
        moments = await asyncio.wait_for(asyncio.gather(*self.ends, *refused), 20)
        return max(moments) - since


@asynccontextmanager
async def everything(stack: Stack, who: Person) -> AsyncGenerator[Everything]:
    """A gRPC stream, and a socket that follows a conversation, of a person; its calls work."""
    for call in calls(who.api):
        await call()
    conversation_id = (await who.api.create_agent()).default_conversation_id
    async with connected(stack, who.api.token) as socket:
        answer = await socket.ask("subscribe", sub="c", topic=f"conversation:{conversation_id}", after_seq=0)
        assert answer["type"] == "ok", answer
        stream = asyncio.create_task(stream_end(who.api, conversation_id))
        ends = [stream, asyncio.create_task(socket_end(socket))]
        await asyncio.sleep(0.3)
        assert not any(one.done() for one in ends)
        try:
            yield Everything(who, conversation_id, ends)
        finally:
            for one in ends:
                one.cancel()


async def revoke(admin: Api, key_id: str) -> float:
    request = api_key_service_pb2.RevokeApiKeyRequest(api_key_id=key_id)
    await admin.keys.RevokeApiKey(request, metadata=admin.metadata, timeout=5)
    return time.monotonic()


async def test_signing_keys_take_turns_while_everybody_works(stack: Stack, api: Api) -> None:
    old = api.token
    stop = asyncio.Event()
    seen: list[str] = []
    made = 0

    async def work() -> None:
        nonlocal made
        async with Api(stack.url, stack.api_key) as mine:
            while not stop.is_set():
                await mine.sign_in()
                seen.append(str(jwt.get_unverified_header(mine.token)["kid"]))
                for call in calls(mine):
                    await call()
                    made += 1
                await asyncio.sleep(0.05)

    workers = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.sleep(1)
    rotation = await api.tokens.RotateSigningKey(
        token_service_pb2.RotateSigningKeyRequest(), metadata=api.metadata, timeout=5
    )
    again = await api.tokens.RotateSigningKey(
        token_service_pb2.RotateSigningKeyRequest(), metadata=api.metadata, timeout=5
    )
    assert again == rotation
    published = await api.tokens.GetJwks(token_service_pb2.GetJwksRequest(), timeout=5)
    assert {key.kid for key in published.keys} == {rotation.key_id, seen[0]}
    await asyncio.sleep(PUBLICATION_S + 3)
    stop.set()
    # A call that was refused would have raised here.
    await asyncio.gather(*workers)
    assert made > 100
    turn = seen.index(rotation.key_id)
    assert set(seen[:turn]) == {str(jwt.get_unverified_header(old)["kid"])}
    assert len(seen) > turn + 3
    for call in calls(api):
        assert api.token == old
        await call()


async def test_a_revoked_key_stops_everywhere_and_its_user_s_other_key_does_not(stack: Stack, api: Api) -> None:
    async with AsyncExitStack() as opened:
        one = await opened.enter_async_context(person(stack, api))
        other = await opened.enter_async_context(person(stack, api, user_id=one.user_id))
        ways = await opened.enter_async_context(everything(stack, one))
        others = await opened.enter_async_context(everything(stack, other))
        ways.ends.append(asyncio.create_task(subscription_end(other.api, one.api, ways.conversation_id)))
        await asyncio.sleep(0.3)
        took = await ways.slowest_end(await revoke(api, one.key_id))
        assert took <= PROMISE_S, took
        assert not any(end.done() for end in others.ends)
        for call in calls(other.api):
            await call()


async def test_a_disabled_user_stops_and_goes_on_with_a_new_token_when_enabled(stack: Stack, api: Api) -> None:
    def change(who: Person, disabled: bool) -> user_service_pb2.UpdateUserRequest:
        request = user_service_pb2.UpdateUserRequest(user=user_pb2.User(id=who.user_id, disabled=disabled))
        request.update_mask.paths.append("disabled")
        return request

    async with person(stack, api) as who, everything(stack, who) as ways:
        await api.users.UpdateUser(change(who, True), metadata=api.metadata)
        took = await ways.slowest_end(time.monotonic())
        assert took <= PROMISE_S, took
        await api.users.UpdateUser(change(who, False), metadata=api.metadata)
        enabled = time.monotonic()
        await asyncio.wait_for(refusal(calls(who.api)[1]), 1)
        await who.api.sign_in()
        for call in calls(who.api):
            await success(call)
        assert time.monotonic() - enabled <= PROMISE_S


async def test_a_deleted_organization_stops_with_its_runs(stack: Stack, api: Api, model: ThreadedModelServer) -> None:
    mark = f"endless {uuid.uuid4().hex}"
    model.script(mark, {"text": " ".join(["word"] * 600), "token_delay_ms": 100}, repeat=True)
    theirs = await organization(api)
    restarts = stack.restarts("agent_svc")
    async with person(stack, api, theirs) as who, everything(stack, who) as ways:
        agent = await who.api.create_agent()
        await who.api.start(agent.id, mark)
        waiting = await who.api.start(agent.id, mark)
        await asyncio.to_thread(model.until, lambda state: state["in_flight"] > 0)
        request = organization_service_pb2.DeleteOrganizationRequest(organization_id=theirs)
        await api.organizations.DeleteOrganization(request, metadata=api.metadata)
        deleted = time.monotonic()
        await asyncio.to_thread(model.until, lambda state: state["in_flight"] == 0)
        assert time.monotonic() - deleted <= PROMISE_S
        took = await ways.slowest_end(deleted)
        assert took <= PROMISE_S, took
    # Both runs have failed: the one in progress, and the one behind it without a single call to the model.
    await until_failed(stack, waiting.conversation_id)
    assert len(model.requests(mark)) == 1
    assert stack.restarts("agent_svc") == restarts


async def until_failed(stack: Stack, conversation_id: str) -> None:
    """Waits until both runs of a conversation are FAILED. Nobody may ask the API any more."""
    async with (
        asyncio.timeout(15),
        await psycopg.AsyncConnection.connect(stack.superuser_url("hearth_agent"), autocommit=True) as connection,
    ):
        while True:
            cursor = await connection.execute(
                "SELECT array_agg(state) FROM runs WHERE conversation_id = %s", (ids.decode("conv", conversation_id),)
            )
            row = await cursor.fetchone()
            assert row is not None
            if len(row[0]) == 2 and set(row[0]) == {5}:
                return
            await asyncio.sleep(0.2)


async def test_a_revocation_outlives_the_processes_that_know_it(stack: Stack, api: Api) -> None:
    async with person(stack, api) as known, person(stack, api) as unknown:
        for who in (known, unknown):
            for call in calls(who.api):
                await call()
        await revoke(api, known.key_id)
        for call in calls(known.api):
            await asyncio.wait_for(refusal(call), PROMISE_S)
        await revoke(api, unknown.key_id)
        await asyncio.to_thread(stack.kill, "user_svc")
        # What is known stays in force without user_svc.
        for call in calls(known.api)[1:]:
            await refusal(call)
        await asyncio.to_thread(stack.wait_ready, "user_svc")
        since = time.monotonic()
        for call in calls(unknown.api):
            await asyncio.wait_for(refusal(call), 10)
        assert time.monotonic() - since <= PROMISE_S
        await asyncio.to_thread(stack.kill, "agent_svc")
        await asyncio.to_thread(stack.wait_ready)
        for who in (known, unknown):
            await asyncio.wait_for(refusal(calls(who.api)[1]), 10)


async def test_an_organization_that_is_disabled_comes_back(stack: Stack, api: Api) -> None:
    def change(identifier: str, state: str) -> Awaitable[object]:
        given = organization_pb2.Organization(id=identifier, state=organization_pb2.OrganizationState.Value(state))
        request = organization_service_pb2.UpdateOrganizationRequest(organization=given)
        request.update_mask.paths.append("state")
        return api.organizations.UpdateOrganization(request, metadata=api.metadata)

    theirs = await organization(api)
    async with person(stack, api, theirs) as who, everything(stack, who) as ways:
        agent = await who.api.create_agent()
        assert (await who.api.ask(agent.id, "Before.")).outcome == "run_succeeded"
        await change(theirs, "ORGANIZATION_STATE_DISABLED")
        took = await ways.slowest_end(time.monotonic())
        assert took <= PROMISE_S, took
        await change(theirs, "ORGANIZATION_STATE_ACTIVE")
        await who.api.sign_in()
        await asyncio.sleep(2.5)
        # The services' own tokens for it were void too, and are new now.
        assert (await who.api.ask(agent.id, "After.")).outcome == "run_succeeded"
