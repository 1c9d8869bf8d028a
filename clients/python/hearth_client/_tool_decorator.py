"""`@hearth_client.tool`: a Python function that can be pushed to a Hearth as a tool."""

from __future__ import annotations

import inspect
import linecache
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from hearth_client._tool_options import ToolOptions
from hearth_client._tool_source import extract

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__hearth_tool__"


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    tags: Sequence[str] = (),
    timeout_s: float | None = None,
    memory_mib: int | None = None,
    output_kib: int | None = None,
    return_limit: int | None = None,
    requires_approval: bool | None = None,
    idempotent: bool | None = None,
    allowed_hosts: Sequence[str] = (),
    secrets: Sequence[str] = (),
    requirements: Sequence[str] = (),
) -> Callable[[F], F]: ...
def tool(function: F | None = None, /, **options: Any) -> F | Callable[[F], F]:
    """Makes a function pushable: `hearth.tools.push(function)`, or `hearth tool push FILE`. It stays the function that it is.

    Its docstring tells the model what it does, its annotations what it takes. What it uses of its module (imports,
    helpers, classes) goes along. The options are those of `ToolOptions`; raises TypeError for another, or one of another type.
    `hearth tool push` reads them from the file without executing it: there they must be literals.
    """
    chosen = ToolOptions(**options)

    def mark(marked: F) -> F:
        setattr(marked, _ATTRIBUTE, chosen)
        return marked

    return mark if function is None else mark(function)


def options_of(function: Callable[..., Any]) -> ToolOptions:
    """What the decorator said of a function; the defaults without one."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, ToolOptions) else ToolOptions()


def source_of(function: Callable[..., Any]) -> str:
    """The source that makes this function a tool. Raises ValueError for one that has none of its own."""
    name = getattr(function, "__name__", "")
    if getattr(function, "__qualname__", "") != name or name == "<lambda>":
        raise ValueError(f"{name or function!r} is not at the top level of a module: a tool must be")
    try:
        file = inspect.getsourcefile(function)
        module_source = "".join(linecache.getlines(file)) if file else ""
        return extract(module_source or textwrap.dedent(inspect.getsource(function)), name)
    except (OSError, TypeError):
        raise ValueError(f"the source of {name} cannot be found") from None
