"""What it costs to keep organizations apart: row-level security, tokens, sign-in, and a neighbour that floods.

python -m bench.tenancy [--json FILE] [--operations 6000] [--seconds 6]
"""

import argparse
import asyncio
import statistics
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import grpc
import uvloop

from bench.figures import Figures, percentile
from bench.processes import cpu_ms
from bench.row_level_security import row_level_security
from bench.token_load import Caller, load
from chassis.channels import open_channel
from chassis.rates import RateLimiter
from chassis.settings import ServiceSettings
from chassis.trust import trust
from deploy.local import Stack
from hearth.user.v1 import token_service_pb2
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from tests.support.api import Api

TARGETS = {
    "rls_insert_ratio": "1.05",
    "rls_select_ratio": "1.05 (the organization travels along: about 100 bytes more to parse)",
    "rls_p95_ratio": "1.05",
    "issue_token_cpu_ms": "3",
    "token_check_cpu_us": "100",
    "whoami_per_s": "1,500",
    "flood_p99_ratio": "1.10",
}
# What the door lets an organization do in the flood, and by how much the other exceeds it.
_FLOOD_RATE = 100
_FLOOD_FACTOR = 10


async def sign_in(stack: Stack, figures: Figures, calls: int = 1_000, batch: int = 50) -> None:
    """CPU of user_svc and PostgreSQL for one IssueToken, asked directly; the median of batches."""
    cost: list[float] = []
    request = token_service_pb2.IssueTokenRequest(api_key=stack.api_key)
    async with grpc.aio.insecure_channel(stack.address("user_svc")) as channel:
        stub = TokenServiceStub(channel)
        for _ in range(calls // batch):
            before = cpu_ms(stack.processes())
            for _ in range(batch):
                await stub.IssueToken(request)
            after = cpu_ms(stack.processes())
            cost.append(sum(after[name] - before[name] for name in ("user_svc", "postgres")) / batch)
    figures.add("issue_token_cpu_ms", statistics.median(cost), "CPU-ms")


async def token_check(stack: Stack, figures: Figures, checks: int = 200_000) -> None:
    """CPU of what a service does at each call with a token that it has seen: signature cached, revocations, rates."""
    channel = open_channel(stack.address("user_svc"))
    trusted = trust(channel, ServiceSettings(service_key_file=stack.credentials / "agent_svc.key"))
    async with grpc.aio.insecure_channel(stack.address("user_svc")) as plain:
        issued = await TokenServiceStub(plain).IssueToken(token_service_pb2.IssueTokenRequest(api_key=stack.api_key))
    await trusted.limits.refresh()
    rates = RateLimiter(_Generous())
    begun = time.process_time()
    rates.admit(await trusted.verifier.verify(issued.token))
    figures.raw["token_check_first_cpu_us"] = round((time.process_time() - begun) * 1e6, 1)
    begun = time.process_time()
    for _ in range(checks):
        rates.admit(await trusted.verifier.verify(issued.token))
    figures.add("token_check_cpu_us", (time.process_time() - begun) / checks * 1e6, "CPU-µs")
    await channel.close()


class _Generous:
    """Limits that are never reached, so that each check counts."""

    def of(self, organization_id: uuid.UUID, name: str) -> int | None:
        return 10**9


def who_am_i(stack: Stack, figures: Figures, seconds: float) -> None:
    """WhoAmI through Envoy, as fast as it goes, from two processes that share the machine's cores with all others."""
    caller = Caller(stack.url, stack.api_key)
    before = cpu_ms(stack.processes())
    measured = load([caller] * 2, seconds, in_flight=32)
    after = cpu_ms(stack.processes())
    answered = sum(one.answered for one in measured)
    figures.add("whoami_per_s", answered / seconds, "calls/s")
    spent = {name: round((after[name] - before[name]) * 1e3 / max(answered, 1), 1) for name in after}
    figures.raw["whoami"] = {
        "refused": sum(one.refused for one in measured),
        "p50_ms": round(percentile([t for one in measured for t in one.latencies_ms], 0.5), 2),
        "p99_ms": round(percentile([t for one in measured for t in one.latencies_ms], 0.99), 2),
        "cpu_us_a_call": {name: value for name, value in spent.items() if value >= 1},
        "client_cpu_us_a_call": round(sum(one.cpu_s for one in measured) * 1e6 / max(answered, 1), 1),
    }


def flood(stack: Stack, figures: Figures, seconds: float, other_key: str) -> None:
    """A quiet organization's latency beside one that asks for what it may, and beside one that asks for ten times as much."""
    quiet = Caller(stack.url, stack.api_key, per_s=_FLOOD_RATE * 0.4)
    latencies: dict[str, list[float]] = {"within": [], "beyond": []}
    told = {"answered": 0, "refused": 0, "quiet_refused": 0}
    for name in ("within", "beyond") * 4:
        factor = _FLOOD_FACTOR if name == "beyond" else 0.9
        one, other = load([quiet, Caller(stack.url, other_key, per_s=_FLOOD_RATE * factor)], seconds)
        latencies[name] += one.latencies_ms
        told["quiet_refused"] += one.refused
        if name == "beyond":
            told["answered"] += other.answered
            told["refused"] += other.refused
    figures.add(
        "flood_p99_ratio", percentile(latencies["beyond"], 0.99) / percentile(latencies["within"], 0.99), "ratio"
    )
    figures.raw["flood"] = told | {
        name: {f"p{share}_ms": round(percentile(values, share / 100), 2) for share in (50, 95, 99)}
        for name, values in latencies.items()
    }


@dataclass(frozen=True, slots=True)
class Options:
    """How long."""

    operations: int
    seconds: float


def measure(figures: Figures, options: Options) -> None:
    """Everything, each part on a stack of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(row_level_security(figures, options.operations))
        free = {"HEARTH_LIMIT_REQUESTS_PER_SECOND": "", "HEARTH_DOOR_USER_RATE": "100000"}
        free |= {"HEARTH_DOOR_ORGANIZATION_RATE": "100000", "HEARTH_LOCAL_MODEL": "0"}
        with Stack(env=free, only=("user_svc", "envoy")) as stack:
            runner.run(sign_in(stack, figures))
            runner.run(token_check(stack, figures))
            who_am_i(stack, figures, options.seconds)
        bounded = {"HEARTH_DOOR_ORGANIZATION_RATE": str(_FLOOD_RATE), "HEARTH_LOCAL_MODEL": "0"}
        with Stack(env=bounded, only=("user_svc", "envoy")) as stack:
            flood(stack, figures, options.seconds, runner.run(_another_organization(stack)))


async def _another_organization(stack: Stack) -> str:
    """An API key in a new organization."""
    async with Api(stack.url, stack.api_key) as api:
        return await api.another_organization()


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--operations", type=int, default=6_000, help="inserts and selects of each kind")
    parser.add_argument("--seconds", type=float, default=6.0, help="of load, each time")
    options = parser.parse_args()
    figures = Figures("Tenancy")
    measure(figures, Options(options.operations, options.seconds))
    figures.show(TARGETS)
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
