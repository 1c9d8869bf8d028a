"""The real small model behind the real adapter: it answers, tells its usage, stops when nobody listens, and says when it is full."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from agent_svc.adapters.models import ModelSettings, catalog_from_settings
from agent_svc.domain.model import ContextOverflow, ModelRequest, StopReason, SystemMessage, TextDelta, UserMessage
from tests.integration.agent_svc.models.asking import collect

ROOT = Path(__file__).parents[4]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "deploy.local.model_server", "--port", str(port))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    try:
        await until_healthy(port, process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def until_healthy(port: int, process: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            assert process.returncode is None, "the local model server ended"
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/health") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise TimeoutError("the local model server is not healthy after 30 s")


async def test_the_small_model_talks(url: str) -> None:
    catalog = catalog_from_settings(ModelSettings(local_model_url=url))
    chosen = await catalog.resolve("")
    assert chosen.name == "local/smollm2-135m"

    messages = [SystemMessage("You answer in one word."), UserMessage("What is the capital of France?")]
    request = ModelRequest(chosen.provider_model, messages, temperature=0.0, max_output_tokens=24)
    deltas, finished = await collect(chosen.provider, request)
    assert "Paris" in finished.text
    assert len([delta for delta in deltas if isinstance(delta, TextDelta)]) >= 1
    assert finished.usage.input_tokens > 10
    assert 0 < finished.usage.output_tokens <= 24

    cut = ModelRequest(chosen.provider_model, [UserMessage("Tell a long story.")], max_output_tokens=3)
    assert (await collect(chosen.provider, cut))[1].stop_reason is StopReason.MAX_TOKENS

    # It has one slot: if giving up did not free it, the next answer would wait for the whole story.
    story = ModelRequest(chosen.provider_model, [UserMessage("Tell a very long story.")], max_output_tokens=2000)
    async with contextlib.aclosing(chosen.provider.stream(story)) as stream:
        await anext(stream)
    start = time.monotonic()
    await collect(chosen.provider, cut)
    assert time.monotonic() - start < 15

    with pytest.raises(ContextOverflow, match="too long for the context window of smollm2-135m"):
        await collect(chosen.provider, ModelRequest(chosen.provider_model, [UserMessage("dog cat " * 6000)]))

    models = {model.name: model for model in await catalog.list_models()}
    assert models["local/smollm2-135m"].usable
    assert models["local/smollm2-135m"].is_default
    await catalog.aclose()
