"""Images in messages, over gRPC and the real loop: what reaches the model, what is told of them, and what is refused at once."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any

import pytest

from hearth.agent.v1 import conversation_service_pb2, run_service_pb2
from hearth.agent.v1.conversation_pb2 import Image
from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from tests.fakes.model_script import Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.grpc_client import Client, refused

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64)
JPEG = b"\xff\xd8\xff\xe0" + bytes(40)
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(20)
URL = "https://example.org/cat.jpg"


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def start(agent_id: str, *images: Image, **fields: Any) -> run_service_pb2.StartRunRequest:
    return run_service_pb2.StartRunRequest(agent_id=agent_id, text="What do you see?", images=images, **fields)


async def finish(client: Client, request: run_service_pb2.StartRunRequest) -> None:
    asked = run_service_pb2.SendMessageRequest(start=request)
    async for _ in RunServiceStub(client.channel).SendMessage(asked, metadata=client.md):
        pass


async def test_images_reach_the_model_in_this_turn_and_the_next(client: Client, model: FakeModelServer) -> None:
    model.script("see", Step(text="A cat."), repeat=True)
    agent = await client.agent(model="openai/scripted")
    given = [Image(data=PNG), Image(data=JPEG, media_type="image/jpg"), Image(url=URL), Image(url=data_url(WEBP, ""))]
    await finish(client, start(agent.id, *given))
    await finish(client, run_service_pb2.StartRunRequest(agent_id=agent.id, text="And its colour? see"))
    shown = [data_url(PNG), data_url(JPEG, "image/jpeg"), URL, data_url(WEBP, "image/webp")]
    for seen in model.book.requests:
        parts = next(m["content"] for m in seen.body["messages"] if isinstance(m["content"], list))
        assert [part["image_url"]["url"] for part in parts[:-1]] == shown
        assert parts[-1]["text"].endswith("What do you see?")
    assert len(model.book.requests) == 2

    listed = conversation_service_pb2.ListMessagesRequest(conversation_id=agent.default_conversation_id)
    messages = (await ConversationServiceStub(client.channel).ListMessages(listed, metadata=client.md)).messages
    told = next(message.images for message in messages if message.images)
    assert [(one.media_type, one.size_bytes, one.url, one.data) for one in told] == [
        ("image/png", len(PNG), "", b""),
        ("image/jpeg", len(JPEG), "", b""),
        ("", 0, URL, b""),
        ("image/webp", len(WEBP), "", b""),
    ]
    assert told[0].sha256 == hashlib.sha256(PNG).hexdigest()


async def test_a_large_image_goes_through_log_bus_and_model(client: Client, model: FakeModelServer) -> None:
    agent = await client.agent(model="openai/scripted")
    large = PNG + bytes(3 * 1024 * 1024)
    await finish(client, start(agent.id, Image(data=large)))
    parts = model.book.requests[0].body["messages"][-1]["content"]
    assert len(parts[0]["image_url"]["url"]) > 4_000_000


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image(data=b"GIF8 is not a gif"), "is not a PNG, JPEG, GIF or WebP image"),
        (Image(), "is not a PNG, JPEG, GIF or WebP image"),
        (Image(data=b"<svg xmlns='http://www.w3.org/2000/svg'/>", media_type="image/svg+xml"), "is not a PNG"),
        (Image(data=PNG, media_type="image/jpeg"), "is called image/jpeg and is image/png"),
        (Image(url="http://example.org/a.png"), "neither an https:// address"),
        (Image(url="file:///etc/passwd"), "neither an https:// address"),
        (Image(url="https://user:pw@example.org/a.png"), "neither an https:// address"),
        (Image(url="https://"), "neither an https:// address"),
        (Image(url="https://example.org/" + "a" * 3000), "neither an https:// address"),
        (Image(url="data:image/png;base64,***"), "base64 is broken"),
        (Image(url="data:image/png,abc"), "not base64"),
        (Image(url=data_url(b"hello")), "is not a PNG"),
        (Image(url=data_url(PNG, "text/html")), "is called text/html and is image/png"),
        (Image(url=data_url(PNG + bytes(4 * 1024 * 1024))), "larger than 4 MiB"),
    ],
)
async def test_what_is_no_image_is_refused_at_once(
    client: Client, model: FakeModelServer, image: Image, says: str
) -> None:
    agent = await client.agent()
    error = await refused(
        RunServiceStub(client.channel).StartRun(start(agent.id, Image(url=URL), image), metadata=client.md)
    )
    assert error.reason == "VALIDATION_FAILED"
    assert error.field_violations[0].field == "images[1]"
    assert says in error.field_violations[0].description
    assert not model.book.requests


async def test_too_many_bytes_together_and_too_many_images(client: Client) -> None:
    agent, runs = await client.agent(), RunServiceStub(client.channel)
    four = Image(data=PNG + bytes(4 * 1024 * 1024 - len(PNG)))
    error = await refused(runs.StartRun(start(agent.id, four, four), metadata=client.md))
    assert "larger than 6 MiB together" in error.field_violations[0].description
    nine = [Image(url=URL)] * 9
    assert (await refused(runs.StartRun(start(agent.id, *nine), metadata=client.md))).reason == "VALIDATION_FAILED"


async def test_a_model_that_is_known_to_take_none_is_named(client: Client, model: FakeModelServer) -> None:
    agent = await client.agent(model="openai/gpt-3.5-turbo")
    error = await refused(RunServiceStub(client.channel).StartRun(start(agent.id, Image(data=PNG)), metadata=client.md))
    assert (error.reason, error.metadata) == ("MODEL_TAKES_NO_IMAGES", {"model": "openai/gpt-3.5-turbo"})
    assert not model.book.requests


async def test_the_same_request_id_with_other_images_is_another_request(client: Client) -> None:
    agent, runs, key = await client.agent(), RunServiceStub(client.channel), str(uuid.uuid4())
    first = await runs.StartRun(start(agent.id, Image(data=PNG), request_id=key), metadata=client.md)
    again = await runs.StartRun(start(agent.id, Image(data=PNG), request_id=key), metadata=client.md)
    assert first.run.id == again.run.id
    other = await refused(runs.StartRun(start(agent.id, Image(data=JPEG), request_id=key), metadata=client.md))
    assert other.reason == "REQUEST_ID_REUSED"


async def test_another_organizations_agent_stays_unknown(client: Client, foreigner: Client) -> None:
    agent = await client.agent()
    runs = RunServiceStub(foreigner.channel)
    by_agent = await refused(runs.StartRun(start(agent.id, Image(data=PNG)), metadata=foreigner.md))
    request = run_service_pb2.StartRunRequest(
        conversation_id=agent.default_conversation_id, text="x", images=[Image(data=PNG)]
    )
    by_conversation = await refused(runs.StartRun(request, metadata=foreigner.md))
    assert {by_agent.reason, by_conversation.reason} == {"RESOURCE_NOT_FOUND"}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("{", "is not JSON"),
        ("[]", 'whose type is "object"'),
        ('{"type":"string"}', 'whose type is "object"'),
        ('{"type":"object","properties":{"a":{"type":"nonsense"}}}', "is no valid JSON Schema at $.properties.a.type"),
        ('{"type":"object","$ref":"https://example.org/s.json"}', "outside of itself"),
        ('{"type":"object","properties":' * 800, "is n"),
    ],
)
async def test_a_schema_that_is_none_is_refused_at_once(client: Client, schema: str, says: str) -> None:
    agent = await client.agent()
    request = start(agent.id, output_schema=schema)
    error = await refused(RunServiceStub(client.channel).StartRun(request, metadata=client.md))
    assert (error.reason, error.field_violations[0].field) == ("VALIDATION_FAILED", "output_schema")
    assert says in error.field_violations[0].description


async def test_a_schema_and_the_settings_for_models_go_through_the_wire(client: Client, model: FakeModelServer) -> None:
    model.script("see", Step(text="{}"))
    settings = {"fallback_models": ["openai/second"], "reasoning_effort": "high"}
    agent = await client.agent(settings=settings, model="openai/first")
    assert list(agent.settings.fallback_models) == ["openai/second"]
    assert agent.settings.reasoning_effort == "high"
    await finish(client, start(agent.id, output_schema=json.dumps({"type": "object"})))
    body = model.book.requests[0].body
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["reasoning_effort"] == "high"
