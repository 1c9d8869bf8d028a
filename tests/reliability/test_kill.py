"""Processes of the running stack are killed with SIGKILL in the middle of a reply; clients come back and must see one whole reply."""

import asyncio
import signal
import time
import uuid

import grpc
import pytest

from deploy.local import Stack
from hearth.agent.v1 import conversation_service_pb2, run_service_pb2
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api, Turn

# What a client of a system in trouble may be told; it comes back then.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
WORDS = " ".join(f"word{n}" for n in range(40))


async def watch(api: Api, run_id: str, turn: Turn, limit_s: float = 45) -> None:
    """Follows a run as a client that reconnects: from the last seq it has, until the terminal event."""
    deadline = time.monotonic() + limit_s
    while not turn.outcome:
        assert time.monotonic() < deadline, f"the run did not end: {turn.kinds}"
        after = turn.events[-1].seq if turn.events else 0
        request = run_service_pb2.WatchRunRequest(run_id=run_id, after_seq=after)
        try:
            async for response in api.runs.WatchRun(request, metadata=api.metadata, timeout=20):
                for frame in response.frames:
                    turn.add(frame)
        except grpc.aio.AioRpcError as error:
            # Envoy can only reset a stream whose upstream died after the answer began; gRPC calls that INTERNAL.
            if error.code() not in PASSING and "RST_STREAM" not in (error.details() or ""):
                raise
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("victim", ["agent_svc", "memory_svc", "gateway", "nats", "postgres", "envoy"])
async def test_a_reply_survives_the_death_of_a_process(
    api: Api, stack: Stack, model: ThreadedModelServer, victim: str
) -> None:
    await asyncio.to_thread(stack.wait_ready)
    agent = await api.create_agent()
    mark = f"{victim} {uuid.uuid4().hex}"
    model.script(mark, {"text": WORDS, "token_delay_ms": 60}, repeat=True, scope="last_user")
    run = await api.start(agent.id, mark)
    turn = Turn()
    watching = asyncio.create_task(watch(api, run.id, turn))
    await asyncio.to_thread(model.until, lambda state: state["in_flight"] > 0)
    await asyncio.sleep(0.4)

    stack.kill(victim, signal.SIGKILL)
    killed_at = time.monotonic()
    await watching

    assert turn.outcome == "run_succeeded", turn.kinds
    assert turn.answer == WORDS
    assert time.monotonic() - killed_at < 30
    await asyncio.to_thread(stack.wait_ready, victim)
    listed = conversation_service_pb2.ListMessagesRequest(conversation_id=agent.default_conversation_id)
    messages = (
        await api.conversations.ListMessages(listed, metadata=api.metadata, timeout=20, wait_for_ready=True)
    ).messages
    assert [(message.role, message.text) for message in messages] == [(1, mark), (2, WORDS)]
    # And the next message works at once.
    assert (await api.ask(agent.id, "Still there?")).outcome == "run_succeeded"


async def test_a_message_that_was_accepted_while_nats_is_down_is_answered(
    api: Api, stack: Stack, model: ThreadedModelServer
) -> None:
    agent = await api.create_agent()
    stack.kill("nats", signal.SIGSTOP)
    try:
        run = await api.start(agent.id, "Can you hear me?")
    finally:
        stack.kill("nats", signal.SIGCONT)
    turn = Turn()
    await watch(api, run.id, turn)
    assert turn.outcome == "run_succeeded"
