"""What Hearth sends to an OpenAI-compatible server."""

from __future__ import annotations

import json
from typing import Any

from agent_svc.adapters.models.openai_request import NO_IMAGES_NOTE, Dialect, encode_request
from agent_svc.adapters.models.proof import Proof, written
from agent_svc.domain.image import Image
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
    return json.loads(encode_request(request, Dialect(**options)))


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


def test_tool_choices() -> None:
    def body(choice: ToolChoice, *, at_once: bool = True, tools: tuple[ToolSpec, ...] = (TOOL,)) -> dict[str, Any]:
        request = ModelRequest("gpt", CONVERSATION, tools, choice, parallel_tool_calls=at_once)
        return {name: value for name, value in encode(request).items() if "tool" in name}

    sent = body(ToolChoice.AUTO)["tools"]
    assert body(ToolChoice.AUTO) == {"tools": sent}
    assert body(ToolChoice.REQUIRED) == {"tools": sent, "tool_choice": "required"}
    assert body(ToolChoice.NONE) == {}
    assert body(ToolChoice.AUTO, at_once=False) == {"tools": sent, "parallel_tool_calls": False}
    assert body(ToolChoice.NONE, at_once=False) == {}
    assert body(ToolChoice.AUTO, at_once=False, tools=()) == {}


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


def test_what_a_server_signed_goes_back_to_it_and_to_no_other() -> None:
    details = [{"type": "reasoning.text", "text": "Hm.", "signature": "s", "index": 0}]
    extra = {"google": {"thought_signature": "zz"}}
    call = ToolCall("c1", "f", "{}")
    signature = written(Proof("here", details=details, calls={0: extra}))
    request = ModelRequest(
        "m", [UserMessage("x"), AssistantMessage("", "Hm.", (call,), signature), ToolMessage("c1", "ok")]
    )
    sent = encode(request, origin="here")["messages"][1]
    assert sent["reasoning_details"] == details
    assert sent["tool_calls"][0]["extra_content"] == extra
    for options in (
        {"origin": "there"},
        {"origin": "here", "left_out": frozenset({"reasoning_details", "extra_content"})},
    ):
        sent = encode(request, **options)["messages"][1]
        assert sent.keys() == {"role", "content", "tool_calls"}
        assert "extra_content" not in sent["tool_calls"][0]


def test_plain_reasoning_goes_back_in_turns_that_call_tools_and_only_there() -> None:
    signature = written(Proof("here", reasoning_field="reasoning_content"))
    chat = [UserMessage("a"), AssistantMessage("b", "why", (), signature)]
    turn = [
        UserMessage("c"),
        AssistantMessage("", "look first", (ToolCall("c1", "f", "{}"),), signature),
        ToolMessage("c1", "ok"),
        AssistantMessage("d", "so", (), signature),
    ]
    messages = encode(ModelRequest("m", [*chat, *turn, UserMessage("e")]), origin="here")["messages"]
    assert [message.get("reasoning_content") for message in messages] == [
        None,
        None,
        None,
        "look first",
        None,
        "so",
        None,
    ]


def test_images_are_sent_or_their_absence_is_told() -> None:
    images = (Image("image/png", b"\x89PNG\r\n\x1a\n"), Image(url="https://example.org/a.jpg"))
    request = ModelRequest("gpt", [UserMessage("What is it?", images)])
    content = encode(request)["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert content[0]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert content[1]["image_url"]["url"] == "https://example.org/a.jpg"
    for options in ({"with_images": False}, {"with_images": False, "with_tools": False}):
        said = encode(request, **options)["messages"][0]["content"]
        assert said == f"{NO_IMAGES_NOTE}\n{NO_IMAGES_NOTE}\nWhat is it?"


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def test_a_schema_is_asked_for_in_the_strictest_way_there_is() -> None:
    messages = [SystemMessage("Be kind."), UserMessage("x")]
    asked = encode(ModelRequest("m", messages, output_schema=SCHEMA))["response_format"]
    assert asked == {"type": "json_schema", "json_schema": {"name": "final_answer", "schema": SCHEMA, "strict": False}}
    closed = {**SCHEMA, "required": ["n"], "additionalProperties": False}
    assert encode(ModelRequest("m", messages, output_schema=closed))["response_format"]["json_schema"]["strict"] is True

    refused = encode(ModelRequest("m", messages, output_schema=SCHEMA), left_out=frozenset({"response_format"}))
    assert "response_format" not in refused
    assert refused["messages"][0]["content"].startswith("Be kind.\n\nYour final answer must be one JSON object")
    bare = encode(ModelRequest("m", messages[1:], output_schema=SCHEMA), left_out=frozenset({"response_format"}))
    assert [message["role"] for message in bare["messages"]] == ["system", "user"]
