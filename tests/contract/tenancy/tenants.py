"""Organizations with something in every table, made through the API by a platform administrator."""

import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import grpc
from google.protobuf.message import Message

from chassis import ids
from chassis.identity import Access, Role
from deploy.local import Stack
from hearth.agent.v1 import agent_pb2, run_pb2
from hearth.agent.v1 import agent_service_pb2 as agents
from hearth.agent.v1 import conversation_service_pb2 as conversations
from hearth.agent.v1 import run_service_pb2 as runs
from hearth.agent.v1 import template_service_pb2 as templates
from hearth.memory.internal.v1 import context_service_pb2 as context
from hearth.memory.internal.v1 import recall_index_service_pb2 as recall_index
from hearth.memory.v1 import archival_memory_service_pb2 as archival
from hearth.memory.v1 import block_service_pb2 as blocks
from hearth.tool.v1 import mcp_server_service_pb2 as mcp_servers
from hearth.tool.v1 import secret_service_pb2 as tool_secrets
from hearth.tool.v1 import tool_service_pb2 as tools
from hearth.type.v1 import access_pb2
from hearth.user.v1 import api_key_service_pb2 as keys
from hearth.user.v1 import organization_service_pb2 as organizations
from hearth.user.v1 import token_service_pb2 as tokens
from hearth.user.v1 import trusted_issuer_service_pb2 as issuers
from hearth.user.v1 import user_service_pb2 as users
from tests.contract.tenancy.rpcs import Doors, all_rpcs
from tests.fakes.model_control import ThreadedModelServer

_WAIT_S = 30.0
# The roles of people, and what each of them may just do.
_REACH = {
    Access.VIEWER: Role.VIEWER,
    Access.MEMBER: Role.MEMBER,
    Access.ORGANIZATION_ADMIN: Role.ORGANIZATION_ADMIN,
    Access.PLATFORM_ADMIN: Role.PLATFORM_ADMIN,
    Access.SERVICE: Role.SERVICE,
}


@dataclass(frozen=True, slots=True)
class Names:
    """What an organization's resources are called. `word` is in every text of it and nowhere else."""

    word: str
    organization: str = ""
    user: str = ""
    key: str = ""
    tool: str = ""
    tool_name: str = ""
    agent: str = ""
    agent_name: str = ""
    conversation: str = ""
    message: str = ""
    run: str = ""
    block: str = ""
    block_etag: str = ""
    passage: str = ""
    trusted_issuer: str = ""
    mcp_server: str = ""
    template_name: str = ""
    workflow: str = field(default_factory=lambda: ids.encode("wf", ids.new()))
    workflow_run: str = field(default_factory=lambda: ids.encode("wfrun", ids.new()))
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def absent(self) -> "Names":
        """The same kinds of names, of the same lengths, of nothing that exists."""
        made = {one.name: _another(str(getattr(self, one.name))) for one in fields(self)}
        return replace(self, **made | {"block_etag": self.block_etag})

    def masked(self, text: bytes) -> bytes:
        """The text with every name of these replaced by its kind."""
        for name, kind in sorted(self._kinds().items(), key=lambda item: -len(item[0])):
            text = text.replace(name, kind)
        return text

    def in_text(self, text: bytes) -> list[str]:
        """The kinds of these names that occur in a text."""
        return [kind.decode() for name, kind in self._kinds().items() if name in text]

    def _kinds(self) -> dict[bytes, bytes]:
        return {value.encode(): f"<{name}>".encode() for name, value in asdict(self).items() if len(value) > 2}


def _another(name: str) -> str:
    prefix, _, rest = name.partition("_")
    if len(rest) == 26:
        return ids.encode(prefix, ids.new())
    if name.count("-") == 4:
        return str(uuid.uuid4())
    return name[:1] + secrets.token_hex(len(name))[: len(name) - 1] if name else ""


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization: its names, and a token for each role that a caller may have in it."""

    names: Names
    tokens: dict[Role, str]
    keys: dict[Role, str]

    def token(self, access: Access) -> str | None:
        """The token of whoever may just do this; None where nobody needs one."""
        return None if access is Access.ANONYMOUS else self.tokens[_REACH[access]]

    @property
    def uuid(self) -> uuid.UUID:
        """The organization's id as the databases have it."""
        return ids.decode("org", self.names.organization)


class Registrar:
    """Makes tenants in a stack."""

    def __init__(self, stack: Stack, doors: Doors, model: ThreadedModelServer) -> None:
        self.doors = doors
        self._model = model
        self._service_key = (stack.credentials / "agent_svc.key").read_text().strip()
        self.platform = self.sign_in(stack.api_key)

    def do(self, name: str, request: Message, token: str | None) -> Any:
        """The answer to a call that must go well."""
        answer = self.doors.call(all_rpcs()[name], [request], token)
        assert answer.code is grpc.StatusCode.OK, f"{name}: {answer}"
        return answer.responses[-1]

    def sign_in(self, key: str, organization_id: str = "") -> str:
        """A token for an API key; for a service's key, on behalf of an organization."""
        request = tokens.IssueTokenRequest(api_key=key, on_behalf_of_organization_id=organization_id)
        return self.do("hearth.user.v1.TokenService/IssueToken", request, None).token

    def tenant(self) -> Tenant:
        """An organization with a user of each role, two of every resource, one run with a tool call and one that asked first."""
        word = f"canary{secrets.token_hex(8)}"
        tenant = self.people(word)
        return replace(tenant, names=self._things(tenant))

    def people(self, word: str) -> Tenant:
        """An organization with a user of each role and nothing else."""
        request = organizations.CreateOrganizationRequest(name=word, display_name=f"House of {word}")
        made = self.do("hearth.user.v1.OrganizationService/CreateOrganization", request, self.platform).organization
        secrets_: dict[Role, str] = {}
        for role in (Role.VIEWER, Role.MEMBER, Role.ORGANIZATION_ADMIN, Role.PLATFORM_ADMIN):
            user = self._user(made.id, f"{role.name.lower().replace('_', '-')}-{word}", role)
            secrets_[role] = self.key(made.id, user, word).secret
        passes = {role: self.sign_in(secret) for role, secret in secrets_.items()}
        passes[Role.SERVICE] = self.sign_in(self._service_key, made.id)
        spare = self._user(made.id, f"spare-{word}", Role.MEMBER)
        trusted = [self.make_issuer(word, passes[Role.ORGANIZATION_ADMIN]) for _ in range(2)]
        key = self.key(made.id, spare, word).api_key.id
        names = Names(word, organization=made.id, user=spare, key=key, trusted_issuer=trusted[0])
        return Tenant(names, passes, secrets_)

    def _user(self, organization_id: str, name: str, role: Role) -> str:
        request = users.CreateUserRequest(
            organization_id=organization_id,
            name=name,
            email=f"{name}@example.org",
            role=access_pb2.Role.Value(f"ROLE_{role.name}"),
            request_id=str(uuid.uuid4()),
        )
        return self.do("hearth.user.v1.UserService/CreateUser", request, self.platform).user.id

    def make_issuer(self, word: str, token: str) -> str:
        """The id of a trusted issuer, at an address where nobody is."""
        request = issuers.CreateTrustedIssuerRequest(
            request_id=str(uuid.uuid4()),
            issuer=f"http://127.0.0.1:9/{secrets.token_hex(8)}",
            audience=word,
            display_name=f"Sign-in of {word}",
            default_role=Role.VIEWER.value,  # pyright: ignore[reportArgumentType]
        )
        return self.do("hearth.user.v1.TrustedIssuerService/CreateTrustedIssuer", request, token).trusted_issuer.id

    def key(self, organization_id: str, user_id: str, word: str) -> keys.CreateApiKeyResponse:
        """A new API key of a user."""
        request = keys.CreateApiKeyRequest(organization_id=organization_id, user_id=user_id, display_name=word)
        return self.do("hearth.user.v1.ApiKeyService/CreateApiKey", request, self.platform)

    def _things(self, tenant: Tenant) -> Names:
        word, token = tenant.names.word, tenant.tokens[Role.MEMBER]
        self.make_tool(word, f"other_{word}", token)
        tool = self.make_tool(word, f"tool_{word}", token)
        for name in (word.upper(), f"{word.upper()}_2"):
            secret = tool_secrets.SetSecretRequest(name=name, value=f"The secret of {word}")
            self.do("hearth.tool.v1.SecretService/SetSecret", secret, tenant.tokens[Role.ORGANIZATION_ADMIN])
        careful = self.make_agent(word, f"Second of {word}", token, tool.name, asks=True)
        agent = self.make_agent(word, f"First of {word}", token, tool.name)
        server = self.make_mcp_server(word, tenant.tokens[Role.ORGANIZATION_ADMIN])
        template = self.make_template(word, token)
        block = self.make_block(word, f"second-{word}", token, agent.id)
        block = self.make_block(word, f"first-{word}", token, agent.id)
        passage = self.make_passages(word, token, agent.id)
        run, message = self._turns(word, token, agent.id, tool.name)
        self._asked(word, token, careful.id, tool.name)
        self._forgotten(tenant, agent.id)
        self._until(lambda: self._remembered(tenant, agent.id, 4), "the messages are searchable")
        return replace(
            tenant.names,
            tool=tool.id,
            tool_name=tool.name,
            agent=agent.id,
            agent_name=agent.name,
            conversation=agent.default_conversation_id,
            message=message,
            run=run,
            block=block.id,
            block_etag=block.etag,
            passage=passage,
            mcp_server=server,
            template_name=template,
        )

    def make_tool(self, word: str, name: str, token: str) -> Any:
        """A tool that answers with the word, in its second version."""
        source = f'def {name}() -> str:\n    """Say {word}."""\n    return "{word}"\n'
        request = tools.CreateToolRequest(request_id=str(uuid.uuid4()))
        request.tool.source_code = source
        request.tool.tags.append(word)
        tool = self.do("hearth.tool.v1.ToolService/CreateTool", request, token).tool
        change = tools.UpdateToolRequest(tool=tool)
        change.tool.source_code = source.replace("Say", "Tell")
        change.update_mask.paths.append("source_code")
        return self.do("hearth.tool.v1.ToolService/UpdateTool", change, token).tool

    def make_template(self, word: str, token: str) -> str:
        """A template whose texts hold the word, in its second version. Returns its name."""
        name = f"template-{word}"
        for text in ("First", "Second"):
            document = f"description: {text} of {word}\nagent: {{name: Agent of {word}}}\n"
            request = templates.UpsertTemplateRequest(name=name, document=document)
            self.do("hearth.agent.v1.TemplateService/UpsertTemplate", request, token)
        return name

    def make_mcp_server(self, word: str, token: str) -> str:
        """An MCP server at an address where there is none. Returns its id."""
        request = mcp_servers.CreateMcpServerRequest(request_id=str(uuid.uuid4()))
        request.mcp_server.name, request.mcp_server.url = f"server_{word}", f"http://192.0.2.1/{word}"
        request.mcp_server.header_secrets["X-Word"] = word.upper()
        return self.do("hearth.tool.v1.McpServerService/CreateMcpServer", request, token).mcp_server.id

    def make_agent(self, word: str, name: str, token: str, tool: str = "", *, asks: bool = False) -> Any:
        """An agent whose texts hold the word; with `asks` it waits for an approval of each tool call."""
        request = agents.CreateAgentRequest(
            request_id=str(uuid.uuid4()),
            name=name,
            description=f"Knows {word}",
            instructions=f"Never say {word}.",
            tools=[tool] if tool else [],
            tags=[word],
            metadata={"word": word},
        )
        if asks:
            request.settings.approvals = agent_pb2.APPROVAL_POLICY_ALWAYS
        agent = self.do("hearth.agent.v1.AgentService/CreateAgent", request, token).agent
        spare = conversations.CreateConversationRequest(agent_id=agent.id, display_name=f"About {word}")
        self.do("hearth.agent.v1.ConversationService/CreateConversation", spare, token)
        return agent

    def make_block(self, word: str, label: str, token: str, agent_id: str) -> Any:
        """A block with a version, attached."""
        request = blocks.CreateBlockRequest(
            request_id=str(uuid.uuid4()), label=label, value=f"The word is {word}.", agent_ids=[agent_id]
        )
        block = self.do("hearth.memory.v1.BlockService/CreateBlock", request, token).block
        edit = blocks.EditBlockRequest(block_id=block.id, append=blocks.AppendText(text=f" Mind {word}!"))
        return self.do("hearth.memory.v1.BlockService/EditBlock", edit, token).block

    def make_passages(self, word: str, token: str, agent_id: str) -> str:
        """Two passages, one of them changed once. Returns its id."""
        request = archival.InsertPassagesRequest(request_id=str(uuid.uuid4()), agent_id=agent_id)
        for text in (f"The treasure lies under the {word} tree.", f"The key hangs behind the {word} door."):
            request.passages.add(text=text, tags=[word]).metadata["word"] = word
        name = "hearth.memory.v1.ArchivalMemoryService/"
        passage = self.do(f"{name}InsertPassages", request, token).passages[0]
        begun = archival.ImportPassagesRequest(import_id=str(uuid.uuid4()), agent_id=agent_id)
        self.do(f"{name}ImportPassages", begun, token)
        change = archival.UpdatePassageRequest(passage=passage)
        change.passage.text += " So they say."
        change.update_mask.paths.append("text")
        return self.do(f"{name}UpdatePassage", change, token).passage.id

    def turn(self, agent_id: str, text: str, token: str) -> str:
        """The id of a run that has ended well."""
        request = runs.StartRunRequest(request_id=str(uuid.uuid4()), agent_id=agent_id, text=text)
        run = self.do("hearth.agent.v1.RunService/StartRun", request, token).run
        asked = runs.GetRunRequest(run_id=run.id)

        def over() -> bool:
            state = self.do("hearth.agent.v1.RunService/GetRun", asked, token).run.state
            return state == run_pb2.RUN_STATE_SUCCEEDED

        self._until(over, "the run has succeeded")
        return run.id

    def _turns(self, word: str, token: str, agent_id: str, tool: str) -> tuple[str, str]:
        self._model.script(
            f"Use it, {word}", {"tool_calls": [{"name": tool, "arguments": {}}]}, {"text": f"It is {word}."}
        )
        run = self.turn(agent_id, f"Use it, {word}!", token)
        self.turn(agent_id, f"Where is the {word} treasure?", token)
        listing = conversations.ListMessagesRequest(conversation_id=self._conversation_of(agent_id, token))
        found = self.do("hearth.agent.v1.ConversationService/ListMessages", listing, token).messages
        return run, found[0].id

    def _asked(self, word: str, token: str, agent_id: str, tool: str) -> None:
        """A run that waited for an approval, and was cancelled."""
        self._model.script(f"Ask first, {word}", {"tool_calls": [{"name": tool, "arguments": {}}]})
        request = runs.StartRunRequest(request_id=str(uuid.uuid4()), agent_id=agent_id, text=f"Ask first, {word}!")
        run = self.do("hearth.agent.v1.RunService/StartRun", request, token).run
        asked = runs.GetRunRequest(run_id=run.id)

        def waits() -> bool:
            return self.do("hearth.agent.v1.RunService/GetRun", asked, token).run.state == run_pb2.RUN_STATE_WAITING

        self._until(waits, "the run waits")
        self.do("hearth.agent.v1.RunService/CancelRun", runs.CancelRunRequest(run_id=run.id), token)

    def _conversation_of(self, agent_id: str, token: str) -> str:
        request = agents.GetAgentRequest(agent_id=agent_id)
        return self.do("hearth.agent.v1.AgentService/GetAgent", request, token).agent.default_conversation_id

    def _forgotten(self, tenant: Tenant, agent_id: str) -> None:
        conversation_id = ids.encode("conv", ids.new())
        request = recall_index.ForgetConversationRequest(conversation_id=conversation_id)
        name = "hearth.memory.internal.v1.RecallIndexService/ForgetConversation"
        self.do(name, request, tenant.tokens[Role.SERVICE])

    def _remembered(self, tenant: Tenant, agent_id: str, count: int) -> bool:
        request = context.CompileContextRequest(agent_id=agent_id, input=tenant.names.word, recall_budget_tokens=1000)
        name = "hearth.memory.internal.v1.ContextService/CompileContext"
        answer = self.do(name, request, tenant.tokens[Role.SERVICE])
        return answer.message_count >= count

    @staticmethod
    def _until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {_WAIT_S:.0f} s: {what}"
            time.sleep(0.05)
