"""A rolling restart of every service, as a release does it, while a hundred streams are open: nobody notices more than a pause."""

import asyncio
import random
import time
import uuid

import pytest

from deploy.local import Stack
from tests.fakes.model_control import ThreadedModelServer
from tests.reliability.checker import check
from tests.reliability.rest import at_rest
from tests.reliability.traffic import Doors, Traffic, eventually
from tests.support.api import Api

STREAMS = 100
SERVICES = ("user_svc", "tool_svc", "memory_svc", "agent_svc", "agent_svc_2", "gateway", "envoy")


@pytest.mark.timeout(180)
async def test_a_rolling_restart_loses_nothing(
    stack: Stack, api: Api, model: ThreadedModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(stack.wait_ready)
    model.default(mode="echo", token_delay_ms=100)
    agents = [await api.create_agent(passive_recall=False) for _ in range(STREAMS // 2)]
    conversations = [agent.default_conversation_id for agent in agents]
    over = asyncio.Event()
    began = time.monotonic()
    async with Doors(stack, api, random.Random()) as doors:
        traffic = Traffic(doors, random.Random(), cut_s=(20.0, 30.0))
        users = [asyncio.create_task(_user(traffic, one, over)) for one in conversations]
        watching = [asyncio.create_task(traffic.follow_conversation(one)) for one in conversations]
        await asyncio.sleep(1)
        for service in SERVICES:
            await asyncio.to_thread(stack.restart, service)
        over.set()
        await asyncio.gather(*users)
        stored = await eventually(lambda: at_rest(stack, conversations), 30)
        traffic.finish({one.id: one.row["head_seq"] for one in stored})
        async with asyncio.timeout(30):
            await asyncio.gather(*watching)
    runs = [run for conversation in stored for run in conversation.runs]
    with capsys.disabled():
        print(f"\n{len(runs)} runs through {len(SERVICES)} restarts in {time.monotonic() - began:.0f} s")
    breaches = check(traffic.history, stored)
    assert not breaches, "\n".join(map(str, breaches[:20]))
    assert {run["state"] for run in runs} == {4}, "every run succeeded"
    assert len(runs) >= STREAMS // 2


async def _user(traffic: Traffic, conversation_id: str, over: asyncio.Event) -> None:
    while not over.is_set():
        text = f"{uuid.uuid4().hex} " + " ".join(f"word{n}" for n in range(15))
        await traffic.follow_run(conversation_id, await traffic.start(conversation_id, text))
