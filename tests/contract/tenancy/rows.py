"""The tenancy matrix: for every RPC, requests about an organization's resources, and what another organization gets for them.

A row's requests are valid: the organization itself is served (`test_matrix.py` checks that too). `their` names the
organization that is asked about, `own` the one that asks; they are the same when an organization asks about itself.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from hearth.agent.v1 import agent_service_pb2 as agent
from hearth.agent.v1 import conversation_service_pb2 as conversation
from hearth.agent.v1 import file_service_pb2 as file
from hearth.agent.v1 import model_service_pb2 as model
from hearth.agent.v1 import run_service_pb2 as run
from hearth.agent.v1 import workflow_pb2
from hearth.agent.v1 import workflow_service_pb2 as workflow
from hearth.memory.internal.v1 import context_service_pb2 as context
from hearth.memory.internal.v1 import recall_index_service_pb2 as recall_index
from hearth.memory.v1 import archival_memory_service_pb2 as archival
from hearth.memory.v1 import block_service_pb2 as block
from hearth.memory.v1 import recall_memory_service_pb2 as recall
from hearth.memory.v1 import search_pb2
from hearth.tool.v1 import mcp_server_service_pb2 as mcp
from hearth.tool.v1 import secret_service_pb2 as secret
from hearth.tool.v1 import tool_execution_service_pb2 as execution
from hearth.tool.v1 import tool_service_pb2 as tool
from hearth.type.v1 import access_pb2
from hearth.user.internal.v1 import revocation_service_pb2 as revocation
from hearth.user.v1 import api_key_service_pb2 as api_key
from hearth.user.v1 import audit_service_pb2 as audit
from hearth.user.v1 import organization_service_pb2 as organization
from hearth.user.v1 import token_service_pb2 as token
from hearth.user.v1 import user_service_pb2 as user
from tests.contract.tenancy.tenants import Names

Build = Callable[[Names, Names], Message]


class Outcome(enum.Enum):
    """What another organization gets. Always: nothing of the asked-about organization is told, nothing of it changes."""

    HIDDEN = "NOT_FOUND, byte for byte the answer about what does not exist"
    SAME = "OK, byte for byte the answer about what does not exist"
    OWN = "OK, on the caller's own behalf"
    REACH = "NOT_FOUND as for what does not exist, except to platform administrators, who work across organizations"
    ROLE = "PERMISSION_DENIED: only platform administrators may, and they may it for all organizations"
    UNBUILT = "UNIMPLEMENTED for everybody with a token"
    PUBLIC = "no token needed"


@dataclass(frozen=True, slots=True)
class Case:
    """One request of a row. `endings`: what else than OK the organization itself may get, as names of status codes."""

    build: Build
    outcome: Outcome
    endings: tuple[str, ...] = ()


def hidden(build: Build, *endings: str) -> Case:
    return Case(build, Outcome.HIDDEN, endings)


def same(build: Build, *endings: str) -> Case:
    return Case(build, Outcome.SAME, endings)


def own(build: Build) -> Case:
    return Case(build, Outcome.OWN)


def reach(build: Build) -> Case:
    return Case(build, Outcome.REACH)


def role(build: Build) -> Case:
    return Case(build, Outcome.ROLE)


def unbuilt(build: Build) -> Case:
    return Case(build, Outcome.UNBUILT)


def public(build: Build) -> Case:
    return Case(build, Outcome.PUBLIC)


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


def _passage(their: Names, own: Names) -> Message:
    request = archival.UpdatePassageRequest()
    request.passage.id, request.passage.text = their.passage, "changed"
    request.update_mask.paths.append("text")
    return request


def _block(their: Names, own: Names) -> Message:
    request = block.UpdateBlockRequest()
    request.block.id, request.block.etag, request.block.value = their.block, their.block_etag, "changed"
    request.update_mask.paths.append("value")
    return request


def _tool(their: Names, own: Names) -> Message:
    request = tool.UpdateToolRequest()
    request.tool.id, request.tool.description = their.tool, "changed"
    request.update_mask.paths.append("description")
    return request


def _tool_spec(name: str) -> tool.ToolSpec:
    return tool.ToolSpec(source_code=f'def {name}() -> str:\n    """Answer."""\n    return "{name}"\n')


def _mcp(their: Names, own: Names) -> Message:
    request = mcp.UpdateMcpServerRequest()
    request.mcp_server.id, request.mcp_server.url = their.mcp_server, "http://127.0.0.1:1/"
    request.update_mask.paths.append("url")
    return request


def _new_mcp(their: Names, own: Names) -> Message:
    request = mcp.CreateMcpServerRequest()
    request.mcp_server.name, request.mcp_server.url = "server", "http://127.0.0.1:1/"
    return request


def _workflow(their: Names, own: Names) -> Message:
    request = workflow.UpdateWorkflowRequest()
    request.workflow.id, request.workflow.description = their.workflow, "changed"
    request.update_mask.paths.append("description")
    return request


def _organization(their: Names, own: Names) -> Message:
    request = organization.UpdateOrganizationRequest()
    request.organization.id, request.organization.display_name = their.organization, "changed"
    request.update_mask.paths.append("display_name")
    return request


def _user(their: Names, own: Names) -> Message:
    request = user.UpdateUserRequest()
    request.user.id, request.user.display_name = their.user, "changed"
    request.update_mask.paths.append("display_name")
    return request


def _new_user(their: Names, own: Names) -> Message:
    return user.CreateUserRequest(
        request_id=their.request_id,
        organization_id=their.organization,
        name=f"new-{own.word}",
        role=access_pb2.ROLE_VIEWER,
    )


def _remembered(their: Names, own: Names) -> Message:
    request = recall_index.IndexMessagesRequest()
    request.messages.add(
        message_id=their.message,
        agent_id=their.agent,
        conversation_id=their.conversation,
        seq=1,
        role="user",
        text="Hm.",
    )
    return request


def _passages(their: Names, own: Names) -> Message:
    request = archival.InsertPassagesRequest(request_id=their.request_id, agent_id=their.agent)
    request.passages.add(text="A fact of nobody's.", source_message_ids=[their.message])
    return request


def _watch(**topic: str) -> Message:
    return run.WatchRequest(subscribe=run.WatchSubscribe(subscription=1, **topic))  # pyright: ignore[reportArgumentType]


def _search(mode: search_pb2.SearchMode.ValueType, **scope: str) -> Message:
    return archival.SearchPassagesRequest(query="treasure", mode=mode, **scope)  # pyright: ignore[reportArgumentType]


def _recall(mode: search_pb2.SearchMode.ValueType, **scope: str) -> Message:
    return recall.SearchMessagesRequest(query="treasure", mode=mode, **scope)  # pyright: ignore[reportArgumentType]


_MODES = (search_pb2.SEARCH_MODE_HYBRID, search_pb2.SEARCH_MODE_DENSE, search_pb2.SEARCH_MODE_LEXICAL)

_AGENT: Mapping[str, tuple[Case, ...]] = {
    "AgentService/CreateAgent": (
        own(lambda their, own: agent.CreateAgentRequest(request_id=their.request_id, name="Twin")),
        # One of another's blocks, or of nobody's.
        hidden(lambda their, own: agent.CreateAgentRequest(name="With block", block_ids=[their.block])),
        hidden(lambda their, own: agent.CreateAgentRequest(name="With tool", tools=[their.tool])),
        hidden(lambda their, own: agent.CreateAgentRequest(name="With named tool", tools=[their.tool_name])),
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
    "AgentService/ExportAgent": (unbuilt(lambda their, own: agent.ExportAgentRequest(agent_id=their.agent)),),
    "AgentService/ImportAgent": (unbuilt(lambda their, own: agent.ImportAgentRequest(data=b"x")),),
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
        same(lambda their, own: _watch(run_id=their.run)),
        same(lambda their, own: _watch(conversation_id=their.conversation)),
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
        unbuilt(lambda their, own: run.ResolveApprovalRequest(run_id=their.run, approval_id="approval", approved=True)),
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

# memory_svc does not know which agents exist: memory of an agent that the caller's organization does not have is memory
# of the caller's that nobody reads.
_MEMORY: Mapping[str, tuple[Case, ...]] = {
    "ArchivalMemoryService/InsertPassages": (own(_passages),),
    "ArchivalMemoryService/ImportPassages": (
        unbuilt(
            lambda their, own: archival.ImportPassagesRequest(
                agent_id=their.agent,
                passages=[archival.PassageSpec(text="A fact.", source_message_ids=[their.message])],
            )
        ),
    ),
    "ArchivalMemoryService/GetPassage": (
        hidden(lambda their, own: archival.GetPassageRequest(passage_id=their.passage)),
    ),
    "ArchivalMemoryService/ListPassages": (
        same(lambda their, own: archival.ListPassagesRequest(tags=search_pb2.TagFilter(any=[their.word]))),
        own(lambda their, own: archival.ListPassagesRequest(agent_id=their.agent)),
        own(lambda their, own: archival.ListPassagesRequest()),
    ),
    "ArchivalMemoryService/UpdatePassage": (hidden(_passage),),
    "ArchivalMemoryService/DeletePassage": (
        same(lambda their, own: archival.DeletePassageRequest(passage_id=their.passage)),
    ),
    "ArchivalMemoryService/SearchPassages": (
        *(own(lambda their, own, mode=mode: _search(mode)) for mode in _MODES),
        *(own(lambda their, own, mode=mode: _search(mode, agent_id=their.agent)) for mode in _MODES),
    ),
    "BlockService/CreateBlock": (
        own(
            lambda their, own: block.CreateBlockRequest(
                request_id=their.request_id, label="twin", agent_ids=[their.agent]
            )
        ),
    ),
    "BlockService/GetBlock": (hidden(lambda their, own: block.GetBlockRequest(block_id=their.block)),),
    "BlockService/ListBlocks": (
        own(lambda their, own: block.ListBlocksRequest(agent_id=their.agent)),
        own(lambda their, own: block.ListBlocksRequest()),
    ),
    "BlockService/UpdateBlock": (hidden(_block, "ABORTED"),),
    "BlockService/DeleteBlock": (same(lambda their, own: block.DeleteBlockRequest(block_id=their.block)),),
    "BlockService/EditBlock": (
        hidden(lambda their, own: block.EditBlockRequest(block_id=their.block, append=block.AppendText(text="!"))),
        hidden(
            lambda their, own: block.EditBlockRequest(
                agent_block=block.AgentBlock(agent_id=their.agent, label=f"first-{their.word}"),
                append=block.AppendText(text="!"),
            )
        ),
        hidden(
            lambda their, own: block.EditBlockRequest(
                block_id=own.block, editor_agent_id=their.agent, append=block.AppendText(text="!")
            )
        ),
    ),
    "BlockService/AttachBlock": (
        hidden(lambda their, own: block.AttachBlockRequest(block_id=their.block, agent_id=own.agent)),
        own(lambda their, own: block.AttachBlockRequest(block_id=own.block, agent_id=their.agent)),
    ),
    "BlockService/DetachBlock": (
        hidden(lambda their, own: block.DetachBlockRequest(block_id=their.block, agent_id=own.agent)),
        own(lambda their, own: block.DetachBlockRequest(block_id=own.block, agent_id=their.agent)),
    ),
    "BlockService/ListBlockVersions": (
        hidden(lambda their, own: block.ListBlockVersionsRequest(block_id=their.block)),
    ),
    "BlockService/RestoreBlock": (
        hidden(
            lambda their, own: block.RestoreBlockRequest(block_id=their.block, version=1, etag=their.block_etag),
            "ABORTED",
        ),
    ),
    "RecallMemoryService/SearchMessages": (
        *(own(lambda their, own, mode=mode: _recall(mode)) for mode in _MODES),
        *(same(lambda their, own, mode=mode: _recall(mode, agent_id=their.agent)) for mode in _MODES),
        *(same(lambda their, own, mode=mode: _recall(mode, conversation_id=their.conversation)) for mode in _MODES),
    ),
}

_MEMORY_INTERNAL: Mapping[str, tuple[Case, ...]] = {
    "ContextService/CompileContext": (
        own(
            lambda their, own: context.CompileContextRequest(
                agent_id=their.agent, conversation_id=their.conversation, input="treasure", recall_budget_tokens=1000
            )
        ),
    ),
    "RecallIndexService/IndexMessages": (own(_remembered),),
    "RecallIndexService/ForgetConversation": (
        same(lambda their, own: recall_index.ForgetConversationRequest(conversation_id=their.conversation)),
    ),
    "RecallIndexService/ForgetAgent": (same(lambda their, own: recall_index.ForgetAgentRequest(agent_id=their.agent)),),
}

_TOOL: Mapping[str, tuple[Case, ...]] = {
    "McpServerService/CreateMcpServer": (unbuilt(_new_mcp),),
    "McpServerService/GetMcpServer": (
        unbuilt(lambda their, own: mcp.GetMcpServerRequest(mcp_server_id=their.mcp_server)),
    ),
    "McpServerService/ListMcpServers": (unbuilt(lambda their, own: mcp.ListMcpServersRequest()),),
    "McpServerService/UpdateMcpServer": (unbuilt(_mcp),),
    "McpServerService/DeleteMcpServer": (
        unbuilt(lambda their, own: mcp.DeleteMcpServerRequest(mcp_server_id=their.mcp_server)),
    ),
    "McpServerService/SyncMcpServer": (
        unbuilt(lambda their, own: mcp.SyncMcpServerRequest(mcp_server_id=their.mcp_server)),
    ),
    "SecretService/SetSecret": (unbuilt(lambda their, own: secret.SetSecretRequest(name="TOKEN", value="x")),),
    "SecretService/ListSecrets": (unbuilt(lambda their, own: secret.ListSecretsRequest()),),
    "SecretService/DeleteSecret": (unbuilt(lambda their, own: secret.DeleteSecretRequest(name="TOKEN")),),
    "ToolExecutionService/ExecuteTool": (
        hidden(lambda their, own: execution.ExecuteToolRequest(tool_id=their.tool)),
        hidden(lambda their, own: execution.ExecuteToolRequest(name=their.tool_name)),
    ),
    "ToolService/CreateTool": (
        own(lambda their, own: tool.CreateToolRequest(request_id=their.request_id, tool=_tool_spec("twin"))),
    ),
    "ToolService/UpsertTool": (
        own(lambda their, own: tool.UpsertToolRequest(request_id=their.request_id, tool=_tool_spec("upserted"))),
        own(lambda their, own: tool.UpsertToolRequest(tool=_tool_spec(f"other_{their.word}"))),
    ),
    "ToolService/GetTool": (
        hidden(lambda their, own: tool.GetToolRequest(tool_id=their.tool)),
        hidden(lambda their, own: tool.GetToolRequest(name=their.tool_name)),
    ),
    "ToolService/ListTools": (
        same(lambda their, own: tool.ListToolsRequest(tool_ids=[their.tool])),
        same(lambda their, own: tool.ListToolsRequest(tags=[their.word])),
        same(lambda their, own: tool.ListToolsRequest(name_prefix=their.tool_name)),
        own(lambda their, own: tool.ListToolsRequest()),
    ),
    "ToolService/UpdateTool": (hidden(_tool),),
    "ToolService/DeleteTool": (hidden(lambda their, own: tool.DeleteToolRequest(tool_id=their.tool)),),
    "ToolService/ListToolVersions": (hidden(lambda their, own: tool.ListToolVersionsRequest(tool_id=their.tool)),),
    "ToolService/DeriveToolSchema": (
        own(lambda their, own: tool.DeriveToolSchemaRequest(source_code=_tool_spec("derived").source_code)),
    ),
}

_USER: Mapping[str, tuple[Case, ...]] = {
    "ApiKeyService/CreateApiKey": (
        hidden(lambda their, own: api_key.CreateApiKeyRequest(user_id=their.user)),
        reach(lambda their, own: api_key.CreateApiKeyRequest(user_id=their.user, organization_id=their.organization)),
    ),
    "ApiKeyService/ListApiKeys": (
        hidden(lambda their, own: api_key.ListApiKeysRequest(user_id=their.user)),
        own(lambda their, own: api_key.ListApiKeysRequest()),
    ),
    "ApiKeyService/RevokeApiKey": (hidden(lambda their, own: api_key.RevokeApiKeyRequest(api_key_id=their.key)),),
    "AuditService/ListAuditEvents": (unbuilt(lambda their, own: audit.ListAuditEventsRequest(actor=their.user)),),
    "OrganizationService/CreateOrganization": (
        role(lambda their, own: organization.CreateOrganizationRequest(name=f"made-by-{own.word}")),
    ),
    "OrganizationService/GetOrganization": (
        reach(lambda their, own: organization.GetOrganizationRequest(organization_id=their.organization)),
        own(lambda their, own: organization.GetOrganizationRequest()),
    ),
    "OrganizationService/ListOrganizations": (role(lambda their, own: organization.ListOrganizationsRequest()),),
    "OrganizationService/UpdateOrganization": (reach(_organization),),
    "OrganizationService/DeleteOrganization": (
        role(lambda their, own: organization.DeleteOrganizationRequest(organization_id=their.organization)),
    ),
    "TokenService/IssueToken": (public(lambda their, own: token.IssueTokenRequest(api_key="hk_" + "A" * 43)),),
    "TokenService/GetJwks": (public(lambda their, own: token.GetJwksRequest()),),
    "TokenService/RotateSigningKey": (role(lambda their, own: token.RotateSigningKeyRequest()),),
    "TokenService/WhoAmI": (own(lambda their, own: token.WhoAmIRequest()),),
    "UserService/CreateUser": (reach(_new_user),),
    "UserService/GetUser": (hidden(lambda their, own: user.GetUserRequest(user_id=their.user)),),
    "UserService/ListUsers": (own(lambda their, own: user.ListUsersRequest()),),
    "UserService/UpdateUser": (hidden(_user),),
    "UserService/DeleteUser": (hidden(lambda their, own: user.DeleteUserRequest(user_id=their.user)),),
}

_USER_INTERNAL: Mapping[str, tuple[Case, ...]] = {
    # Ids of whose tokens are void, the same for every service: each verifies tokens of all organizations.
    "RevocationService/ListRevocations": (own(lambda their, own: revocation.ListRevocationsRequest()),),
}

_PACKAGES = {
    "hearth.agent.v1": _AGENT,
    "hearth.memory.v1": _MEMORY,
    "hearth.memory.internal.v1": _MEMORY_INTERNAL,
    "hearth.tool.v1": _TOOL,
    "hearth.user.v1": _USER,
    "hearth.user.internal.v1": _USER_INTERNAL,
}

# `package.Service/Method` → the cases of its row.
ROWS: Mapping[str, tuple[Case, ...]] = {
    f"{package}.{method}": cases for package, rows in _PACKAGES.items() for method, cases in rows.items()
}

# What these leave behind is seen by what asks, and what these take away is missed by it: so they come last, in this order.
_LAST = (
    *("Create", "Insert", "Index", "Upsert", "Attach"),
    *("Cancel", "Detach", "Revoke", "Delete", "Forget", "DeleteUser", "DeleteAgent", "DeleteOrganization"),
)


def in_order(names: list[str]) -> list[str]:
    """The RPCs with those last that change what others answer."""

    def rank(name: str) -> int:
        method = name.rpartition("/")[2]
        return max((place + 1 for place, start in enumerate(_LAST) if method.startswith(start)), default=0)

    return sorted(names, key=rank)
