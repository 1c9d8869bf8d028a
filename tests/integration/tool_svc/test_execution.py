"""ExecuteTool over gRPC: from the request to the sandbox and back."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis import ids
from chassis.errors import InvalidArgument, NotFound, PermissionDenied
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_pb2
from hearth.tool.v1 import tool_service_pb2 as pb
from tests.integration.tool_svc.service import Organization, struct


async def test_a_tool_runs_from_end_to_end(organization: Organization) -> None:
    tool = await organization.member.create()
    executed = await organization.service.execute(tool, a=2, b=40)
    assert executed.output == "adding\n"
    assert executed.result.state == execution_pb.TOOL_EXECUTION_STATE_SUCCEEDED
    assert executed.value == 42
    assert executed.result.text == "42"
    assert executed.result.tool_version == 1
    assert not executed.result.HasField("error")
    request = execution_pb.ExecuteToolRequest(name="add", arguments=struct({"a": 1}))
    assert (await organization.member.executed(request)).value == 2


async def test_an_older_version_can_be_called(organization: Organization) -> None:
    tool = await organization.member.create("def f() -> str:\n    return 'one'")
    changed = tool_pb2.Tool(id=tool.id, source_code="def g(a: int) -> str:\n    return 'two'")
    await organization.member.tools.UpdateTool(
        pb.UpdateToolRequest(tool=changed, update_mask=FieldMask(paths=["source_code"]))
    )
    assert (await organization.member.execute(tool, a=1)).value == "two"
    old = await organization.member.execute(tool, version=1)
    assert (old.value, old.result.tool_version) == ("one", 1)
    with pytest.raises(NotFound):
        await organization.member.execute(tool, version=3)


async def test_arguments_are_checked_before_anything_runs(organization: Organization) -> None:
    tool = await organization.member.create()
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "arguments"),
        ({"a": "x"}, "arguments.a"),
        ({"a": 1.5}, "arguments.a"),
        ({"a": True}, "arguments.a"),
        ({"a": 1, "c": 1}, "arguments"),
    )
    for arguments, field in wrong:
        with pytest.raises(InvalidArgument) as refused:
            await organization.member.execute(tool, **arguments)
        assert refused.value.reason == "TOOL_ARGUMENTS_INVALID"
        assert [violation.field for violation in refused.value.field_violations] == [field]


async def test_an_error_of_the_tool_is_a_result(organization: Organization) -> None:
    tool = await organization.member.create("def f():\n    print('before')\n    raise ValueError('no good')")
    executed = await organization.member.execute(tool)
    assert executed.output == "before\n"
    assert executed.result.state == execution_pb.TOOL_EXECUTION_STATE_FAILED
    assert (executed.result.error.type, executed.result.error.message) == ("ValueError", "no good")
    assert 'File "tool.py", line 3, in f' in executed.result.error.traceback
    assert not executed.result.HasField("value")


@pytest.mark.parametrize(
    ("body", "state", "error"),
    [
        ("while True: pass", "TIMED_OUT", "TimeLimitExceeded"),
        ("import time; time.sleep(60)", "TIMED_OUT", "TimeLimitExceeded"),
        ("bytearray(2 << 30)", "KILLED", "MemoryLimitExceeded"),
        ("open('/etc/passwd')", "FAILED", "PermissionError"),
        ("import socket; socket.socket()", "FAILED", "PermissionError"),
        ("import os; os._exit(0)", "FAILED", "ToolExited"),
        ("import os; os.write(4, b'x' * 99)", "KILLED", "SandboxProtocolError"),
        ("import ctypes; ctypes.string_at(0)", "FAILED", "ToolCrashed"),
        ("return 'x' * (2 << 20)", "KILLED", "ResultSizeLimitExceeded"),
        ("x = []\n    for _ in range(50): x = [x]\n    return x", "FAILED", "ResultTooDeep"),
        ("return object()", "FAILED", "TypeError"),
        ("raise Exception('\\ud800')", "FAILED", "Exception"),
    ],
)
async def test_a_tool_that_misbehaves_is_a_clear_result(
    body: str, state: str, error: str, organization: Organization
) -> None:
    settings = tool_pb2.ToolSettings(timeout_ms=700)
    tool = await organization.member.create(f"def f():\n    {body}\n    import time; time.sleep(1)", settings=settings)
    executed = await organization.member.execute(tool)
    assert execution_pb.ToolExecutionState.Name(executed.result.state) == f"TOOL_EXECUTION_STATE_{state}"
    assert executed.result.error.type == error
    assert executed.result.duration_ms < 5000


async def test_values_of_every_json_kind_come_back(organization: Organization) -> None:
    tool = await organization.member.create("def f(x: dict) -> dict:\n    return x")
    value = {"n": None, "t": True, "i": 3, "f": 1.5, "s": "ä\u202e", "l": [1, [2]], "d": {"": {}}}
    assert (await organization.member.execute(tool, x=value)).value == value
    big = await organization.member.create("def g():\n    return [10**400, 2**60, '\\0']")
    assert (await organization.member.execute(big)).value == [str(10**400), float(2**60), "\0"]


async def test_what_the_model_sees_is_cut_at_the_return_limit(organization: Organization) -> None:
    settings = tool_pb2.ToolSettings(return_limit=100)
    tool = await organization.member.create("def f() -> str:\n    return 'x' * 1000", settings=settings)
    result = (await organization.member.execute(tool)).result
    assert len(result.text) == 100
    assert result.text.endswith("[cut: 100 of 1000 characters]")
    assert len(result.value.string_value) == 1000


async def test_output_is_bounded_and_says_so(organization: Organization) -> None:
    tool = await organization.member.create("def f():\n    print('x' * 1_000_000)\n    return 1")
    executed = await organization.member.execute(tool)
    assert executed.result.output_truncated
    assert executed.value == 1
    assert len(executed.output) < 70_000
    assert "output truncated" in executed.output
    less = tool_pb2.ToolSettings(output_kib=1)
    tool = await organization.member.create("def g():\n    print('x' * 10_000)", settings=less)
    assert "output truncated after 1024 bytes" in (await organization.member.execute(tool)).output


async def test_output_comes_while_the_tool_runs(organization: Organization) -> None:
    tool = await organization.member.create("import time\ndef f():\n    print('now')\n    time.sleep(20)")
    started = time.monotonic()
    stream = organization.member.stream(execution_pb.ExecuteToolRequest(tool_id=tool.id))
    first = await anext(stream)
    assert first.output.text == "now\n"
    await stream.aclose()
    assert time.monotonic() - started < 5


async def test_a_closed_stream_kills_the_tool(organization: Organization) -> None:
    tool = await organization.member.create("import time\ndef f():\n    print('now')\n    time.sleep(20)")
    for _ in range(12):  # More than may run at once: each must have made room for the next.
        call = organization.member.begin(tool)
        assert (await call.read()).output.text == "now\n"
        call.cancel()
    async with asyncio.timeout(10):
        quick = await organization.member.create("def g():\n    return 1")
        assert (await organization.member.execute(quick)).value == 1


async def test_a_cancelled_call_is_gone_within_a_tenth_of_a_second(organization: Organization) -> None:
    source = "import os, time\ndef f():\n    print(os.getpid())\n    while True: pass"
    tool = await organization.member.create(source)
    delays: list[float] = []
    for _ in range(9):
        call = organization.member.begin(tool)
        process = Path("/proc", (await call.read()).output.text.strip())
        assert process.exists()
        cancelled = time.monotonic()
        call.cancel()
        for _ in range(1000):
            if not process.exists():
                break
            await asyncio.sleep(0.002)
        delays.append(time.monotonic() - cancelled)
    # The median, because other tests share the processors.
    assert sorted(delays)[4] < 0.1
    assert max(delays) < 1


async def test_tools_run_side_by_side(organization: Organization) -> None:
    tool = await organization.member.create("import time\ndef f(n: int) -> int:\n    time.sleep(0.5)\n    return n")
    started = time.monotonic()
    results = await asyncio.gather(*(organization.member.execute(tool, n=n) for n in range(6)))
    assert [executed.value for executed in results] == list(range(6))
    assert time.monotonic() - started < 2.5


async def test_the_environment_holds_the_request_id_and_nothing_else(organization: Organization) -> None:
    tool = await organization.member.create("import os\ndef f() -> dict:\n    return dict(os.environ)")
    assert (await organization.member.execute(tool)).value == {}
    request = execution_pb.ExecuteToolRequest(tool_id=tool.id, request_id="call-7")
    assert (await organization.member.executed(request)).value == {"HEARTH_REQUEST_ID": "call-7"}
    request.request_id = "a\0b"
    with pytest.raises(InvalidArgument) as refused:
        await organization.member.executed(request)
    assert refused.value.field_violations[0].field == "request_id"


async def test_another_organizations_tool_is_not_found(organization: Organization, stranger: Organization) -> None:
    tool = await organization.member.create()
    with pytest.raises(NotFound) as foreign:
        await stranger.member.execute(tool, a=1)
    absent = tool_pb2.Tool(id=ids.encode("tool", ids.new()))
    with pytest.raises(NotFound) as missing:
        await stranger.member.execute(absent, a=1)
    assert foreign.value.message.replace(tool.id, "") == missing.value.message.replace(absent.id, "")
    with pytest.raises(NotFound):
        await stranger.member.executed(execution_pb.ExecuteToolRequest(name="add", arguments=struct({"a": 1})))
    with pytest.raises(PermissionDenied):
        await organization.viewer.execute(tool, a=1)
