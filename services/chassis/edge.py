"""The edge of a server: what surrounds every handler, in one fixed order.

errors → request id and trace → authentication, access and rate → schema → audit record → handler under a deadline; a stream,
in either direction, under its credential: it ends when that is revoked or expires.

Handlers are wrapped once, when they are registered, instead of by interceptors at each call: what the descriptors say
is looked up then, and a call costs a few function calls.
"""

import asyncio
import inspect
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from chassis import validation
from chassis.audit import PendingRecord
from chassis.audit.trail import AuditTrail
from chassis.auth import TokenVerifier, bearer
from chassis.callcontext import Call, current_call, new_request_id, set_call
from chassis.errors import DeadlineExceeded, DomainError, Internal, InvalidArgument, not_implemented
from chassis.idempotency import Replayed
from chassis.identity import Access, Identity, current_or_none, role_insufficient, scope_insufficient, set_current
from chassis.limits import Limits
from chassis.methods import Method
from chassis.rates import RateLimiter
from chassis.revocations import NothingRevoked, holding
from chassis.scopes import covers
from chassis.status import to_wire

_log = logging.getLogger("chassis.call")

UNARY_DEADLINE_S = 10.0
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Edge:
    """Wraps the handlers of one server. Without a verifier only anonymous methods can be called; without a trail nothing is recorded."""

    def __init__(self, verifier: TokenVerifier | None, limits: Limits, trail: AuditTrail | None = None) -> None:
        self._verifier = verifier
        self._rates = RateLimiter(limits)
        self._trail = trail
        self._revocations = NothingRevoked() if verifier is None else verifier.revocations

    def wrap(self, method: Method, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        """The same handler, behind the edge."""
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(method, handler.stream_stream, handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream, handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._unary(method, handler.stream_unary, handler.request_deserializer),
                response_serializer=_serializer(handler.response_serializer),
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, handler.unary_unary, handler.request_deserializer),
            response_serializer=_serializer(handler.response_serializer),
        )

    def _unary(self, method: Method, behavior: Any, from_string: Any) -> Callable[[Any, Context], Awaitable[Any]]:
        call = _refuse if _is_generated(behavior) else behavior
        take = _parse_each if method.streams_requests else _parse_one
        # A client that uploads takes the time that it takes.
        default_s = None if method.streams_requests else UNARY_DEADLINE_S

        async def answer(request: Any, context: Context, limit_s: float | None) -> Any:
            if method.streams_requests:
                async with holding(current_or_none(), self._revocations):
                    return await call(request, context)
            if limit_s is None:
                return await call(request, context)
            return await _limited(call(request, context), limit_s)

        async def handle(raw: Any, context: Context) -> Any:
            request: Any = None
            try:
                limit_s = await self._enter(method, context, default_s)
                request = take(from_string, raw)
                return await self._recorded(request, lambda: answer(request, context, limit_s))
            except Replayed as replayed:
                return replayed.response
            except Exception as error:
                await self._abort(context, method, error, _given(request, from_string, raw))

        return handle

    def _streaming(self, method: Method, behavior: Any, from_string: Any) -> Callable[[Any, Context], Awaitable[None]]:
        call: Any = _refuse if _is_generated(behavior) else behavior
        take = _parse_each if method.streams_requests else _parse_one
        yields = inspect.isasyncgenfunction(call)

        async def answer(request: Any, context: Context) -> None:
            async with holding(current_or_none(), self._revocations):
                if not yields:
                    await call(request, context)
                    return
                # Written here rather than yielded to gRPC, so that a cancelled stream closes the handler at once.
                async with aclosing(call(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)

        async def handle(raw: Any, context: Context) -> None:
            request: Any = None
            try:
                await self._enter(method, context, None)
                request = take(from_string, raw)
                await self._recorded(request, lambda: answer(request, context))
            except Exception as error:
                await self._abort(context, method, error, _given(request, from_string, raw))

        return handle

    async def _recorded(self, request: object, answer: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of a call, with its record kept before it is given."""
        pending = _pending()
        if pending is None or self._trail is None:
            return await answer()
        if isinstance(request, Message):
            pending.request = request
        if pending.ahead:
            async with self._trail.around(pending):
                return await answer()
        pending.answer = response = await answer()
        await self._trail.done(pending)
        return response

    async def _enter(self, method: Method, context: Context, default_s: float | None) -> float | None:
        """Sets the call and its identity. Returns the seconds to enforce here; gRPC enforces a deadline of the client's."""
        request_id = traceparent = ""
        authorization: str | bytes | None = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = value
            elif key == "x-request-id":
                request_id = str(value)
            elif key == "traceparent":
                traceparent = str(value)
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = new_request_id()
        given_s = _time_remaining(context)
        limit_s = default_s if given_s is None else None
        remaining_s = limit_s if given_s is None else given_s
        deadline = None if remaining_s is None else time.monotonic() + remaining_s
        pending = None if self._trail is None else self._trail.begin(method.audit, method.path, request_id)
        set_call(Call(method.path, request_id, traceparent, deadline, pending))
        set_current(await self._identify(method, authorization, pending))
        return limit_s

    async def _identify(
        self, method: Method, authorization: str | bytes | None, pending: PendingRecord | None
    ) -> Identity | None:
        if method.access is Access.ANONYMOUS:
            return None
        token = bearer(authorization)
        if self._verifier is None:
            raise Internal("this server verifies no tokens", reason="INTERNAL")
        identity = await self._verifier.verify(token)
        if pending is not None:
            pending.identify(identity)
        if not method.access.admits(identity.role):
            raise role_insufficient(method.access.name)
        if not covers(identity.scopes, method.scope):
            raise scope_insufficient(method.scope)
        self._rates.admit(identity)
        return identity

    async def _abort(self, context: Context, method: Method, error: Exception, request: object) -> None:
        """Ends the call with the wire form of an error. Always raises."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        answer = _explain(error, request)
        if isinstance(answer, Internal) and answer is not error:
            _log.error("call failed", exc_info=error, extra={"error_id": answer.metadata["error_id"]})
        else:
            _log.info("call refused", extra={"code": answer.code, "reason": answer.reason, "detail": answer.message})
        pending = _pending()
        if pending is not None and self._trail is not None:
            pending.request = pending.request or request
            await self._trail.refused(pending, answer.code)
        await context.abort(*to_wire(answer))


class Registrar:
    """Stands in for the server when generated `add_…_to_server` functions register, and wraps what they bring."""

    def __init__(self, server: grpc.aio.Server, edge: Edge, service: str, methods: Mapping[str, Method]) -> None:
        self._server = server
        self._edge = edge
        self._service = service
        self._methods = methods

    def add_generic_rpc_handlers(self, generic_rpc_handlers: object) -> None:
        """Ignored: the same handlers come by name through `add_registered_method_handlers`."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Registers the wrapped handlers. Raises ValueError when they are another service's than announced."""
        if service_name != self._service:
            raise ValueError(f"{service_name} was registered as {self._service}")
        wrapped = {name: self._edge.wrap(self._methods[name], handler) for name, handler in method_handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))


def _parse_one(from_string: Any, raw: bytes) -> Message:
    message = validation.parse(from_string, raw)
    validation.check(message)
    return message


async def _parse_each(from_string: Any, raw: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    pending = _pending()
    async for one in raw:
        message = _parse_one(from_string, one)
        if pending is not None and pending.request is None:
            pending.request = message
        yield message


def _pending() -> PendingRecord | None:
    call = current_call()
    return None if call is None else call.record


def _given(request: object, from_string: Any, raw: object) -> object:
    """The request of a refused call: also one that was refused before it was looked at, if it can be read."""
    if request is not None or not isinstance(raw, bytes) or _pending() is None:
        return request
    try:
        return from_string(raw)
    except DecodeError:
        return None


def _time_remaining(context: Any) -> float | None:
    """Seconds until the client's deadline, None if it set none (which gRPC's own types do not say)."""
    return context.time_remaining()


async def _limited(answer: Awaitable[Any], limit_s: float) -> Any:
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            return await answer
    except TimeoutError:
        if limit.expired():
            raise DeadlineExceeded("the call took too long", reason="DEADLINE_EXCEEDED") from None
        raise


async def _refuse(request: object, context: object) -> None:
    raise not_implemented("this method")


def _is_generated(behavior: Any) -> bool:
    """Whether a method was left as the generated base class has it."""
    return getattr(behavior, "__module__", "").endswith("_pb2_grpc")


def _serializer(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Lets a stored answer pass as the bytes that it is."""
    return lambda response: response if isinstance(response, bytes) else serialize(response)


def _explain(error: Exception, request: object) -> DomainError:
    if isinstance(error, InvalidArgument) and error.reason == "VALIDATION_FAILED" and not error.field_violations:
        # The database refused a text; say which field it was.
        if isinstance(request, Message) and (fields := validation.nul_fields(request)):
            return InvalidArgument(
                f"{fields[0].field}: {fields[0].description}", reason=error.reason, field_violations=fields
            )
        return error
    if isinstance(error, DomainError):
        return error
    error_id = secrets.token_hex(8)
    return Internal("internal error", reason="INTERNAL", metadata={"error_id": error_id})
