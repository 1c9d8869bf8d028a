"""The most that an organization's tools may use: asked for more, refused; made before, cut to it; others as they were."""

import asyncio
import time
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis.errors import InvalidArgument
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_pb2
from hearth.tool.v1 import tool_service_pb2 as pb
from tests.integration.tool_svc.service import Caller, Organization, spec
from tests.support.issuer import Issuer

SLEEPS = "import time\ndef sleeps(seconds: float) -> str:\n    time.sleep(seconds)\n    return 'slept'\n"
PRINTS = "def prints(kib: int) -> None:\n    print('x' * (1024 * kib), end='')\n"
FILLS = "def fills(mib: int) -> int:\n    return len(bytearray(mib << 20))\n"
ABOVE = [
    (tool_pb2.ToolSettings(timeout_ms=2001), "timeout_ms", "2 s"),
    (tool_pb2.ToolSettings(memory_mib=97), "memory_mib", "96 MiB"),
    (tool_pb2.ToolSettings(output_kib=3), "output_kib", "2 KiB"),
]
MOST = tool_pb2.ToolSettings(timeout_ms=2000, memory_mib=96, output_kib=2)


async def _limited(organization: Organization, issuer: Issuer) -> None:
    """Waits until the limits are in force: until what is above one of them is refused."""
    issuer.limits.set(organization.id, max_tool_timeout_s=2, max_tool_memory_mib=96, max_tool_output_kib=2)
    probe = pb.UpsertToolRequest(tool=spec("def probe(): pass", settings=ABOVE[0][0]))
    async with asyncio.timeout(20):
        while True:
            try:
                await organization.member.tools.UpsertTool(probe)
            except InvalidArgument:
                return
            await asyncio.sleep(0.1)


async def test_what_asks_for_more_is_refused_and_named(
    organization: Organization, stranger: Organization, issuer: Issuer
) -> None:
    before = await organization.member.create(SLEEPS)
    await _limited(organization, issuer)
    for settings, field, limit in ABOVE:
        update = pb.UpdateToolRequest(tool=before, update_mask=FieldMask(paths=["settings"]))
        update.tool.settings.CopyFrom(settings)
        named = spec(SLEEPS, name="sleeps", settings=settings)
        for call in (
            organization.member.create(SLEEPS, name="another", settings=settings),
            organization.member.tools.UpsertTool(pb.UpsertToolRequest(tool=named)),
            organization.member.tools.UpdateTool(update),
        ):
            with pytest.raises(InvalidArgument, match=f"the organization's limit, which is {limit}") as refused:
                await call
            assert refused.value.reason == "VALIDATION_FAILED"
            assert [one.field for one in refused.value.field_violations] == [f"tool.settings.{field}"]
        await stranger.member.create(SLEEPS, name=f"with_{field}", settings=settings)
    kept = (await organization.member.tools.GetTool(pb.GetToolRequest(tool_id=before.id))).tool
    assert kept == before
    await organization.member.create(SLEEPS, name="most", settings=MOST)


async def test_a_call_of_a_tool_that_was_made_before_is_cut(
    organization: Organization, stranger: Organization, issuer: Issuer
) -> None:
    settings = tool_pb2.ToolSettings(timeout_ms=30_000, memory_mib=512, output_kib=64)

    async def make(caller: Caller) -> list[tool_pb2.Tool]:
        return [await caller.create(source, settings=settings) for source in (SLEEPS, PRINTS, FILLS)]

    sleeps, prints, fills = await make(organization.member)
    theirs = await make(stranger.member)
    assert (await organization.member.execute(fills, mib=200)).value == 200 << 20
    await _limited(organization, issuer)

    began = time.monotonic()
    slept = await organization.member.execute(sleeps, seconds=25)
    assert slept.result.state == execution_pb.TOOL_EXECUTION_STATE_TIMED_OUT
    assert "2 s" in slept.result.error.message
    assert time.monotonic() - began < 20
    printed = await organization.member.execute(prints, kib=8)
    assert printed.result.output_truncated
    assert 1024 < len(printed.output) < 3 * 1024
    filled = await organization.member.execute(fills, mib=200)
    assert filled.result.error.type == "MemoryLimitExceeded"
    # The default is cut too, and what is within the limits goes on.
    default = await organization.member.create(FILLS, name="default")
    assert (await organization.member.execute(default, mib=200)).result.error.type == "MemoryLimitExceeded"
    assert (await organization.member.execute(sleeps, seconds=0.1)).value == "slept"

    several: tuple[dict[str, Any], ...] = ({"seconds": 2.5}, {"kib": 8}, {"mib": 200})
    for tool, arguments in zip(theirs, several, strict=True):
        done = await stranger.member.execute(tool, **arguments)
        assert done.result.state == execution_pb.TOOL_EXECUTION_STATE_SUCCEEDED
        assert not done.result.output_truncated
