"""What `@hearth_client.tool` can say of a tool, each option with what it must look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hearth.tool.v1.tool_pb2 import ToolSettings


@dataclass(frozen=True)
class ToolOptions:
    """How a tool is called and how it runs; None is Hearth's default. Raises TypeError for an option of another type.

    name, description: the function's unless given.
    tags: free labels.
    timeout_s: seconds a call may take.
    memory_mib: MiB of memory a call may use.
    output_kib: KiB of what it prints that are kept.
    return_limit: characters of the result that the model sees.
    requires_approval: a person must approve each call.
    idempotent: calling it again with the same arguments does no harm.
    allowed_hosts: what it may reach, as in `api.example.com` or `*.example.org:8443`; none: no network.
    secrets: names of secrets that it gets as environment variables.
    requirements: Python packages that it imports, as in `humanize==4.9.0`.
    """

    name: str = ""
    description: str = ""
    tags: Sequence[str] = ()
    timeout_s: float | None = None
    memory_mib: int | None = None
    output_kib: int | None = None
    return_limit: int | None = None
    requires_approval: bool | None = None
    idempotent: bool | None = None
    allowed_hosts: Sequence[str] = ()
    secrets: Sequence[str] = ()
    requirements: Sequence[str] = ()

    def __post_init__(self) -> None:
        for option in fields(self):
            if problem := problem_of(option.name, getattr(self, option.name)):
                raise TypeError(problem)

    def settings(self) -> ToolSettings:
        """As the API has it."""
        from hearth.tool.v1.tool_pb2 import NetworkPolicy, ToolSettings

        return ToolSettings(
            timeout_ms=None if self.timeout_s is None else round(self.timeout_s * 1000),
            memory_mib=self.memory_mib,
            output_kib=self.output_kib,
            return_limit=self.return_limit,
            requires_approval=self.requires_approval,
            idempotent=self.idempotent,
            network=NetworkPolicy(allowed_hosts=self.allowed_hosts) if self.allowed_hosts else None,
            secrets=self.secrets,
            requirements=self.requirements,
        )


def problem_of(name: str, value: object) -> str:
    """What is wrong with the value of an option; empty when nothing is. How large it may be the server knows."""
    if name not in OPTIONS:
        return f"there is no option `{name}` of @tool; there are {', '.join(OPTIONS)}"
    what, is_right = OPTIONS[name]
    return "" if is_right(value) else f"`{name}` of @tool must be {what}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    # What is beyond these fits no field of the API; `nan` is not between them.
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e6)


def _is_whole(value: object) -> bool:
    return value is None or (isinstance(value, int) and _is_number(value))


def _is_choice(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


_Kind = tuple[str, Callable[[object], bool]]

_TEXT: _Kind = ("text", _is_text)
_TEXTS: _Kind = ("a list of texts", _are_texts)
_WHOLE: _Kind = ("a whole number from 1 to 1,000,000", _is_whole)
_CHOICE: _Kind = ("True or False", _is_choice)

# By name: what it must be, and whether a value is that.
OPTIONS: Mapping[str, _Kind] = {
    "name": _TEXT,
    "description": _TEXT,
    "tags": _TEXTS,
    "timeout_s": ("a number of seconds above 0, at most 1,000,000", _is_number),
    "memory_mib": _WHOLE,
    "output_kib": _WHOLE,
    "return_limit": _WHOLE,
    "requires_approval": _CHOICE,
    "idempotent": _CHOICE,
    "allowed_hosts": _TEXTS,
    "secrets": _TEXTS,
    "requirements": _TEXTS,
}
