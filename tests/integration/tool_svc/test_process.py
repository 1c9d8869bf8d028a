"""The life of the process: where it refuses to start, and what its end does to running tools."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chassis.channels import open_channel
from chassis.errors import DomainError
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from tests.integration.tool_svc.service import Organization, ToolProcess
from tests.support.issuer import Issuer

# A kernel without Landlock, for this process and its children: the three system calls answer ENOSYS.
_WITHOUT_LANDLOCK = """
import errno, os, struct, sys
from tool_svc.adapters.sandbox import kernel, seccomp, syscalls
load, equal, give = 0x20, 0x15, 0x06
program = [(load, 0, 0, 0)]
for number in (444, 445, 446):
    program += [(equal, 0, 1, number), (give, 0, 0, 0x00050000 | errno.ENOSYS)]
program.append((give, 0, 0, 0x7FFF0000))
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(b"".join(struct.pack("<HBBI", *one) for one in program), syscalls.current().name)
os.execv(sys.executable, [sys.executable, "-m", "tool_svc"])
"""


def _without_landlock(process: ToolProcess) -> None:
    process.command = [sys.executable, "-c", _WITHOUT_LANDLOCK]


async def test_it_refuses_to_start_where_tools_cannot_be_confined(own_service: ToolProcess) -> None:
    _without_landlock(own_service)
    log = own_service.run_until_it_ends()
    assert "has no Landlock" in log
    assert '"serving"' not in log


async def test_it_runs_unconfined_only_when_told_so_by_name(own_service: ToolProcess, issuer: Issuer) -> None:
    _without_landlock(own_service)
    own_service.environment["HEARTH_SANDBOX_UNCONFINED"] = "yes"
    assert "sandbox_unconfined" in own_service.run_until_it_ends()
    own_service.environment["HEARTH_SANDBOX_UNCONFINED"] = "i-accept-the-risk"
    await asyncio.to_thread(own_service.start)
    assert "UNCONFINED" in own_service.log.read_text()
    async with open_channel(own_service.address) as channel:
        member = Organization(channel, issuer).member
        tool = await member.create("def f():\n    return len(open('/etc/passwd').read()) > 0")
        assert (await member.execute(tool)).value is True


async def test_sigterm_lets_a_running_tool_finish(own_service: ToolProcess, issuer: Issuer) -> None:
    await asyncio.to_thread(own_service.start)
    async with open_channel(own_service.address) as channel:
        member = Organization(channel, issuer).member
        tool = await member.create("import time\ndef f():\n    print('on')\n    time.sleep(1)\n    return 'done'")
        stream = member.stream(execution_pb.ExecuteToolRequest(tool_id=tool.id))
        await anext(stream)
        ending = asyncio.create_task(asyncio.to_thread(own_service.stop))
        responses = [response async for response in stream]
        assert responses[-1].result.text == "done"
        assert await ending == 0
    assert _leftovers(own_service) == []


async def test_a_killed_service_leaves_no_tool_running_and_starts_again(
    own_service: ToolProcess, issuer: Issuer
) -> None:
    await asyncio.to_thread(own_service.start)
    async with open_channel(own_service.address) as channel:
        member = Organization(channel, issuer).member
        tool = await member.create("import os, time\ndef f():\n    print(os.getpid())\n    time.sleep(60)")
        stream = member.stream(execution_pb.ExecuteToolRequest(tool_id=tool.id))
        pid = int((await anext(stream)).output.text)
        own_service.stop(signal.SIGKILL)
        with pytest.raises(DomainError) as lost:
            await anext(stream)
        assert lost.value.code == "UNAVAILABLE"
        assert await asyncio.to_thread(_ends, pid)
    await asyncio.to_thread(own_service.start)
    async with open_channel(own_service.address) as channel:
        # gRPC remembers that this address refused it a moment ago.
        await asyncio.wait_for(channel.channel_ready(), 20)
        member = Organization(channel, issuer).member
        quick = await member.create("def g():\n    return 1")
        assert (await member.execute(quick)).value == 1
    assert own_service.stop() == 0
    assert _leftovers(own_service) == []


async def test_unknown_arguments_are_refused() -> None:
    ended = subprocess.run([sys.executable, "-m", "tool_svc", "serve"], capture_output=True, check=False, timeout=30)
    assert ended.returncode == 2


def _leftovers(process: ToolProcess) -> list[Path]:
    root = Path(process.environment["HEARTH_SANDBOX_DIR"])
    return list(root.glob("pool-*"))


def _ends(pid: int) -> bool:
    """Whether a process ends within 5 s."""
    deadline = time.monotonic() + 5
    while _runs(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
