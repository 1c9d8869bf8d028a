"""What an agent can do in a turn: call a sandboxed tool, edit core memory, store and find what it should remember."""

import asyncio
import json
import uuid

from hearth.agent.v1 import conversation_service_pb2, run_service_pb2
from hearth.memory.v1 import archival_memory_service_pb2, block_service_pb2, recall_memory_service_pb2
from hearth.tool.v1 import tool_service_pb2
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api

SHIPPING = '''
def shipping_cost(weight_kg: float, express: bool = False) -> dict:
    """Says what it costs to send a parcel.

    Args:
        weight_kg: Weight in kilograms.
        express: Whether it must arrive tomorrow.
    """
    return {"euro": round(4.9 + 1.2 * weight_kg + (10 if express else 0), 2)}
'''

READS_SECRETS = '''
def look_around() -> str:
    """Looks around."""
    return open("/etc/passwd").read()
'''


async def push(api: Api, source: str) -> str:
    """Upserts a tool; returns its name."""
    request = tool_service_pb2.UpsertToolRequest(
        request_id=str(uuid.uuid4()), tool=tool_service_pb2.ToolSpec(source_code=source)
    )
    return (await api.tools.UpsertTool(request, metadata=api.metadata, timeout=10)).tool.name


async def test_an_agent_calls_a_sandboxed_tool(api: Api, model: ThreadedModelServer) -> None:
    name = await push(api, SHIPPING)
    agent = await api.create_agent(tools=(name,))
    mark = f"parcel {uuid.uuid4().hex}"
    model.script(
        mark,
        {"text": "Let me see.", "tool_calls": [{"name": name, "arguments": {"weight_kg": 2.5, "express": True}}]},
        {"text": "That is 17.90 euro."},
    )

    turn = await api.ask(agent.id, f"What does it cost to send this by tomorrow? {mark}, 2.5 kg")

    assert turn.outcome == "run_succeeded"
    assert turn.answer == "That is 17.90 euro."
    assert "tool_call_started" in turn.kinds
    completed = next(e.tool_call_completed for e in turn.events if e.WhichOneof("payload") == "tool_call_completed")
    assert (completed.name, completed.outcome) == (name, 1)
    result = next(
        e.message_completed.message
        for e in turn.events
        if e.WhichOneof("payload") == "message_completed" and e.message_completed.message.role == 3
    )
    assert json.loads(result.text) == {"euro": 17.9}
    # The model was shown the tool, and then its result.
    first, second = (request["body"] for request in model.requests(mark))
    assert name in [tool["function"]["name"] for tool in first["tools"]]
    assert second["messages"][-1]["role"] == "tool"
    assert "17.9" in second["messages"][-1]["content"]


async def test_a_tool_that_reaches_out_is_held_and_the_agent_told(api: Api, model: ThreadedModelServer) -> None:
    name = await push(api, READS_SECRETS)
    agent = await api.create_agent(tools=(name,))
    mark = f"burglar {uuid.uuid4().hex}"
    model.script(mark, {"tool_calls": [{"name": name}]}, {"text": "I was not allowed to."})

    turn = await api.ask(agent.id, mark)

    assert turn.answer == "I was not allowed to."
    told = model.requests(mark)[-1]["body"]["messages"][-1]["content"]
    assert "PermissionError" in told
    assert "root:" not in told


async def test_malformed_arguments_come_back_to_the_model(api: Api, model: ThreadedModelServer) -> None:
    name = await push(api, SHIPPING)
    agent = await api.create_agent(tools=(name,))
    mark = f"sloppy {uuid.uuid4().hex}"
    model.script(
        mark,
        {"tool_calls": [{"name": name, "arguments": '{"weight_kg": '}]},
        {"tool_calls": [{"name": name, "arguments": {"weight_kg": "heavy"}}]},
        {"tool_calls": [{"name": "no_such_tool"}]},
        {"text": "I give up."},
    )

    turn = await api.ask(agent.id, mark)

    assert turn.answer == "I give up."
    results = [m["content"] for m in model.requests(mark)[-1]["body"]["messages"] if m["role"] == "tool"]
    assert len(results) == 3
    assert all(results)


async def test_an_agent_stores_and_finds_a_memory(api: Api, model: ThreadedModelServer) -> None:
    agent = await api.create_agent()
    fact = f"The spare key lies under the third flowerpot ({uuid.uuid4().hex[:6]})."
    keep, find = f"keep {uuid.uuid4().hex}", f"find {uuid.uuid4().hex}"
    model.script(
        keep, {"tool_calls": [{"name": "archival_memory_insert", "arguments": {"content": fact}}]}, {"text": "Noted."}
    )
    model.script(
        find, {"tool_calls": [{"name": "archival_memory_search", "arguments": {"query": "where is the key to the house"}}]},
        {"text": "Under the third flowerpot."}, scope="last_user",
    )  # fmt: skip

    kept = await api.ask(agent.id, keep)
    found = await api.ask(agent.id, find)

    assert kept.outcome == found.outcome == "run_succeeded", (kept.events[-1], found.events[-1])
    assert "memory_updated" in kept.kinds
    told = next(m["content"] for m in reversed(model.requests(find)[-1]["body"]["messages"]) if m["role"] == "tool")
    assert fact in told
    hits = (
        await api.archival.SearchPassages(
            archival_memory_service_pb2.SearchPassagesRequest(query="house key", agent_id=agent.id),
            metadata=api.metadata,
            timeout=10,
        )
    ).hits
    assert hits[0].passage.text == fact


async def test_an_agent_edits_its_core_memory_and_sees_it_in_the_next_turn(
    api: Api, model: ThreadedModelServer
) -> None:
    agent = await api.create_agent()
    mark, after = f"learn {uuid.uuid4().hex}", f"after {uuid.uuid4().hex}"
    model.script(
        mark,
        {
            "tool_calls": [
                {"name": "core_memory_append", "arguments": {"label": "human", "content": "Likes terse answers."}}
            ]
        },
        {"text": "Understood."},
    )

    await api.ask(agent.id, mark)
    await api.ask(agent.id, after)

    blocks = (
        await api.blocks.ListBlocks(
            block_service_pb2.ListBlocksRequest(agent_id=agent.id), metadata=api.metadata, timeout=10
        )
    ).blocks
    assert {block.label: block.value for block in blocks}["human"] == "Likes terse answers."
    system = model.requests(after)[-1]["body"]["messages"][0]
    assert system["role"] == "system"
    assert "Likes terse answers." in system["content"]


async def test_passive_recall_brings_back_what_was_said_elsewhere(api: Api, model: ThreadedModelServer) -> None:
    agent = await api.create_agent()
    await api.ask(agent.id, "My sister Ottilie breeds alpacas near Turin.")
    await searchable(api, agent.id, "alpacas")
    conversation = await new_conversation(api, agent.id)
    question = f"Which animals does my sister keep? {uuid.uuid4().hex}"
    request = run_service_pb2.StartRunRequest(request_id=str(uuid.uuid4()), conversation_id=conversation, text=question)
    run = (await api.runs.StartRun(request, metadata=api.metadata, timeout=10)).run
    async for _ in api.runs.WatchRun(run_service_pb2.WatchRunRequest(run_id=run.id), metadata=api.metadata, timeout=30):
        pass

    context = await api.runs.GetRunContext(
        run_service_pb2.GetRunContextRequest(run_id=run.id), metadata=api.metadata, timeout=10
    )

    assert "alpacas" in context.contexts[0].recalled_text
    assert "alpacas" in str(model.requests(question)[-1]["body"]["messages"])


async def searchable(api: Api, agent_id: str, query: str) -> None:
    """Waits until recall memory finds something."""
    request = recall_memory_service_pb2.SearchMessagesRequest(query=query, agent_id=agent_id)
    for _ in range(100):
        if (await api.recall.SearchMessages(request, metadata=api.metadata, timeout=10)).hits:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"nothing found for {query!r}")


async def new_conversation(api: Api, agent_id: str) -> str:
    """Starts another conversation with an agent; returns its id."""
    request = conversation_service_pb2.CreateConversationRequest(request_id=str(uuid.uuid4()), agent_id=agent_id)
    return (await api.conversations.CreateConversation(request, metadata=api.metadata, timeout=10)).conversation.id


async def test_a_model_server_that_fails_leaves_a_conversation_that_works(api: Api, model: ThreadedModelServer) -> None:
    agent = await api.create_agent()
    mark = f"broken {uuid.uuid4().hex}"
    model.script(mark, {"status": 400, "error": "no such parameter"}, repeat=True, scope="last_user")

    failed = await api.ask(agent.id, mark, timeout=60)
    worked = await api.ask(agent.id, "And now?")

    assert failed.outcome == "run_failed"
    error = failed.events[-1].run_failed.error
    assert (error.reason, "no such parameter" in error.message) == ("MODEL_REJECTED", True)
    assert worked.outcome == "run_succeeded"
    # The user's message was kept: the next turn's context holds it.
    assert mark in str(model.requests("And now?")[-1]["body"]["messages"])
