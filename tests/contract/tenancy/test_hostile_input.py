"""Bad input is the client's fault: whatever is sent, no RPC fails inside, none hangs, and the service lives on.

A few hundred requests a service; HEARTH_FUZZ_REQUESTS=10000 spreads that many over all RPCs, other ones each time.
"""

import dataclasses
import os
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chassis.identity import Access
from deploy.local import Stack
from tests.contract.tenancy.hostile import payloads
from tests.contract.tenancy.rows import ROWS, in_order
from tests.contract.tenancy.rpcs import Answer, Doors, Rpc, all_rpcs
from tests.contract.tenancy.tenants import Registrar, Tenant

_DEFAULT_REQUESTS = 1_500
_REQUESTS = int(os.environ.get("HEARTH_FUZZ_REQUESTS", _DEFAULT_REQUESTS))
_RPCS = in_order([name for name in all_rpcs() if name in ROWS])
_EACH = max(1, -(-_REQUESTS // len(_RPCS)))
_DEADLINE_S = 10.0
# A stream that has begun well may have nothing to say for as long as one likes.
_WATCH_S = 0.5

_NEVER = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}

_limits = settings(
    max_examples=_EACH,
    deadline=None,
    database=None,
    derandomize=_REQUESTS <= _DEFAULT_REQUESTS,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    print_blob=False,
)


@pytest.fixture(scope="module")
def victim(registrar: Registrar) -> Tenant:
    """The organization whose users send all this."""
    return registrar.tenant()


@pytest.mark.timeout(max(120, _EACH * 10))
@pytest.mark.parametrize("name", _RPCS)
def test_hostile_requests_are_refused_and_nothing_else_happens(
    name: str, stack: Stack, doors: Doors, registrar: Registrar, victim: Tenant
) -> None:
    rpc = all_rpcs()[name]
    names = [value for value in dataclasses.asdict(victim.names).values() if value]
    bases = [case.build(victim.names, victim.names) for case in ROWS[name]]
    token = registrar.platform if rpc.access is Access.PLATFORM_ADMIN else victim.token(rpc.access)
    pid, restarts = stack.pid(rpc.component), stack.restarts(rpc.component)

    @_limits
    @given(sent=st.lists(payloads(bases, names), min_size=1, max_size=3 if rpc.streams_requests else 1))
    def attack(sent: list[bytes]) -> None:
        limit_s = _WATCH_S if rpc.endless else _DEADLINE_S
        door = "" if rpc.internal else "envoy"
        answer = doors.call(rpc, sent, token, door=door, timeout_s=limit_s)
        assert _is_the_client_s_fault(rpc, answer), f"{answer.code.name} for {_brief(sent)}: {answer}"

    attack()
    assert _is_healthy(doors.channels[rpc.component]), f"{rpc.component} is not healthy any more"
    assert (stack.pid(rpc.component), stack.restarts(rpc.component)) == (pid, restarts), (
        f"{rpc.component} was restarted"
    )


def _is_the_client_s_fault(rpc: Rpc, answer: Answer) -> bool:
    if rpc.endless and answer.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return True
    if answer.code in _NEVER or (answer.code is grpc.StatusCode.UNAUTHENTICATED and rpc.access is not Access.ANONYMOUS):
        return False
    # Every refusal says why, in a form for programs.
    return answer.code is grpc.StatusCode.OK or len(answer.reasons) == 1


def _is_healthy(channel: grpc.Channel) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE_S)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def _brief(sent: list[bytes]) -> list[str]:
    return [f"{len(one)} bytes {one[:300]!r}" for one in sent]
