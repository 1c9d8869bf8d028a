"""Every recorded stream in tests/golden/models gives what stands beside it, however the network cuts it up."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_svc.adapters.models.anthropic_decoder import MessagesDecoder
from agent_svc.adapters.models.openai_decoder import ChatDecoder
from agent_svc.adapters.models.streaming import Decoder
from agent_svc.domain import model as domain
from agent_svc.domain.model import ModelError, ModelEvent, ModelFinished, ReasoningDelta, TextDelta, ToolCallDelta

GOLDEN = Path(__file__).parents[3] / "golden" / "models"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.sse"))


def decoder_for(protocol: str) -> Decoder:
    kind = {"openai": ChatDecoder, "anthropic": MessagesDecoder}[protocol]
    return kind("The model server", "some-model")


def cut(stream: bytes, how: str) -> Iterator[bytes]:
    if how == "whole":
        yield stream
    elif how == "bytes":
        yield from (stream[i : i + 1] for i in range(len(stream)))
    elif how == "lines":
        yield from stream.splitlines(keepends=True)
    else:
        chance, rest = random.Random(how), stream
        while rest:
            size = chance.randint(1, 90)
            yield rest[:size]
            rest = rest[size:]


def decode(protocol: str, stream: bytes, how: str) -> list[ModelEvent]:
    decoder = decoder_for(protocol)
    events: list[ModelEvent] = []
    for chunk in cut(stream, how):
        events.extend(decoder.feed(chunk))
        if decoder.over:
            return events
    events.extend(decoder.feed(b""))
    return events


def as_expected(finished: ModelFinished, expected: dict[str, Any]) -> dict[str, Any]:
    """What was decoded in the form of the golden file; ids that the decoder made up match "*"."""
    wanted_ids = [call[0] for call in expected["tool_calls"]] + [""] * len(finished.tool_calls)
    calls = [
        [wanted if wanted == "*" and call.id.startswith("call_") else call.id, call.name, call.arguments_json]
        for wanted, call in zip(wanted_ids, finished.tool_calls, strict=False)
    ]
    usage = {name: getattr(finished.usage, name) for name in expected["usage"]}
    values = {"text": finished.text, "reasoning": finished.reasoning, "tool_calls": calls, "usage": usage}
    values["stop_reason"] = finished.stop_reason.value
    values["proof"] = json.loads(finished.reasoning_signature or "{}")
    return values


@pytest.mark.parametrize("how", ["whole", "bytes", "lines", "random 1", "random 2"])
@pytest.mark.parametrize("ends", ["lf", "crlf"])
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_decodes_to_what_stands_beside_it(name: str, ends: str, how: str) -> None:
    expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    stream = (GOLDEN / f"{name}.sse").read_bytes()
    if ends == "crlf":
        stream = stream.replace(b"\n", b"\r\n")
    protocol = expected.pop("protocol")
    assert expected.pop("about")
    expected.setdefault("proof", {})

    if "error" in expected:
        with pytest.raises(ModelError) as caught:
            decode(protocol, stream, how)
        assert type(caught.value) is getattr(domain, expected["error"])
        assert expected["contains"] in str(caught.value)
        return

    events = decode(protocol, stream, how)
    finished = events.pop()
    assert isinstance(finished, ModelFinished)
    assert as_expected(finished, expected) == expected
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == finished.text
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == finished.reasoning
    for index, call in enumerate(finished.tool_calls):
        pieces = [e.arguments for e in events if isinstance(e, ToolCallDelta) and e.index == index]
        assert ("".join(pieces) or "{}") == call.arguments_json
    assert len({call.id for call in finished.tool_calls}) == len(finished.tool_calls)


@pytest.mark.parametrize("ends", ["lf", "crlf"])
@pytest.mark.parametrize("name", NAMES)
def test_a_cut_at_any_byte_changes_nothing(name: str, ends: str) -> None:
    protocol = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["protocol"]
    stream = (GOLDEN / f"{name}.sse").read_bytes()
    places = range(1, len(stream))
    if ends == "crlf":
        stream = stream.replace(b"\n", b"\r\n")
        places = [i for i in range(1, len(stream)) if b"\r" in stream[i - 1 : i + 2] or b"\n" in stream[i - 1 : i + 2]]
    whole = outcome(protocol, [stream])
    for place in places:
        assert outcome(protocol, [stream[:place], stream[place:]]) == whole, stream[max(0, place - 20) : place + 20]


def outcome(protocol: str, chunks: list[bytes]) -> tuple[object, ...]:
    """What an answer comes to: its parts without the ids that the decoder makes up, or its error."""
    decoder = decoder_for(protocol)
    events: list[ModelEvent] = []
    try:
        for chunk in [*chunks, b""]:
            events.extend(decoder.feed(chunk))
            if decoder.over:
                break
    except ModelError as error:
        return type(error), str(error)
    finished = events.pop()
    assert isinstance(finished, ModelFinished)
    calls = [(call.name, call.arguments_json) for call in finished.tool_calls]
    texts = ["".join(e.text for e in events if isinstance(e, kind)) for kind in (TextDelta, ReasoningDelta)]
    assert texts == [finished.text, finished.reasoning]
    return finished.text, finished.reasoning, calls, finished.usage, finished.stop_reason, finished.reasoning_signature


def test_there_are_streams_of_both_protocols() -> None:
    assert sum(name.startswith("anthropic") for name in NAMES) >= 6
    assert len(NAMES) >= 40


def test_what_comes_in_one_chunk_is_one_delta() -> None:
    stream = (GOLDEN / "openai_text.sse").read_bytes()
    deltas = [event for event in decode("openai", stream, "whole") if isinstance(event, TextDelta)]
    assert len(deltas) == 1


def test_a_server_that_does_not_stream_is_understood() -> None:
    decoder = ChatDecoder("The model server", "m", "application/json")
    body = {
        "choices": [
            {"index": 0, "message": {"reasoning_content": "Quick.", "content": "All at once."}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    raw = json.dumps(body, indent=1).encode()
    events = [*decoder.feed(raw[:20]), *decoder.feed(raw[20:]), *decoder.feed(b"")]
    assert [type(event) for event in events] == [ReasoningDelta, TextDelta, ModelFinished]
    finished = events[-1]
    assert isinstance(finished, ModelFinished)
    assert (finished.reasoning, finished.text, finished.usage.input_tokens) == ("Quick.", "All at once.", 3)


def test_a_web_page_is_not_an_answer() -> None:
    with pytest.raises(ModelError, match="a web page"):
        ChatDecoder("The model server", "m", "text/html")


def test_an_event_without_end_is_refused_before_memory_fills() -> None:
    decoder = ChatDecoder("The model server", "m")
    megabyte = b"x" * 2**20
    for _ in range(8):
        assert decoder.feed(megabyte) == []
    with pytest.raises(ModelError, match="one event without end"):
        decoder.feed(megabyte)
