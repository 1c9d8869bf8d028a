"""The README of the client says what is true: its programs run, its commands exist."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hearth_client.cli import cli
from tests.fakes.hearth_server import API_KEY, FakeHearth
from tests.fakes.run_log import RunLog, Script

README = Path(__file__).parents[3] / "clients" / "python" / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]


@pytest.mark.parametrize(("number", "expected"), [(0, "Rex."), (1, "demo\ndone\n")])
async def test_programs_run(server: FakeHearth, number: int, expected: str) -> None:
    server.agents = ["demo"]
    server.unknown_agents = {"demo"}
    server.log = RunLog(Script().said("hi").writes("m", "Re", "x.").completed("m", "Rex.").succeeded().frames)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAMS[number]),
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HEARTH_URL": server.url,
            "HEARTH_API_KEY": API_KEY,
        },
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert expected in out.decode()


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_these_options(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    assert program == "hearth"
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0, result.output
