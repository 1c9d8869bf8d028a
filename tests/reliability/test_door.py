"""The public door when it has just been started and user_svc does not answer."""

import asyncio
import signal
import time

import grpc

from deploy.local import Stack
from hearth.user.v1 import token_service_pb2
from tests.support.api import Api


async def test_a_door_that_cannot_read_the_keys_calls_no_token_invalid(stack: Stack, api: Api) -> None:
    await asyncio.to_thread(stack.wait_ready)
    seen: set[grpc.StatusCode] = set()
    said: set[str] = set()

    async def who_am_i() -> None:
        try:
            await api.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=api.metadata, timeout=8)
            seen.add(grpc.StatusCode.OK)
        except grpc.aio.AioRpcError as error:
            seen.add(error.code())
            said.add(error.details() or "")

    stack.kill("user_svc", signal.SIGSTOP)
    try:
        stack.kill("envoy")
        # Two sets of keys, Hearth's own and those of trusted issuers, are waited for two seconds each.
        until = time.monotonic() + 15
        while time.monotonic() < until and "the service does not answer now" not in said:
            await who_am_i()
            await asyncio.sleep(0.1)
    finally:
        stack.kill("user_svc", signal.SIGCONT)
    assert seen <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}, seen
    assert "the service does not answer now" in said
    await asyncio.to_thread(stack.wait_ready)
    await who_am_i()
    assert grpc.StatusCode.OK in seen
