"""What the descriptors say about each method: who may call it, what it leaves in the audit log, whether it streams."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

from chassis.audit.declared import AuditRule, Declared, declared
from chassis.identity import Access
from chassis.scopes import scope_of
from hearth.type.v1 import access_pb2


class UndeclaredAccess(Exception):
    """A method of a service has no `hearth.type.v1.access`: nobody decided who may call it, so the server refuses to start."""


class UndeclaredAudit(Exception):
    """A method that may do more than read has no `hearth.type.v1.audit`: nobody decided what is put on record."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service. `path` is `/package.Service/Method`; `scope` what limited credentials need for it, empty if nothing."""

    path: str
    access: Access
    audit: Declared
    scope: str
    streams_responses: bool
    streams_requests: bool


def methods_of(service: str) -> Mapping[str, Method]:
    """The methods of a fully-qualified service by name. Its generated module must have been imported.

    Raises UndeclaredAccess or UndeclaredAudit naming the methods that lack one, ValueError for a field that is not there.
    """
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    methods = {method.name: _method(service, method) for method in descriptor.methods}
    undeclared = [method.path for method in methods.values() if method.access is Access.UNSPECIFIED]
    if undeclared:
        raise UndeclaredAccess(f"no (hearth.type.v1.access) on {', '.join(undeclared)}")
    unrecorded = [method.path for method in methods.values() if method.audit.rule is AuditRule.UNSPECIFIED]
    if unrecorded:
        raise UndeclaredAudit(f"no (hearth.type.v1.audit) on {', '.join(unrecorded)}")
    return methods


def _method(service: str, method: MethodDescriptor) -> Method:
    access = Access(method.GetOptions().Extensions[access_pb2.access])
    return Method(
        path=f"/{service}/{method.name}",
        access=access,
        audit=declared(method),
        scope=scope_of(service, method.name, access),
        streams_responses=method.server_streaming,
        streams_requests=method.client_streaming,
    )
