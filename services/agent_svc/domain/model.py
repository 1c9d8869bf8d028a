"""What Hearth says to a language model and what comes back, free of any provider's wire format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from agent_svc.domain.image import Image


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool.

    `arguments_json` is what the model wrote, normalized only so far that an empty text became `{}`: it may be invalid JSON
    or break the tool's schema, which is for the caller to answer.
    """

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Instructions and memory; adapters join several of them in order where a protocol takes only one."""

    text: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What a person (or another agent, or a schedule) said, and showed."""

    text: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What the model answered earlier.

    `reasoning_signature` is what its provider wants back with the message, opaque to all but the adapter that wrote it.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning_signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The result of one tool call, named by the call's id."""

    tool_call_id: str
    text: str
    is_error: bool = False


ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


class ToolChoice(Enum):
    """Whether the model may (AUTO), must (REQUIRED) or must not (NONE) call a tool."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    `model` is the provider's own name for it (`ChosenModel.provider_model`), not the catalog's `openai/<name>`.
    `None` leaves the provider's default; `max_output_tokens` counts reasoning too where the provider counts it.
    `output_schema` is a JSON Schema of type object: the answer's text is asked to be one JSON value that matches it.
    Without `parallel_tool_calls` the model is asked for at most one call in an answer, where its provider has a way to say so.
    """

    model: str
    messages: Sequence[ChatMessage]
    tools: Sequence[ToolSpec] = ()
    tool_choice: ToolChoice = ToolChoice.AUTO
    temperature: float | None = None
    max_output_tokens: int | None = None
    stop: Sequence[str] = ()
    reasoning_effort: str | None = None
    output_schema: Mapping[str, Any] | None = None
    parallel_tool_calls: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counted them; `reported` is False where it did not, and then all are 0.

    `input_tokens` includes `cached_input_tokens` (read from the provider's prompt cache) and `cache_write_tokens`;
    `output_tokens` includes `reasoning_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    reported: bool = False


class StopReason(Enum):
    """Why the model stopped: an answer, tool calls to execute, its output limit, a stop text, or the provider's filter."""

    END_TURN = "end_turn"
    TOOL_CALLS = "tool_calls"
    MAX_TOKENS = "max_tokens"
    STOP_SEQUENCE = "stop_sequence"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text. One delta may carry several tokens: what arrived together is passed on together."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A tool call has begun (`id` and `name` set) or its arguments grew. For display only: the whole is in ModelFinished."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ModelFinished:
    """The last event of every stream that did not fail: the whole message, exactly the deltas put together."""

    stop_reason: StopReason
    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    reasoning_signature: str = ""

    def message(self) -> AssistantMessage:
        """The message to append to the conversation."""
        return AssistantMessage(self.text, self.reasoning, self.tool_calls, self.reasoning_signature)


ModelEvent = TextDelta | ReasoningDelta | ToolCallDelta | ModelFinished


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What a model can do; None: not known, so it is asked for and the server's refusal is reported.

    `context_window` is in tokens, input and output together. `structured_output`: whether the server itself holds answers
    to a JSON Schema; without, the model is told in words.
    """

    supports_tools: bool = True
    context_window: int | None = None
    images: bool | None = None
    reasoning: bool | None = None
    structured_output: bool | None = None


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a provider lists, US dollars per million tokens, without discounts and tiers."""

    input: float
    output: float
    cached_input: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One row of the model list. `unusable_reason` is empty when the model is usable, else a sentence for a person."""

    name: str
    capabilities: ModelCapabilities
    is_default: bool = False
    unusable_reason: str = ""
    price: ModelPrice | None = None

    @property
    def usable(self) -> bool:
        """Whether a run with this model can start."""
        return not self.unusable_reason


class ModelError(Exception):
    """A model call failed. `str(error)` is a sentence for a person: no key, no stack trace, no raw page of the provider.

    ModelError
    ├── ModelUnavailable     not reachable, 5xx                              retryable, elsewhere
    │   └── ModelTimeout     silent for too long                             retryable, elsewhere
    ├── ModelRateLimited     429; `retry_after_s` when the provider named it retryable, elsewhere
    ├── ModelProtocolError   garbage, or the stream broke off                retryable, elsewhere
    ├── ModelRejected        the provider refused the request
    │   ├── ContextOverflow  the input does not fit the context window       compact first
    │   ├── AnswerWithheld   the provider's content rules forbid it
    │   ├── QuotaExhausted   no credit or quota is left                      elsewhere
    │   ├── KeyRefused       the API key is wrong or may not do this         elsewhere
    │   └── NoSuchModel      the server does not know the model              elsewhere
    └── ModelNotUsable       unknown model, or its provider is not configured elsewhere

    `retryable` says whether the same request may succeed later, `elsewhere` whether it may with another model. Adapters have
    already retried what failed before the first event, so a caller that sees a retryable error should give up soon or wait long.
    """

    retryable: bool = False
    elsewhere: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ModelUnavailable(ModelError):
    """The model server could not be reached or failed; `retry_after_s` (seconds) when it said when to come back."""

    retryable = True
    elsewhere = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelTimeout(ModelUnavailable):
    """The model server was silent for too long. Adapters retry this one once: the wait was long already."""


class ModelRateLimited(ModelError):
    """The provider asks to slow down; `retry_after_s` (seconds) is None when it did not say for how long."""

    retryable = True
    elsewhere = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelProtocolError(ModelError):
    """The answer was not what the protocol promises: garbage, or a stream that broke off in the middle."""

    retryable = True
    elsewhere = True


class ModelRejected(ModelError):
    """The provider refused the request; `reason` is its own explanation, cleaned and cut."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class ContextOverflow(ModelRejected):
    """The conversation does not fit the model's context window."""


class AnswerWithheld(ModelRejected):
    """The provider's content rules forbid the question or the answer."""


class QuotaExhausted(ModelRejected):
    """The account has no credit or quota left: waiting a little does not help."""

    elsewhere = True


class KeyRefused(ModelRejected):
    """The API key is wrong, or may not use this model."""

    elsewhere = True


class NoSuchModel(ModelRejected):
    """The server does not know the model."""

    elsewhere = True


class ModelNotUsable(ModelError):
    """No such model, or its provider is not configured; the message says what to set.

    `named_well`: only the configuration is missing, so that an agent may name the model before it is there.
    """

    elsewhere = True

    def __init__(self, message: str, *, named_well: bool = False) -> None:
        super().__init__(message)
        self.named_well = named_well
