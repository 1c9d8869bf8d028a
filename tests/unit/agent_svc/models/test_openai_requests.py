"""What Hearth sends to an OpenAI-compatible server."""

from __future__ import annotations

import json
from typing import Any

from agent_svc.adapters.models.openai_wire import encode_request
from agent_svc.domain.model import (
    AssistantMessage,
    ModelRequest,
    SystemMessage,
    ToolCall,
    ToolChoice,
    ToolMessage,
    ToolSpec,
    UserMessage,
)

CONVERSATION = [
    SystemMessage("Be kind."),
    UserMessage("Weather?"),
    AssistantMessage("", "thinking", (ToolCall("c1", "weather", '{"city":"Oslo"}'), ToolCall("c2", "broken", '{"a"'))),
    ToolMessage("c1", "rain"),
    ToolMessage("c2", "invalid arguments", is_error=True),
    AssistantMessage("It rains."),
]
TOOL = ToolSpec("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def encode(request: ModelRequest, **options: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"with_tools": True, "limit_field": "max_tokens", "left_out": frozenset(), **options}
    return json.loads(encode_request(request, **values))


def test_a_bare_request_says_nothing_that_was_not_asked() -> None:
    body = encode(ModelRequest("gpt", [UserMessage("hi")]))
    assert body == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_setting_has_its_place() -> None:
    request = ModelRequest(
        "gpt",
        [UserMessage("hi")],
        tools=[TOOL],
        tool_choice=ToolChoice.REQUIRED,
        temperature=0.0,
        max_output_tokens=9,
        stop=["END"],
        reasoning_effort="low",
    )
    body = encode(request)
    assert body["tools"][0]["function"] == {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    assert (body["tool_choice"], body["temperature"], body["max_tokens"]) == ("required", 0.0, 9)
    assert (body["stop"], body["reasoning_effort"]) == (["END"], "low")


def test_calls_and_results_are_linked_and_broken_arguments_become_an_object() -> None:
    messages = encode(ModelRequest("gpt", CONVERSATION))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert messages[2]["content"] is None
    arguments = [json.loads(call["function"]["arguments"]) for call in messages[2]["tool_calls"]]
    assert arguments == [{"city": "Oslo"}, {"invalid_arguments": '{"a"'}]
    assert messages[3] == {"role": "tool", "tool_call_id": "c1", "content": "rain"}
    assert "thinking" not in json.dumps(messages)


def test_a_model_without_tools_reads_earlier_calls_as_words() -> None:
    body = encode(ModelRequest("small", CONVERSATION, tools=[TOOL]), with_tools=False)
    assert "tools" not in body
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "user",
        "assistant",
    ]
    assert body["messages"][2]["content"].startswith('[Called weather with {"city":"Oslo"}]')
    assert body["messages"][3]["content"] == "[Result of weather: rain]"


def test_a_refused_field_is_left_out_and_the_limit_takes_its_other_name() -> None:
    request = ModelRequest("o9", [UserMessage("hi")], temperature=0.5, max_output_tokens=9)
    body = encode(request, left_out=frozenset({"temperature", "max_tokens", "stream_options"}))
    assert body.keys() == {"model", "messages", "stream", "max_completion_tokens"}
    body = encode(request, left_out=frozenset({"max_tokens", "max_completion_tokens"}))
    assert "max_tokens" not in body
    assert "max_completion_tokens" not in body
