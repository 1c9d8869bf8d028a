"""JSON Schema of a tool's arguments, read from its source without running it."""

from tool_svc.domain.schema.derivation import DerivedTool, derive
from tool_svc.domain.schema.module import Entry, find_entry

__all__ = ["DerivedTool", "Entry", "derive", "find_entry"]
