"""A web developer's way in: the WebSocket, through Envoy."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from deploy.local import Stack
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api

Frame = dict[str, Any]


class Socket:
    """One connection that speaks hearth.v1. `pushes` collects what was not an answer."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection
        self.pushes: asyncio.Queue[Frame] = asyncio.Queue()
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.connection:
            frame: Frame = message.json()
            if frame["type"] == "ping":
                await self.connection.send_json({"type": "pong"})
            elif frame.get("id") in self._answers:
                self._answers.pop(frame["id"]).set_result(frame)
            else:
                self.pushes.put_nowait(frame)

    async def ask(self, kind: str, **fields: object) -> Frame:
        """Sends a request and returns its answer."""
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        answer = self._answers[number]
        await self.connection.send_json({"type": kind, "id": number, **fields})
        return await asyncio.wait_for(answer, 15)

    async def events_until_end(self, sub: str) -> list[Frame]:
        """Pushes of a subscription up to its `end`."""
        seen: list[Frame] = []
        while True:
            frame = await asyncio.wait_for(self.pushes.get(), 30)
            if frame.get("sub") != sub:
                continue
            seen.append(frame)
            if frame["type"] == "end":
                return seen

    async def closed(self) -> None:
        """Returns when the server has closed."""
        await asyncio.shield(self._reader)

    async def close(self) -> None:
        """Leaves."""
        await self.connection.close()
        await self._reader


@asynccontextmanager
async def connected(stack: Stack, token: str) -> AsyncGenerator[Socket]:
    """A socket that has said hello."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"{stack.url}/v1/socket", protocols=("hearth.v1",), headers={"origin": stack.url}
        ) as connection,
    ):
        assert connection.protocol == "hearth.v1"
        socket = Socket(connection)
        welcome = await socket.ask("hello", token=token, client={"name": "test", "version": "0"})
        assert welcome["type"] == "welcome", welcome
        yield socket
        await socket.close()


async def test_a_turn_over_the_socket(stack: Stack, api: Api) -> None:
    agent = await api.create_agent()
    async with connected(stack, api.token) as socket:
        started = await socket.ask(
            "call", method="agent.StartRun", params={"agent_id": agent.id, "text": "Hello from a socket, dear agent."}
        )
        assert started["type"] == "ok", started
        run_id = started["result"]["run"]["id"]
        subscribed = await socket.ask("subscribe", sub="s", topic=f"run:{run_id}", after_seq=0)
        assert subscribed["type"] == "ok", subscribed
        assert subscribed["resumed"] is True
        frames = await socket.events_until_end("s")

    events = [frame for frame in frames if frame["type"] == "event"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"] == "run_succeeded"
    answer = next(e for e in reversed(events) if e["event"] == "message_completed")["data"]["message"]["text"]
    assert "Hello from a socket" in answer
    assert frames[-1]["reason"] == "complete"


async def test_everyone_who_follows_a_conversation_gets_every_event(stack: Stack, api: Api) -> None:
    agent = await api.create_agent()
    topic = f"conversation:{agent.default_conversation_id}"
    async with connected(stack, api.token) as one, connected(stack, api.token) as two:
        for socket in (one, two):
            answer = await socket.ask("subscribe", sub="c", topic=topic, after_seq=0)
            assert answer["type"] == "ok", answer
        turn = await api.ask(agent.id, "Who is listening?")
        for socket in (one, two):
            seqs: list[int] = []
            while len(seqs) < len(turn.events):
                frame = await asyncio.wait_for(socket.pushes.get(), 15)
                if frame["type"] == "event":
                    seqs.append(frame["seq"])
            assert seqs == [event.seq for event in turn.events]


async def test_what_is_wrong_is_said_and_the_socket_lives_on(stack: Stack, api: Api) -> None:
    async with connected(stack, api.token) as socket:
        unknown = await socket.ask("dance")
        assert unknown["type"] == "error", unknown
        absent = await socket.ask("call", method="agent.GetRun", params={"run_id": "run_0"})
        assert absent["type"] == "error"
        assert absent["code"] == "NOT_FOUND"
        fine = await socket.ask("call", method="agent.ListAgents", params={"page_size": 1})
        assert fine["type"] == "ok"


async def test_what_to_do_when_the_agent_is_busy_is_said_over_the_socket_too(
    stack: Stack, api: Api, model: ThreadedModelServer
) -> None:
    agent = await api.create_agent()
    mark = f"slow {uuid.uuid4().hex}"
    model.script(mark, {"text": "at last", "gate": mark}, scope="last_user")

    async with connected(stack, api.token) as socket:

        async def say(text: str, policy: str) -> Frame:
            params = {"agent_id": agent.id, "text": text, "busy_policy": policy}
            return await socket.ask("call", method="agent.StartRun", params=params, request_id=str(uuid.uuid4()))

        slow = (await say(mark, "BUSY_POLICY_QUEUE"))["result"]["run"]["id"]
        refused = await say("me too", "BUSY_POLICY_REFUSE")
        assert (refused["type"], refused["reason"]) == ("error", "CONVERSATION_BUSY")
        assert (await say("now", "BUSY_POLICY_INTERRUPT"))["type"] == "ok"
        ended = await socket.ask("call", method="agent.GetRun", params={"run_id": slow})
        assert ended["result"]["run"]["state"] == "RUN_STATE_CANCELLED"


async def test_a_bad_token_closes_with_4401(stack: Stack) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"{stack.url}/v1/socket", protocols=("hearth.v1",), headers={"origin": stack.url}
        ) as connection,
    ):
        await connection.send_json({"type": "hello", "id": 1, "token": "nonsense"})
        while (message := await connection.receive(timeout=10)).type != aiohttp.WSMsgType.CLOSE:
            assert message.type == aiohttp.WSMsgType.TEXT
        assert message.data == 4401


async def test_a_foreign_origin_closes_with_4403(stack: Stack) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"{stack.url}/v1/socket", protocols=("hearth.v1",), headers={"origin": "https://evil.example"}
        ) as connection,
    ):
        while (message := await connection.receive(timeout=10)).type != aiohttp.WSMsgType.CLOSE:
            assert message.type == aiohttp.WSMsgType.TEXT
        assert message.data == 4403


async def test_a_malformed_frame_closes_with_4400(stack: Stack, api: Api) -> None:
    async with connected(stack, api.token) as socket:
        await socket.connection.send_str("{")
        await asyncio.wait_for(socket.closed(), 10)
        assert socket.connection.close_code == 4400
