"""What needs pydantic-ai imported: its models built, our messages in its words, its events and errors in ours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError
from pydantic_ai import direct, exceptions, messages
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, infer_model
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from agent_svc.adapters.models import failures, proof
from agent_svc.adapters.models.answer_schema import ANSWER_NAME, is_strict
from agent_svc.adapters.models.assembly import Assembly, arguments_object
from agent_svc.domain.image import Image
from agent_svc.domain.model import (
    AnswerWithheld,
    AssistantMessage,
    ChatMessage,
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelFinished,
    ModelNotUsable,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelRequest,
    ModelTimeout,
    ModelUnavailable,
    NoSuchModel,
    QuotaExhausted,
    StopReason,
    SystemMessage,
    ToolMessage,
    Usage,
)

if TYPE_CHECKING:
    from agent_svc.adapters.models.library import LibrarySource

__all__ = ["Calls", "ModelSource", "build"]

ModelSource = Callable[[], contextlib.AbstractAsyncContextManager[Model]]

_STOPPED = {
    "length": StopReason.MAX_TOKENS,
    "content_filter": StopReason.CONTENT_FILTER,
    "tool_call": StopReason.TOOL_CALLS,
}
_REFUSALS: tuple[tuple[type[Exception], type[ModelRejected]], ...] = (
    (exceptions.ModelContextWindowExceededError, ContextOverflow),
    (exceptions.ModelAuthenticationError, KeyRefused),
    (exceptions.ModelNotFoundError, NoSuchModel),
    (exceptions.ModelQuotaExceededError, QuotaExhausted),
    (exceptions.ContentFilterError, AnswerWithheld),
    (exceptions.ModelRequestRejectedError, ModelRejected),
)

# The others have no way to say it, and the library warns.
_ONE_CALL_AT_A_TIME = ("openai-responses",)


def build(source: LibrarySource, name: str) -> ModelSource:
    """Gives the library's model for each call. Raises ImportError when its part of the library is not installed."""
    if source.kind == "openai-responses":
        from pydantic_ai.models.openai import OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        provider = OpenAIProvider(base_url=source.base_url or None, api_key=source.key)
        responses = OpenAIResponsesModel(name, provider=provider)
        return lambda: contextlib.nullcontext(responses)
    if source.kind == "google":
        return lambda: _google(source, name)
    other = infer_model(f"{source.kind}:{name}")
    return lambda: contextlib.nullcontext(other)


@contextlib.asynccontextmanager
async def _google(source: LibrarySource, name: str) -> AsyncGenerator[Model]:
    """With connections of its own for each call: Google's client does not close a stream that nobody reads to its end."""
    import httpx2
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    async with httpx2.AsyncClient(timeout=None) as client:  # Silence is watched by whoever reads.
        yield GoogleModel(
            name, provider=GoogleProvider(api_key=source.key, base_url=source.base_url or None, http_client=client)
        )


class Calls:
    """The library behind four functions."""

    @staticmethod
    @contextlib.asynccontextmanager
    async def open(
        model_source: ModelSource, request: ModelRequest, source: LibrarySource
    ) -> AsyncGenerator[StreamedResponse]:
        """Sends the request on entering. Raises ModelRejected for what the provider cannot be shown."""
        settings: dict[str, Any] = {"max_retries": 0}  # Retries are ours.
        if request.max_output_tokens is not None:
            settings["max_tokens"] = request.max_output_tokens
        if request.temperature is not None:
            settings["temperature"] = request.temperature
        if request.stop:
            settings["stop_sequences"] = list(request.stop)
        if request.reasoning_effort is not None:
            settings["thinking"] = request.reasoning_effort
        if request.tools and request.tool_choice.value != "auto":
            settings["tool_choice"] = request.tool_choice.value
        if source.kind in _ONE_CALL_AT_A_TIME and request.tools and not request.parallel_tool_calls:
            settings["parallel_tool_calls"] = False
        parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name, description=tool.description, parameters_json_schema=dict(tool.parameters)
                )
                for tool in request.tools
            ]
        )
        if request.output_schema is not None:
            schema = dict(request.output_schema)
            held = OutputObjectDefinition(schema, name=ANSWER_NAME, strict=is_strict(schema))
            parameters = replace(parameters, output_mode="native", output_object=held)
        told = list(_messages(request.messages, source))
        async with (
            model_source() as model,
            direct.model_request_stream(
                model, told, model_settings=ModelSettings(**settings), model_request_parameters=parameters
            ) as answer,
        ):
            yield answer

    @staticmethod
    def take(event: object, assembly: Assembly) -> None:
        """One event of the library's into the answer."""
        match event:
            case messages.PartStartEvent(index=index, part=part):
                match part:
                    case messages.TextPart(content=text) if text:
                        assembly.text(text)
                    case messages.ThinkingPart(content=text) if text:
                        assembly.reasoning(text)
                    case messages.ToolCallPart(tool_name=name, tool_call_id=call_id):
                        assembly.tool_call(index, call_id, name, part.args_as_json_str() if part.args else "")
                    case _:
                        pass
            case messages.PartDeltaEvent(index=index, delta=delta):
                match delta:
                    case messages.TextPartDelta(content_delta=text) if text:
                        assembly.text(text)
                    case messages.ThinkingPartDelta(content_delta=text) if text:
                        assembly.reasoning(text)
                    case messages.ToolCallPartDelta(args_delta=grown):
                        pieces = (
                            grown if isinstance(grown, str) else msgspec.json.encode(grown).decode() if grown else ""
                        )
                        assembly.tool_call(index, "", "", pieces)
                    case _:
                        pass
            case _:
                pass

    @staticmethod
    def finished(answer: StreamedResponse, assembly: Assembly) -> ModelFinished:
        """The whole answer; the library's own record of it is the proof that goes back to the provider."""
        response = answer.get()
        counted = response.usage
        assembly.usage = Usage(
            input_tokens=counted.input_tokens,
            output_tokens=counted.output_tokens,
            cached_input_tokens=counted.cache_read_tokens,
            cache_write_tokens=counted.cache_write_tokens,
            reasoning_tokens=counted.details.get("reasoning_tokens", 0),
            reported=counted.has_values(),
        )
        record = messages.ModelMessagesTypeAdapter.dump_python([response], mode="json")[0]
        assembly.proof.details.append(record)
        return assembly.finished(_STOPPED.get(response.finish_reason or "", StopReason.END_TURN))

    @staticmethod
    def failure(server: str, model: str, error: Exception) -> ModelError:
        """Ours for one of the library's, or of what lies under it."""
        if isinstance(error, exceptions.ModelHTTPError):
            body = error.body if isinstance(error.body, str) else msgspec.json.encode(error.body, enc_hook=str).decode()
            made = failures.from_response(server, model, error.status_code, {}, body.encode())
            asked = getattr(error, "retry_after", None)
            if isinstance(made, (ModelRateLimited, ModelUnavailable)) and made.retry_after_s is None:
                made.retry_after_s = asked
            return made
        said = failures.clean(str(error))
        for theirs, ours in _REFUSALS:
            if isinstance(error, theirs):
                return ours(f"{server} refused the request: {said}", reason=said)
        if isinstance(error, exceptions.ModelRateLimitError):
            return ModelRateLimited(f"{server} asks to slow down: {said}", retry_after_s=error.retry_after)
        if isinstance(error, (exceptions.ModelTimeoutError, exceptions.ModelRequestTimeout)):
            return ModelTimeout(f"{server} did not answer in time.")
        if isinstance(error, (exceptions.ModelAPIError, OSError)):
            return ModelUnavailable(f"{server} failed: {said}")
        if isinstance(error, exceptions.UserError):
            return ModelNotUsable(f"{server} cannot be asked this way: {said}")
        return ModelProtocolError(f"{server} sent something that is not a model's answer: {said}.")


def _messages(told: Sequence[ChatMessage], source: LibrarySource) -> Iterator[messages.ModelMessage]:
    names: dict[str, str] = {}
    for message in told:
        match message:
            case SystemMessage(text):
                yield messages.ModelRequest([messages.SystemPromptPart(text)])
            case AssistantMessage():
                names.update((call.id, call.name) for call in message.tool_calls)
                yield _answer(message, source)
            case ToolMessage(call_id, text, is_error):
                outcome = "failed" if is_error else "success"
                part = messages.ToolReturnPart(names.get(call_id, "tool"), text, call_id, outcome=outcome)
                yield messages.ModelRequest([part])
            case _:
                shown = [_shown(image, source) for image in message.images]
                content: str | list[messages.UserContent] = [*shown, message.text] if shown else message.text
                yield messages.ModelRequest([messages.UserPromptPart(content)])


def _shown(image: Image, source: LibrarySource) -> messages.UserContent:
    if not image.url:
        return messages.BinaryContent(image.data, media_type=image.media_type)
    if not source.shows_urls:
        raise ModelRejected(f"{source.server} is not shown images by their address: send the image itself.")
    return messages.ImageUrl(image.url)


def _answer(message: AssistantMessage, source: LibrarySource) -> messages.ModelResponse:
    """The library's own record of the answer, its calls under the ids that they have here; else one made from the text."""
    signed = proof.read(message.reasoning_signature, f"library/{source.kind}")
    if signed is not None and signed.details:
        try:
            (recorded,) = messages.ModelMessagesTypeAdapter.validate_python(signed.details)
        except (ValidationError, ValueError):
            recorded = None
        if isinstance(recorded, messages.ModelResponse):
            ids = iter([call.id for call in message.tool_calls])
            parts = [
                replace(part, tool_call_id=next(ids, part.tool_call_id))
                if isinstance(part, messages.ToolCallPart)
                else part
                for part in recorded.parts
            ]
            return replace(recorded, parts=parts)
    made: list[messages.ModelResponsePart] = [messages.TextPart(message.text)] if message.text else []
    made += [
        messages.ToolCallPart(call.name, arguments_object(call.arguments_json), call.id) for call in message.tool_calls
    ]
    return messages.ModelResponse(made)
