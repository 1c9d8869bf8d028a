"""RunService.Watch: many subscriptions, each with its own token, over one stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from chassis import ids
from chassis.identity import NO_ORGANIZATION, Role
from chassis.status import from_rpc_error
from hearth.agent.v1 import run_service_pb2 as pb
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from tests.fakes.model_script import Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.grpc_client import Client
from tests.integration.agent_svc.replica import Replica
from tests.support.issuer import Issuer


class Stream:
    """A gateway's stream: its own credential says nothing about any organization."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._items: list[pb.WatchItem] = []

    async def subscribe(self, number: int, token: str, **topic: Any) -> None:
        subscribe = pb.WatchSubscribe(subscription=number, token=token, **topic)
        await self._call.write(pb.WatchRequest(subscribe=subscribe))

    async def unsubscribe(self, number: int) -> None:
        await self._call.write(pb.WatchRequest(unsubscribe=pb.WatchUnsubscribe(subscription=number)))

    async def renew(self, number: int, token: str) -> None:
        await self._call.write(pb.WatchRequest(renew=pb.WatchRenew(subscription=number, token=token)))

    async def items(self, number: int, *, until: str = "ended") -> list[pb.WatchItem]:
        """This subscription's items up to the first of a kind; those of others are kept."""
        async with asyncio.timeout(20):
            while True:
                for place, item in enumerate(self._items):
                    if item.subscription == number and item.WhichOneof("kind") == until:
                        mine = [one for one in self._items[: place + 1] if one.subscription == number]
                        self._items = [
                            one for at, one in enumerate(self._items) if one.subscription != number or at > place
                        ]
                        return mine
                response = await self._call.read()
                assert isinstance(response, pb.WatchResponse), "the stream ended"
                self._items += response.items


@asynccontextmanager
async def stream(channel: grpc.aio.Channel, issuer: Issuer) -> AsyncGenerator[Stream]:
    own = issuer.identity(NO_ORGANIZATION, Role.SERVICE).token
    call = RunServiceStub(channel).Watch(metadata=(("authorization", f"Bearer {own}"),))
    try:
        yield Stream(call)
    finally:
        call.cancel()


async def start(client: Client, text: str, agent_id: str) -> Any:
    request = pb.StartRunRequest(agent_id=agent_id, text=text)
    return (await RunServiceStub(client.channel).StartRun(request, metadata=client.md)).run


def seqs(items: list[pb.WatchItem]) -> list[int]:
    return [item.frame.event.seq for item in items if item.frame.HasField("event")]


async def test_subscriptions_of_several_organizations(client: Client, foreigner: Client, issuer: Issuer) -> None:
    async with stream(client.channel, issuer) as watch:
        mine, theirs = await client.agent(), await foreigner.agent()
        await watch.subscribe(1, client.token, conversation_id=mine.default_conversation_id, after_seq=0)
        run = await start(foreigner, "theirs", theirs.id)
        await watch.subscribe(2, foreigner.token, run_id=run.id, after_seq=0)
        items = await watch.items(2)
        assert items[0].subscribed.resumed
        assert items[0].subscribed.conversation_id == theirs.default_conversation_id
        assert seqs(items) == [1, 2, 3, 4, 5]
        assert items[-1].ended == pb.WatchEnded()
        for text in ("one", "two"):
            await start(client, text, mine.id)
        found: list[int] = []
        while found[-1:] != [10]:
            found += seqs(await watch.items(1, until="frame"))
        assert found == list(range(1, 11))
        await watch.unsubscribe(1)
        assert (await watch.items(1))[-1].ended == pb.WatchEnded()


async def test_what_may_not_be_seen_ends_alone(client: Client, foreigner: Client, issuer: Issuer) -> None:
    async with stream(client.channel, issuer) as watch:
        agent = await client.agent()
        conversation_id = agent.default_conversation_id
        await watch.subscribe(1, foreigner.token, conversation_id=conversation_id, after_seq=0)
        await watch.subscribe(2, "not.a.token", conversation_id=conversation_id, after_seq=0)
        await watch.subscribe(3, "", conversation_id=conversation_id, after_seq=0)
        await watch.subscribe(4, client.token, run_id="run_nonsense", after_seq=0)
        await watch.subscribe(5, client.token, conversation_id=conversation_id, after_seq=7)
        reasons = {number: (await watch.items(number))[-1].ended.reason for number in range(1, 5)}
        assert reasons == {
            1: "RESOURCE_NOT_FOUND",
            2: "TOKEN_INVALID",
            3: "RESOURCE_NOT_FOUND",
            4: "RESOURCE_NOT_FOUND",
        }
        subscribed, ended = await watch.items(5)
        assert (subscribed.subscribed.resumed, subscribed.subscribed.head_seq) == (False, 0)
        assert ended.ended.reason == "SEQ_OUT_OF_RANGE"
        await watch.subscribe(6, client.token, conversation_id=conversation_id)
        assert (await watch.items(6, until="subscribed"))[0].subscribed.resumed
        await start(client, "still here", agent.id)
        assert seqs(await watch.items(6, until="frame")) == [1]


async def test_a_token_that_may_not_read_agents_is_refused(client: Client, issuer: Issuer) -> None:
    async with stream(client.channel, issuer) as watch:
        agent = await client.agent()
        organization_id = ids.decode("org", agent.organization_id)
        cases = [("tool.write memory.read", True), ("", True), ("agent.read", False)]
        for number, (scope, refused) in enumerate(cases, 1):
            token = issuer.identity(organization_id, scope=scope).token
            await watch.subscribe(number, token, conversation_id=agent.default_conversation_id, after_seq=0)
            if refused:
                assert (await watch.items(number))[-1].ended.reason == "SCOPE_INSUFFICIENT"
            else:
                assert (await watch.items(number, until="subscribed"))[0].subscribed.resumed


async def test_a_token_that_expires_ends_its_subscription_unless_renewed(client: Client, issuer: Issuer) -> None:
    async with stream(client.channel, issuer) as watch:
        agent = await client.agent()
        organization_id = ids.decode("org", agent.organization_id)
        short = issuer.identity(organization_id, lifetime_s=-4).token
        for number in (1, 2):
            await watch.subscribe(number, short, conversation_id=agent.default_conversation_id, after_seq=0)
            await watch.items(number, until="subscribed")
        await watch.renew(2, client.token)
        assert (await watch.items(1))[-1].ended.reason == "TOKEN_EXPIRED"
        await start(client, "hello", agent.id)
        assert seqs(await watch.items(2, until="frame")) == [1]


async def test_in_the_middle_of_a_message(client: Client, issuer: Issuer, model: FakeModelServer) -> None:
    model.script("story", Step(text="once upon a time", gate="g", gate_after=2))
    async with stream(client.channel, issuer) as watch:
        agent = await client.agent()
        run = await start(client, "a story", agent.id)
        await model.until(lambda book: book.in_flight == 1)
        await asyncio.sleep(0.3)
        await watch.subscribe(1, client.token, run_id=run.id)
        items = await watch.items(1, until="frame")
        assert items[-1].frame.snapshot.text == "once upon "
        model.book.open_every_gate()
        rest = await watch.items(1)
        assert "".join(item.frame.delta.text for item in rest if item.HasField("frame")) == "a time"
        assert rest[-1].ended == pb.WatchEnded()


async def test_a_stop_ends_the_whole_stream(client: Client, issuer: Issuer, here: Replica) -> None:
    async with stream(client.channel, issuer) as watch:
        agent = await client.agent()
        await watch.subscribe(1, client.token, conversation_id=agent.default_conversation_id, after_seq=0)
        await watch.items(1, until="subscribed")
        await here.core.hub.stop()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.items(1)
    assert from_rpc_error(ended.value).reason == "SHUTTING_DOWN"
