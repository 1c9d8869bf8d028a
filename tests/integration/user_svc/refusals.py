"""What a refused call answered."""

from collections.abc import Awaitable

import grpc
import pytest

from chassis.errors import DomainError
from chassis.status import DETAILS_KEY, from_rpc_error


async def refused(call: Awaitable[object]) -> DomainError:
    """The error of a call that must fail."""
    return from_rpc_error(await _failed(call))


async def bytes_of_refusal(call: Awaitable[object]) -> tuple[str, str, bytes]:
    """All that a client can see of a failed call: code, text, details."""
    error = await _failed(call)
    details = dict(error.trailing_metadata() or ()).get(DETAILS_KEY, b"")
    assert isinstance(details, bytes)
    return error.code().name, error.details() or "", details


async def _failed(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value
