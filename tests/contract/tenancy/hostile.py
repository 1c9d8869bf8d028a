"""What somebody sends who wants to break the server: valid requests with hostile parts, and bytes that are no request."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import strategies as st

_MIB = 1 << 20
_MAX_DEPTH = 4

TEXTS: tuple[str, ...] = (
    # Nothing, or next to nothing.
    *("", " ", "\n", "\t \r\n", "0", "-1", "null", "true", "[]", "{}"),
    # Characters that databases, logs and terminals trip over.
    *("\0", "a\0b", "\x01\x02\x1b[31m", "\x7f", "\u202eevil\u202c", "\u2066x\u2069", "\u200b", "\ufeffx", "\ufffe"),
    *("e\u0301" * 40, "\u0e01\u0e33" * 40, "🏴\u200d☠️" * 20, "ß" * 128, "İ" * 64, "\U0010ffff" * 10, "ﷺ" * 128),
    # Other languages than the one that is spoken here.
    *(
        "'; DROP TABLE users; --",
        "' OR '1'='1",
        "%",
        "_",
        "%%%s%n",
        "\\",
        "\\x00",
        "a & | ! <-> :* b",
        "'",
        '"',
        "$1",
        "*",
    ),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "C:\\CON",
        "${jndi:ldap://127.0.0.1/}",
        "{{7*7}}",
        "<script>",
        "$(id)",
        "(" * 50,
    ),
    # Lengths around the limits.
    *("x" * 63, "x" * 64, "x" * 65, "x" * 128, "x" * 129, "x" * 256, "x" * 257, "x" * 1025, "x" * 16385, "x" * 65537),
    *("é" * 100_001, "x" * _MIB, "x" * (_MIB + 1), "\0" * _MIB, "x " * (_MIB // 2), "\u202e" * (_MIB // 3)),
    # Ids that are not quite ids.
    *("agent_", "agent_" + "0" * 26, "AGENT_" + "0" * 26, "agent_" + "z" * 26, "agent_" + "i" * 26, "_" + "0" * 26),
    *("00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}", "urn:uuid:" + "0" * 32),
    # Times, numbers, zones, hosts, addresses.
    *(
        "9999-12-31T23:59:59.999999+14:00",
        "0000-00-00",
        "0001-01-01T00:00:00Z",
        "2024-02-30",
        "1e400",
        "NaN",
        "Infinity",
    ),
    *(
        "2024-13-01T00:00:00Z",
        "99999999999-01-01",
        "../UTC",
        "Europe/Berlin\0",
        "localtime",
        "a@b",
        "@",
        "x" * 250 + "@b.cd",
    ),
    # Programs.
    *("def f(:", "def f(): pass", "def f(x: '(' ) -> int: ...", "def f(a, a): pass", "import os", "\0def f(): pass"),
    *("def f():\n" + " " * 9 + "x\n\ty", "(" * 5_000, "-" * 20_000 + "1", "1+" * 20_000 + "1", "a." * 20_000 + "a"),
    *("def f(x=" + "[" * 90 + "]" * 90 + "): pass", "def f(x: " + "list[" * 90 + "int" + "]" * 90 + "): pass"),
    *(
        "# coding: utf-7\n",
        "# -*- coding: nonsense -*-\ndef f(): pass",
        'def f():\n    """' + "\\x" + '"""',
        "def é(): pass",
    ),
    *(
        "x: 'y' = 1\n" * 2_000,
        "def f(x: int = 10**10**10): pass",
        "def f(x: 'int\\0'): 'doc'",
        "class A: pass\n" * 2_000,
    ),
)
_LONG = tuple(text for text in TEXTS if len(text) > 70_000)
_SHORT = tuple(text for text in TEXTS if len(text) <= 70_000)

_NUMBERS: dict[int, tuple[float, ...]] = {
    FieldDescriptor.CPPTYPE_INT32: (0, -1, 1, 2, 199, 201, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (0, -1, 1, 2, 10**6, 253402300800, 2**53, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -0.0, 1e308, 5e-324, math.nan, math.inf, -math.inf),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, 3e38, math.nan, math.inf),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 3, 5, 99, -1, 2**31 - 1, -(2**31)),
}

Draw = Callable[[st.SearchStrategy[Any]], Any]


def texts(names: Sequence[str]) -> st.SearchStrategy[str]:
    """Hostile texts: mostly short, now and then a long one, and names of what exists."""
    known = st.sampled_from([*names, ""])
    return st.one_of(st.sampled_from(_SHORT), st.sampled_from(_SHORT), known, st.text(max_size=40), _rarely(_LONG))


def _rarely(texts: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(texts if n == 0 else _SHORT))


@st.composite
def payloads(draw: Draw, bases: Sequence[Message], names: Sequence[str]) -> bytes:
    """The bytes of one request: a valid one, one to three places of which are hostile, or no request at all."""
    message = type(bases[0])()
    message.CopyFrom(draw(st.sampled_from(list(bases))))
    for _ in range(draw(st.integers(0, 3))):
        _spoil(draw, message, names, 0)
    raw = message.SerializeToString()
    if draw(st.integers(0, 5)) == 0:
        return draw(_malformed(raw))
    return raw


def _spoil(draw: Draw, message: Message, names: Sequence[str], depth: int) -> None:
    """Changes one field of a message, or of one inside it."""
    if isinstance(message, struct_pb2.Struct):
        message.CopyFrom(draw(_structs()))
        return
    if not message.DESCRIPTOR.fields or depth > _MAX_DEPTH:
        return
    field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entries = getattr(message, field.name)
        for _ in range(draw(st.sampled_from((1, 1, 65)))):
            value = _scalars(field.message_type.fields_by_name["value"], names)
            entries[draw(texts(names))] = draw(value)
    elif field.is_repeated:
        _spoil_list(draw, message, field, names, depth)
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _spoil(draw, inner, names, depth + 1)
    else:
        setattr(message, field.name, draw(_scalars(field, names)))


def _spoil_list(draw: Draw, message: Message, field: FieldDescriptor, names: Sequence[str], depth: int) -> None:
    items = getattr(message, field.name)
    count = draw(st.sampled_from((0, 1, 1, 2, 129, 501)))
    if not count:
        message.ClearField(field.name)
    elif field.message_type is None:
        value = draw(_scalars(field, names))
        # Many long ones would only be a large message.
        items.extend([value] * (count if len(str(value)) < 1000 else 1))
    else:
        item = items[0] if items else items.add()
        _spoil(draw, item, names, depth + 1)
        # What is nested too deeply to be read cannot be copied either; one of it does.
        with suppress(DecodeError):
            items.extend([item] * (count - 1 if item.ByteSize() < 1000 else 0))


def _scalars(field: FieldDescriptor, names: Sequence[str]) -> st.SearchStrategy[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.one_of(st.binary(max_size=64), st.sampled_from((b"", b"\xff" * _MIB, b"\0" * (_MIB + 1))))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return texts(names)
    return st.sampled_from(_NUMBERS[field.cpp_type])


def _structs() -> st.SearchStrategy[struct_pb2.Struct]:
    return st.sampled_from([struct_pb2.Struct(), *(_nested(depth) for depth in (1, 20, 31, 45)), *_odd_structs()])


def _nested(depth: int) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.fields["x"].string_value = "end"
    for level in range(depth):
        outer = struct_pb2.Struct()
        if level % 2:
            outer.fields["x"].struct_value.CopyFrom(struct)
        else:
            outer.fields["x"].list_value.values.add().struct_value.CopyFrom(struct)
        struct = outer
    return struct


def _odd_structs() -> list[struct_pb2.Struct]:
    odd = [struct_pb2.Struct() for _ in range(6)]
    odd[0].fields["a\0b"].string_value = "c\0d"
    odd[1].fields["number"].number_value = math.nan
    odd[2].fields["number"].number_value = -math.inf
    odd[3].fields["nothing"]  # A value of no kind.
    odd[4].update({f"key {n}": n * 1e300 for n in range(2_000)})
    odd[5].update(
        {"$ref": "#", "type": ["object", 1], "properties": {"x": {"pattern": "(a+)+$", "enum": []}}, "": None}
    )
    return odd


@st.composite
def _malformed(draw: Draw, raw: bytes) -> bytes:
    kind = draw(st.sampled_from(("noise", "cut", "not utf-8", "nested", "lengths", "types")))
    if kind == "cut":
        return raw[: draw(st.integers(0, max(len(raw) - 1, 0)))]
    if kind == "not utf-8":
        return raw.replace(b"_", b"\xff").replace(b"a", b"\xc0")
    if kind == "nested":
        # Groups in groups, and length-delimited fields in each other, deeper than any parser goes.
        return draw(st.sampled_from((b"\x0b" * 10_000, b"\x0a\x7f" * 10_000, b"\x2b" * 200 + b"\x2c" * 200)))
    if kind == "lengths":
        return raw + b"\x0a\xff\xff\xff\xff\x0f" + draw(st.binary(max_size=10))
    if kind == "types":
        # Every field number with every wire type.
        return raw + bytes([draw(st.integers(1, 15)) << 3 | draw(st.integers(0, 7))]) + draw(st.binary(max_size=12))
    return draw(st.binary(max_size=200))
