"""Channels to other services: what the current call carries goes along, and UNAVAILABLE is retried.

The channel wraps each method once instead of using gRPC's interceptors, which start a task for each call.
"""

import json
from collections.abc import Callable
from typing import Any

import grpc

from chassis.callcontext import child_traceparent, current_call, new_request_id
from chassis.identity import current_or_none

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
DEFAULT_TIMEOUT_S = 10.0

_BALANCE: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
_RETRY: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.5},
}

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Retrying also stops at the end of the address list; with DNS it must look again soon after a replica died.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)


def open_channel(address: str, *, retry: bool = True) -> grpc.aio.Channel:
    """A channel to `host:port` (or any gRPC target). Nothing is connected before the first call; close it at the end.

    Calls carry the current identity's token, the request id and a child of the current trace. A unary call ends at the
    deadline of the call being served, or after 10 s; a stream at the given timeout or the deadline of the call being served.
    An explicit timeout can only shorten that. `retry=False` is for calls that must not be made twice behind the caller's
    back: not even those that a proxy or a dying server answered with UNAVAILABLE are repeated.
    """
    target = address if "://" in address or address.startswith("unix:") else f"dns:///{address}"
    config = json.dumps(_BALANCE | _RETRY if retry else _BALANCE)
    options = (*_OPTIONS, ("grpc.service_config", config), ("grpc.enable_retries", int(retry)))
    return _Channel(grpc.aio.insecure_channel(target, options=options))


class _Channel(grpc.aio.Channel):
    """Delegates to a channel and wraps the callables it gives out."""

    def __init__(self, inner: grpc.aio.Channel) -> None:
        self._inner = inner

    async def __aenter__(self) -> "_Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.close()

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _with_context(self._inner.unary_unary(*args, **kwargs), DEFAULT_TIMEOUT_S)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _with_context(self._inner.unary_stream(*args, **kwargs), None)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _with_context(self._inner.stream_unary(*args, **kwargs), None)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _with_context(self._inner.stream_stream(*args, **kwargs), None)


def _with_context(start: Callable[..., Any], default_s: float | None) -> Callable[..., Any]:
    def call(request: Any = None, /, *, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
        sent: list[tuple[str, str]] = list(metadata or ())
        sent.extend(_outgoing(sent))
        limit_s = _timeout(timeout, default_s)
        if limit_s is not None and limit_s <= 0:
            # gRPC would send it all the same, and a fast server could win the race against its timer.
            raise _deadline_exceeded()
        if request is not None:
            return start(request, timeout=limit_s, metadata=sent, **rest)
        return start(timeout=limit_s, metadata=sent, **rest)

    return call


def _deadline_exceeded() -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, none, none, details="the deadline has passed")


def _outgoing(given: list[tuple[str, str]]) -> list[tuple[str, str]]:
    call = current_call()
    context = [
        ("x-request-id", call.request_id if call else new_request_id()),
        ("traceparent", child_traceparent(call.traceparent if call else "")),
    ]
    identity = current_or_none()
    if identity is not None and not any(key == "authorization" for key, _ in given):
        context.append(("authorization", f"Bearer {identity.token}"))
    return context


def _timeout(given: float | None, default_s: float | None) -> float | None:
    call = current_call()
    remaining = call.remaining_s() if call else None
    limits = [limit for limit in (given, remaining) if limit is not None]
    return min(limits) if limits else default_s
