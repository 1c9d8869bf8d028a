"""agent_svc through its gRPC face: what clients get, errors included."""

import asyncio
import uuid

import grpc
import pytest

from chassis import ids
from chassis.errors import DomainError
from hearth.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    conversation_service_pb2,
    file_service_pb2,
    model_service_pb2,
    run_pb2,
    run_service_pb2,
    workflow_service_pb2,
)
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from hearth.agent.v1.file_service_pb2_grpc import FileServiceStub
from hearth.agent.v1.model_service_pb2_grpc import ModelServiceStub
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from hearth.agent.v1.workflow_service_pb2_grpc import WorkflowServiceStub
from tests.fakes.model_script import Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.grpc_client import Client, refused
from tests.integration.agent_svc.replica import Replica


async def test_agents_are_made_read_changed_listed_and_removed(client: Client, here: Replica) -> None:
    agents = AgentServiceStub(client.channel)
    made = await client.agent(name="Ada's helper", tags=["x"], settings=agent_pb2.AgentSettings(max_steps=5))
    assert made.default_conversation_id.startswith("conv_")
    assert made.instructions
    assert here.memory.blocks[ids.decode("agent", made.id)] == ["persona", "human"]
    by_name = agent_service_pb2.GetAgentRequest(name="Ada's helper")
    assert (await agents.GetAgent(by_name, metadata=client.md)).agent == made
    made.instructions = "Be kind."
    request = agent_service_pb2.UpdateAgentRequest(agent=made)
    request.update_mask.paths.append("instructions")
    changed = (await agents.UpdateAgent(request, metadata=client.md)).agent
    assert (changed.instructions, changed.settings.max_steps, changed.etag != made.etag) == ("Be kind.", 5, True)
    assert (await refused(agents.UpdateAgent(request, metadata=client.md))).reason == "ETAG_MISMATCH"
    await agents.DeleteAgent(agent_service_pb2.DeleteAgentRequest(agent_id=made.id), metadata=client.md)
    await agents.DeleteAgent(agent_service_pb2.DeleteAgentRequest(agent_id=made.id), metadata=client.md)
    gone = agent_service_pb2.GetAgentRequest(agent_id=made.id)
    assert (await refused(agents.GetAgent(gone, metadata=client.md))).reason == "RESOURCE_NOT_FOUND"


async def test_a_list_of_agents_is_paged_and_filtered(client: Client) -> None:
    agents = AgentServiceStub(client.channel)
    names = [f"agent {number}" for number in range(5)]
    for name in names:
        await client.agent(name=name, tags=["odd" if int(name[-1]) % 2 else "even"], description=f"100% {name}")
    found: list[str] = []
    token = ""
    while True:
        request = agent_service_pb2.ListAgentsRequest(page_size=2, page_token=token)
        page = await agents.ListAgents(request, metadata=client.md)
        found += [agent.name for agent in page.agents]
        token = page.next_page_token
        if not token:
            break
    assert found == names[::-1]
    odd = await agents.ListAgents(agent_service_pb2.ListAgentsRequest(tags=["odd"]), metadata=client.md)
    assert [agent.name for agent in odd.agents] == ["agent 3", "agent 1"]
    text = await agents.ListAgents(agent_service_pb2.ListAgentsRequest(text="% AGENT 4"), metadata=client.md)
    assert [agent.name for agent in text.agents] == ["agent 4"]


async def test_what_cannot_be_made_says_why(client: Client, here: Replica) -> None:
    agents = AgentServiceStub(client.channel)
    create = agent_service_pb2.CreateAgentRequest
    await client.agent(name="taken")
    assert (await refused(agents.CreateAgent(create(name="taken"), metadata=client.md))).reason == "NAME_TAKEN"
    unknown = await refused(agents.CreateAgent(create(name="m", model="nobody/x"), metadata=client.md))
    assert unknown.reason == "MODEL_UNKNOWN"
    no_tool = await refused(agents.CreateAgent(create(name="t", tools=["nope"]), metadata=client.md))
    assert no_tool.reason == "RESOURCE_NOT_FOUND"
    zone = create(name="z", settings=agent_pb2.AgentSettings(time_zone="Middle/Earth"))
    assert (await refused(agents.CreateAgent(zone, metadata=client.md))).reason == "VALIDATION_FAILED"
    block = await refused(agents.CreateAgent(create(name="b", block_ids=["nope"]), metadata=client.md))
    assert block.reason == "RESOURCE_NOT_FOUND"
    assert len(here.memory.forgotten) == 1, "what was made for the agent that was not made is forgotten"
    assert (await client.agent(name="b")).name == "b"


async def _nothing(arguments: dict[str, object]) -> str:
    return ""


def _rules() -> list[agent_pb2.ToolRule]:
    return [
        agent_pb2.ToolRule(run_first=agent_pb2.RunFirstRule(tool_names=["conversation_search", "look"])),
        agent_pb2.ToolRule(terminal=agent_pb2.TerminalRule(tool_name="act")),
        agent_pb2.ToolRule(allowed_after=agent_pb2.AllowedAfterRule(tool_name="look", allowed_tool_names=["act"])),
        agent_pb2.ToolRule(allowed_after=agent_pb2.AllowedAfterRule(tool_name="act")),
        agent_pb2.ToolRule(required_before_exit=agent_pb2.RequiredBeforeExitRule(tool_name="look")),
        agent_pb2.ToolRule(max_per_run=agent_pb2.MaxPerRunRule(tool_name="look", calls=3)),
    ]


async def test_tool_rules_and_limits_come_back_as_they_were_given(client: Client, here: Replica) -> None:
    agents = AgentServiceStub(client.channel)
    for name in ("look", "act"):
        here.tools.add(name, _nothing)
    settings = agent_pb2.AgentSettings(max_run_tokens=10**12, max_run_seconds=60, parallel_tool_calls=False)
    with pytest.raises(grpc.aio.AioRpcError):
        await client.agent(tools=["look", "act"], settings=agent_pb2.AgentSettings(max_run_tokens=0))
    made = await client.agent(tools=["look", "act"], tool_rules=_rules(), settings=settings)
    assert list(made.tool_rules) == _rules()
    assert made.settings == settings
    got = await agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id=made.id), metadata=client.md)
    assert got.agent == made
    del made.tool_rules[:]
    request = agent_service_pb2.UpdateAgentRequest(agent=made)
    request.update_mask.paths.append("tool_rules")
    assert not (await agents.UpdateAgent(request, metadata=client.md)).agent.tool_rules


async def test_rules_for_tools_that_the_agent_does_not_have_are_refused(client: Client, here: Replica) -> None:
    agents = AgentServiceStub(client.channel)
    for name in ("look", "act"):
        here.tools.add(name, _nothing)

    def path(error: DomainError) -> str:
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "VALIDATION_FAILED")
        (violation,) = error.field_violations
        return violation.field

    create = agent_service_pb2.CreateAgentRequest(name="r", tools=["look"], tool_rules=_rules())
    error = await refused(agents.CreateAgent(create, metadata=client.md))
    assert path(error) == "tool_rules[1].terminal.tool_name"
    create = agent_service_pb2.CreateAgentRequest(name="r", tool_rules=[agent_pb2.ToolRule()])
    assert path(await refused(agents.CreateAgent(create, metadata=client.md))).startswith("tool_rules[0]")

    made = await client.agent(tools=["look", "act"], tool_rules=_rules()[2:3])
    change = agent_service_pb2.UpdateAgentRequest(agent=made)
    # The tool goes and the rule stays.
    change.agent.tool_ids[:] = [one for one in made.tool_ids if one == made.tool_ids[0]]
    change.update_mask.paths.append("tool_ids")
    error = await refused(agents.UpdateAgent(change, metadata=client.md))
    assert path(error) == "agent.tool_rules[0].allowed_after.allowed_tool_names[0]"
    # A rule comes for a tool that is not there.
    change = agent_service_pb2.UpdateAgentRequest(agent=made)
    change.agent.tool_rules.add().terminal.tool_name = "nobody"
    change.update_mask.paths.append("tool_rules")
    error = await refused(agents.UpdateAgent(change, metadata=client.md))
    assert path(error) == "agent.tool_rules[1].terminal.tool_name"
    # Both go together.
    change = agent_service_pb2.UpdateAgentRequest(agent=agent_pb2.Agent(id=made.id))
    change.update_mask.paths.extend(["tool_ids", "tool_rules"])
    assert not (await agents.UpdateAgent(change, metadata=client.md)).agent.tool_rules


async def test_a_request_id_makes_one_agent(client: Client) -> None:
    agents = AgentServiceStub(client.channel)
    request = agent_service_pb2.CreateAgentRequest(name="once", request_id=str(uuid.uuid4()))
    first = await agents.CreateAgent(request, metadata=client.md)
    assert await agents.CreateAgent(request, metadata=client.md) == first
    request.name = "other"
    assert (await refused(agents.CreateAgent(request, metadata=client.md))).reason == "REQUEST_ID_REUSED"


async def test_a_request_id_starts_one_run(client: Client) -> None:
    runs = RunServiceStub(client.channel)
    agent = await client.agent()
    request = run_service_pb2.StartRunRequest(agent_id=agent.id, text="hi", request_id=str(uuid.uuid4()))
    answers = await asyncio.gather(*(runs.StartRun(request, metadata=client.md) for _ in range(5)))
    assert len({answer.run.id for answer in answers}) == 1
    run = answers[0].run
    watch = run_service_pb2.WatchRunRequest(run_id=run.id)
    async for _ in runs.WatchRun(watch, metadata=client.md):
        pass
    again = (await runs.StartRun(request, metadata=client.md)).run
    assert (again.id, again.state) == (run.id, run_pb2.RUN_STATE_QUEUED)
    request.text = "something else"
    assert (await refused(runs.StartRun(request, metadata=client.md))).reason == "REQUEST_ID_REUSED"
    listed = await runs.ListRuns(run_service_pb2.ListRunsRequest(agent_id=agent.id), metadata=client.md)
    assert [(one.id, one.state) for one in listed.runs] == [(run.id, run_pb2.RUN_STATE_SUCCEEDED)]


async def test_a_message_sent_again_shows_the_same_run(client: Client, model: FakeModelServer) -> None:
    runs = RunServiceStub(client.channel)
    agent = await client.agent()
    start = run_service_pb2.StartRunRequest(agent_id=agent.id, text="hi", request_id=str(uuid.uuid4()))
    seen: list[tuple[str, list[int]]] = []
    for _ in range(2):
        call = runs.SendMessage(run_service_pb2.SendMessageRequest(start=start), metadata=client.md)
        answers = [answer async for answer in call]
        events = [frame.event.seq for answer in answers for frame in answer.frames if frame.HasField("event")]
        assert [answer.HasField("run") for answer in answers].count(True) == 1
        seen.append((answers[0].run.id, events))
    assert seen[0] == seen[1]
    assert seen[0][1] == [1, 2, 3, 4, 5]
    assert len(model.book.requests) == 1


async def test_closing_the_stream_of_a_message_does_not_stop_its_run(client: Client, model: FakeModelServer) -> None:
    model.script("story", Step(text="once upon a time", gate="g", gate_after=2))
    runs = RunServiceStub(client.channel)
    agent = await client.agent()
    start = run_service_pb2.StartRunRequest(agent_id=agent.id, text="a story")
    call = runs.SendMessage(run_service_pb2.SendMessageRequest(start=start), metadata=client.md)
    first = await call.read()
    assert isinstance(first, run_service_pb2.SendMessageResponse)
    await model.until(lambda book: book.in_flight == 1)
    call.cancel()
    await asyncio.sleep(0.2)
    model.book.open_every_gate()
    async for _ in runs.WatchRun(run_service_pb2.WatchRunRequest(run_id=first.run.id), metadata=client.md):
        pass
    run = await runs.GetRun(run_service_pb2.GetRunRequest(run_id=first.run.id), metadata=client.md)
    assert run.run.state == run_pb2.RUN_STATE_SUCCEEDED
    shown = run_service_pb2.GetRunContextRequest(run_id=first.run.id)
    (context,) = (await runs.GetRunContext(shown, metadata=client.md)).contexts
    assert [message.text for message in context.messages] == ["a story"]
    assert context.model == "openai/scripted"
    sections = context.tokens
    parts = (sections.instructions, sections.core_memory, sections.recalled, sections.tools, sections.input)
    assert min(parts) > 0
    assert sum(parts) + sections.summary + sections.history == context.estimated_tokens
    assert (sections.summary, sections.history) == (0, 0)
    assert sections.window > sections.answer > 0
    assert context.usage.input_tokens > 0


async def test_another_organizations_things_are_absent(client: Client, foreigner: Client) -> None:
    runs, agents = RunServiceStub(client.channel), AgentServiceStub(client.channel)
    conversations = ConversationServiceStub(client.channel)
    agent = await client.agent()
    run = (await runs.StartRun(run_service_pb2.StartRunRequest(agent_id=agent.id, text="x"), metadata=client.md)).run
    md = foreigner.md
    calls = [
        agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id=agent.id), metadata=md),
        runs.StartRun(run_service_pb2.StartRunRequest(agent_id=agent.id, text="x"), metadata=md),
        runs.StartRun(
            run_service_pb2.StartRunRequest(conversation_id=agent.default_conversation_id, text="x"), metadata=md
        ),
        runs.GetRun(run_service_pb2.GetRunRequest(run_id=run.id), metadata=md),
        runs.GetRunContext(run_service_pb2.GetRunContextRequest(run_id=run.id), metadata=md),
        runs.CancelRun(run_service_pb2.CancelRunRequest(run_id=run.id), metadata=md),
        conversations.GetConversation(
            conversation_service_pb2.GetConversationRequest(conversation_id=run.conversation_id), metadata=md
        ),
        conversations.ListMessages(
            conversation_service_pb2.ListMessagesRequest(conversation_id=run.conversation_id), metadata=md
        ),
        conversations.CreateConversation(
            conversation_service_pb2.CreateConversationRequest(agent_id=agent.id), metadata=md
        ),
    ]
    for call in calls:
        error = await refused(call)
        assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert not (await runs.ListRuns(run_service_pb2.ListRunsRequest(), metadata=md)).runs
    assert not (await agents.ListAgents(agent_service_pb2.ListAgentsRequest(), metadata=md)).agents


async def test_conversations_and_their_messages(client: Client) -> None:
    conversations, runs = ConversationServiceStub(client.channel), RunServiceStub(client.channel)
    agent = await client.agent()
    create = conversation_service_pb2.CreateConversationRequest(agent_id=agent.id, display_name="Second")
    second = (await conversations.CreateConversation(create, metadata=client.md)).conversation
    for text in ("one", "two"):
        start = run_service_pb2.StartRunRequest(conversation_id=second.id, text=text)
        async for _ in runs.SendMessage(run_service_pb2.SendMessageRequest(start=start), metadata=client.md):
            pass
    listed: dict[int, list[int]] = {}
    for order in (
        conversation_service_pb2.LIST_MESSAGES_ORDER_OLDEST_FIRST,
        conversation_service_pb2.LIST_MESSAGES_ORDER_NEWEST_FIRST,
    ):
        token, found = "", []
        while True:
            request = conversation_service_pb2.ListMessagesRequest(
                conversation_id=second.id, order=order, page_size=3, page_token=token
            )
            page = await conversations.ListMessages(request, metadata=client.md)
            found += [message.seq for message in page.messages]
            token = page.next_page_token
            if not token:
                break
        listed[order] = found
    assert list(listed.values()) == [[2, 4, 7, 9], [9, 7, 4, 2]]
    read = conversation_service_pb2.GetConversationRequest(conversation_id=second.id)
    assert (await conversations.GetConversation(read, metadata=client.md)).conversation.head_seq == 10
    both = conversation_service_pb2.ListConversationsRequest(agent_id=agent.id)
    assert len((await conversations.ListConversations(both, metadata=client.md)).conversations) == 2
    default = conversation_service_pb2.DeleteConversationRequest(conversation_id=agent.default_conversation_id)
    in_use = await refused(conversations.DeleteConversation(default, metadata=client.md))
    assert in_use.reason == "RESOURCE_IN_USE"
    delete = conversation_service_pb2.DeleteConversationRequest(conversation_id=second.id)
    await conversations.DeleteConversation(delete, metadata=client.md)
    await conversations.DeleteConversation(delete, metadata=client.md)
    assert (await refused(conversations.GetConversation(read, metadata=client.md))).code == "NOT_FOUND"


async def test_bad_input_is_refused_at_once(client: Client) -> None:
    runs = RunServiceStub(client.channel)
    agent = await client.agent()
    for text in ("", "with \x00 in it"):
        request = run_service_pb2.StartRunRequest(agent_id=agent.id, text=text)
        error = await refused(runs.StartRun(request, metadata=client.md))
        assert (error.code, error.field_violations[0].field) == ("INVALID_ARGUMENT", "text")
    watch = run_service_pb2.WatchRunRequest(run_id="run_nonsense")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async for _ in runs.WatchRun(watch, metadata=client.md):
            pass
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_models_are_listed(client: Client) -> None:
    answer = await ModelServiceStub(client.channel).ListModels(
        model_service_pb2.ListModelsRequest(), metadata=client.md
    )
    assert any(model.default and model.usable for model in answer.models)


async def test_what_is_not_built_says_so(client: Client) -> None:
    calls = [
        WorkflowServiceStub(client.channel).ListWorkflows(
            workflow_service_pb2.ListWorkflowsRequest(), metadata=client.md
        ),
        FileServiceStub(client.channel).ListFiles(
            file_service_pb2.ListFilesRequest(agent_id="agent_1"), metadata=client.md
        ),
        RunServiceStub(client.channel).SubmitToolResults(
            run_service_pb2.SubmitToolResultsRequest(
                run_id="run_1", results=[run_service_pb2.ToolResult(tool_call_id="c")]
            ),
            metadata=client.md,
        ),
    ]
    for call in calls:
        error = await refused(call)
        assert (error.code, error.reason) == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")
