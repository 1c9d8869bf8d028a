"""What Hearth sends to Anthropic's messages protocol."""

from __future__ import annotations

import json
from typing import Any

from agent_svc.adapters.models.anthropic_request import DEFAULT_MAX_TOKENS, Dialect, encode_request
from agent_svc.adapters.models.proof import Proof, ThinkingBlock, written
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


def encode(request: ModelRequest, **options: Any) -> dict[str, Any]:
    return json.loads(encode_request(request, Dialect(**options)))


def signed(*blocks: ThinkingBlock, origin: str = "") -> str:
    return written(Proof(origin, thinking=list(blocks)))


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


def test_system_texts_are_joined_and_end_a_cacheable_prefix() -> None:
    body = encode(ModelRequest("claude", [SystemMessage("One."), SystemMessage("Two."), UserMessage("hi")]))
    assert body["system"] == [{"type": "text", "text": "One.\n\nTwo.", "cache_control": {"type": "ephemeral"}}]
    assert body["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert body["max_tokens"] == DEFAULT_MAX_TOKENS


def test_roles_alternate_and_results_stand_first_behind_their_calls() -> None:
    body = encode(
        ModelRequest(
            "claude",
            [
                UserMessage("a"),
                UserMessage("b"),
                AssistantMessage(" ", "", (ToolCall("functions.f:0", "f", "nonsense"), ToolCall("c2", "g", ""))),
                ToolMessage("functions.f:0", "bad", is_error=True),
                ToolMessage("c2", ""),
                UserMessage("and now?"),
            ],
        )
    )
    assert roles(body) == ["user", "assistant", "user"]
    first, calls, last = (message["content"] for message in body["messages"])
    assert [block["text"] for block in first] == ["a", "b"]
    assert [block["type"] for block in calls] == ["tool_use", "tool_use"]
    assert calls[0]["input"] == {"invalid_arguments": "nonsense"}
    assert calls[1]["input"] == {}
    assert [block["type"] for block in last] == ["tool_result", "tool_result", "text"]
    assert calls[0]["id"] == last[0]["tool_use_id"] == "functions_f_0"
    assert last[0]["is_error"] is True
    assert last[1]["content"] == []


def test_a_conversation_that_begins_with_the_assistant_gets_a_user_before_it() -> None:
    assert roles(encode(ModelRequest("claude", [AssistantMessage("Hello!"), UserMessage("hi")]))) == [
        "user",
        "assistant",
        "user",
    ]


def test_tools_and_settings_have_their_places() -> None:
    tool = ToolSpec("f", "Does f.")
    request = ModelRequest(
        "claude",
        [UserMessage("x")],
        tools=[tool],
        tool_choice=ToolChoice.REQUIRED,
        temperature=0.3,
        max_output_tokens=7,
        stop=["END"],
    )
    body = encode(request)
    assert body["tools"] == [
        {"name": "f", "description": "Does f.", "input_schema": {"type": "object", "properties": {}}}
    ]
    assert body["tool_choice"] == {"type": "any"}
    assert (body["temperature"], body["max_tokens"], body["stop_sequences"]) == (0.3, 7, ["END"])


def test_tool_choices() -> None:
    def body(choice: ToolChoice, *, at_once: bool = True, tools: tuple[str, ...] = ("f",), **more: Any) -> Any:
        specs = [ToolSpec(name, "") for name in tools]
        request = ModelRequest("claude", [UserMessage("x")], specs, choice, parallel_tool_calls=at_once, **more)
        return encode(request).get("tool_choice")

    assert body(ToolChoice.AUTO) is None
    assert body(ToolChoice.REQUIRED) == {"type": "any"}
    # Earlier calls in the messages need their tools in the request, so they are there and may not be called.
    assert body(ToolChoice.NONE) == {"type": "none"}
    assert body(ToolChoice.AUTO, at_once=False) == {"type": "auto", "disable_parallel_tool_use": True}
    assert body(ToolChoice.REQUIRED, at_once=False) == {"type": "any", "disable_parallel_tool_use": True}
    assert body(ToolChoice.NONE, at_once=False) == {"type": "none"}
    assert body(ToolChoice.AUTO, at_once=False, tools=()) is None
    assert body(ToolChoice.AUTO, at_once=False, output_schema={"type": "object"}) == {
        "type": "any",
        "disable_parallel_tool_use": True,
    }
    assert body(ToolChoice.NONE, at_once=False, output_schema={"type": "object"})["type"] == "tool"


def test_thinking_is_asked_for_and_its_proof_given_back() -> None:
    call = ToolCall("c1", "f", "{}")
    thought = AssistantMessage("", "because", (call,), signed(ThinkingBlock(7, "sig")))
    messages = [UserMessage("x"), thought, ToolMessage("c1", "ok")]
    body = encode(ModelRequest("claude", messages, temperature=0.3, reasoning_effort="medium"))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert body["max_tokens"] > 8192
    assert "temperature" not in body
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "because", "signature": "sig"}


def test_thinking_is_not_asked_for_where_it_would_be_refused() -> None:
    user = UserMessage("x")
    unsigned = [user, AssistantMessage("", "because", (ToolCall("c1", "f", "{}"),)), ToolMessage("c1", "ok")]
    assert "thinking" not in encode(ModelRequest("claude", unsigned, reasoning_effort="high"))
    assert "thinking" not in encode(ModelRequest("claude", [user], reasoning_effort="high", max_output_tokens=1500))
    assert "thinking" not in encode(
        ModelRequest("claude", [user], reasoning_effort="high", tool_choice=ToolChoice.REQUIRED)
    )
    assert "thinking" not in encode(ModelRequest("claude", [user]))


ORIGIN = "api.anthropic.com"


def test_signed_thinking_stands_where_the_model_put_it() -> None:
    calls = (ToolCall("toolu_1", "look", '{"at": "sky"}'), ToolCall("toolu_2", "listen", "{}"))
    thoughts = signed(
        ThinkingBlock(5, "first"),
        ThinkingBlock(redacted="opaque", text_before=4),
        ThinkingBlock(6, "second", text_before=4, calls_before=1),
        origin=ORIGIN,
    )
    answer = AssistantMessage("Aha.", "Hm … And so", calls, thoughts)
    messages = [UserMessage("x"), answer, ToolMessage("toolu_1", "a"), ToolMessage("toolu_2", "b")]
    request = ModelRequest("claude", messages, reasoning_effort="low")
    blocks = encode(request, origin=ORIGIN)["messages"][1]["content"]
    assert [block.get("thinking") or block["type"] for block in blocks] == [
        "Hm … ",
        "text",
        "redacted_thinking",
        "tool_use",
        "And so",
        "tool_use",
    ]
    assert (blocks[0]["signature"], blocks[2]["data"], blocks[4]["signature"]) == ("first", "opaque", "second")

    elsewhere = encode(request, origin="other.example")
    assert "thinking" not in elsewhere
    assert [block["type"] for block in elsewhere["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]


def test_newer_models_are_asked_to_think_in_their_own_way() -> None:
    body = encode(ModelRequest("claude", [UserMessage("x")], reasoning_effort="minimal"), adaptive=True)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "low"}
    plain = encode(ModelRequest("claude", [UserMessage("x")], temperature=0.3), left_out=frozenset({"temperature"}))
    assert "temperature" not in plain


def test_images_stand_before_the_text() -> None:
    images = (Image("image/png", b"\x89PNG\r\n\x1a\n"), Image(url="https://example.org/a.jpg"))
    content = encode(ModelRequest("claude", [UserMessage("What is it?", images)]))["messages"][0]["content"]
    assert content[0]["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert content[1]["source"] == {"type": "url", "url": "https://example.org/a.jpg"}
    assert content[2]["text"] == "What is it?"


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def test_an_answer_with_a_schema_is_a_tool_that_must_be_called() -> None:
    body = encode(ModelRequest("claude", [UserMessage("x")], output_schema=SCHEMA))
    assert body["tool_choice"] == {"type": "tool", "name": "final_answer"}
    assert body["tools"][0]["input_schema"] == SCHEMA

    tools = [ToolSpec("final_answer", "Theirs.")]
    body = encode(ModelRequest("claude", [UserMessage("x")], tools=tools, output_schema=SCHEMA))
    assert body["tool_choice"] == {"type": "any"}
    assert [tool["name"] for tool in body["tools"]] == ["final_answer", "final_answer_"]

    body = encode(ModelRequest("claude", [UserMessage("x")], reasoning_effort="low", output_schema=SCHEMA))
    assert "tool_choice" not in body
    assert body["thinking"]["type"] == "enabled"
    assert "by calling the tool final_answer" in body["system"][0]["text"]
