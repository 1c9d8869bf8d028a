"""Templates: documents with variables that agents are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class TemplateVariable:
    """A value to be given. Without a default it is the empty text, unless it is required."""

    name: str
    description: str = ""
    default: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A version of a template as stored. `create_time` is that of the first version, `update_time` of this one."""

    id: UUID
    organization_id: UUID
    name: str
    version: int
    description: str
    document: str
    variables: tuple[TemplateVariable, ...]
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """Which template to begin with (version 0: the newest), and with which values."""

    name: str
    version: int = 0
    variables: dict[str, str] = field(default_factory=dict[str, str])
