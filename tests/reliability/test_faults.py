"""Hundreds of runs while every process is killed, stopped and restarted, at every point of a turn: no promise is broken.

HEARTH_RELIABILITY_ROUNDS does all faults so many times, HEARTH_RELIABILITY_SEED repeats an order of faults.
"""

import asyncio
import os
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from deploy.local import Stack
from hearth.tool.v1 import tool_service_pb2
from tests.fakes.model_control import ThreadedModelServer
from tests.reliability.checker import check
from tests.reliability.checker.stored import StoredConversation
from tests.reliability.faults import Faults, plan
from tests.reliability.rest import at_rest
from tests.reliability.traffic import Doors, Traffic, eventually
from tests.support.api import Api

ROUNDS = int(os.environ.get("HEARTH_RELIABILITY_ROUNDS", "1"))
SEED = int(os.environ.get("HEARTH_RELIABILITY_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
CONVERSATIONS = 140
# Runs to start and faults to do at the least. Not every run meets a fault, but far more than 200 do.
RUNS, FAULTS = 260, 20
_PAUSE_S = 0.8
_TOOL = '''
def weigh(grams: int) -> str:
    """Weighs something, and takes its time.

    Args:
        grams: How much it is.
    """
    import time
    time.sleep(0.4)
    return f"{grams} g"
'''


@pytest.mark.timeout(200 * ROUNDS)
async def test_no_promise_is_broken(
    stack: Stack, api: Api, model: ThreadedModelServer, failpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    await asyncio.to_thread(stack.wait_ready)
    model.default(mode="echo", token_delay_ms=90)
    upsert = tool_service_pb2.UpsertToolRequest(
        request_id=str(uuid.uuid4()), tool=tool_service_pb2.ToolSpec(source_code=_TOOL)
    )
    await api.tools.UpsertTool(upsert, metadata=api.metadata, timeout=10)
    agents = [await api.create_agent(tools=("weigh",), passive_recall=False) for _ in range(CONVERSATIONS)]
    conversations = [agent.default_conversation_id for agent in agents]
    faults = Faults(stack, failpoints)
    async with Doors(stack, api, chance) as doors:
        traffic = Traffic(doors, chance)
        watching = [asyncio.create_task(traffic.follow_conversation(one)) for one in conversations]
        enough = asyncio.Event()
        users = [asyncio.create_task(_user(traffic, model, one, enough)) for one in conversations]
        planned = plan(chance) * ROUNDS
        # All of the plan, and on a slow machine so many more that enough runs have met one.
        while planned or len(traffic.history.accepted) < RUNS * ROUNDS or len(faults.happened) < FAULTS:
            await faults.do(planned.pop() if planned else chance.choice(plan(chance)))
            await asyncio.sleep(chance.uniform(0.2, _PAUSE_S))
        await faults.over()
        enough.set()
        await asyncio.gather(*users)
        stored = await eventually(lambda: at_rest(stack, conversations), 60)
        traffic.finish({one.id: one.row["head_seq"] for one in stored})
        async with asyncio.timeout(30):
            await asyncio.gather(*watching)
    breaches = check(traffic.history, stored)
    faulted = _faulted(stored, [moment for _, moment in faults.happened])
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {len(traffic.history.accepted)} runs, {faulted} of them through {len(faults.happened)} faults, "
            f"{traffic.streams} streams, {sum(len(seen.frames) for seen in traffic.history.seen)} frames, "
            f"{_states(stored)}, {len(breaches)} breaches"
        )
    if breaches:
        print("\n".join(_errors(stack)))
    assert not breaches, "\n".join(map(str, breaches[:20]))
    assert faulted >= 200


async def _user(traffic: Traffic, model: ThreadedModelServer, conversation_id: str, enough: asyncio.Event) -> None:
    """Messages in a row until it is enough: awaited, at once with the next, cancelled, or with a tool in between."""
    following: list[asyncio.Task[None]] = []
    while not enough.is_set():
        mark = uuid.uuid4().hex
        kind = traffic.chance.choice(("wait", "wait", "burst", "cancel", "tool"))
        if kind == "tool":
            steps: list[dict[str, Any]] = [
                {"tool_calls": [{"name": "weigh", "arguments": {"grams": 100 + grams}} for grams in range(2)]},
                {"text": "It is not heavy, all in all.", "token_delay_ms": 60},
            ]
            await asyncio.to_thread(model.script, mark, *steps, repeat=True, scope="last_user")
        text = f"{mark} " + " ".join(f"word{n}" for n in range(traffic.chance.randrange(6, 24)))
        run_id = await traffic.start(conversation_id, text)
        following.append(asyncio.create_task(traffic.follow_run(conversation_id, run_id)))
        if kind == "cancel":
            await asyncio.sleep(traffic.chance.uniform(0, 1.5))
            await traffic.cancel(run_id)
        if kind != "burst":
            await following[-1]
        await asyncio.sleep(traffic.chance.uniform(0, 3))
    await asyncio.gather(*following)


def _faulted(stored: list[StoredConversation], moments: list[float]) -> int:
    """Runs in whose life something failed."""
    lives = [
        (run["create_time"].timestamp(), run["end_time"].timestamp())
        for conversation in stored
        for run in conversation.runs
    ]
    return sum(any(begin <= moment <= end for moment in moments) for begin, end in lives)


def _states(stored: list[StoredConversation]) -> str:
    ends = {4: "succeeded", 5: "failed", 6: "cancelled"}
    states = [run["state"] for conversation in stored for run in conversation.runs]
    return ", ".join(f"{states.count(state)} {name}" for state, name in ends.items())


def _errors(stack: Stack) -> list[str]:
    """What the services call errors in their logs."""
    return [
        line[:3000]
        for name in ("agent_svc", "agent_svc_2")
        for line in stack.log(name).read_text(errors="replace").splitlines()
        if '"ERROR"' in line or '"CRITICAL"' in line
    ]
