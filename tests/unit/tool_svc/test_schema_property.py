"""The derived schema accepts exactly the calls that Python would bind with values of the annotated types.

Each signature is executed for real: what the schema accepts is bound as the sandbox binds it and called, and the
function must receive instances of its annotations; a name that the schema refuses must be one that Python refuses.
HEARTH_PROPERTY_EXAMPLES sets how many signatures are tried; the bar is 10,000.
"""

import inspect
import os
import typing
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from tests.unit.tool_svc.argument_types import ANYTHING, PRELUDE, TYPES, Drawn, is_of
from tests.unit.tool_svc.provider_rules import refusals
from tool_svc.adapters.sandbox import binding
from tool_svc.domain import json_schema
from tool_svc.domain.schema import derive

_EXAMPLES = int(os.environ.get("HEARTH_PROPERTY_EXAMPLES", "300"))
_KINDS = ("positional only", "either", "keyword only")
_ABSENT = object()


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str
    type: Drawn
    has_default: bool

    def __repr__(self) -> str:
        return f"{self.name}: {self.type.annotation} ({self.kind}{', default' if self.has_default else ''})"


@st.composite
def signatures(draw: st.DrawFn) -> list[Parameter]:
    """Parameters in an order that Python accepts."""
    count = draw(st.integers(0, 5))
    kinds = sorted((draw(st.sampled_from(_KINDS)) for _ in range(count)), key=_KINDS.index)
    found: list[Parameter] = []
    defaults_begun = False
    for number, kind in enumerate(kinds):
        has_default = draw(st.booleans())
        if kind != "keyword only":
            has_default = defaults_begun = has_default or defaults_begun
        found.append(Parameter(f"p{number}", kind, draw(TYPES), has_default))
    return found


def source_of(signature: list[Parameter]) -> str:
    parts: list[str] = []
    last_kind = ""
    for one in signature:
        if last_kind == "positional only" and one.kind != last_kind:
            parts.append("/")
        if one.kind == "keyword only" and one.kind != last_kind:
            parts.append("*")
        parts.append(f"{one.name}: {one.type.annotation}" + (" = ..." if one.has_default else ""))
        last_kind = one.kind
    if last_kind == "positional only":
        parts.append("/")
    return f"{PRELUDE}\ndef f({', '.join(parts)}):\n    return locals()\n"


@pytest.mark.timeout(max(120, _EXAMPLES // 10))
@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(signature=signatures(), data=st.data())
def test_accepts_exactly_what_python_binds(signature: list[Parameter], data: st.DataObject) -> None:
    source = source_of(signature)
    parameters = derive(source).parameters
    assert refusals(parameters) == []
    arguments: dict[str, Any] = {}
    for one in signature:
        values = st.one_of(one.type.values, one.type.values, one.type.values, ANYTHING, st.just(_ABSENT))
        value = data.draw(values, label=one.name)
        if value is not _ABSENT:
            arguments[one.name] = value
    if data.draw(st.integers(0, 9)) == 0:
        arguments["unknown"] = 1
    well_typed = all(one.type.fits(arguments[one.name]) for one in signature if one.name in arguments)
    received = _called(source, arguments) if well_typed else None
    assert _accepts(parameters, arguments) is (received is not None)


def _accepts(parameters: dict[str, Any], arguments: dict[str, Any]) -> bool:
    try:
        json_schema.check_arguments(parameters, arguments)
    except InvalidArgument:
        return False
    return True


def _called(source: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """What the function received, checked against its annotations; None where Python refuses the names."""
    # Dataclasses look their module up by name.
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(source, namespace)
    function = namespace["f"]
    try:
        positional, named = binding.bind(function, arguments)
        inspect.signature(function).bind(*positional, **named)
    except TypeError:
        return None
    received: dict[str, Any] = function(*positional, **named)
    hints = typing.get_type_hints(function, include_extras=True)
    for name in arguments:
        assert is_of(received[name], hints[name]), f"{name} received {received[name]!r} for {hints[name]}"
    return received
