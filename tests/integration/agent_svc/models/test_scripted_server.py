"""The scripted model server itself: its control endpoints, in a thread and as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.model_control import ModelServerControl, ThreadedModelServer

ROOT = Path(__file__).parents[4]


@pytest.fixture(params=["thread", "process"])
def control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModelServerControl]:
    if request.param == "thread":
        with ThreadedModelServer() as server:
            yield server
        return
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "tests.fakes.model_server", "--port", "0", "--port-file", str(port_file)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + 15
        while not port_file.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        yield ModelServerControl(f"http://127.0.0.1:{port_file.read_text()}")
    finally:
        process.terminate()
        assert process.wait(10) == 0


def complete(control: ModelServerControl, *messages: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"model": "scripted", "messages": messages}).encode()
    request = urllib.request.Request(f"{control.url}/chat/completions", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


def user(text: object) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


def test_scripts_play_in_order_and_requests_can_be_read_back(control: ModelServerControl) -> None:
    call = {"name": "add", "arguments": {"a": 1}}
    control.script("marker-7", {"tool_calls": [call]}, {"text": "It is 1."})
    first = complete(control, user("marker-7: add"))
    assert first["choices"][0]["finish_reason"] == "tool_calls"
    assert json.loads(first["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert said(complete(control, user("marker-7: add"), {"role": "tool", "content": "1"})) == "It is 1."
    assert said(complete(control, user("marker-7: add"))) == "You said: marker-7: add"
    assert said(complete(control, user([{"type": "text", "text": "in parts"}]))) == "You said: in parts"

    seen = control.requests("marker-7")
    assert [request["script"] for request in seen] == ["marker-7", "marker-7", ""]
    assert control.state() == {"in_flight": 0, "seen": 4, "outcomes": {"completed": 4}}
    control.reset()
    assert control.state()["seen"] == 0


def test_a_marker_is_looked_for_where_the_script_says(control: ModelServerControl) -> None:
    control.script("dog", {"text": "last"}, scope="last_user", repeat=True)
    assert said(complete(control, user("dog"), user("cat"))) == "You said: cat"
    assert said(complete(control, user("cat"), user("dog"))) == "last"
    control.script("secret", {"text": "any"}, scope="any", repeat=True)
    assert said(complete(control, {"role": "system", "content": "secret"}, user("cat"))) == "any"
    assert said(complete(control, {"role": "system", "content": "dog"}, user("cat"))) == "You said: cat"


def test_the_instant_default_answers_in_as_many_words_as_asked(control: ModelServerControl) -> None:
    control.default(mode="instant", tokens=7, record=False)
    answer = complete(control, user("hi"))
    assert answer["usage"]["completion_tokens"] == len(said(answer).split()) == 7
    assert control.state()["seen"] == 0


def test_a_mistake_in_a_script_is_refused(control: ModelServerControl) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        control.script("marker", {"txet": "typo"})
