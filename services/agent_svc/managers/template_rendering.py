"""From a template's text to an agent's values, with faults as callers get them: by line, by variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_svc.domain.agent import AgentDraft
from agent_svc.domain.template_document import (
    TemplateDocument,
    TemplateFault,
    VariablesFault,
    read_template,
    sample_values,
    substituted,
)
from agent_svc.interfaces.agent_specs import AgentSpecs, BadSpec
from chassis.errors import FieldViolation, InvalidArgument

_MAX_SHOWN = 20


def read(text: str) -> TemplateDocument:
    """Raises InvalidArgument TEMPLATE_INVALID."""
    try:
        return read_template(text)
    except TemplateFault as fault:
        raise _invalid(fault.message, fault.line) from None


def proven(text: str, specs: AgentSpecs) -> TemplateDocument:
    """A document that makes an agent, as far as that can be said before its variables have values.

    Raises InvalidArgument TEMPLATE_INVALID.
    """
    document = read(text)
    values = substituted(document, sample_values(document))
    try:
        specs.decode(values)
    except BadSpec as bad:
        for fault in bad.faults:
            if not document.varies(fault.path):
                raise _invalid(f"{fault.path}: {fault.description}", document.line(fault.path)) from None
    return document


def rendered(text: str, variables: Mapping[str, str], specs: AgentSpecs) -> tuple[dict[str, Any], AgentDraft]:
    """What a document makes with these variables: its values, and the same as a draft.

    Raises InvalidArgument TEMPLATE_INVALID, TEMPLATE_VARIABLES_INVALID.
    """
    document = read(text)
    try:
        values = substituted(document, variables)
        return values, specs.decode(values)
    except VariablesFault as fault:
        raise _variables_invalid(fault) from None
    except BadSpec as bad:
        fault = bad.faults[0]
        raise _invalid(f"{fault.path}: {fault.description}", document.line(fault.path)) from None


def _invalid(message: str, line: int) -> InvalidArgument:
    return InvalidArgument(
        f"line {line}: {message}",
        reason="TEMPLATE_INVALID",
        metadata={"line": str(line)},
        field_violations=(FieldViolation("document", f"line {line}: {message}"),),
    )


def _variables_invalid(fault: VariablesFault) -> InvalidArgument:
    missing, unknown = fault.missing[:_MAX_SHOWN], fault.unknown[:_MAX_SHOWN]
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
    return InvalidArgument(
        f"the template's variables do not fit ({'; '.join(parts)})",
        reason="TEMPLATE_VARIABLES_INVALID",
        metadata={"missing": ",".join(missing), "unknown": ",".join(unknown)},
        field_violations=[
            *(FieldViolation(f"variables.{name}", "is required") for name in missing),
            *(FieldViolation(f"variables.{name}", "is not declared by the template") for name in unknown),
        ],
    )
