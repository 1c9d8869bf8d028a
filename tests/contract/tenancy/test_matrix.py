"""No RPC reads or changes another organization's data: every RPC that the descriptors know, against everybody who must not."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis.identity import Access, Role
from deploy.local import Stack
from tests.contract.tenancy.cases import Case, Outcome
from tests.contract.tenancy.databases import Contents
from tests.contract.tenancy.rows import ROWS, in_order
from tests.contract.tenancy.rpcs import Answer, Doors, Rpc, all_rpcs
from tests.contract.tenancy.tenants import Names, Registrar, Tenant
from tests.contract.tenancy.tokens import Forger

RPCS = in_order(list(all_rpcs()))
_GUARDED = [name for name in RPCS if all_rpcs()[name].access is not Access.ANONYMOUS]
_LISTS = [name for name in RPCS if "page_token" in all_rpcs()[name].request.DESCRIPTOR.fields_by_name]
_ABOUT_OTHERS = [name for name in RPCS if any(case.outcome is not Outcome.PUBLIC for case in ROWS.get(name, ()))]

# Whoever may do a little less.
_BELOW = {
    Access.MEMBER: Role.VIEWER,
    Access.ORGANIZATION_ADMIN: Role.MEMBER,
    Access.PLATFORM_ADMIN: Role.ORGANIZATION_ADMIN,
    Access.SERVICE: Role.PLATFORM_ADMIN,
}
# Fields that end like an id and name nothing of an organization's.
_NO_RESOURCE = {
    "request_id",
    "import_id",
    "tool_call_id",
    "approval_id",
    # What a resource shows of itself and nobody can set.
    "default_conversation_id",
    "Message.run_id",
    "on_behalf_of_organization_id",
    "on_behalf_of_user_id",
}


@pytest.fixture(scope="module")
def contents(stack: Stack) -> Iterator[Contents]:
    """The databases, to see that nothing changed."""
    with Contents(stack) as opened:
        yield opened


def _doors_of(rpc: Rpc) -> list[str]:
    return [rpc.component] if rpc.internal else [rpc.component, "envoy"]


def _requests(name: str, their: Names, own: Names) -> list[Message]:
    return [case.build(their, own) for case in ROWS[name]]


def test_every_rpc_has_a_row() -> None:
    assert all_rpcs(), "no RPC was found"
    assert not (missing := set(all_rpcs()) - set(ROWS)), f"say in rows.py what other organizations get: {missing}"
    assert not (gone := set(ROWS) - set(all_rpcs())), f"there are no such RPCs any more: {gone}"
    for name, cases in ROWS.items():
        for case in cases:
            assert isinstance(case.build(_SAMPLE, _SAMPLE), all_rpcs()[name].request), f"{name}: another RPC's request"


@pytest.mark.parametrize("name", RPCS)
def test_a_row_asks_with_every_id_that_its_request_can_hold(name: str) -> None:
    rpc = all_rpcs()[name]
    asked = set[str]()
    for request in _requests(name, _SAMPLE, _SAMPLE):
        asked |= set(_ids_set(request))
    assert not (forgotten := set(_ids_of(rpc.request.DESCRIPTOR)) - asked), f"no case of {name} sets {forgotten}"


def test_only_the_token_exchange_is_open_to_everybody() -> None:
    anonymous = {name for name, rpc in all_rpcs().items() if rpc.access is Access.ANONYMOUS}
    assert anonymous == {
        "hearth.user.v1.TokenService/IssueToken",
        "hearth.user.v1.TokenService/GetJwks",
        "hearth.user.internal.v1.ExternalTokenService/GetIssuerJwks",
    }
    assert anonymous == {name for name, cases in ROWS.items() if cases[0].outcome is Outcome.PUBLIC}


@pytest.mark.parametrize("name", _GUARDED)
def test_without_a_good_token_nobody_is_served(name: str, doors: Doors, first: Tenant, forger: Forger) -> None:
    rpc = all_rpcs()[name]
    good = first.token(rpc.access)
    assert good is not None
    tokens: dict[str, str | None] = {"no token": None, **forger.bad(good)}
    for door, (kind, token), request in product(
        _doors_of(rpc), tokens.items(), _requests(name, first.names, first.names)[:1]
    ):
        answer = doors.call(rpc, [request], token, door=door)
        assert answer.code is grpc.StatusCode.UNAUTHENTICATED, f"{kind} through {door}: {answer}"
        assert not answer.responses, f"{kind} through {door}: {answer}"
        if door != "envoy":
            reason = {"no token": "TOKEN_MISSING", "expired": "TOKEN_EXPIRED"}.get(kind, "TOKEN_INVALID")
            assert answer.reasons == [reason], f"{kind}: {answer}"


@pytest.mark.parametrize("name", [name for name in _GUARDED if all_rpcs()[name].access in _BELOW])
def test_a_lower_role_is_refused(name: str, doors: Doors, first: Tenant) -> None:
    rpc = all_rpcs()[name]
    lower = {_BELOW[rpc.access]}
    if rpc.access in (Access.ORGANIZATION_ADMIN, Access.PLATFORM_ADMIN):
        lower.add(Role.SERVICE)
    # Whatever is asked for, and whether it makes sense or not.
    requests = [*_requests(name, first.names, first.names), rpc.request()]
    for door, who, request in product(_doors_of(rpc), lower, requests):
        answer = doors.call(rpc, [request], first.tokens[who], door=door)
        assert answer.code is grpc.StatusCode.PERMISSION_DENIED, f"{who.name} through {door}: {answer}"
        assert (answer.reasons, answer.responses) == (["ROLE_INSUFFICIENT"], []), f"{who.name}: {answer}"


@pytest.mark.parametrize("name", _ABOUT_OTHERS)
def test_another_organization_gets_nothing(
    name: str, doors: Doors, contents: Contents, first: Tenant, second: Tenant
) -> None:
    rpc = all_rpcs()[name]
    callers = {role for role in Role if rpc.access.admits(role)} & _STRONGEST or {Role.ORGANIZATION_ADMIN}
    for case, role in product(ROWS[name], sorted(callers)):
        if role is Role.PLATFORM_ADMIN and case.outcome in (Outcome.REACH, Outcome.ROLE):
            continue
        request = case.build(first.names, second.names)
        if getattr(request, "request_id", ""):
            # So that there is an answer that could be given again, to the wrong one.
            doors.call(rpc, [case.build(first.names, first.names)], first.token(rpc.access))
        before = contents.digests(first.uuid)
        answer = doors.call(rpc, [request], second.tokens[role])
        after = contents.digests(first.uuid)
        assert after == before, f"changed another organization's {_changed(before, after)}: {answer}"
        told = set(first.names.in_text(answer.bytes)) - set(first.names.in_text(request.SerializeToString()))
        assert not told, f"{role.name} is told another organization's {told}: {answer}"
        absent = first.names.absent()
        nobody = doors.call(rpc, [case.build(absent, second.names)], second.tokens[role])
        seen, of_nobody = first.names.masked(answer.bytes), absent.masked(nobody.bytes)
        if role is Role.SERVICE and answer.code is grpc.StatusCode.PERMISSION_DENIED:
            # What only people have.
            assert seen == of_nobody, "not what is said of what does not exist"
        else:
            _assert_outcome(case, answer, seen, of_nobody)


def test_nobody_else_is_in_an_organization_s_audit_log(doors: Doors, contents: Contents, first: Tenant) -> None:
    """After all the calls about it that others made."""
    listed = all_rpcs()["hearth.user.v1.UserService/ListUsers"]
    page = doors.call(listed, [listed.request(page_size=200)], first.tokens[Role.ORGANIZATION_ADMIN]).responses[0]
    assert not page.next_page_token
    actors = contents.actors(first.uuid)
    assert len(actors) > 2
    assert actors <= {user.id for user in page.users} | {"svc:agent_svc"}


def _assert_outcome(case: Case, answer: Answer, seen: bytes, of_nobody: bytes) -> None:
    match case.outcome:
        case Outcome.HIDDEN | Outcome.REACH:
            assert (answer.code, answer.reasons) == (grpc.StatusCode.NOT_FOUND, ["RESOURCE_NOT_FOUND"]), str(answer)
            assert seen == of_nobody, "not what is said of what does not exist"
        case Outcome.SAME:
            assert answer.code is grpc.StatusCode.OK, str(answer)
            assert seen == of_nobody, "not what is said of what does not exist"
        case Outcome.ROLE:
            assert answer.code is grpc.StatusCode.PERMISSION_DENIED, str(answer)
            assert seen == of_nobody, "not what is said of what does not exist"
        case Outcome.UNBUILT:
            assert answer.code is grpc.StatusCode.UNIMPLEMENTED, f"is built now: say in rows.py what it gives: {answer}"
        case Outcome.OWN | Outcome.PUBLIC:
            assert answer.code is grpc.StatusCode.OK, str(answer)


@pytest.mark.parametrize("name", _LISTS)
def test_a_page_token_is_good_for_its_organization_only(name: str, doors: Doors, first: Tenant, second: Tenant) -> None:
    rpc = all_rpcs()[name]
    if ROWS[name][0].outcome is Outcome.UNBUILT:
        return
    who = Role.PLATFORM_ADMIN
    tried = 0
    for case in ROWS[name]:
        request = case.build(first.names, first.names)
        request.page_size = 1  # pyright: ignore[reportAttributeAccessIssue]
        page = doors.call(rpc, [request], first.tokens[who])
        assert page.code is grpc.StatusCode.OK, str(page)
        if not page.responses[0].next_page_token:
            continue
        tried += 1
        request.page_token = page.responses[0].next_page_token  # pyright: ignore[reportAttributeAccessIssue]
        assert doors.call(rpc, [request], first.tokens[who]).code is grpc.StatusCode.OK
        answer = doors.call(rpc, [request], second.tokens[who])
        refused = (
            (grpc.StatusCode.INVALID_ARGUMENT, ["PAGE_TOKEN_INVALID"]),
            (
                grpc.StatusCode.NOT_FOUND,
                ["RESOURCE_NOT_FOUND"],
            ),
        )
        assert (answer.code, answer.reasons) in refused, f"continued another organization's list: {answer}"
    assert tried, "no list was longer than one item, so nothing was tested"


@pytest.mark.parametrize("name", [name for name in RPCS if all_rpcs()[name].internal])
def test_what_is_internal_has_no_way_in_from_outside(name: str, doors: Doors, first: Tenant) -> None:
    rpc = all_rpcs()[name]
    answer = doors.call(rpc, _requests(name, first.names, first.names)[:1], first.tokens[Role.SERVICE], door="envoy")
    assert (answer.code, answer.responses) == (grpc.StatusCode.UNIMPLEMENTED, []), str(answer)


def test_a_revoked_key_gets_no_token(registrar: Registrar, first: Tenant) -> None:
    exchange = all_rpcs()["hearth.user.v1.TokenService/IssueToken"]
    made = registrar.key(first.names.organization, first.names.user, "revoked")
    request = exchange.request(api_key=made.secret)
    assert registrar.doors.call(exchange, [request], None).code is grpc.StatusCode.OK

    revoke = all_rpcs()["hearth.user.v1.ApiKeyService/RevokeApiKey"]
    admin = first.tokens[Role.ORGANIZATION_ADMIN]
    answer = registrar.doors.call(revoke, [revoke.request(api_key_id=made.api_key.id)], admin)
    assert answer.code is grpc.StatusCode.OK, str(answer)

    for door in _doors_of(exchange):
        refused = registrar.doors.call(exchange, [request], None, door=door)
        assert (refused.code, refused.reasons) == (grpc.StatusCode.UNAUTHENTICATED, ["API_KEY_INVALID"]), str(refused)


@pytest.mark.parametrize("name", _ABOUT_OTHERS)
def test_the_organization_itself_is_served(name: str, doors: Doors, registrar: Registrar, first: Tenant) -> None:
    """Last, because it takes everything away in the end. It shows that the refusals above are for whose it was."""
    rpc = all_rpcs()[name]
    for case in ROWS[name]:
        token = first.token(rpc.access)
        people = rpc.component == "user_svc" and rpc.access is not Access.SERVICE
        if case.outcome in (Outcome.REACH, Outcome.ROLE) or people:
            token = registrar.platform if case.outcome is Outcome.ROLE else first.tokens[Role.PLATFORM_ADMIN]
        answer = doors.call(rpc, [case.build(first.names, first.names)], token)
        expected = {"UNIMPLEMENTED"} if case.outcome is Outcome.UNBUILT else {"OK", *case.endings}
        assert answer.code.name in expected, f"{case.build(first.names, first.names)}\n{answer}"


def _changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [table for table, digest in before.items() if after[table] != digest]


def _ids_of(message: Any, inside: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of the fields that name a resource. Of a whole resource: its id, and what else of it can be set."""
    if message.full_name in inside or message.full_name.startswith("google."):
        return
    whole = "organization_id" in message.fields_by_name and "id" in message.fields_by_name
    # What is being created has no id yet.
    settable = {"tool_ids"} if inside and "Create" in inside[0] else {"id", "tool_ids"}
    for field in message.fields:
        if field.message_type is not None:
            if not field.message_type.GetOptions().map_entry:
                yield from (
                    f"{field.name}.{path}" for path in _ids_of(field.message_type, (*inside, message.full_name))
                )
        elif _names_a_resource(field) and (not whole or field.name in settable):
            yield field.name


def _names_a_resource(field: FieldDescriptor) -> bool:
    named = field.name == "id" or field.name.endswith(("_id", "_ids"))
    return named and field.type == FieldDescriptor.TYPE_STRING and field.name not in _NO_RESOURCE


def _ids_set(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.message_type is not None:
            if not field.message_type.GetOptions().map_entry:
                for item in value if field.is_repeated else [value]:
                    yield from (f"{field.name}.{path}" for path in _ids_set(item))
        else:
            yield field.name


_STRONGEST = {Role.ORGANIZATION_ADMIN, Role.PLATFORM_ADMIN, Role.SERVICE}
_SAMPLE = Names(
    "canary",
    **{
        name: name
        for name in (
            *("organization", "user", "key", "tool", "tool_name", "agent", "agent_name", "conversation"),
            *("message", "run", "block", "block_etag", "passage", "trusted_issuer", "mcp_server"),
        )
    },
)
