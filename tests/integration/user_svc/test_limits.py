"""What organizations may use: set by platform administrators, pulled by the services, shown beside what is used."""

import asyncio

import grpc
import pytest

from chassis import errors
from chassis.status import from_rpc_error
from hearth.user.internal.v1 import limit_service_pb2
from hearth.user.internal.v1.limit_service_pb2_grpc import LimitServiceStub
from hearth.user.v1 import organization_pb2
from hearth.user.v1 import organization_service_pb2 as pb
from hearth.user.v1.token_service_pb2 import WhoAmIRequest
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

_NAMES = [field.name for field in organization_pb2.OrganizationLimits.DESCRIPTOR.fields]
_RATES = {"requests_per_second", "user_requests_per_second"}
_EDGES = {
    **dict.fromkeys(_RATES, (1, 1_000_000)),
    "max_tool_timeout_s": (1, 600),
    "max_tool_memory_mib": (16, 4096),
    "max_tool_output_kib": (1, 4096),
    "max_tool_packages": (0, 32),
}


def _update(organization_id: str, *paths: str, **limits: int) -> pb.UpdateOrganizationRequest:
    request = pb.UpdateOrganizationRequest()
    request.organization.id = organization_id
    for name, value in limits.items():
        setattr(request.organization.limits, name, value)
    request.update_mask.paths.extend(paths or [f"limits.{name}" for name in limits])
    return request


async def _set(caller: Client, organization_id: str, *paths: str, **limits: int) -> organization_pb2.Organization:
    request = _update(organization_id, *paths, **limits)
    return (await caller.organizations.UpdateOrganization(request, metadata=caller.metadata)).organization


def _own(organization: organization_pb2.Organization) -> dict[str, int]:
    return {field.name: value for field, value in organization.limits.ListFields()}


async def test_limits_are_set_one_by_one_or_all_and_taken_back(admin: Client) -> None:
    made = await admin.create_organization()
    assert _own(made) == {}
    changed = await _set(admin, made.id, concurrent_runs=5, stored_passages=0)
    assert _own(changed) == {"concurrent_runs": 5, "stored_passages": 0}
    assert changed.etag != made.etag
    # Named and absent: back to the default. Not named: as it was, whatever the message says.
    taken = _update(made.id, "limits.stored_passages", "limits.tool_calls_per_minute", tool_calls_per_minute=9)
    taken.organization.limits.concurrent_runs = 77
    changed = (await admin.organizations.UpdateOrganization(taken, metadata=admin.metadata)).organization
    assert _own(changed) == {"concurrent_runs": 5, "tool_calls_per_minute": 9}
    assert _own(await _set(admin, made.id, "limits", user_concurrent_runs=2)) == {"user_concurrent_runs": 2}
    assert _own(await _set(admin, made.id, "limits")) == {}


@pytest.mark.parametrize("name", _NAMES)
async def test_every_limit_at_and_past_its_edges(admin: Client, name: str) -> None:
    made = await admin.create_organization()
    least, most = _EDGES.get(name, (0, 1_000_000_000))
    for value in (least, most):
        assert _own(await _set(admin, made.id, **{name: value})) == {name: value}
    for value in (least - 1, most + 1, -(2**63), 2**63 - 1):
        request = _update(made.id, **{name: value})
        got = await refused(admin.organizations.UpdateOrganization(request, metadata=admin.metadata))
        assert (got.code, got.reason) == ("INVALID_ARGUMENT", "VALIDATION_FAILED")
        assert got.field_violations[0].field == f"organization.limits.{name}"
    for path in ("limits.unknown", "limits.", "limits.concurrent_runs.x"):
        request = _update(made.id, path)
        got = await refused(admin.organizations.UpdateOrganization(request, metadata=admin.metadata))
        assert (got.code, got.field_violations[0].field) == ("INVALID_ARGUMENT", "update_mask")


async def test_only_platform_administrators_set_limits(world: World, first_admin: Client) -> None:
    made = await first_admin.create_organization()
    own = await world.member_of(first_admin, made.id, "ROLE_ORGANIZATION_ADMIN")
    for paths in (("limits",), ("limits.concurrent_runs",), ("display_name", "limits.concurrent_runs")):
        request = _update(made.id, *paths, concurrent_runs=1_000)
        got = await refused(own.organizations.UpdateOrganization(request, metadata=own.metadata))
        assert got.reason == "ROLE_INSUFFICIENT"
    await _set(first_admin, made.id, concurrent_runs=3)
    seen = (await own.organizations.GetOrganization(pb.GetOrganizationRequest(), metadata=own.metadata)).organization
    assert _own(seen) == {"concurrent_runs": 3}
    assert (await own.tokens.WhoAmI(WhoAmIRequest(), metadata=own.metadata)).organization == seen


async def test_services_read_what_is_new_and_the_defaults(world: World, first_admin: Client) -> None:
    service = await world.sign_in(world.secrets.service_key)
    stub = LimitServiceStub(service.channel)

    async def after(position: int) -> limit_service_pb2.ListLimitsResponse:
        request = limit_service_pb2.ListLimitsRequest(after_position=position)
        return await stub.ListLimits(request, metadata=service.metadata)

    first = await after(0)
    assert dict(first.defaults) == {"requests_per_second": 1_000, "concurrent_runs": 1_000}
    one, two = await first_admin.create_organization(), await first_admin.create_organization()
    await _set(first_admin, one.id, concurrent_runs=1)
    await _set(first_admin, two.id, concurrent_runs=2)
    await _set(first_admin, one.id, "limits.concurrent_runs", "limits.stored_passages", stored_passages=3)
    new = await after(first.position)
    assert [(o.organization_id, dict(o.values)) for o in new.organizations] == [
        (two.id, {"concurrent_runs": 2}),
        (one.id, {"stored_passages": 3}),
    ]
    assert (await after(new.position)).organizations == []
    assert (await after(new.position)).position == new.position
    got = await refused(stub.ListLimits(limit_service_pb2.ListLimitsRequest(), metadata=first_admin.metadata))
    assert got.reason == "ROLE_INSUFFICIENT"


async def test_usage_names_the_services_that_do_not_answer_and_never_fails(admin: Client) -> None:
    made = await admin.create_organization()
    await _set(admin, made.id, tool_calls_per_minute=4)
    request = pb.GetOrganizationRequest(organization_id=made.id, include_usage=True)
    async with asyncio.timeout(2):
        found = (await admin.organizations.GetOrganization(request, metadata=admin.metadata)).organization
    assert list(found.usage.unanswered) == ["agent_svc", "memory_svc", "tool_svc"]
    assert not found.usage.HasField("active_runs")
    limits = {field.name: value for field, value in found.usage.limits.ListFields()}
    assert limits == {"requests_per_second": 1_000, "concurrent_runs": 1_000, "tool_calls_per_minute": 4}
    request.include_usage = False
    found = (await admin.organizations.GetOrganization(request, metadata=admin.metadata)).organization
    assert not found.HasField("usage")


async def test_an_organization_s_own_rate_holds_and_hinders_nobody_else(world: World, first_admin: Client) -> None:
    made = await first_admin.create_organization()
    member = await world.member_of(first_admin, made.id)
    colleague = await world.member_of(first_admin, made.id)
    await _set(first_admin, made.id, requests_per_second=20, user_requests_per_second=15)
    # Within five seconds; two and some in fact.
    await asyncio.sleep(3)

    async def burst(caller: Client, calls: int) -> list[grpc.StatusCode]:
        async def one() -> grpc.StatusCode:
            try:
                await caller.tokens.WhoAmI(WhoAmIRequest(), metadata=caller.metadata)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        return await asyncio.gather(*(one() for _ in range(calls)))

    mine = (await burst(member, 60)).count(grpc.StatusCode.OK)
    theirs = (await burst(colleague, 60)).count(grpc.StatusCode.OK)
    # What came back while the burst lasted is not more than a second's worth.
    assert 15 <= mine <= 30
    assert 1 <= theirs <= 30
    got = await _first_refusal(member)
    assert (got.code, got.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert got.metadata["limit"] in _RATES
    assert got.retry_after_s is not None
    assert 0 < got.retry_after_s <= 1
    assert set(await burst(first_admin, 60)) == {grpc.StatusCode.OK}
    await asyncio.sleep(1)
    assert (await burst(member, 1)) == [grpc.StatusCode.OK]


async def _first_refusal(caller: Client) -> errors.DomainError:
    for _ in range(200):
        answers = [caller.tokens.WhoAmI(WhoAmIRequest(), metadata=caller.metadata) for _ in range(40)]
        for answer in await asyncio.gather(*answers, return_exceptions=True):
            if isinstance(answer, grpc.aio.AioRpcError):
                return from_rpc_error(answer)
    raise AssertionError("nothing was refused")
