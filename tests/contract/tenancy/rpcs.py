"""Every RPC of Hearth, from the descriptors that are generated with the code, and one way to call any of them."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from chassis.identity import Access
from deploy.local import Stack
from hearth.type.v1 import access_pb2

_DESCRIPTORS = Path(__file__).parents[3] / "protos/gen/descriptors.binpb"
_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC. `name` is `package.Service/Method`, `component` the process that serves it."""

    name: str
    component: str
    access: Access
    request: type[Message]
    response: type[Message]
    streams_requests: bool
    streams_responses: bool

    @property
    def method(self) -> str:
        """The method's own name."""
        return self.name.rpartition("/")[2]

    @property
    def internal(self) -> bool:
        """Whether it is for Hearth's own processes, with no way in from outside."""
        return ".internal." in self.name

    @property
    def endless(self) -> bool:
        """Whether its answer goes on for as long as the caller listens."""
        return self.streams_responses and self.method.startswith("Watch")


@cache
def all_rpcs() -> dict[str, Rpc]:
    """Every RPC of every `hearth.*` service, by name."""
    files = descriptor_pb2.FileDescriptorSet.FromString(_DESCRIPTORS.read_bytes()).file
    return {rpc.name: rpc for file in files if file.package.startswith("hearth.") for rpc in _rpcs_of(file)}


def _rpcs_of(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Rpc]:
    if file.service:
        importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    pool = descriptor_pool.Default()
    for service in file.service:
        full_name = f"{file.package}.{service.name}"
        for method in pool.FindServiceByName(full_name).methods:
            yield Rpc(
                name=f"{full_name}/{method.name}",
                component=f"{file.package.split('.')[1]}_svc",
                access=Access(method.GetOptions().Extensions[access_pb2.access]),
                request=message_factory.GetMessageClass(method.input_type),
                response=message_factory.GetMessageClass(method.output_type),
                streams_requests=method.client_streaming,
                streams_responses=method.server_streaming,
            )


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended and what had come by then. `status` is the serialized google.rpc.Status of a failure."""

    code: grpc.StatusCode
    text: str = ""
    status: bytes = b""
    responses: list[Any] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """The reason of each ErrorInfo."""
        info = error_details_pb2.ErrorInfo()
        details = status_pb2.Status.FromString(self.status).details
        return [info.reason for detail in details if detail.Unpack(info)]

    @property
    def bytes(self) -> bytes:
        """All that the caller got to see."""
        parts = (str(self.code).encode(), self.text.encode(), self.status)
        return b"\n".join((*parts, *(one.SerializeToString(deterministic=True) for one in self.responses)))

    def __str__(self) -> str:
        return f"{self.code.name} {self.reasons} {self.text!r} {self.responses!r}"[:2000]


class Doors:
    """Ways into a stack: Envoy, and each service's own port. A context manager."""

    def __init__(self, stack: Stack) -> None:
        # More than the largest message that a service takes, so that it is the service that refuses.
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
        services = ("user_svc", "tool_svc", "memory_svc", "agent_svc")
        addresses = {"envoy": stack.target, **{name: stack.address(name) for name in services}}
        self.channels = {name: grpc.insecure_channel(address, options) for name, address in addresses.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self.channels.values():
            channel.close()

    def call(
        self,
        rpc: Rpc,
        requests: Sequence[Message | bytes],
        token: str | None,
        *,
        door: str = "",
        timeout_s: float = _DEADLINE_S,
    ) -> Answer:
        """Calls through a door: the service's own by default. Of an endless stream only the first response is waited for."""
        metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        payloads = [one if isinstance(one, bytes) else one.SerializeToString() for one in requests]
        responses: list[Any] = []
        try:
            for response in _responses(self.channels[door or rpc.component], rpc, payloads, metadata, timeout_s):
                responses.append(response)
                if rpc.endless:
                    break
        except grpc.RpcError as error:
            return _failure(error, responses)
        return Answer(grpc.StatusCode.OK, responses=responses)


def _responses(
    channel: grpc.Channel, rpc: Rpc, payloads: list[bytes], metadata: tuple[tuple[str, str], ...], timeout_s: float
) -> Iterator[Any]:
    kind = ("stream" if rpc.streams_requests else "unary") + ("_stream" if rpc.streams_responses else "_unary")
    start = getattr(channel, kind)(f"/{rpc.name}", response_deserializer=rpc.response.FromString)
    request: bytes | Iterable[bytes] = iter(payloads) if rpc.streams_requests else payloads[0]
    given = start(request, timeout=timeout_s, metadata=metadata)
    if not rpc.streams_responses:
        yield given
        return
    try:
        yield from given
    finally:
        given.cancel()


def _failure(error: Any, responses: list[Any]) -> Answer:
    trailers = dict(error.trailing_metadata() or ())
    status = trailers.get("grpc-status-details-bin", b"")
    return Answer(error.code(), error.details() or "", bytes(status), responses)
