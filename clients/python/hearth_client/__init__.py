"""The Python client of Hearth: `AsyncHearth` for asyncio, `Hearth` for everything else, and the `hearth` command.

Names are loaded when they are first used: the command answers `--help` without loading gRPC.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hearth_client._assembler import MessageAssembler, MessageChange
    from hearth_client._client import AsyncHearth
    from hearth_client._stream import ConversationStream, RunStream
    from hearth_client._sync import Hearth
    from hearth_client._tool_decorator import tool
    from hearth_client.errors import (
        AbortedError,
        AlreadyExistsError,
        DeadlineExceededError,
        FailedPreconditionError,
        FieldViolation,
        HearthError,
        InternalError,
        InvalidArgumentError,
        NotFoundError,
        OutOfRangeError,
        PermissionDeniedError,
        ResourceExhaustedError,
        UnauthenticatedError,
        UnavailableError,
        UnimplementedError,
    )

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AsyncHearth",
    "ConversationStream",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldViolation",
    "Hearth",
    "HearthError",
    "InternalError",
    "InvalidArgumentError",
    "MessageAssembler",
    "MessageChange",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "RunStream",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "tool",
]

_HOMES = {
    "AsyncHearth": "_client",
    "ConversationStream": "_stream",
    "Hearth": "_sync",
    "MessageAssembler": "_assembler",
    "MessageChange": "_assembler",
    "RunStream": "_stream",
    "tool": "_tool_decorator",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
