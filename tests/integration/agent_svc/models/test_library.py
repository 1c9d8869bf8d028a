"""Models through the library, in OpenAI's and Google's other protocols, against the scripted server over real HTTP."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from agent_svc.adapters.models import ModelSettings, catalog_from_settings
from agent_svc.adapters.models import library as library_module
from agent_svc.domain.image import Image
from agent_svc.domain.model import (
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelNotUsable,
    ModelRateLimited,
    ModelRejected,
    ModelRequest,
    ModelTimeout,
    ModelUnavailable,
    NoSuchModel,
    ReasoningDelta,
    StopReason,
    SystemMessage,
    TextDelta,
    ToolChoice,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from agent_svc.interfaces.model_provider import ChosenModel, ModelCatalog
from tests.fakes.model_script import ScriptedCall, Step, messages_of
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.asking import QUICK, collect

NAMES = ["openai-responses/gpt-5-mini", "google/gemini-2.5-flash"]


@pytest.fixture
async def catalog(server: FakeModelServer) -> AsyncIterator[ModelCatalog]:
    settings = ModelSettings(
        openai_api_key="test-secret-key-1",
        openai_base_url=server.url,
        google_api_key="test-secret-key-2",
        google_base_url=server.url.removesuffix("/v1"),
        limits=QUICK,
    )
    made = catalog_from_settings(settings)
    yield made
    await made.aclose()


@pytest.fixture(params=NAMES)
async def chosen(request: pytest.FixtureRequest, catalog: ModelCatalog) -> ChosenModel:
    return await catalog.resolve(request.param)


def ask(chosen: ChosenModel, text: str) -> ModelRequest:
    return ModelRequest(chosen.provider_model, [SystemMessage("Be brief."), UserMessage(text)])


async def test_an_answer_streams(chosen: ChosenModel, server: FakeModelServer) -> None:
    server.script("Grüße", Step(reasoning="Say hello.", text="Hallo 🐕, wie geht's?"))
    deltas, finished = await collect(chosen.provider, ask(chosen, "Grüße"))
    assert (finished.text, finished.reasoning) == ("Hallo 🐕, wie geht's?", "Say hello.")
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == finished.text
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == finished.reasoning
    assert finished.stop_reason is StopReason.END_TURN
    assert finished.usage.reported
    assert finished.usage.output_tokens > 0


async def test_a_tool_turn_gives_back_what_was_signed(chosen: ChosenModel, server: FakeModelServer) -> None:
    calls = [ScriptedCall("weather", {"city": "Köln"}, "c1"), ScriptedCall("weather", {"city": "Bern"}, "c2")]
    server.script("weather", Step(reasoning="Two.", tool_calls=calls), Step(text="Rain."))
    request = ask(chosen, "weather?")
    tools = [ToolSpec("weather", "Tells.", {"type": "object", "properties": {"city": {"type": "string"}}})]
    _, first = await collect(chosen.provider, ModelRequest(request.model, request.messages, tools=tools))
    assert first.stop_reason is StopReason.TOOL_CALLS
    assert [(call.name, call.arguments_json.replace(" ", "")) for call in first.tool_calls] == [
        ("weather", '{"city":"Köln"}'),
        ("weather", '{"city":"Bern"}'),
    ]
    told = [*request.messages, first.message(), *(ToolMessage(call.id, "rain") for call in first.tool_calls)]
    _, second = await collect(chosen.provider, ModelRequest(request.model, told, tools=tools))
    assert second.text == "Rain."
    sent = str(server.book.requests[1].body)
    assert "c2lnbmVk" in sent
    assert sent.count("rain") == 2


async def test_tool_choices_reach_the_provider(chosen: ChosenModel, server: FakeModelServer) -> None:
    request = ask(chosen, "x")
    tools = [ToolSpec("weather", "Tells.")]
    for choice in (ToolChoice.REQUIRED, ToolChoice.NONE):
        await collect(
            chosen.provider,
            ModelRequest(request.model, request.messages, tools, choice, parallel_tool_calls=False),
        )
    required, none = (seen.body for seen in server.book.requests)
    if "contents" in required:
        assert required["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"
        assert "tools" not in none or none["toolConfig"]["functionCallingConfig"]["mode"] == "NONE"
    else:
        assert (required["tool_choice"], required["parallel_tool_calls"]) == ("required", False)
        assert "tools" not in none or none["tool_choice"] == "none"


@pytest.mark.parametrize(
    ("step", "kind", "tries"),
    [
        (Step(status=503, error="overloaded"), ModelUnavailable, 3),
        (Step(status=429, error="slow down"), ModelRateLimited, 3),
        (Step(status=401, error="Incorrect API key provided"), KeyRefused, 1),
        (Step(status=404, error="The model `x` does not exist"), NoSuchModel, 1),
        (Step(status=400, error="This model's maximum context length is 10 tokens"), ContextOverflow, 1),
        (Step(stall_before_head=True), ModelTimeout, 2),
    ],
)
async def test_failures_have_our_names(
    chosen: ChosenModel, server: FakeModelServer, step: Step, kind: type[ModelError], tries: int
) -> None:
    server.script("fail", step, repeat=True)
    with pytest.raises(kind) as caught:
        await collect(chosen.provider, ask(chosen, "fail"))
    assert type(caught.value) is kind
    assert len(server.book.requests) == tries


async def test_what_fails_first_and_then_works_is_an_answer(chosen: ChosenModel, server: FakeModelServer) -> None:
    server.script("try", Step(status=500), Step(text="there"))
    assert (await collect(chosen.provider, ask(chosen, "try")))[1].text == "there"


async def test_giving_up_closes_the_stream(chosen: ChosenModel, server: FakeModelServer) -> None:
    server.script("endless", Step(text="word " * 500, token_delay_ms=20))
    async with contextlib.aclosing(chosen.provider.stream(ask(chosen, "endless"))) as stream:
        await anext(stream)
    await server.until(lambda book: book.in_flight == 0, timeout_s=2)
    assert server.book.requests[0].outcome == "client_closed"


async def test_images_and_schemas_reach_the_provider(catalog: ModelCatalog, server: FakeModelServer) -> None:
    server.script("see", Step(text='{"n": 1}'), repeat=True)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    image = Image("image/png", b"\x89PNG\r\n\x1a\n")
    for name in NAMES:
        chosen = await catalog.resolve(name)
        assert chosen.capabilities.images
        request = ModelRequest(chosen.provider_model, [UserMessage("see", (image,))], output_schema=schema)
        assert (await collect(chosen.provider, request))[1].text == '{"n": 1}'
        body = server.book.requests[-1].body
        assert "iVBORw0KGgo" in str(messages_of(body))
        assert "integer" in str(body).lower()


async def test_an_address_is_passed_on_by_openai_and_never_fetched_for_google(
    catalog: ModelCatalog, server: FakeModelServer
) -> None:
    server.script("see", Step(text="a cat"), repeat=True)
    asked = [UserMessage("see", (Image(url="https://example.org/a.png"),))]
    one, other = [await catalog.resolve(name) for name in NAMES]
    await collect(one.provider, ModelRequest(one.provider_model, asked))
    assert "https://example.org/a.png" in str(server.book.requests[-1].body)
    with pytest.raises(ModelRejected, match="not shown images by their address"):
        await collect(other.provider, ModelRequest(other.provider_model, asked))


async def test_the_list_shows_them_and_says_how_to_install_what_is_missing(
    catalog: ModelCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {model.name: model for model in await catalog.list_models()}
    assert rows["google/*"].usable
    assert "AWS_REGION" in rows["bedrock/*"].unusable_reason
    monkeypatch.setattr(library_module, "_is_installed", lambda module: module != "boto3")
    aws = catalog_from_settings(ModelSettings(aws_region="eu-central-1"))
    (row,) = [model for model in await aws.list_models() if model.name == "bedrock/*"]
    assert "pip install 'hearth[models]' 'pydantic-ai-slim[bedrock]'" in row.unusable_reason
    chosen = await aws.resolve("bedrock/x")
    if "boto3" not in sys.modules:
        with pytest.raises(ModelNotUsable, match="pip install"):
            await collect(chosen.provider, ask(chosen, "hi"))


def test_nothing_of_the_library_is_imported_with_the_service() -> None:
    code = "import sys, agent_svc.factory; print([m for m in ('pydantic_ai', 'openai', 'google.genai', 'genai_prices') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
