"""A function becomes a source of its own: what it uses comes along, the decorator and the rest stay."""

import textwrap
from typing import Any

import pytest

import hearth_client
from hearth_client._tool_decorator import options_of, source_of
from hearth_client._tool_source import decorated_tools, extract

LIMIT = 3


def _helper(number: int) -> int:
    return min(number, LIMIT)


@hearth_client.tool(name="limited", tags=["a"], timeout_s=1.5, idempotent=True)
def limit(number: int) -> int:
    """Limits it."""
    return _helper(number)


@hearth_client.tool
async def plain() -> str:
    """Is plain."""
    return "plain"


def test_a_decorated_function_stays_a_function() -> None:
    assert limit(5) == 3
    options = options_of(limit)
    assert (options.name, list(options.tags)) == ("limited", ["a"])
    settings = options.settings()
    assert (settings.timeout_ms, settings.idempotent, settings.HasField("memory_mib")) == (1500, True, False)
    assert options_of(_helper).name == ""


def test_options_of_another_type_are_refused_where_they_are_written() -> None:
    several: list[dict[str, Any]] = [
        {"tags": "a"},
        {"timeout_s": "5"},
        {"memory": 64},
        {"secrets": ["A", 1]},
        {"idempotent": 1},
    ]
    for wrong in several:
        with pytest.raises(TypeError):
            hearth_client.tool(**wrong)


def test_the_source_of_a_function_of_this_file_runs_alone() -> None:
    source = source_of(limit)
    assert "hearth_client" not in source
    assert "pytest" not in source
    namespace: dict[str, object] = {}
    exec(source, namespace)
    function = namespace["limit"]
    assert callable(function)
    assert function(5) == 3
    assert source_of(plain).strip().startswith("async def plain")


def test_only_what_is_used_comes_along_in_order() -> None:
    source = textwrap.dedent(
        '''
        """A module."""
        from __future__ import annotations
        import json, os
        from typing import Optional as Maybe
        import hearth_client as h
        try:
            import fast
        except ImportError:
            fast = None
        A = 1
        B: int = A + 1
        C = 3
        class Base: ...
        class Point(Base):
            x: "Other"
        class Other: ...
        class Unused: ...
        @h.tool(
            tags=["x"],
        )
        @staticmethod
        def f(p: Point, q: Maybe[int] = B) -> str:
            """Reads C in its docstring only."""
            # a comment stays
            return json.dumps(fast)
        def g(): return Unused
        f(1)
        '''
    )
    extracted = extract(source, "f")
    for part in ("annotations", "import json, os", "Maybe", "import fast", "A = 1", "B: int", "Base", "Point", "Other"):
        assert part in extracted, part
    for part in ("Unused", "def g", "tags", "h.tool", "f(1)", "A module", "C = 3"):
        assert part not in extracted, part
    assert "@staticmethod\ndef f(" in extracted
    assert "# a comment stays" in extracted
    assert extracted.index("class Other") < extracted.index("def f(")
    compile(extracted, "tool.py", "exec")


def test_decorators_are_found_by_what_they_were_imported_as() -> None:
    source = textwrap.dedent(
        """
        from hearth_client import tool as pushable
        from other import tool
        import hearth_client
        @pushable(name="one", requires_approval=True)
        def f(): ...
        @tool
        def g(): ...
        @hearth_client.tool
        async def h(): ...
        """
    )
    assert [(one.function, one.options) for one in decorated_tools(source)] == [
        ("f", {"name": "one", "requires_approval": True}),
        ("h", {}),
    ]
    with pytest.raises(ValueError, match="line 3, column 26: `name` of @tool must be a literal"):
        decorated_tools("import hearth_client\n\n@hearth_client.tool(name=hearth_client.x)\ndef f(): ...")


def test_what_has_no_source_is_refused() -> None:
    def nested() -> None: ...

    for function in (nested, lambda: None, len):
        with pytest.raises(ValueError, match=r"top level|cannot be found"):
            source_of(function)
    with pytest.raises(ValueError, match="no top-level function 'x'"):
        extract("def f(): ...", "x")
    with pytest.raises(ValueError, match="line 1"):
        extract("def f(:", "f")
    assert decorated_tools("def f(:") == []
