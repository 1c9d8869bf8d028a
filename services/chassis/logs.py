"""Logs: one JSON object a line on stderr, with the call's request id and organization, and never a secret."""

import logging
import re
import sys
import traceback
from datetime import UTC, datetime

import orjson

from chassis.callcontext import current_call
from chassis.identity import current_or_none

# What a log record has of its own; everything else came in through `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRETS = re.compile(
    r"hk_[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"
)


def redact(text: str) -> str:
    """The text with API keys, tokens and passwords in URLs replaced. A last line of defence, not a licence to log them."""
    return _SECRETS.sub("[redacted]", text)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; `extra` fields become members."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        call = current_call()
        if call is not None:
            line["request_id"] = call.request_id
            line["method"] = call.method
            line["trace"] = call.traceparent
        identity = current_or_none()
        if identity is not None:
            line["organization"] = str(identity.organization_id)
            line["subject"] = identity.subject
        line.update({name: value for name, value in vars(record).items() if name not in _OWN})
        if record.exc_info and record.exc_info[0] is not None:
            line["stack"] = "".join(traceback.format_exception(*record.exc_info))
        return redact(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode())


def configure(service: str, level: str = "INFO") -> None:
    """Sends everything logged in this process to stderr as JSON lines. Call it once, first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What these say below WARNING is about each statement or step, some of it with values.
    for noisy in ("sqlalchemy", "alembic", "asyncio", "grpc", "httpx", "nats"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
