"""Renders docs/access.md: for every public method, who may call it and which scope a limited key needs."""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from chassis.identity import Access
from chassis.scopes import scope_of

ACCESS_FILE = "hearth/type/v1/access.proto"
ACCESS_OPTION = "hearth.type.v1.access"
ROLE_ENUM = 0
ENUM_FIELD, VALUE_FIELD = 5, 2  # FileDescriptorProto.enum_type, EnumDescriptorProto.value

HEADER = """# Who may do what

Generated from the protos by `make proto`. Every method declares the least role that may call it; nobody reaches another
organization's data with any of them.

| role | |
| --- | --- |
"""

SCOPES = """
## Scopes

An API key, or a trusted issuer, may be limited to scopes; without any it may do all that the role allows. A call outside of them is
PERMISSION_DENIED `SCOPE_INSUFFICIENT`, and the error says what is needed. `<domain>.write` includes `<domain>.read`; the scopes
follow from the package and the role below, and are the same for every way in: gRPC, JSON, the socket.

A call that makes another service work carries the caller's credential there, and with it the limit: CreateAgent also needs `memory.write`,
for the agent's blocks, and CreateAgent and UpdateAgent need `tool.read` where they name tools. What an agent does in a run is the agent's doing, not
the key's: for that `agent.write` is enough. A limited key makes only keys that are limited as much or more.
"""

TABLE = """
## Methods

| method | least role | scope |
| --- | --- | --- |
"""


def render(described: descriptor_pb2.FileDescriptorSet) -> str:
    """Returns the page as Markdown. `described` must have been made with source information and all imports."""
    access = next(file for file in described.file if file.name == ACCESS_FILE)
    return HEADER + "".join(_roles(access)) + SCOPES + TABLE + "".join(_methods(described))


def _roles(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for index, value in enumerate(file.enum_type[ROLE_ENUM].value):
        if value.number:
            meaning = " ".join(comments[(ENUM_FIELD, ROLE_ENUM, VALUE_FIELD, index)].split())
            yield f"| `{value.name.removeprefix('ROLE_')}` | {meaning} |\n"


def _methods(described: descriptor_pb2.FileDescriptorSet) -> Iterator[str]:
    access_of = _reader(described)
    for file in described.file:
        if not file.package.startswith("hearth.") or ".internal." in file.package:
            continue
        for service in file.service:
            full_name = f"{file.package}.{service.name}"
            for method in service.method:
                access = access_of(method)
                least = "none" if access is Access.ANONYMOUS else f"`{access.name}`"
                scope = scope_of(full_name, method.name, access)
                name = f"{full_name.removeprefix('hearth.')}/{method.name}"
                yield f"| `{name}` | {least} | {f'`{scope}`' if scope else 'none'} |\n"


def _reader(described: descriptor_pb2.FileDescriptorSet) -> Callable[[descriptor_pb2.MethodDescriptorProto], Access]:
    """Reads the option from the protos themselves: the generated code that knows it may be what is being made."""
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    options = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.MethodOptions"))
    option = pool.FindExtensionByName(ACCESS_OPTION)

    def read(method: descriptor_pb2.MethodDescriptorProto) -> Access:
        parsed: Any = options.FromString(method.options.SerializeToString())
        return Access(parsed.Extensions[option])

    return read
