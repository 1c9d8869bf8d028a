"""`hearth tool push` and `show`: what the decorator and the options say of a tool goes into the request, and nothing is executed."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from hearth.tool.v1.tool_pb2 import NetworkPolicy, Tool, ToolSettings
from hearth.tool.v1.tool_service_pb2 import UpsertToolResponse
from hearth_client import Hearth
from hearth_client.cli._session import Session
from hearth_client.cli._tool import tool

WEATHER = '''
import pathlib

import hearth_client

pathlib.Path(__file__).with_name("executed").touch()
raise SystemExit("executed")


@hearth_client.tool(
    tags=["outside", "now"],
    timeout_s=2.5,
    memory_mib=64,
    output_kib=8,
    return_limit=100,
    requires_approval=True,
    idempotent=True,
    allowed_hosts=("api.example.com", "*.example.org:8443"),
    secrets=["WEATHER_KEY"],
    requirements=["humanize==4.9.0"],
)
def weather(city: str) -> str:
    """Says what the weather is."""
    return city


@hearth_client.tool
def plain() -> int:
    """Says one."""
    return 1
'''
SETTINGS = ToolSettings(
    timeout_ms=2500,
    memory_mib=64,
    output_kib=8,
    return_limit=100,
    requires_approval=True,
    idempotent=True,
    network=NetworkPolicy(allowed_hosts=["api.example.com", "*.example.org:8443"]),
    secrets=["WEATHER_KEY"],
    requirements=["humanize==4.9.0"],
)


class Pushing:
    """The command, over a client that keeps what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[dict[str, Any]] = []
        tools = SimpleNamespace(upsert=self._upsert, get=lambda **_: Tool(name="weather", settings=SETTINGS))
        client = SimpleNamespace(tools=tools, close=lambda: None)
        self._session = Session("http://h:1", "hk_x", client=cast(Hearth, client))

    def __call__(self, *arguments: str, source: str = WEATHER, command: str = "push") -> Result:
        file = self.folder / "tools.py"
        file.write_text(textwrap.dedent(source))
        places = [str(file)] if command == "push" else []
        result = CliRunner().invoke(tool, [command, *places, *arguments], obj=self._session)
        assert not (self.folder / "executed").exists()
        return result

    def _upsert(self, source: str, **fields: Any) -> UpsertToolResponse:
        self.asked.append({"source": source, **fields})
        return UpsertToolResponse(tool=Tool(id="tool_1", name=fields["name"] or "x", version=1), created=True)


@pytest.fixture
def pushing(tmp_path: Path) -> Pushing:
    return Pushing(tmp_path)


def test_the_decorators_options_are_read_without_executing_the_file(pushing: Pushing) -> None:
    result = pushing()
    assert result.exit_code == 0, result.output
    weather, plain = pushing.asked
    assert (weather["settings"], list(weather["tags"])) == (SETTINGS, ["outside", "now"])
    assert "SystemExit" not in weather["source"]
    assert (plain["settings"], list(plain["tags"])) == (ToolSettings(), [])


def test_what_is_given_on_the_command_line_comes_first(pushing: Pushing) -> None:
    given = (
        *("--tag", "t", "--timeout", "0.25", "--memory", "32", "--output", "4", "--return-limit", "7"),
        *("--no-approval", "--not-idempotent", "--allow-host", "one.example.com", "--allow-host", "two.example.com:81"),
        *("--secret", "OTHER_KEY", "--requirement", "six==1.17.0", "--description", "Tells.", "--name", "now"),
    )
    expected = ToolSettings(
        timeout_ms=250,
        memory_mib=32,
        output_kib=4,
        return_limit=7,
        requires_approval=False,
        idempotent=False,
        network=NetworkPolicy(allowed_hosts=["one.example.com", "two.example.com:81"]),
        secrets=["OTHER_KEY"],
        requirements=["six==1.17.0"],
    )
    for function, source in (("weather", WEATHER), ("plain", WEATHER), ("", "def f(): pass")):
        chosen = ("--function", function) if function else ()
        result = pushing(*given, *chosen, source=source)
        assert result.exit_code == 0, result.output
        asked = pushing.asked.pop()
        assert asked["settings"] == expected
        assert (asked["name"], asked["description"], list(asked["tags"])) == ("now", "Tells.", ["t"])
    assert pushing("--function", "weather", "--memory", "32").exit_code == 0
    changed = ToolSettings()
    changed.CopyFrom(SETTINGS)
    changed.memory_mib = 32
    assert pushing.asked.pop()["settings"] == changed


def test_one_name_is_not_for_several_tools(pushing: Pushing) -> None:
    for option in ("--name", "--description"):
        result = pushing(option, "one")
        assert result.exit_code == 1
        assert "FILE has several tools" in result.output
    assert pushing.asked == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("timeout_s=LIMIT", "line 6, column 31: `timeout_s` of @tool must be a literal"),
        ("tags=[TAG]", "line 6, column 26: `tags` of @tool must be a literal"),
        ("secrets=__import__('os').listdir()", "line 6, column 29: `secrets` of @tool must be a literal"),
        ("description=f'{LIMIT}'", "line 6, column 33: `description` of @tool must be a literal"),
        ("timeout_s=2 * 3", "line 6, column 31: `timeout_s` of @tool must be a literal"),
        ("tags={[]: 1}", "line 6, column 26: `tags` of @tool must be a literal"),
        ("timeout=5", "line 6, column 21: there is no option `timeout` of @tool; there are name, description, tags"),
        ("**OPTIONS", "line 6, column 21: the options of @tool must be written one by one"),
        ("'weather'", "line 6, column 21: @tool takes options by name only"),
        ("tags='outside'", "line 6, column 26: `tags` of @tool must be a list of texts"),
        ("allowed_hosts=['a.example.com', 1]", "line 6, column 35: `allowed_hosts` of @tool must be a list of texts"),
        ("timeout_s='5'", "line 6, column 31: `timeout_s` of @tool must be a number of seconds"),
        ("timeout_s=-1", "line 6, column 31: `timeout_s` of @tool must be a number of seconds"),
        ("timeout_s=1e400", "line 6, column 31: `timeout_s` of @tool must be a number of seconds"),
        ("memory_mib=64.5", "line 6, column 32: `memory_mib` of @tool must be a whole number"),
        ("memory_mib=True", "line 6, column 32: `memory_mib` of @tool must be a whole number"),
        ("return_limit=10**3", "line 6, column 34: `return_limit` of @tool must be a literal"),
        ("output_kib=2147483648", "line 6, column 32: `output_kib` of @tool must be a whole number"),
        ("requires_approval=1", "line 6, column 39: `requires_approval` of @tool must be True or False"),
        ("name=None", "line 6, column 26: `name` of @tool must be text"),
    ],
)
def test_an_option_that_cannot_be_read_is_told_with_its_place(pushing: Pushing, options: str, says: str) -> None:
    source = f"""
import hearth_client
LIMIT, TAG, OPTIONS = 5, "a", {{}}
@hearth_client.tool
def first(): ...
@hearth_client.tool({options})
def f(): ...
"""
    for chosen in ((), ("--function", "f")):
        result = pushing(*chosen, source=source)
        assert result.exit_code == 1
        assert says in result.output
    assert pushing.asked == []


@pytest.mark.parametrize("source", ["def f(:", "\0", "def f(): return " + "(" * 5_000 + ")" * 5_000])
def test_what_is_no_python_is_for_the_server_to_refuse(pushing: Pushing, source: str) -> None:
    assert pushing(source=source).exit_code == 0
    assert pushing.asked.pop()["source"] == source
    result = pushing("--function", "f", source=source)
    assert (result.exit_code, pushing.asked) == (1, [])
    assert isinstance(result.exception, SystemExit)


def test_show_tells_how_a_tool_runs(pushing: Pushing) -> None:
    shown = pushing("weather", command="show").output
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    assert {
        "timeout 2,500 ms",
        "memory 64 MiB",
        "output 8 KiB",
        "return 100 characters",
        "requires approval yes",
        "idempotent yes",
        "hosts api.example.com, *.example.org:8443",
        "secrets WEATHER_KEY",
        "packages humanize==4.9.0",
    } <= lines
