"""Why runs fail: a reason for programs and a sentence for people."""

from __future__ import annotations

from agent_svc.domain.model import (
    AnswerWithheld,
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelNotUsable,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    QuotaExhausted,
)
from agent_svc.domain.run import RunError
from agent_svc.domain.tool_rules import Ruling
from chassis.errors import DomainError, FailedPrecondition, NotFound

STEP_LIMIT = RunError("STEP_LIMIT_REACHED", "The run reached its limit of steps without a final answer.")
TIME_LIMIT = RunError("TIME_LIMIT_REACHED", "The run reached its limit of time without a final answer.")
TOKEN_LIMIT = RunError("TOKEN_LIMIT_REACHED", "The run reached its limit of tokens without a final answer.")
WITHHELD = RunError("ANSWER_WITHHELD", "The model's provider withheld the answer by its content rules.")
NOT_ACTIVE = RunError(
    "ORGANIZATION_NOT_ACTIVE", "The organization was disabled or deleted while the run was in progress."
)
_INTERNAL = RunError("INTERNAL", "Something went wrong inside of Hearth. The log says what.")


class GivenUp(Exception):
    """Too many workers took the run and none ended it."""


def does_not_match(problem: str) -> RunError:
    """The final answer breaks the run's output_schema."""
    return RunError("ANSWER_DOES_NOT_MATCH", f"The answer does not match the asked-for schema: {problem}.")


def cannot_keep_rules(ruling: Ruling | None) -> RunError:
    """The agent's tool rules ask for a call that cannot be made."""
    owed = ", ".join(ruling.owed) if ruling is not None else ""
    return RunError("TOOL_RULES_UNSATISFIABLE", f"The tool rules ask for a call that cannot be made: {owed}.")


def run_error(error: Exception) -> RunError:
    """What a run's failure is called."""
    if isinstance(error, ModelError):
        return RunError(_model_reason(error), error.message)
    if isinstance(error, GivenUp):
        return RunError("INTERNAL", "The run was given up: several workers ended while they worked on it.")
    if isinstance(error, FailedPrecondition) and error.reason == NOT_ACTIVE.reason:
        return NOT_ACTIVE
    if isinstance(error, NotFound):
        return RunError(error.reason, f"Something that the run needs is gone: {error.message}.")
    if isinstance(error, DomainError):
        return RunError(error.reason, f"A part of Hearth that the run needs did not answer: {error.message}.")
    return _INTERNAL


def _model_reason(error: ModelError) -> str:
    match error:
        case ContextOverflow():
            return "CONTEXT_OVERFLOW"
        case AnswerWithheld():
            return "ANSWER_WITHHELD"
        case QuotaExhausted():
            return "MODEL_QUOTA_EXHAUSTED"
        case KeyRefused():
            return "MODEL_KEY_REFUSED"
        case ModelRejected():
            return "MODEL_REJECTED"
        case ModelRateLimited():
            return "MODEL_RATE_LIMITED"
        case ModelProtocolError():
            return "MODEL_PROTOCOL_ERROR"
        case ModelNotUsable():
            return "MODEL_NOT_CONFIGURED"
        case _:
            return "MODEL_UNAVAILABLE"
