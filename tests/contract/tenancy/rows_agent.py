"""The rows of agent_svc."""

from collections.abc import Mapping

from google.protobuf.message import Message

from chassis import ids
from hearth.agent.internal.v1 import usage_service_pb2 as usage
from hearth.agent.v1 import agent_service_pb2 as agent
from hearth.agent.v1 import conversation_service_pb2 as conversation
from hearth.agent.v1 import file_service_pb2 as file
from hearth.agent.v1 import model_service_pb2 as model
from hearth.agent.v1 import run_service_pb2 as run
from hearth.agent.v1 import template_service_pb2 as template
from hearth.agent.v1 import workflow_pb2
from hearth.agent.v1 import workflow_service_pb2 as workflow
from tests.contract.tenancy.cases import Case, hidden, own, same, unbuilt
from tests.contract.tenancy.tenants import Names


def _agent(their: Names, own: Names) -> Message:
    request = agent.UpdateAgentRequest()
    request.agent.id, request.agent.description = their.agent, "changed"
    request.update_mask.paths.append("description")
    return request


def _agent_tools(their: Names, own: Names) -> Message:
    request = agent.UpdateAgentRequest()
    request.agent.id = own.agent
    request.agent.tool_ids.append(their.tool)
    request.update_mask.paths.append("tool_ids")
    return request


def _conversation(their: Names, own: Names) -> Message:
    request = conversation.UpdateConversationRequest()
    request.conversation.id, request.conversation.display_name = their.conversation, "changed"
    request.update_mask.paths.append("display_name")
    return request


def _workflow(their: Names, own: Names) -> Message:
    request = workflow.UpdateWorkflowRequest()
    request.workflow.id, request.workflow.description = their.workflow, "changed"
    request.update_mask.paths.append("description")
    return request


def _watch(topic: run.WatchSubscribe) -> Message:
    topic.subscription = 1
    return run.WatchRequest(subscribe=topic)


AGENT: Mapping[str, tuple[Case, ...]] = {
    "AgentService/CreateAgent": (
        own(lambda their, own: agent.CreateAgentRequest(request_id=their.request_id, name="Twin")),
        # One of another's blocks, or of nobody's.
        hidden(lambda their, own: agent.CreateAgentRequest(name="With block", block_ids=[their.block])),
        hidden(lambda their, own: agent.CreateAgentRequest(name="With tool", tools=[their.tool])),
        hidden(lambda their, own: agent.CreateAgentRequest(name="With named tool", tools=[their.tool_name])),
        hidden(lambda their, own: agent.CreateAgentRequest(name="Of template", template=their.template_name)),
    ),
    "AgentService/GetAgent": (
        hidden(lambda their, own: agent.GetAgentRequest(agent_id=their.agent)),
        hidden(lambda their, own: agent.GetAgentRequest(name=their.agent_name)),
    ),
    "AgentService/ListAgents": (
        same(lambda their, own: agent.ListAgentsRequest(tags=[their.word])),
        same(lambda their, own: agent.ListAgentsRequest(text=their.word)),
        own(lambda their, own: agent.ListAgentsRequest()),
    ),
    "AgentService/UpdateAgent": (hidden(_agent), hidden(_agent_tools)),
    "AgentService/DeleteAgent": (same(lambda their, own: agent.DeleteAgentRequest(agent_id=their.agent)),),
    "AgentService/ExportAgent": (hidden(lambda their, own: agent.ExportAgentRequest(agent_id=their.agent)),),
    "AgentService/ImportAgent": (
        own(
            lambda their, own: agent.ImportAgentRequest(
                request_id=their.request_id,
                data=b'{"type":"header","format":1}\n{"type":"agent","spec":{"name":"Imported"}}\n'
                b'{"type":"conversation","id":"c","default":true}\n{"type":"end","records":3}\n',
            )
        ),
        hidden(
            lambda their, own: agent.ImportAgentRequest(
                data=b'{"type":"header","format":1}\n{"type":"tool","id":"t","name":"'
                + their.tool_name.encode()
                + b'"}\n{"type":"agent","spec":{"name":"Imported with tool"},"tools":["t"]}\n'
                b'{"type":"conversation","id":"c","default":true}\n{"type":"end","records":4}\n',
            )
        ),
    ),
    "ConversationService/CreateConversation": (
        hidden(lambda their, own: conversation.CreateConversationRequest(agent_id=their.agent)),
    ),
    "ConversationService/GetConversation": (
        hidden(lambda their, own: conversation.GetConversationRequest(conversation_id=their.conversation)),
    ),
    "ConversationService/ListConversations": (
        same(lambda their, own: conversation.ListConversationsRequest(agent_id=their.agent)),
        own(lambda their, own: conversation.ListConversationsRequest()),
    ),
    "ConversationService/UpdateConversation": (hidden(_conversation),),
    "ConversationService/DeleteConversation": (
        same(
            lambda their, own: conversation.DeleteConversationRequest(conversation_id=their.conversation),
            "FAILED_PRECONDITION",
        ),
    ),
    "ConversationService/ListMessages": (
        hidden(lambda their, own: conversation.ListMessagesRequest(conversation_id=their.conversation)),
    ),
    "ConversationService/ForkConversation": (
        hidden(lambda their, own: conversation.ForkConversationRequest(conversation_id=their.conversation)),
        hidden(
            lambda their, own: conversation.ForkConversationRequest(
                conversation_id=own.conversation, message_id=their.message
            )
        ),
    ),
    "TemplateService/UpsertTemplate": (
        own(
            lambda their, own: template.UpsertTemplateRequest(
                request_id=their.request_id, name="twin", document="agent: {name: Of a template}"
            )
        ),
    ),
    "TemplateService/GetTemplate": (
        hidden(lambda their, own: template.GetTemplateRequest(name=their.template_name)),
        hidden(lambda their, own: template.GetTemplateRequest(name=their.template_name, version=1)),
    ),
    "TemplateService/ListTemplates": (
        same(lambda their, own: template.ListTemplatesRequest(text=their.template_name)),
        own(lambda their, own: template.ListTemplatesRequest()),
    ),
    "TemplateService/ListTemplateVersions": (
        hidden(lambda their, own: template.ListTemplateVersionsRequest(name=their.template_name)),
    ),
    "TemplateService/DeleteTemplate": (
        same(lambda their, own: template.DeleteTemplateRequest(name=their.template_name)),
    ),
    "TemplateService/RenderTemplate": (
        hidden(lambda their, own: template.RenderTemplateRequest(name=their.template_name)),
        own(lambda their, own: template.RenderTemplateRequest(document="agent: {name: Of a template}")),
    ),
    "FileService/WriteFile": (
        unbuilt(
            lambda their, own: file.WriteFileRequest(header=file.WriteFileHeader(agent_id=their.agent, path="a.txt"))
        ),
    ),
    "FileService/ReadFile": (unbuilt(lambda their, own: file.ReadFileRequest(agent_id=their.agent, path="a.txt")),),
    "FileService/ListFiles": (unbuilt(lambda their, own: file.ListFilesRequest(agent_id=their.agent)),),
    "FileService/DeleteFile": (unbuilt(lambda their, own: file.DeleteFileRequest(agent_id=their.agent, path="a.txt")),),
    "ModelService/ListModels": (own(lambda their, own: model.ListModelsRequest()),),
    "RunService/StartRun": (
        hidden(lambda their, own: run.StartRunRequest(agent_id=their.agent, text="Hello.")),
        hidden(lambda their, own: run.StartRunRequest(conversation_id=their.conversation, text="Hello.")),
    ),
    "RunService/SendMessage": (
        hidden(
            lambda their, own: run.SendMessageRequest(start=run.StartRunRequest(agent_id=their.agent, text="Hello."))
        ),
        hidden(
            lambda their, own: run.SendMessageRequest(
                start=run.StartRunRequest(conversation_id=their.conversation, text="Hello.")
            )
        ),
    ),
    "RunService/WatchRun": (hidden(lambda their, own: run.WatchRunRequest(run_id=their.run)),),
    "RunService/WatchConversation": (
        hidden(lambda their, own: run.WatchConversationRequest(conversation_id=their.conversation)),
    ),
    # Not found is said of the subscription; the stream itself goes well.
    "RunService/Watch": (
        same(lambda their, own: _watch(run.WatchSubscribe(run_id=their.run))),
        same(lambda their, own: _watch(run.WatchSubscribe(conversation_id=their.conversation))),
    ),
    "RunService/GetRun": (hidden(lambda their, own: run.GetRunRequest(run_id=their.run)),),
    "RunService/ListRuns": (
        same(lambda their, own: run.ListRunsRequest(agent_id=their.agent)),
        same(lambda their, own: run.ListRunsRequest(conversation_id=their.conversation)),
        own(lambda their, own: run.ListRunsRequest()),
    ),
    "RunService/GetRunContext": (hidden(lambda their, own: run.GetRunContextRequest(run_id=their.run)),),
    "RunService/CancelRun": (hidden(lambda their, own: run.CancelRunRequest(run_id=their.run), "FAILED_PRECONDITION"),),
    "RunService/ResolveApproval": (
        hidden(
            lambda their, own: run.ResolveApprovalRequest(
                run_id=their.run, approval_id=ids.encode("appr", ids.new()), arguments_hash="0" * 64, approved=True
            ),
            "NOT_FOUND",
        ),
    ),
    "RunService/SubmitToolResults": (
        unbuilt(
            lambda their, own: run.SubmitToolResultsRequest(
                run_id=their.run, results=[run.ToolResult(tool_call_id="call", text="done")]
            )
        ),
    ),
    "WorkflowService/CreateWorkflow": (
        unbuilt(
            lambda their, own: workflow.CreateWorkflowRequest(
                name="flow", tasks=[workflow_pb2.Task(key="one", agent=their.agent, prompt="Go.")]
            )
        ),
    ),
    "WorkflowService/GetWorkflow": (
        unbuilt(lambda their, own: workflow.GetWorkflowRequest(workflow_id=their.workflow)),
    ),
    "WorkflowService/ListWorkflows": (unbuilt(lambda their, own: workflow.ListWorkflowsRequest()),),
    "WorkflowService/UpdateWorkflow": (unbuilt(_workflow),),
    "WorkflowService/DeleteWorkflow": (
        unbuilt(lambda their, own: workflow.DeleteWorkflowRequest(workflow_id=their.workflow)),
    ),
    "WorkflowService/StartWorkflowRun": (
        unbuilt(lambda their, own: workflow.StartWorkflowRunRequest(workflow_id=their.workflow)),
    ),
    "WorkflowService/GetWorkflowRun": (
        unbuilt(lambda their, own: workflow.GetWorkflowRunRequest(workflow_run_id=their.workflow_run)),
    ),
    "WorkflowService/ListWorkflowRuns": (
        unbuilt(lambda their, own: workflow.ListWorkflowRunsRequest(workflow_id=their.workflow)),
    ),
    "WorkflowService/WatchWorkflowRun": (
        unbuilt(lambda their, own: workflow.WatchWorkflowRunRequest(workflow_run_id=their.workflow_run)),
    ),
    "WorkflowService/CancelWorkflowRun": (
        unbuilt(lambda their, own: workflow.CancelWorkflowRunRequest(workflow_run_id=their.workflow_run)),
    ),
    "WorkflowService/ResolveWorkflowApproval": (
        unbuilt(
            lambda their, own: workflow.ResolveWorkflowApprovalRequest(
                workflow_run_id=their.workflow_run, task_key="one"
            )
        ),
    ),
}

AGENT_INTERNAL: Mapping[str, tuple[Case, ...]] = {
    "UsageService/GetUsage": (own(lambda their, own: usage.GetUsageRequest()),),
}
