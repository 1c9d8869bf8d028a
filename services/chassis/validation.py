"""Requests against the rules in their schema: bytes → message → no violations, or INVALID_ARGUMENT naming the fields."""

from collections.abc import Callable
from typing import Any, TypeVar

import protovalidate
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from chassis.errors import FieldViolation, InvalidArgument

M = TypeVar("M", bound=Message)

_validator = protovalidate.Validator()


def parse(from_string: Callable[[bytes], M], raw: bytes) -> M:
    """The message in these bytes. Raises InvalidArgument when they are not one, bad UTF-8 included."""
    try:
        return from_string(raw)
    except DecodeError:
        raise InvalidArgument("the request is not a message of this type", reason="VALIDATION_FAILED") from None


def check(message: Message, prefix: str = "") -> None:
    """Raises InvalidArgument VALIDATION_FAILED naming every field that breaks a rule of the schema, its path after `prefix`.

    UPDATE_MASK_INVALID when it is the update mask alone.
    """
    found = _validator.collect_violations(message)
    if not found:
        return
    violations = [
        FieldViolation(
            prefix + _path(violation.proto.field),
            violation.proto.message or "is not valid",
            violation.proto.rule_id or "",
        )
        for violation in found
    ]
    only_mask = all(violation.field.partition(".")[0] == "update_mask" for violation in violations)
    first = violations[0]
    raise InvalidArgument(
        f"{first.field}: {first.description}" if first.field else first.description,
        reason="UPDATE_MASK_INVALID" if only_mask else "VALIDATION_FAILED",
        field_violations=violations,
    )


def nul_fields(message: Message, prefix: str = "") -> list[FieldViolation]:
    """The text fields that hold a NUL character, which PostgreSQL cannot store. Walks the message: for the slow path."""
    found: list[FieldViolation] = []
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if _is_map(field):
            continue
        values: list[Any] = list(value) if field.is_repeated else [value]
        for index, item in enumerate(values):
            here = f"{path}[{index}]" if field.is_repeated else path
            if isinstance(item, Message):
                found.extend(nul_fields(item, f"{here}."))
            elif isinstance(item, str) and "\0" in item:
                found.append(FieldViolation(here, "must not contain the NUL character"))
    return found


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _path(path: Any) -> str:
    """`a.b[2].c["k"]` of a buf.validate.FieldPath."""
    if path is None:
        return ""
    text = ""
    for element in path.elements:
        text += f".{element.field_name}" if text else str(element.field_name)
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            text += f'["{value}"]' if isinstance(value, str) else f"[{value}]"
    return text
