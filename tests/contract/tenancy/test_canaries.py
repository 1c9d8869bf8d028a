"""Ten organizations that all talk about the same things, each with a word of its own: nobody ever sees another's word.

HEARTH_CANARY_OPERATIONS is the number of operations of each organization, 40 by default; all organizations work at once.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from google.protobuf.message import Message

from chassis.identity import Role
from hearth.agent.v1 import agent_service_pb2 as agents
from hearth.agent.v1 import conversation_service_pb2 as conversations
from hearth.agent.v1 import run_service_pb2 as runs
from hearth.memory.internal.v1 import context_service_pb2 as context
from hearth.memory.v1 import archival_memory_service_pb2 as archival
from hearth.memory.v1 import block_service_pb2 as blocks
from hearth.memory.v1 import recall_memory_service_pb2 as recall
from hearth.memory.v1 import search_pb2
from hearth.tool.v1 import tool_execution_service_pb2 as execution
from hearth.tool.v1 import tool_service_pb2 as tools
from hearth.user.v1 import api_key_service_pb2 as keys
from hearth.user.v1 import token_service_pb2 as tokens
from hearth.user.v1 import user_service_pb2 as users
from tests.contract.tenancy.rpcs import all_rpcs
from tests.contract.tenancy.tenants import Names, Registrar, Tenant

_ORGANIZATIONS = 10
_OPERATIONS = int(os.environ.get("HEARTH_CANARY_OPERATIONS", "40"))
_AT_ONCE = 5
_MODES = (search_pb2.SEARCH_MODE_HYBRID, search_pb2.SEARCH_MODE_DENSE, search_pb2.SEARCH_MODE_LEXICAL)

# own names, a text to look for, a mode → the request. What is looked for is in every organization's texts, or only in
# another's.
Build = Callable[[Names, str, search_pb2.SearchMode.ValueType], Message]


def _turn(own: Names, text: str, mode: search_pb2.SearchMode.ValueType) -> Message:
    # The scripted model repeats what it is sent, recalled memories included: so nothing of another's is asked for here.
    start = runs.StartRunRequest(agent_id=own.agent, text="Where is the treasure, and where the key?")
    return runs.SendMessageRequest(start=start)


_OPERATION: Mapping[str, Build] = {
    "hearth.agent.v1.AgentService/GetAgent": lambda own, text, mode: agents.GetAgentRequest(agent_id=own.agent),
    "hearth.agent.v1.AgentService/ListAgents": lambda own, text, mode: agents.ListAgentsRequest(),
    "hearth.agent.v1.ConversationService/ListConversations": (
        lambda own, text, mode: conversations.ListConversationsRequest()
    ),
    "hearth.agent.v1.ConversationService/ListMessages": (
        lambda own, text, mode: conversations.ListMessagesRequest(conversation_id=own.conversation)
    ),
    "hearth.agent.v1.RunService/ListRuns": lambda own, text, mode: runs.ListRunsRequest(),
    "hearth.agent.v1.RunService/GetRunContext": lambda own, text, mode: runs.GetRunContextRequest(run_id=own.run),
    "hearth.agent.v1.RunService/SendMessage": _turn,
    "hearth.agent.v1.RunService/WatchRun": lambda own, text, mode: runs.WatchRunRequest(run_id=own.run),
    "hearth.agent.v1.RunService/WatchConversation": (
        lambda own, text, mode: runs.WatchConversationRequest(conversation_id=own.conversation)
    ),
    "hearth.memory.v1.ArchivalMemoryService/ListPassages": lambda own, text, mode: archival.ListPassagesRequest(),
    "hearth.memory.v1.ArchivalMemoryService/SearchPassages": (
        lambda own, text, mode: archival.SearchPassagesRequest(query=text, mode=mode, top_k=200, explain=True)
    ),
    "hearth.memory.v1.RecallMemoryService/SearchMessages": (
        lambda own, text, mode: recall.SearchMessagesRequest(
            query=text, mode=mode, top_k=200, context_before=5, context_after=5
        )
    ),
    "hearth.memory.v1.BlockService/ListBlocks": lambda own, text, mode: blocks.ListBlocksRequest(),
    "hearth.memory.v1.BlockService/ListBlockVersions": (
        lambda own, text, mode: blocks.ListBlockVersionsRequest(block_id=own.block)
    ),
    "hearth.memory.internal.v1.ContextService/CompileContext": (
        lambda own, text, mode: context.CompileContextRequest(
            agent_id=own.agent, input=text, recall_budget_tokens=10_000, recall_top_k=100
        )
    ),
    "hearth.tool.v1.ToolService/ListTools": lambda own, text, mode: tools.ListToolsRequest(),
    "hearth.tool.v1.ToolService/ListToolVersions": (
        lambda own, text, mode: tools.ListToolVersionsRequest(tool_id=own.tool)
    ),
    "hearth.tool.v1.ToolExecutionService/ExecuteTool": (
        lambda own, text, mode: execution.ExecuteToolRequest(name=own.tool_name)
    ),
    "hearth.user.v1.UserService/ListUsers": lambda own, text, mode: users.ListUsersRequest(),
    "hearth.user.v1.ApiKeyService/ListApiKeys": lambda own, text, mode: keys.ListApiKeysRequest(),
    "hearth.user.v1.TokenService/WhoAmI": lambda own, text, mode: tokens.WhoAmIRequest(),
}


@dataclass
class Sightings:
    """What an organization's callers saw: operations that told of others, and how often each told of the own word."""

    foreign: list[str] = field(default_factory=list)
    own: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def tenants(registrar: Registrar) -> list[Tenant]:
    """Organizations whose texts differ in one word."""
    return [registrar.tenant() for _ in range(_ORGANIZATIONS)]


@pytest.mark.timeout(max(120, _OPERATIONS * 5))
def test_nobody_ever_sees_another_organization_s_word(registrar: Registrar, tenants: list[Tenant]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        seen = list(pool.map(lambda tenant: _work(registrar, tenant, tenants), tenants))

    assert [told for sightings in seen for told in sightings.foreign] == []
    done, own = Counter[str](), Counter[str]()
    for sightings in seen:
        done, own = done + sightings.done, own + sightings.own
    assert done.total() == _ORGANIZATIONS * _OPERATIONS
    # Where the own word never comes up, another's would not either.
    assert set(own) == set(_OPERATION), f"never told of the own word: {set(_OPERATION) - set(own)}"


def _work(registrar: Registrar, tenant: Tenant, tenants: list[Tenant]) -> Sightings:
    sightings = Sightings()
    choose = random.Random(tenant.names.word)
    others = [other.names.word for other in tenants if other is not tenant]
    operations = list(_OPERATION)
    choose.shuffle(operations)
    for number in range(_OPERATIONS):
        name = operations[number % len(operations)]
        rpc = all_rpcs()[name]
        text = choose.choice((choose.choice(others), "treasure under the tree", "What hangs behind the door?"))
        request = _OPERATION[name](tenant.names, text, choose.choice(_MODES))
        who = choose.choice((Role.MEMBER, Role.ORGANIZATION_ADMIN, Role.PLATFORM_ADMIN))
        answer = registrar.doors.call(rpc, [request], tenant.tokens[Role.SERVICE if rpc.internal else who])
        assert answer.code.name == "OK", f"{name}: {answer}"
        sightings.done[name] += 1
        if tenant.names.word.encode() in answer.bytes:
            sightings.own[name] += 1
        sightings.foreign += [f"{name} told of {word}" for word in others if word.encode() in answer.bytes]
    return sightings
