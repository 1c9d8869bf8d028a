"""What a method declares to leave in the audit log, from its descriptor."""

import enum
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from hearth.type.v1 import audit_pb2

# Methods with such a name only read, and need not say so.
_READS = ("Get", "List", "Watch")


class AuditRule(enum.IntEnum):
    """Which calls are put on record. Numbers as in hearth.type.v1.AuditRule."""

    UNSPECIFIED = 0
    NEVER = 1
    ALWAYS = 2
    SERVICES = 3


@dataclass(frozen=True, slots=True)
class Declared:
    """What a method declares. The paths lead to the id of what a call is about; empty ones lead nowhere."""

    rule: AuditRule
    request_path: tuple[str, ...] = ()
    response_path: tuple[str, ...] = ()
    response_type: type[Message] | None = None
    ahead: bool = False

    @property
    def records(self) -> bool:
        """Whether any call of this method is put on record."""
        return self.rule in (AuditRule.ALWAYS, AuditRule.SERVICES)

    def asked_about(self, request: Message) -> str:
        """The id in a request; empty if it names none."""
        return _at(request, self.request_path)

    def answered_about(self, response: Message | bytes) -> str:
        """The id in an answer, serialized or not; empty if it names none."""
        if not self.response_path or self.response_type is None:
            return ""
        if isinstance(response, Message):
            return _at(response, self.response_path)
        try:
            return _at(self.response_type.FromString(response), self.response_path)
        except DecodeError:
            return ""


def declared(method: MethodDescriptor) -> Declared:
    """What a method declares; a method that must and does not has the rule UNSPECIFIED.

    Raises ValueError for a path that leads to no text.
    """
    option = method.GetOptions().Extensions[audit_pb2.audit]
    rule = AuditRule(option.rule)
    if rule is AuditRule.UNSPECIFIED and method.name.startswith(_READS):
        rule = AuditRule.NEVER
    return Declared(
        rule=rule,
        request_path=_path(method.input_type, option.request_field),
        response_path=_path(method.output_type, option.response_field),
        response_type=GetMessageClass(method.output_type),
        ahead=option.ahead,
    )


def _path(message: Descriptor, path: str) -> tuple[str, ...]:
    if not path:
        return ()
    inside: Any = message
    field: FieldDescriptor | None = None
    for step in path.split("."):
        field = inside.fields_by_name.get(step) if inside is not None else None
        if field is None or field.is_repeated:
            raise ValueError(f"(hearth.type.v1.audit) names {path!r}, which {message.full_name} does not have")
        inside = field.message_type
    if field is None or field.type != FieldDescriptor.TYPE_STRING:
        raise ValueError(f"(hearth.type.v1.audit) names {path!r} of {message.full_name}, which is no text")
    return tuple(path.split("."))


def _at(message: Any, path: tuple[str, ...]) -> str:
    if not path:
        return ""
    for step in path:
        message = getattr(message, step)
    return message
