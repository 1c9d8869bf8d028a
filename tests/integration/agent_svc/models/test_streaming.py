"""Answers over real HTTP: texts, reasoning, tool calls, pace, connections, and the end of a stream that nobody wants any more."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from agent_svc.adapters.models import AnthropicProvider, OpenAIChatProvider
from agent_svc.domain.model import (
    AssistantMessage,
    ModelFinished,
    ModelRequest,
    ModelUnavailable,
    ReasoningDelta,
    StopReason,
    SystemMessage,
    TextDelta,
    ToolCallDelta,
    ToolChoice,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from agent_svc.interfaces.model_provider import ModelProvider
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.asking import ask, collect


async def test_an_answer_streams_and_ends_with_the_whole(provider: ModelProvider) -> None:
    deltas, finished = await collect(provider, ask("Grüße, 🐕"))
    assert finished.text == "You said: Grüße, 🐕"
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == finished.text
    assert finished.stop_reason is StopReason.END_TURN
    assert finished.usage.reported
    assert finished.usage.output_tokens == 4


async def test_deltas_come_while_the_model_still_writes(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script("slowly", Step(text="one two three four", gate="rest", gate_after=2))
    async with contextlib.aclosing(provider.stream(ask("slowly"))) as stream:
        heard = ""
        while heard != "one two ":
            event = await asyncio.wait_for(anext(stream), 2)
            assert isinstance(event, TextDelta)
            heard += event.text
        server.book.gate("rest").set()
        rest = [event async for event in stream]
    assert heard + "".join(event.text for event in rest if isinstance(event, TextDelta)) == "one two three four"


async def test_a_tool_turn_there_and_back(provider: ModelProvider, server: FakeModelServer) -> None:
    server.script(
        "weather",
        Step(
            reasoning="Two cities.",
            text="I look.",
            tool_calls=[ScriptedCall("weather", {"city": "Köln"}), ScriptedCall("weather", {"city": "Bern"})],
        ),
        Step(text="Rain in both."),
    )
    tool = ToolSpec("weather", "Tells the weather.")
    request = ModelRequest("scripted", [SystemMessage("Be brief."), UserMessage("weather?")], tools=[tool])
    deltas, first = await collect(provider, request)
    assert first.stop_reason is StopReason.TOOL_CALLS
    assert (first.reasoning, first.text) == ("Two cities.", "I look.")
    assert [call.arguments_json for call in first.tool_calls] == ['{"city":"Köln"}', '{"city":"Bern"}']
    assert {type(delta) for delta in deltas} == {ReasoningDelta, TextDelta, ToolCallDelta}

    results = [ToolMessage(call.id, f"rain {call.id}") for call in first.tool_calls]
    _, second = await collect(
        provider, ModelRequest("scripted", [*request.messages, first.message(), *results], tools=[tool])
    )
    assert second.text == "Rain in both."
    sent = str(server.book.requests[-1].body)
    assert all(call.id in sent and f"rain {call.id}" in sent for call in first.tool_calls)


async def test_one_connection_serves_many_answers(provider: ModelProvider, server: FakeModelServer) -> None:
    for number in range(5):
        await collect(provider, ask(f"number {number}"))
    await server.until(lambda book: book.in_flight == 0)
    assert [seen.outcome for seen in server.book.requests] == ["completed"] * 5
    assert len(server.connections) == 1


async def test_many_answers_at_once_stay_apart(provider: ModelProvider) -> None:
    answers = await asyncio.gather(*(collect(provider, ask(f"{n}" * 30)) for n in range(9)))
    assert [finished.text for _, finished in answers] == [f"You said: {n * 30}" for n in "012345678"]


@pytest.mark.parametrize("way", ["close", "cancel", "break"])
async def test_giving_up_closes_the_stream_at_once(provider: ModelProvider, server: FakeModelServer, way: str) -> None:
    server.script("endless", Step(text="word " * 1000, token_delay_ms=20))
    begun = asyncio.Event()

    async def listen() -> None:
        async with contextlib.aclosing(provider.stream(ask("endless"))) as stream:
            async for _ in stream:
                begun.set()
                if way == "break":
                    break

    task = asyncio.create_task(listen())
    await asyncio.wait_for(begun.wait(), 5)
    start = time.monotonic()
    if way == "break":
        await task
    elif way == "cancel":
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    else:
        closing = asyncio.create_task(provider.aclose())
        with pytest.raises(ModelUnavailable, match="shutting down"):
            await task
        await closing
    await server.until(lambda book: book.in_flight == 0, timeout_s=2)
    assert time.monotonic() - start < 1
    assert server.book.requests[0].outcome == "client_closed"
    assert server.book.requests[0].pieces < 100


@pytest.mark.parametrize("way", ["cancel", "close"])
async def test_giving_up_before_the_first_byte_closes_the_request(
    provider: ModelProvider, server: FakeModelServer, way: str
) -> None:
    server.script("thinks", Step(stall_before_head=True))
    task = asyncio.create_task(collect(provider, ask("thinks")))
    await server.until(lambda book: book.in_flight == 1)
    if way == "cancel":
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    else:
        await provider.aclose()
        with pytest.raises(ModelUnavailable, match="shutting down"):
            await asyncio.wait_for(task, 1)
    await server.until(lambda book: book.in_flight == 0, timeout_s=1)
    assert server.book.requests[0].outcome == "client_closed"


async def test_a_slow_listener_is_not_taken_for_a_silent_server(
    provider: ModelProvider, server: FakeModelServer
) -> None:
    server.script("quick", Step(text="one two three", gate="go", gate_after=1))
    async with contextlib.aclosing(provider.stream(ask("quick"))) as stream:
        events = [await anext(stream)]
        server.book.gate("go").set()
        await asyncio.sleep(0.9)  # Longer than the allowed silence.
        events += [event async for event in stream]
    assert isinstance(events[-1], ModelFinished)
    assert events[-1].text == "one two three"


async def test_odd_endings_are_still_answers(server: FakeModelServer, openai: OpenAIChatProvider) -> None:
    server.script("odd", Step(text="fine", omit=["done", "usage"]), Step(text="fine", omit=["finish_reason"]))
    for _ in range(2):
        _, finished = await collect(openai, ask("odd"))
        assert finished.text == "fine"


async def test_a_stream_that_stays_open_after_its_end_is_not_waited_for(
    server: FakeModelServer, openai: OpenAIChatProvider
) -> None:
    chunk = 'data: {"choices":[{"delta":{"content":"done"},"finish_reason":"stop"}]}\n\n'
    server.script("open", Step(raw=[chunk], stall_after=1))
    start = time.monotonic()
    _, finished = await collect(openai, ask("open"))
    assert finished.text == "done"
    assert time.monotonic() - start < 4
    await server.until(lambda book: book.in_flight == 0, timeout_s=1)


async def test_a_refused_option_is_left_out_from_then_on(server: FakeModelServer, openai: OpenAIChatProvider) -> None:
    refusal = "Unsupported value: 'temperature' does not support 0.2 with this model."
    server.script("option", Step(status=400, error=refusal), Step(text="a"), Step(text="b"))
    request = ModelRequest("o9", [UserMessage("option")], temperature=0.2)
    assert (await collect(openai, request))[1].text == "a"
    assert (await collect(openai, request))[1].text == "b"
    assert ["temperature" in seen.body for seen in server.book.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        ("parallel_tool_calls", "Unsupported parameter: 'parallel_tool_calls' is not supported with this model."),
        ("tool_choice", "The reasoner does not support this tool_choice"),
    ],
)
async def test_what_a_model_does_not_know_of_tools_is_left_out(
    server: FakeModelServer, openai: OpenAIChatProvider, field: str, refusal: str
) -> None:
    server.script("option", Step(status=400, error=refusal), Step(text="a"))
    tools = [ToolSpec("look", "Looks.")]
    request = ModelRequest("o9", [UserMessage("option")], tools, ToolChoice.REQUIRED, parallel_tool_calls=False)
    assert (await collect(openai, request))[1].text == "a"
    assert [field in seen.body for seen in server.book.requests] == [True, False]
    assert server.book.requests[1].body["tools"]


async def test_the_key_travels_and_no_history_is_lost(server: FakeModelServer, provider: ModelProvider) -> None:
    messages = [UserMessage("a"), AssistantMessage("b"), UserMessage("c")]
    _, finished = await collect(provider, ModelRequest("scripted", messages))
    assert finished.text == "You said: c"
    assert len(server.book.requests[0].body["messages"]) == 3
    assert server.book.requests[0].credential == "test-secret-key-1"


async def test_what_was_signed_comes_back_with_the_results(server: FakeModelServer, provider: ModelProvider) -> None:
    server.script("look", Step(reasoning="Where?", tool_calls=[ScriptedCall("look")]), Step(text="Seen."))
    asked = ModelRequest("scripted", [UserMessage("look")], tools=[ToolSpec("look", "Looks.")], reasoning_effort="low")
    _, first = await collect(provider, asked)
    told = [*asked.messages, first.message(), ToolMessage(first.tool_calls[0].id, "sky")]
    await collect(provider, ModelRequest("scripted", told, tools=asked.tools, reasoning_effort="low"))
    sent = server.book.requests[1].body["messages"][1]
    if isinstance(provider, OpenAIChatProvider):
        assert sent["reasoning_content"] == "Where?"
    else:
        assert sent["content"][0] == {"type": "thinking", "thinking": "Where?", "signature": "c2lnbmVk"}


async def test_an_answer_with_a_schema_is_text_in_both_protocols(server: FakeModelServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    request = ModelRequest("scripted", [UserMessage("count")], output_schema=schema)
    server.script(
        "count",
        Step(text='{"n": 3}'),
        Step(text="Here it is:", tool_calls=[ScriptedCall("final_answer", '{"n": 3}')]),
        Step(text='{"n": 3}'),
    )
    one, other = OpenAIChatProvider(server.url), AnthropicProvider("k", server.url)
    for provider in (one, other, other):  # The last time the model does not call the tool.
        deltas, finished = await collect(provider, request)
        assert finished.text == '{"n": 3}'
        assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == finished.text
        assert finished.stop_reason is StopReason.END_TURN
        assert not finished.tool_calls
    await one.aclose()
    await other.aclose()


async def test_a_server_without_response_format_is_told_in_words(
    server: FakeModelServer, openai: OpenAIChatProvider
) -> None:
    server.script("count", Step(status=400, error="This response_format type is unavailable now"), Step(text="{}"))
    await collect(openai, ModelRequest("m", [UserMessage("count")], output_schema={"type": "object"}))
    assert "one JSON object that matches" in server.book.requests[1].body["messages"][0]["content"]


async def test_a_model_that_wants_to_think_in_the_new_way_is_asked_so_from_then_on(server: FakeModelServer) -> None:
    refusal = '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and "output_config.effort".'
    server.script("think", Step(status=400, error=refusal), Step(text="a"), Step(text="b"))
    provider = AnthropicProvider("k", server.url)
    request = ModelRequest("claude", [UserMessage("think")], reasoning_effort="high")
    assert [(await collect(provider, request))[1].text for _ in range(2)] == ["a", "b"]
    await provider.aclose()
    kinds = [seen.body["thinking"]["type"] for seen in server.book.requests]
    assert kinds == ["enabled", "adaptive", "adaptive"]
