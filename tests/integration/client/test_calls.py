"""Unary calls: tokens, retries, pages, errors, and the blocking client."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2

from hearth.agent.v1.agent_pb2 import TerminalRule, ToolRule
from hearth.agent.v1.agent_service_pb2 import CreateAgentRequest
from hearth_client import (
    AlreadyExistsError,
    AsyncHearth,
    Hearth,
    HearthError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from tests.fakes.hearth_server import API_KEY, FakeHearth, explained
from tests.fakes.run_log import RunLog, Script


async def test_one_token_for_many_calls_at_once(server: FakeHearth, client: AsyncHearth) -> None:
    server.token_delay_s = 0.05
    await asyncio.gather(*(client.tokens.whoami() for _ in range(30)))
    assert server.count("WhoAmI") == 30
    assert server.count("IssueToken") == 1


async def test_a_caller_that_leaves_does_not_take_the_token_from_others(
    server: FakeHearth, client: AsyncHearth
) -> None:
    server.token_delay_s = 0.1
    first = asyncio.create_task(client.tokens.whoami())
    second = asyncio.create_task(client.tokens.whoami())
    await asyncio.sleep(0.02)
    first.cancel()
    assert (await second).subject == "user_1"
    assert server.count("IssueToken") == 1


async def test_a_token_is_replaced_a_minute_before_it_expires(server: FakeHearth, client: AsyncHearth) -> None:
    server.token_life_s = 60.3
    await client.tokens.whoami()
    server.token_life_s = 900
    await client.tokens.whoami()
    assert server.count("IssueToken") == 1
    # Half of a life that is hardly longer than a minute has passed only after 30 s: make time pass instead.
    client._connection.tokens._clock = lambda: time.monotonic() + 31
    await client.tokens.whoami()
    assert server.count("IssueToken") == 2


async def test_an_expired_token_is_replaced_once(server: FakeHearth, client: AsyncHearth) -> None:
    await client.tokens.whoami()
    server.expired_tokens.add(await client._connection.tokens.get())
    await asyncio.gather(*(client.tokens.whoami() for _ in range(10)))
    assert server.count("IssueToken") == 2


async def test_a_server_that_takes_no_token_is_not_asked_for_ever(server: FakeHearth, client: AsyncHearth) -> None:
    expired = explained(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED", "expired")
    server.failures = [lambda: expired] * 5
    with pytest.raises(UnauthenticatedError):
        await client.tokens.whoami()
    assert server.count("IssueToken") == 2


async def test_a_wrong_key(server: FakeHearth) -> None:
    async with AsyncHearth(server.url, "hk_wrong") as client:
        with pytest.raises(UnauthenticatedError) as caught:
            await client.agents.get(name="x")
    assert caught.value.reason == "API_KEY_INVALID"
    assert caught.value.code == "UNAUTHENTICATED"


async def test_unavailable_is_tried_again_under_the_same_request_id(server: FakeHearth, client: AsyncHearth) -> None:
    server.failures = [lambda: (grpc.StatusCode.UNAVAILABLE, None)] * 3
    agent = await client.agents.create("demo", blocks={"human": "Ada"})
    assert agent.name == "demo"
    requests = [request for name, request in server.calls if name == "CreateAgent"]
    assert len(requests) == 4
    assert len({request.SerializeToString() for request in requests}) == 1


async def test_an_agents_tool_rules_are_passed_on(server: FakeHearth, client: AsyncHearth) -> None:
    rules = [ToolRule(terminal=TerminalRule(tool_name="send"))]
    await client.agents.create("demo", tools=["send"], tool_rules=rules)
    (request,) = [request for name, request in server.calls if name == "CreateAgent"]
    assert isinstance(request, CreateAgentRequest)
    assert list(request.tool_rules) == rules


async def test_a_key_is_not_made_twice(server: FakeHearth, client: AsyncHearth) -> None:
    server.failures = [lambda: (grpc.StatusCode.UNAVAILABLE, None)]
    with pytest.raises(UnavailableError):
        await client.api_keys.create(display_name="ci")
    assert server.count("CreateApiKey") == 1


async def test_retrying_ends(server: FakeHearth) -> None:
    server.failures = [lambda: (grpc.StatusCode.UNAVAILABLE, None)] * 1000
    async with AsyncHearth(server.url, API_KEY, retry_for_s=0.4) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await client.tokens.whoami()
        assert 0.1 < time.monotonic() - began < 3


async def test_nobody_there() -> None:
    async with AsyncHearth("http://127.0.0.1:1", API_KEY, retry_for_s=0.2) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.tokens.whoami()
    assert caught.value.reason == "UNREACHABLE"


async def test_other_errors_are_not_tried_again(server: FakeHearth, client: AsyncHearth) -> None:
    taken = explained(grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN", "the name is taken")
    server.failures = [lambda: taken]
    with pytest.raises(AlreadyExistsError) as caught:
        await client.agents.create("demo")
    assert str(caught.value) == "the name is taken (NAME_TAKEN)"
    assert server.count("CreateAgent") == 1


async def test_an_error_carries_its_details(server: FakeHearth, client: AsyncHearth) -> None:
    code, status = explained(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", "the request is not valid")
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="name", description="too long")
    status.details.add().Pack(bad)
    server.failures = [lambda: (code, status)]
    with pytest.raises(InvalidArgumentError) as caught:
        await client.agents.create("x" * 200)
    assert [(v.field, v.description) for v in caught.value.field_violations] == [("name", "too long")]

    code2, exhausted = explained(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", "slow down")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    exhausted.details.add().Pack(retry)
    server.failures = [lambda: (code2, exhausted)]
    with pytest.raises(ResourceExhaustedError) as slow:
        await client.agents.get(name="x")
    assert slow.value.retry_after_s == 1.5


async def test_a_method_that_the_server_lacks(client: AsyncHearth) -> None:
    with pytest.raises(UnimplementedError) as caught:
        await client.models.list()
    assert isinstance(caught.value, HearthError)


@pytest.mark.parametrize("count", [0, 1, 5, 6, 17])
async def test_lists_fetch_all_pages(server: FakeHearth, client: AsyncHearth, count: int) -> None:
    server.agents = [f"a{i}" for i in range(count)]
    assert [agent.name async for agent in client.agents.list(page_size=5)] == server.agents
    assert server.count("ListAgents") == max(1, -(-count // 5))


@pytest.fixture
async def blocking(server: FakeHearth) -> AsyncIterator[Hearth]:
    client = Hearth(server.url, API_KEY, retry_for_s=3, reconnect_for_s=10)
    yield client
    await asyncio.to_thread(client.close)


async def test_the_blocking_client_does_the_same(server: FakeHearth, blocking: Hearth) -> None:
    server.agents = [f"a{i}" for i in range(7)]
    server.log = RunLog(Script().said("hi").writes("m1", "Hel", "lo").completed("m1", "Hello").succeeded().frames)

    def work() -> tuple[str, list[str], list[int], str]:
        name = blocking.agents.get(name="demo").name
        names = [agent.name for agent in blocking.agents.list(page_size=3)]
        with blocking.runs.send("hi", agent_id="agent_1") as stream:
            seqs = [frame.event.seq for frame in stream if frame.HasField("event")]
        return name, names, seqs, stream.run_id

    name, names, seqs, run_id = await asyncio.to_thread(work)
    assert (name, names, run_id) == ("demo", server.agents, "run_1")
    assert seqs == [e.seq for e in server.log.events]


async def test_a_blocking_stream_can_be_left_early(server: FakeHearth, blocking: Hearth) -> None:
    server.log = RunLog(Script().said("hi").succeeded().frames, hold_after=2)

    def work() -> None:
        with blocking.runs.send("hi", agent_id="agent_1") as stream:
            next(stream)
            next(stream)

    await asyncio.to_thread(work)
    await server.all_streams_left()


async def test_errors_cross_the_thread(blocking: Hearth, server: FakeHearth) -> None:
    server.failures = [lambda: explained(grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN", "taken")]
    with pytest.raises(AlreadyExistsError):
        await asyncio.to_thread(lambda: blocking.agents.create("demo"))
