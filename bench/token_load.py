"""Callers of WhoAmI in processes of their own, at a rate or as fast as they are answered."""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import grpc
import uvloop

from hearth.user.v1 import token_service_pb2 as pb
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub

_REQUEST = pb.WhoAmIRequest()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls; `per_s` is how often, 0: whenever it was answered."""

    url: str
    api_key: str
    per_s: float = 0.0


@dataclass
class Answers:
    """What a caller saw. Latencies are those of calls that were answered."""

    answered: int = 0
    refused: int = 0
    cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list[float])


def load(callers: Sequence[Caller], seconds: float, *, in_flight: int = 1) -> list[Answers]:
    """What each of the callers saw, all at the same time."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(callers)) as pool:
        begin = time.time() + 2.0
        return pool.starmap(_in_a_process, [(caller, seconds, in_flight, begin) for caller in callers])


def _in_a_process(caller: Caller, seconds: float, in_flight: int, begin: float) -> Answers:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_call(caller, seconds, in_flight, begin))


async def _call(caller: Caller, seconds: float, in_flight: int, begin: float) -> Answers:
    answers = Answers()
    async with grpc.aio.insecure_channel(urlsplit(caller.url).netloc) as channel:
        stub = TokenServiceStub(channel)
        issued = await stub.IssueToken(pb.IssueTokenRequest(api_key=caller.api_key))
        metadata = (("authorization", f"Bearer {issued.token}"),)
        await stub.WhoAmI(_REQUEST, metadata=metadata)
        await asyncio.sleep(max(0.0, begin - time.time()))
        spent, until = time.process_time(), time.perf_counter() + seconds

        async def once() -> None:
            begun = time.perf_counter()
            try:
                await stub.WhoAmI(_REQUEST, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                answers.refused += 1
                return
            answers.answered += 1
            answers.latencies_ms.append((time.perf_counter() - begun) * 1e3)

        async def again_and_again() -> None:
            while time.perf_counter() < until:
                await once()

        if caller.per_s:
            await _at_a_rate(once, caller.per_s, until)
        else:
            await asyncio.gather(*(again_and_again() for _ in range(in_flight)))
        answers.cpu_s = time.process_time() - spent
    return answers


async def _at_a_rate(once: Callable[[], Coroutine[None, None, None]], per_s: float, until: float) -> None:
    """Begins a call every so often, whether the one before has been answered or not."""
    async with asyncio.TaskGroup() as calls:
        at = time.perf_counter()
        while at < until:
            calls.create_task(once())
            at += 1 / per_s
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
