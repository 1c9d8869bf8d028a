"""Credentials that were good, or are good for something else: every RPC refuses what was revoked and what a scope leaves out."""

import time
import uuid
from collections.abc import Mapping

import grpc
import pytest

from chassis.identity import Access, Role
from chassis.scopes import ALL_SCOPES, covers, scope_of
from hearth.user.v1 import api_key_service_pb2, organization_pb2, organization_service_pb2, user_service_pb2
from tests.contract.tenancy.rows import ROWS, in_order
from tests.contract.tenancy.rpcs import Doors, Rpc, all_rpcs
from tests.contract.tenancy.tenants import Registrar, Tenant
from tests.contract.tenancy.tokens import Forger

_PROMISE_S = 5.0
_GUARDED = in_order([name for name, rpc in all_rpcs().items() if rpc.access is not Access.ANONYMOUS])
# One call of each service, to see that it knows.
_ANY = {
    "user_svc": "hearth.user.v1.TokenService/WhoAmI",
    "tool_svc": "hearth.tool.v1.ToolService/ListTools",
    "memory_svc": "hearth.memory.v1.BlockService/ListBlocks",
    "agent_svc": "hearth.agent.v1.AgentService/ListAgents",
}


def _scope(name: str) -> str:
    service, _, method = name.partition("/")
    return scope_of(service, method, all_rpcs()[name].access)


_LIMITED = [name for name in _GUARDED if _scope(name)]


def _doors_of(rpc: Rpc) -> list[str]:
    return [rpc.component] if rpc.internal else [rpc.component, "envoy"]


@pytest.fixture(scope="module")
def people(registrar: Registrar) -> Tenant:
    """An organization whose credentials are taken away."""
    return registrar.people("voided")


@pytest.fixture(scope="module")
def void(registrar: Registrar, people: Tenant, forger: Forger) -> Mapping[str, Mapping[str, object]]:
    """What is void → the claim by which a token rests on it; known to every service by now."""
    admin, names = people.tokens[Role.ORGANIZATION_ADMIN], people.names
    revoked = registrar.key(names.organization, names.user, "revoked").api_key.id
    request = api_key_service_pb2.RevokeApiKeyRequest(api_key_id=revoked)
    registrar.do("hearth.user.v1.ApiKeyService/RevokeApiKey", request, admin)

    change = user_service_pb2.UpdateUserRequest()
    change.user.id, change.user.disabled = names.user, True
    change.update_mask.paths.append("disabled")
    registrar.do("hearth.user.v1.UserService/UpdateUser", change, admin)

    closed = registrar.people("closed").names.organization
    closing = organization_service_pb2.UpdateOrganizationRequest()
    closing.organization.id, closing.organization.state = closed, organization_pb2.ORGANIZATION_STATE_DISABLED
    closing.update_mask.paths.append("state")
    registrar.do("hearth.user.v1.OrganizationService/UpdateOrganization", closing, registrar.platform)

    claims = {
        "a revoked key": {"key": revoked},
        "a disabled user": {"sub": names.user},
        "a disabled organization": {"org": closed},
    }
    deadline = time.monotonic() + _PROMISE_S
    for changes in claims.values():
        token = forger.sign(people.tokens[Role.VIEWER], **changes)
        for name in _ANY.values():
            while (
                registrar.doors.call(all_rpcs()[name], [all_rpcs()[name].request()], token).code is grpc.StatusCode.OK
            ):
                assert time.monotonic() < deadline, f"{name} goes on with {changes} after {_PROMISE_S} s"
                time.sleep(0.05)
    return claims


@pytest.mark.parametrize("name", _GUARDED)
def test_what_was_revoked_is_refused(
    name: str, doors: Doors, people: Tenant, forger: Forger, void: Mapping[str, Mapping[str, object]]
) -> None:
    rpc = all_rpcs()[name]
    good = people.token(rpc.access)
    assert good is not None
    request = ROWS[name][0].build(people.names, people.names)
    for kind, changes in void.items():
        token = forger.sign(good, **changes)
        for door in _doors_of(rpc):
            answer = doors.call(rpc, [request], token, door=door)
            assert answer.code is grpc.StatusCode.UNAUTHENTICATED, f"{kind} through {door}: {answer}"
            assert (answer.reasons, answer.responses) == (["TOKEN_INVALID"], []), f"{kind} through {door}: {answer}"
            assert answer.text == "the credential has been revoked", f"{kind} through {door}: {answer}"


@pytest.mark.parametrize("name", _LIMITED)
def test_what_the_scopes_leave_out_is_refused(name: str, doors: Doors, people: Tenant, forger: Forger) -> None:
    rpc, needed = all_rpcs()[name], _scope(name)
    good = people.token(rpc.access)
    assert good is not None
    others = sorted(scope for scope in ALL_SCOPES if not covers({scope}, needed))
    assert len(others) >= 6
    request = ROWS[name][0].build(people.names, people.names)
    for door in _doors_of(rpc):
        for scopes in (" ".join(others), "", "openid profile"):
            answer = doors.call(rpc, [request], forger.sign(good, scope=scopes), door=door)
            assert answer.code is grpc.StatusCode.PERMISSION_DENIED, f"{scopes!r} through {door}: {answer}"
            assert (answer.reasons, answer.responses) == (["SCOPE_INSUFFICIENT"], []), f"{scopes!r}: {answer}"


def test_what_a_call_makes_another_service_do_is_within_the_scopes_too(
    doors: Doors, people: Tenant, forger: Forger
) -> None:
    create = all_rpcs()["hearth.agent.v1.AgentService/CreateAgent"]
    request = create.request(request_id=str(uuid.uuid4()), name="limited")
    good = people.tokens[Role.MEMBER]
    answer = doors.call(create, [request], forger.sign(good, scope="agent.write tool.write"))
    assert (answer.code, answer.reasons) == (grpc.StatusCode.PERMISSION_DENIED, ["SCOPE_INSUFFICIENT"]), str(answer)
    answer = doors.call(create, [request], forger.sign(good, scope="agent.write memory.write"))
    assert answer.code is grpc.StatusCode.OK, f"the refused call left something: {answer}"


@pytest.mark.parametrize("name", _ANY.values())
def test_what_the_scopes_name_is_served(name: str, doors: Doors, people: Tenant, forger: Forger) -> None:
    rpc, needed = all_rpcs()[name], _scope(name)
    for scope in (needed, needed.replace(".read", ".write")):
        answer = doors.call(rpc, [rpc.request()], forger.sign(people.tokens[Role.MEMBER], scope=scope))
        assert answer.code is grpc.StatusCode.OK, str(answer)
