"""Agents described by plain values: checked against CreateAgentRequest as the API has it, so that whatever it learns, documents know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from agent_svc.domain.agent import Agent, AgentDraft
from agent_svc.interfaces.agent_specs import BadSpec, SpecFault
from agent_svc.servicers.mapping import agent_to_proto, draft_from_proto
from chassis.errors import FieldViolation, InvalidArgument
from chassis.validation import check, nul_fields
from hearth.agent.v1 import agent_service_pb2 as pb

# What a request says of itself, or of things that only one organization has.
_NOT_OF_AGENTS = frozenset({"request_id", "block_ids", "template", "template_version", "variables"})
_MADE_BY_OTHERS = frozenset({"tools", "blocks"})
_INTEGERS = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


class ProtobufAgentSpecs:
    """Implements interfaces.agent_specs.AgentSpecs."""

    def decode(self, values: Mapping[str, Any]) -> AgentDraft:
        request = pb.CreateAgentRequest()
        faults = [
            SpecFault(name, "unknown field")
            for name in values
            if name in _NOT_OF_AGENTS or name not in request.DESCRIPTOR.fields_by_name
        ]
        faults += _faults(request.DESCRIPTOR, {name: values[name] for name in values if name not in _NOT_OF_AGENTS}, "")
        if faults:
            raise BadSpec(faults)
        try:
            ParseDict(dict(values), request)
        except (ParseError, ValueError, TypeError, RecursionError):
            raise BadSpec([SpecFault("", "is not what an agent is made of")]) from None
        violations = nul_fields(request) or _violations(request)
        if violations:
            raise BadSpec([SpecFault(one.field, one.description) for one in violations])
        return draft_from_proto(request)

    def encode(self, agent: Agent) -> dict[str, Any]:
        whole = MessageToDict(agent_to_proto(agent), preserving_proto_field_name=True)
        known = set(pb.CreateAgentRequest.DESCRIPTOR.fields_by_name) - _NOT_OF_AGENTS - _MADE_BY_OTHERS
        return {name: value for name, value in whole.items() if name in known}


def _violations(request: pb.CreateAgentRequest) -> Sequence[FieldViolation]:
    try:
        check(request)
    except InvalidArgument as error:
        return error.field_violations
    return ()


def _faults(descriptor: Any, values: Any, path: str) -> Iterator[SpecFault]:
    """What does not have the shape of the message."""
    if not isinstance(values, Mapping):
        yield SpecFault(path, "must be a mapping of fields")
        return
    for name, value in cast("Mapping[str, Any]", values).items():
        here = f"{path}.{name}" if path else name
        field = descriptor.fields_by_name.get(name)
        if field is None:
            if path:
                yield SpecFault(here, "unknown field")
        elif value is None:
            yield SpecFault(here, "must have a value")
        else:
            yield from _field_faults(field, value, here)


def _field_faults(field: FieldDescriptor, value: Any, path: str) -> Iterator[SpecFault]:
    message: Any = field.message_type
    if message is not None and message.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            yield SpecFault(path, "must be a mapping")
            return
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from _item_faults(message.fields_by_name["value"], item, f"{path}.{key}")
    elif field.is_repeated:
        if not isinstance(value, list):
            yield SpecFault(path, "must be a list")
            return
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _item_faults(field, item, f"{path}[{index}]")
    else:
        yield from _item_faults(field, value, path)


def _item_faults(field: FieldDescriptor, value: Any, path: str) -> Iterator[SpecFault]:
    kind = field.cpp_type
    if field.message_type is not None:
        # Values of any shape, and times, say themselves how they are written.
        if not field.message_type.full_name.startswith("google.protobuf."):
            yield from _faults(field.message_type, value, path)
    elif kind == FieldDescriptor.CPPTYPE_STRING:
        if not isinstance(value, str):
            yield SpecFault(path, "must be text (in quotes, if it looks like something else)")
    elif kind == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            yield SpecFault(path, "must be true or false")
    elif kind in _INTEGERS:
        # JSON writes large numbers as text.
        if isinstance(value, bool) or not (isinstance(value, int) or _digits(value)):
            yield SpecFault(path, "must be a whole number")
    elif kind in _FLOATS and (isinstance(value, bool) or not isinstance(value, int | float)):
        yield SpecFault(path, "must be a number")


def _digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20
