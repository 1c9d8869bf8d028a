"""A model server that fails in every way there is: what is retried, what is reported, and how it reads."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from agent_svc.adapters.models import Limits, OpenAIChatProvider
from agent_svc.domain.model import (
    ContextOverflow,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    TextDelta,
)
from agent_svc.interfaces.model_provider import ModelProvider
from tests.fakes.model_script import Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.asking import QUICK, ask, collect


async def heard_until_error(provider: ModelProvider, text: str) -> tuple[str, ModelError]:
    """What had been heard when the error came, and the error."""
    heard = ""
    try:
        async for event in provider.stream(ask(text)):
            heard += event.text if isinstance(event, TextDelta) else ""
    except ModelError as error:
        return heard, error
    pytest.fail(f"no error after {heard!r}")


@pytest.mark.parametrize(
    "fault",
    [
        Step(status=500),
        Step(status=503, headers={"Retry-After": "0"}),
        Step(status=429, headers={"Retry-After": "0"}),
        Step(cut_after=0),
        Step(garbage_after=0),
        Step(error_in_stream={"type": "overloaded_error", "message": "Overloaded"}),
        Step(raw=[]),
    ],
    ids=["500", "503", "429", "cut", "garbage", "error in stream", "empty"],
)
async def test_what_fails_before_the_first_event_is_tried_again(
    provider: ModelProvider, server: FakeModelServer, fault: Step
) -> None:
    server.script("try", fault, fault, Step(text="there you are"))
    _, finished = await collect(provider, ask("try"))
    assert finished.text == "there you are"
    assert len(server.book.requests) == 3


async def test_trying_again_ends(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("broken", Step(status=500, error="out of memory"), repeat=True)
    with pytest.raises(ModelUnavailable, match=r"failed \(HTTP 500\): out of memory"):
        await collect(provider, ask("broken"))
    assert len(server.book.requests) == QUICK.attempts


async def test_the_wait_that_the_server_asks_for_is_kept(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("busy", Step(status=429, headers={"Retry-After": "1"}), Step(text="now"))
    start = time.monotonic()
    assert (await collect(provider, ask("busy")))[1].text == "now"
    assert 1 <= time.monotonic() - start < 3


async def test_a_wait_that_is_too_long_is_reported_at_once(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("busy", Step(status=429, error="come back later", headers={"Retry-After": "3600"}))
    start = time.monotonic()
    with pytest.raises(ModelRateLimited, match="asks to slow down: come back later") as caught:
        await collect(provider, ask("busy"))
    assert caught.value.retry_after_s == 3600
    assert time.monotonic() - start < 1
    assert len(server.book.requests) == 1


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Step(status=400, error="tools: bad schema"), ModelRejected),
        (Step(status=401, error="bad key test-secret-key-1"), ModelRejected),
        (Step(status=400, error="This model's maximum context length is 10 tokens"), ContextOverflow),
    ],
)
async def test_a_refusal_is_not_tried_again(
    provider: ModelProvider, server: FakeModelServer, step: Step, kind: type[ModelError]
) -> None:
    server.script("refused", step)
    with pytest.raises(kind) as caught:
        await collect(provider, ask("refused"))
    assert len(server.book.requests) == 1
    assert "test-secret" not in str(caught.value)


async def test_a_stream_cut_in_the_middle_is_not_begun_again(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("cut", Step(text="one two three four five", cut_after=3, token_delay_ms=10))
    heard, error = await heard_until_error(provider, "cut")
    assert isinstance(error, ModelProtocolError)
    assert str(error) == f"The answer of the model server at {server.url} broke off in the middle."
    assert heard in ("one two ", "one two three ")
    assert len(server.book.requests) == 1


async def test_garbage_in_the_middle_ends_the_answer(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("garbage", Step(text="one two three", garbage_after=2, token_delay_ms=60))
    _, error = await heard_until_error(provider, "garbage")
    assert isinstance(error, ModelProtocolError)
    assert "sent something that is not a model's answer: “this is not JSON”" in str(error)
    await server.until(lambda book: book.in_flight == 0, timeout_s=1)


@pytest.mark.parametrize(
    ("step", "heard_before", "asked"),
    [
        (Step(stall_before_head=True), "", 2),
        (Step(text="one two", stall_after=0), "", 2),
        (Step(text="one ", stall_after=1), "one ", 1),
    ],
    ids=["no head", "no first token", "in the middle"],
)
async def test_silence_ends_in_a_timeout(
    provider: ModelProvider, server: FakeModelServer, step: Step, heard_before: str, asked: int
) -> None:
    server.script("silent", step, repeat=True)
    start = time.monotonic()
    heard, error = await heard_until_error(provider, "silent")
    waited = time.monotonic() - start
    assert isinstance(error, ModelTimeout)
    assert "sent nothing for" in str(error)
    assert heard == heard_before
    assert 0.35 * asked <= waited < 4 * asked
    assert len(server.book.requests) == asked
    await server.until(lambda book: book.in_flight == 0, timeout_s=1)


async def test_after_one_silence_the_second_try_counts(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("silent", Step(stall_before_head=True), Step(text="sorry, here"))
    assert (await collect(provider, ask("silent")))[1].text == "sorry, here"


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after-ms": "900"},
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "900ms"},
        {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT", "x-ratelimit-reset": "900ms"},
    ],
    ids=["milliseconds", "used up", "date in the past"],
)
async def test_waits_in_other_words(provider: ModelProvider, server: FakeModelServer, headers: dict[str, str]) -> None:
    server.script("busy", Step(status=429, headers=headers), Step(text="now"))
    start = time.monotonic()
    assert (await collect(provider, ask("busy")))[1].text == "now"
    waited = time.monotonic() - start
    assert (waited < 0.9) if "Retry-After" in headers else (waited >= 0.9)


async def test_a_slow_but_living_stream_is_not_cut(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("slow", Step(text="a b c d e f g h", token_delay_ms=150))  # 1.2 s in all, silence allowed: 0.4 s
    assert (await collect(provider, ask("slow")))[1].text == "a b c d e f g h"


async def test_a_server_that_is_down_is_named(server: FakeModelServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound but not listening: connections are refused.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        provider = OpenAIChatProvider(url, limits=QUICK)
        with pytest.raises(ModelUnavailable) as caught:
            await collect(provider, ask("hello"))
        with pytest.raises(ModelUnavailable):
            await provider.list_models()
        await provider.aclose()
    assert str(caught.value) == f"The model server at {url} is not reachable (connection refused)."
    assert caught.value.retryable


async def test_a_host_that_does_not_exist_is_named() -> None:
    provider = OpenAIChatProvider("http://no-such-host.invalid/v1", limits=QUICK)
    with pytest.raises(ModelUnavailable, match="host name cannot be resolved"):
        await collect(provider, ask("hello"))
    await provider.aclose()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
FIRST = b'data: {"choices":[{"delta":{"content":"so far "}}]}\n\n'


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", ModelUnavailable, "does not speak HTTP"),
        (b"", ModelUnavailable, "it closed the connection"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\nrubbish", ModelUnavailable, "does not speak HTTP"),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nzz\r\n" % (len(FIRST), FIRST),
            ModelError,
            "model server",
        ),
        (HEAD + b"Content-Length: 9999\r\n\r\n" + FIRST, ModelProtocolError, "broke off"),
        (HEAD + b"Connection: close\r\n\r\n" + FIRST, ModelProtocolError, "broke off"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", ModelProtocolError, "broke off"),
    ],
    ids=["not http", "nothing", "bad head", "bad chunk", "short body", "early end", "bad gzip"],
)
async def test_a_server_that_breaks_the_rules_of_http(said: bytes, kind: type[ModelError], says: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        provider = OpenAIChatProvider(f"http://127.0.0.1:{port}/v1", limits=Limits(attempts=1))
        _, error = await heard_until_error(provider, "hello")
        await provider.aclose()
    assert isinstance(error, kind)
    assert says in str(error)


async def test_after_a_failure_the_next_call_works(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("wobbly", Step(text="a b", cut_after=1), Step(status=400), Step(text="back again"))
    await heard_until_error(provider, "wobbly")
    await heard_until_error(provider, "wobbly")
    assert (await collect(provider, ask("wobbly")))[1].text == "back again"


async def test_a_closed_provider_says_so(provider: ModelProvider) -> None:
    await provider.aclose()
    with pytest.raises(ModelUnavailable, match="shutting down"):
        await collect(provider, ask("hello"))
