"""Forks: what of a conversation comes along, and that the new one goes on by itself."""

import uuid
from typing import Any

import pytest

from agent_svc.domain.agent import Agent
from agent_svc.domain.conversation import Conversation, Message, MessageRole
from agent_svc.domain.event import EventType
from agent_svc.domain.run import BusyPolicy
from agent_svc.managers.run_manager import Target
from chassis import ids
from chassis.errors import NotFound
from chassis.once import Once
from hearth.agent.v1 import conversation_service_pb2 as pb
from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.grpc_client import Client, refused
from tests.integration.agent_svc.replica import Replica, seqs

WHOLE = [
    ("user", "sum 2 and 3"),
    ("assistant", ""),
    ("tool", "5"),
    ("tool", "5"),
    ("assistant", "It is 5."),
    ("user", "Thanks."),
    ("assistant", "You are welcome."),
]


async def talked(here: Replica, model: FakeModelServer) -> tuple[Agent, list[Message]]:
    """An agent with two runs, the first of which calls two tools."""

    async def add(arguments: dict[str, Any]) -> str:
        return str(arguments["a"] + arguments["b"])

    here.tools.add("add", add)
    calls = [ScriptedCall("add", {"a": 2, "b": 3}, id="c1"), ScriptedCall("add", {"a": 1, "b": 4}, id="c2")]
    model.script("sum", Step(tool_calls=calls), Step(text="It is 5."), Step(text="You are welcome."))
    agent = await here.agent(tools=("add",))
    for text in ("sum 2 and 3", "Thanks."):
        await here.finished(await here.start(agent, text))
    found, _ = await here.core.conversations.messages(
        here.caller, agent.default_conversation_id, None, 200, newest_first=False
    )
    return agent, list(found)


async def fork(here: Replica, agent: Agent, message_id: uuid.UUID | None, seq: int | None = None) -> Conversation:
    once = Once[Conversation](None, lambda _: b"")
    return await here.core.conversations.fork(here.caller, agent.default_conversation_id, message_id, seq, "", once)


async def test_a_fork_has_what_was_said_until_a_message_and_never_half_a_call(
    here: Replica, model: FakeModelServer
) -> None:
    agent, messages = await talked(here, model)
    assert await here.messages(agent.default_conversation_id) == WHOLE
    for index, expected in enumerate((1, 4, 4, 4, 5, 6, 7)):
        by_id = await fork(here, agent, messages[index].id)
        assert await here.messages(by_id.id) == WHOLE[:expected]
        by_seq = await fork(here, agent, None, messages[index].seq)
        assert await here.messages(by_seq.id) == WHOLE[:expected]
    assert await here.messages((await fork(here, agent, None)).id) == WHOLE
    assert await here.messages((await fork(here, agent, None, 0)).id) == []
    with pytest.raises(NotFound):
        await fork(here, agent, ids.new())


async def test_a_fork_goes_on_by_itself(here: Replica, model: FakeModelServer) -> None:
    agent, messages = await talked(here, model)
    made = await fork(here, agent, messages[4].id)
    log = await here.log(made.id)
    assert (seqs(log), {event.type for event in log}) == ([1, 2, 3, 4, 5], {EventType.MESSAGE_COMPLETED})
    model.script("Once more", Step(text="Six."))
    run = await here.core.runs.start(
        here.caller, Target(conversation_id=made.id), "Once more", BusyPolicy.QUEUE, None, b""
    )
    await here.finished(run)
    assert await here.messages(made.id) == [*WHOLE[:5], ("user", "Once more"), ("assistant", "Six.")]
    sent = model.book.requests[-1].body["messages"]
    assert [one["role"] for one in sent] == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]
    assert [call["id"] for call in sent[2]["tool_calls"]] == [one["tool_call_id"] for one in sent[3:5]]
    assert await here.messages(agent.default_conversation_id) == WHOLE
    assert seqs(await here.log(made.id)) == list(range(1, 11))
    found, _ = await here.core.conversations.messages(here.caller, made.id, None, 200, newest_first=False)
    assert {one.id for one in found}.isdisjoint(one.id for one in messages)
    assert [one.role for one in found].count(MessageRole.TOOL) == 2


async def test_a_fork_is_made_once_and_only_of_ones_own(client: Client, foreigner: Client) -> None:
    agent = await client.agent()
    request = pb.ForkConversationRequest(
        request_id=str(uuid.uuid4()), conversation_id=agent.default_conversation_id, display_name="Another way"
    )
    conversations = ConversationServiceStub(client.channel)
    made = (await conversations.ForkConversation(request, metadata=client.md)).conversation
    assert (made.agent_id, made.display_name, made.head_seq) == (agent.id, "Another way", 0)
    assert (await conversations.ForkConversation(request, metadata=client.md)).conversation == made
    request.request_id = ""
    theirs = conversations.ForkConversation(request, metadata=foreigner.md)
    assert (await refused(theirs)).reason == "RESOURCE_NOT_FOUND"
    absent = pb.ForkConversationRequest(conversation_id=made.id, message_id=ids.encode("msg", ids.new()))
    assert (await refused(conversations.ForkConversation(absent, metadata=client.md))).reason == "RESOURCE_NOT_FOUND"
