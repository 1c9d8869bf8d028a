"""No record of the audit log is lost or comes twice, whichever process dies on its way."""

import asyncio
import shutil
import signal
import uuid
from collections import Counter

import grpc
import psycopg
import pytest

from deploy.local import Stack
from hearth.agent.v1 import agent_pb2, agent_service_pb2, conversation_service_pb2
from hearth.memory.v1 import block_service_pb2
from hearth.tool.v1 import tool_execution_service_pb2, tool_service_pb2
from hearth.user.v1.audit_event_pb2 import AuditEvent
from hearth_client import AsyncHearth
from tests.support.api import Api

_OUTBOXES = {"tool_svc": "hearth_tool", "memory_svc": "hearth_memory", "agent_svc": "hearth_agent"}
_CONVERSATION = "hearth.agent.v1.ConversationService.CreateConversation"
_SLOW = '''
def slow_{word}(seconds: float) -> str:
    """Takes its time.

    Args:
        seconds: How much.
    """
    import time

    time.sleep(seconds)
    return "done"
'''


async def records(stack: Stack) -> list[AuditEvent]:
    """The whole log, which must verify."""
    async with AsyncHearth(stack.url, stack.api_key) as client:
        verdict = await client.audit.verify()
        assert verdict.problem is None, verdict
        return [event async for event in client.audit.list(oldest_first=True, page_size=200)]


async def until_recorded(stack: Stack, expected: set[str], limit_s: float = 40) -> dict[str, AuditEvent]:
    """Waits for records about these resources; each must come exactly once. Returns them by resource."""
    found: list[AuditEvent] = []
    for _ in range(int(limit_s / 0.5)):
        found = [event for event in await records(stack) if event.resource in expected]
        if {event.resource for event in found} == expected:
            break
        await asyncio.sleep(0.5)
    # What would come twice has had the time to.
    await asyncio.sleep(3)
    counted = Counter(event.resource for event in await records(stack) if event.resource in expected)
    assert counted == Counter(expected), f"missing: {expected - set(counted)}"
    return {event.resource: event for event in found}


def waiting(stack: Stack, service: str) -> int:
    """How many records are in a service's outbox."""
    with psycopg.connect(stack.superuser_url(_OUTBOXES[service]), autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM audit_outbox").fetchone()
    assert row is not None
    return int(row[0])


async def conversation(api: Api, agent: agent_pb2.Agent) -> str:
    """A new one: one record of agent_svc."""
    request = conversation_service_pb2.CreateConversationRequest(request_id=str(uuid.uuid4()), agent_id=agent.id)
    return (await api.conversations.CreateConversation(request, metadata=api.metadata, timeout=10)).conversation.id


async def block(api: Api) -> str:
    """A new one: one record of memory_svc."""
    request = block_service_pb2.CreateBlockRequest(request_id=str(uuid.uuid4()), label=f"b{uuid.uuid4().hex[:12]}")
    return (await api.blocks.CreateBlock(request, metadata=api.metadata, timeout=10)).block.id


async def tool(api: Api, source: str = "") -> tool_service_pb2.CreateToolResponse:
    """A new one: one record of tool_svc."""
    word = uuid.uuid4().hex[:8]
    text = source.replace("{word}", word) or f'def t_{word}() -> str:\n    """Nothing."""\n    return ""\n'
    request = tool_service_pb2.CreateToolRequest(
        request_id=str(uuid.uuid4()), tool=tool_service_pb2.ToolSpec(source_code=text)
    )
    return await api.tools.CreateTool(request, metadata=api.metadata, timeout=10)


async def one_of_each(api: Api, agent: agent_pb2.Agent) -> set[str]:
    """A change in each service; the ids of what was made."""
    return {await conversation(api, agent), await block(api), (await tool(api)).tool.id}


async def test_records_wait_while_user_svc_does_not_answer(api: Api, stack: Stack) -> None:
    await asyncio.to_thread(stack.wait_ready)
    agent = await api.create_agent()
    await one_of_each(api, agent)
    stack.kill("user_svc", signal.SIGSTOP)
    try:
        made = await one_of_each(api, agent)
        await asyncio.sleep(3)
        assert all(waiting(stack, service) for service in _OUTBOXES)
    finally:
        stack.kill("user_svc", signal.SIGCONT)
    await until_recorded(stack, made)


async def test_records_survive_the_death_of_user_svc(api: Api, stack: Stack) -> None:
    await asyncio.to_thread(stack.wait_ready)
    agent = await api.create_agent()
    stack.kill("user_svc", signal.SIGKILL)
    made = await one_of_each(api, agent)
    await asyncio.to_thread(stack.wait_ready, "user_svc")
    await until_recorded(stack, made)


async def test_records_survive_the_loss_of_everything_that_nats_held(api: Api, stack: Stack) -> None:
    await asyncio.to_thread(stack.wait_ready)
    agent = await api.create_agent()
    stack.kill("user_svc", signal.SIGSTOP)
    try:
        made = await one_of_each(api, agent)
        # They are in the stream now, and user_svc has not seen them.
        await asyncio.sleep(3)
        stack.kill("nats", signal.SIGSTOP)
        shutil.rmtree(stack.home / "state" / "nats" / "jetstream")
        stack.kill("nats", signal.SIGKILL)
        await asyncio.to_thread(stack.wait_ready, "nats")
        made |= await one_of_each(api, agent)
    finally:
        stack.kill("user_svc", signal.SIGCONT)
    await until_recorded(stack, made)


@pytest.mark.parametrize("service", _OUTBOXES)
async def test_a_record_survives_the_death_of_its_service(api: Api, stack: Stack, service: str) -> None:
    """Killed at the moment of the answer: the effect and its record are committed, and nothing has been sent."""
    await asyncio.to_thread(stack.wait_ready)
    agent = await api.create_agent()
    made = set[str]()
    for _ in range(3):
        if service == "agent_svc":
            made.add(await conversation(api, agent))
        elif service == "memory_svc":
            made.add(await block(api))
        else:
            made.add((await tool(api)).tool.id)
        stack.kill(service, signal.SIGKILL)
        await asyncio.to_thread(stack.wait_ready, service)
        await until_it_answers(api, service)
    events = await until_recorded(stack, made)
    assert {event.outcome for event in events.values()} == {"OK"}


async def until_it_answers(api: Api, service: str) -> None:
    """Envoy may take a moment to see a new process."""
    for _ in range(50):
        try:
            match service:
                case "agent_svc":
                    await api.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=api.metadata, timeout=5)
                case "memory_svc":
                    await api.blocks.ListBlocks(block_service_pb2.ListBlocksRequest(), metadata=api.metadata, timeout=5)
                case _:
                    await api.tools.ListTools(tool_service_pb2.ListToolsRequest(), metadata=api.metadata, timeout=5)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.2)
        else:
            return


async def test_a_tool_call_is_on_record_though_its_process_died_in_the_middle(api: Api, stack: Stack) -> None:
    await asyncio.to_thread(stack.wait_ready)
    made = (await tool(api, _SLOW)).tool
    request = tool_execution_service_pb2.ExecuteToolRequest(tool_id=made.id)
    request.arguments.update({"seconds": 20})
    call = api.execution.ExecuteTool(request, metadata=(*api.metadata, ("x-request-id", "died")), timeout=30)
    reading = asyncio.ensure_future(call.read())
    for _ in range(100):
        if _held(stack, made.id):
            break
        await asyncio.sleep(0.1)
    stack.kill("tool_svc", signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError):
        await reading
    await asyncio.to_thread(stack.wait_ready, "tool_svc")
    # In half an hour, when no call can be running any more; here its time comes at once.
    with psycopg.connect(stack.superuser_url("hearth_tool"), autocommit=True) as connection:
        connection.execute("UPDATE audit_outbox SET due_time = now() WHERE outcome = ''")
    found: list[AuditEvent] = []
    for _ in range(60):
        found = [
            event
            for event in await records(stack)
            if event.action.endswith(".ExecuteTool") and event.resource == made.id
        ]
        if found:
            break
        await asyncio.sleep(0.5)
    assert [event.outcome for event in found] == ["UNKNOWN"]


def _held(stack: Stack, tool_id: str) -> bool:
    with psycopg.connect(stack.superuser_url("hearth_tool"), autocommit=True) as connection:
        query = "SELECT 1 FROM audit_outbox WHERE outcome = '' AND resource = %s"
        return connection.execute(query, (tool_id,)).fetchone() is not None


async def test_what_is_delivered_twice_is_recorded_once(api: Api, stack: Stack) -> None:
    await asyncio.to_thread(stack.wait_ready)
    agent = await api.create_agent()
    stack.kill("user_svc", signal.SIGSTOP)
    try:
        made = {await conversation(api, agent) for _ in range(3)}
        await asyncio.sleep(2)
        # Another batch each time, so that the stream itself does not drop it.
        for _ in range(3):
            with psycopg.connect(stack.superuser_url("hearth_agent"), autocommit=True) as connection:
                connection.execute("UPDATE audit_outbox SET due_time = now()")
            made.add(await conversation(api, agent))
            await asyncio.sleep(1)
    finally:
        stack.kill("user_svc", signal.SIGCONT)
    events = await until_recorded(stack, made)
    assert {event.action for event in events.values()} == {_CONVERSATION}
    assert waiting(stack, "agent_svc") == 0
