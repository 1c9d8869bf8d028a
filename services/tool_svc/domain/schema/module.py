"""The source as a syntax tree: its entry function, its imports, its classes and type aliases."""

import ast
import builtins
import typing
from dataclasses import dataclass, field

from tool_svc.domain.schema import docstrings
from tool_svc.domain.schema.problems import source_invalid, source_invalid_at

Function = ast.FunctionDef | ast.AsyncFunctionDef

_TYPING_MODULES = ("typing", "typing_extensions", "collections.abc")
_MAX_NAME = 64


@dataclass(frozen=True)
class Entry:
    """The function that a call of the tool calls."""

    name: str
    description: str
    parameter_names: frozenset[str]
    takes_any_name: bool


@dataclass(frozen=True)
class Module:
    """What the rest of the reading needs of a source."""

    entry: Function
    # Local name → dotted name of what was imported under it.
    imports: dict[str, str] = field(default_factory=dict[str, str])
    classes: dict[str, ast.ClassDef] = field(default_factory=dict[str, ast.ClassDef])
    aliases: dict[str, ast.expr] = field(default_factory=dict[str, ast.expr])

    def dotted(self, node: ast.expr) -> str | None:
        """The full name that a name or attribute stands for, `typing` and its kin left out: `Optional`, `enum.Enum`.

        None for anything that is not a name, or a name that nothing in the source defines.
        """
        full = self._full(node)
        if full is None:
            return None
        for module in _TYPING_MODULES:
            if full.startswith(module + "."):
                return full[len(module) + 1 :]
        return full

    def _full(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Attribute):
            inner = self._full(node.value)
            return None if inner is None else f"{inner}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        if node.id in self.classes or node.id in self.aliases:
            return node.id
        if node.id in self.imports:
            return self.imports[node.id]
        return node.id if hasattr(builtins, node.id) else None


def parse(source: str) -> Module:
    """Parse a source. Raises InvalidArgument TOOL_SOURCE_INVALID."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise source_invalid_at(error.lineno or 1, max(error.offset or 1, 1), f"syntax error: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise source_invalid_at(1, 1, f"this cannot be parsed as Python: {error}") from None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not functions:
        raise source_invalid(None, "there is no top-level function", "`def name(...):` with the work of the tool")
    module = Module(functions[-1])
    for node in tree.body:
        _collect(module, node)
    return module


def find_entry(source: str) -> Entry:
    """The entry function of a source whose schema is given. Raises InvalidArgument TOOL_SOURCE_INVALID."""
    function = parse(source).entry
    arguments = function.args
    description = docstrings.read(function).description
    require_storable(function, description)
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return Entry(
        entry_name(function),
        description,
        frozenset(argument.arg for argument in named),
        arguments.kwarg is not None,
    )


def entry_name(function: Function) -> str:
    """The function's name, when it can be a tool's. Raises InvalidArgument TOOL_SOURCE_INVALID."""
    if not is_plain_name(function.name):
        raise source_invalid(function, f"the function's name `{function.name}` cannot be a tool's", _PLAIN)
    return function.name


def require_storable(function: Function, *texts: str) -> None:
    """Text that a source writes with escapes can hold what no database and no message can: refuse it."""
    for text in texts:
        if "\0" in text or "\\u0000" in text or any("\ud800" <= character <= "\udfff" for character in text):
            problem = "the docstring or a default holds a NUL or half a surrogate pair"
            raise source_invalid(function, problem, "text without them")


def is_plain_name(name: str) -> bool:
    """Whether model providers accept it as a name of a tool or argument."""
    return name.isascii() and len(name) <= _MAX_NAME


_PLAIN = f"at most {_MAX_NAME} letters, digits and underscores"


def _collect(module: Module, node: ast.stmt) -> None:
    match node:
        case ast.Import(names=names):
            for name in names:
                module.imports[name.asname or name.name.partition(".")[0]] = (
                    name.name if name.asname else name.name.partition(".")[0]
                )
        case ast.ImportFrom(module=origin, names=names, level=0) if origin:
            for name in names:
                if name.name == "*" and origin in _TYPING_MODULES:
                    module.imports.update({known: f"{origin}.{known}" for known in typing.__all__})
                module.imports[name.asname or name.name] = f"{origin}.{name.name}"
        case ast.ClassDef(name=name):
            module.classes[name] = node
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            module.aliases[name] = value
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            module.aliases[name] = value
        case ast.Try(body=body) | ast.If(body=body):
            # `if TYPE_CHECKING:` and `try: import …` define names too.
            for inner in body:
                _collect(module, inner)
        case _:
            pass
