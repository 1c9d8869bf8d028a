"""The browser SDK under node against a real gateway, while connections are cut."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from hearth.agent.v1 import event_pb2
from tests.integration.gateway.conftest import Harness

ROOT = Path(__file__).parents[3]


async def test_sdk_resumes_through_cuts_without_gap_or_repetition(harness: Harness) -> None:
    conversation = harness.world.conversation()
    environment = os.environ | {
        "HEARTH_JS": str(ROOT / "clients" / "web" / "hearth.js"),
        "GATEWAY": harness.origin,
        "TOKEN": harness.world.tokens.issue(),
        "TOPIC": f"conversation:{conversation.id}",
    }
    script = Path(__file__).with_name("sdk_client.mjs")
    node = await asyncio.create_subprocess_exec(
        "node", str(script), env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert node.stdin is not None
    assert node.stdout is not None
    lines: list[dict[str, Any]] = []

    async def until(wanted: Any) -> None:
        assert node.stdout is not None
        async with asyncio.timeout(30):
            while not any(wanted(line) for line in lines):
                text = await node.stdout.readline()
                assert text, lines[-5:]
                lines.append(json.loads(text))

    try:
        await until(lambda line: "me" in line)
        for cut in range(8):
            for _ in range(40):
                conversation.append("run_x", step_restarted=event_pb2.StepRestarted(cause="x"))
            if cut % 2:
                middle = len(conversation.events) - 20
                await until(lambda line, middle=middle: line.get("seq") == middle)
            for client in list(harness.built.gateway._sessions.values()):
                if client._transport is not None:
                    client._transport.abort()
            await harness.eventually(lambda: harness.built.gateway.connections == 1)
        conversation.delta("run_x", "msg_x", "Hello 🐕 ")
        conversation.delta("run_x", "msg_x", "world")
        await until(lambda line: line.get("text") == "Hello 🐕 world")
        await until(lambda line: line.get("seq") == 320)
        node.stdin.write(b"\n")
        await asyncio.wait_for(node.wait(), 10)
    finally:
        if node.returncode is None:
            node.kill()
            await node.wait()
    assert [line["seq"] for line in lines if "seq" in line] == list(range(1, 321))
    assert not [line for line in lines if "reset" in line or "end" in line]
    assert sum(line.get("state") == "open" for line in lines) >= 5
