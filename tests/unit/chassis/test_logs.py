"""Log lines are JSON, say which call they belong to, and hold no secret."""

import json
import logging
import sys

from chassis import ids
from chassis.callcontext import Call, set_call
from chassis.identity import Identity, Role, use
from chassis.logs import JsonFormatter, redact

_KEY = "hk_" + "a1-_" * 10 + "xyz"
_TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


def _line(record: logging.LogRecord) -> dict[str, object]:
    return json.loads(JsonFormatter("test_svc").format(record))


def _record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, message, arguments, None, extra=extra or None)


def test_a_line_is_one_json_object_with_its_call() -> None:
    identity = Identity(ids.new(), "user_x", Role.MEMBER, token=_TOKEN)
    set_call(Call("/a/B", "request-1", "00-trace"))
    try:
        with use(identity):
            line = _line(_record("said %s", "so\nand so", port=7))
    finally:
        set_call(None)
    assert line["message"] == "said so\nand so"
    assert (line["service"], line["level"], line["port"]) == ("test_svc", "INFO", 7)
    assert (line["request_id"], line["method"]) == ("request-1", "/a/B")
    assert line["organization"] == str(identity.organization_id)
    assert "\n" not in JsonFormatter("x").format(_record("a\nb"))


def test_secrets_are_taken_out_wherever_they_are() -> None:
    url = "postgresql://user:pass-word@db/x"
    try:
        raise ValueError(f"bad key {_KEY}")
    except ValueError:
        info = sys.exc_info()
    record = _record("key %s", _KEY, header=f"Bearer {_TOKEN}", url=url)
    record.exc_info = info
    text = JsonFormatter("x").format(record)
    for secret in (_KEY, _TOKEN, "pass-word"):
        assert secret not in text
    assert "bad key [redacted]" in text


def test_ordinary_text_stays() -> None:
    assert redact("agent_01m8335f5qe00azd7eabk8989k at http://host:8080/path") == (
        "agent_01m8335f5qe00azd7eabk8989k at http://host:8080/path"
    )


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    assert _line(_record("x", thing=ids.new(), error=ValueError("e")))["error"] == "e"
