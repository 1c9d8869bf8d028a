"""The unary RPCs that may be called over the socket, and calling them in a client's name."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import orjson
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message

from chassis.errors import DomainError, InvalidArgument, Unimplemented
from chassis.identity import Identity, use
from chassis.status import from_rpc_error
from gateway.proto_json import to_value
from hearth.agent.v1 import (
    agent_service_pb2,
    conversation_service_pb2,
    file_service_pb2,
    model_service_pb2,
    run_service_pb2,
    template_service_pb2,
    workflow_service_pb2,
)
from hearth.memory.v1 import archival_memory_service_pb2, block_service_pb2, recall_memory_service_pb2
from hearth.tool.v1 import mcp_server_service_pb2, secret_service_pb2, tool_service_pb2
from hearth.user.v1 import (
    api_key_service_pb2,
    audit_service_pb2,
    organization_service_pb2,
    token_service_pb2,
    trusted_issuer_service_pb2,
    user_service_pb2,
)

_FILES: Final[Mapping[str, tuple[FileDescriptor, ...]]] = {
    "user": (
        api_key_service_pb2.DESCRIPTOR,
        audit_service_pb2.DESCRIPTOR,
        organization_service_pb2.DESCRIPTOR,
        token_service_pb2.DESCRIPTOR,
        trusted_issuer_service_pb2.DESCRIPTOR,
        user_service_pb2.DESCRIPTOR,
    ),
    "tool": (mcp_server_service_pb2.DESCRIPTOR, secret_service_pb2.DESCRIPTOR, tool_service_pb2.DESCRIPTOR),
    "memory": (
        archival_memory_service_pb2.DESCRIPTOR,
        block_service_pb2.DESCRIPTOR,
        recall_memory_service_pb2.DESCRIPTOR,
    ),
    "agent": (
        agent_service_pb2.DESCRIPTOR,
        conversation_service_pb2.DESCRIPTOR,
        file_service_pb2.DESCRIPTOR,
        model_service_pb2.DESCRIPTOR,
        run_service_pb2.DESCRIPTOR,
        template_service_pb2.DESCRIPTOR,
        workflow_service_pb2.DESCRIPTOR,
    ),
}
# A socket is open only for who has a token: getting one, and the keys to check one, belong elsewhere.
_NOT_OVER_SOCKETS: Final = frozenset({"user.IssueToken", "user.GetJwks"})
_MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Method:
    """A callable RPC; `domain` is the service that has it."""

    domain: str
    path: str
    request: type[Message]
    response: type[Message]


def methods() -> Mapping[str, Method]:
    """All methods that `call` reaches, by `domain.Method`: the public unary ones of the four services."""
    found: dict[str, Method] = {}
    for domain, files in _FILES.items():
        for file in files:
            for service in file.services_by_name.values():
                for method in service.methods:
                    name = f"{domain}.{method.name}"
                    if not _streams(method) and name not in _NOT_OVER_SOCKETS:
                        found[name] = _method(domain, service.full_name, method)
    return found


def _streams(method: MethodDescriptor) -> bool:
    return method.client_streaming or method.server_streaming


def _method(domain: str, service: str, method: MethodDescriptor) -> Method:
    return Method(
        domain=domain,
        path=f"/{service}/{method.name}",
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
    )


class GrpcCaller:
    """A Caller over channels to the services, by domain."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._methods = methods()
        self._stubs = {
            name: channels[method.domain].unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            for name, method in self._methods.items()
            if method.domain in channels
        }

    async def call(self, identity: Identity, method: str, params: bytes, *, request_id: str, timeout: float) -> bytes:
        """The result as JSON. Raises DomainError: Unimplemented METHOD_UNKNOWN, InvalidArgument, or what the service answers."""
        stub = self._stubs.get(method)
        if stub is None:
            raise Unimplemented(
                "no such method, or not one that may be called here",
                reason="METHOD_UNKNOWN",
                metadata={"method": method},
            )
        request = parse_params(self._methods[method].request, params)
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            _set_request_id(request, request_id)
        try:
            with use(identity):
                response = await stub(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return orjson.dumps(to_value(response))


def parse_params(kind: type[Message], params: bytes) -> Message:
    """A request from proto JSON (either spelling of field names). Raises InvalidArgument."""
    request = kind()
    try:
        values: Any = orjson.loads(params)
        if not isinstance(values, dict):
            raise _unfit("params must be an object")
        json_format.ParseDict(values, request)
    except (orjson.JSONDecodeError, json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise _unfit(_short(error)) from None
    return request


def _set_request_id(request: Message, request_id: str) -> None:
    """Puts the envelope's request id where the method keeps it; one of our own, so that our channel may retry."""
    message: Any = request
    if not message.request_id:
        message.request_id = request_id or str(uuid.uuid4())
    elif request_id and message.request_id != request_id:
        raise _unfit("request_id is given twice, differently")


def _unfit(text: str) -> DomainError:
    return InvalidArgument(text, reason="VALIDATION_FAILED")


def _short(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
