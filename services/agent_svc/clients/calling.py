"""Calls to other services, with what they answer as DomainError."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc

from chassis.status import from_rpc_error

T = TypeVar("T")


async def answered(call: Awaitable[T]) -> T:
    """The answer of a unary call. Raises DomainError."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
