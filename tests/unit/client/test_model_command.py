"""`hearth model list`, and what `runs.send` and `runs.start` put into a request for models that see and answer in a form."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner

from hearth.agent.v1.conversation_pb2 import Image
from hearth.agent.v1.model_pb2 import Model, ModelPrice, ModelSupport
from hearth_client import Hearth
from hearth_client._faces import runs
from hearth_client.cli._model import model
from hearth_client.cli._session import Session

MODELS = [
    Model(
        name="openai/gpt-5",
        usable=True,
        supports_tools=True,
        context_window_tokens=400_000,
        default=True,
        images=ModelSupport.MODEL_SUPPORT_YES,
        structured_output=ModelSupport.MODEL_SUPPORT_NO,
        price=ModelPrice(input=1.25, output=10),
    ),
    Model(name="google/*", unusable_reason="Set GOOGLE_API_KEY."),
]


def listed(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "160")
    client = SimpleNamespace(models=SimpleNamespace(list=lambda: MODELS), close=lambda: None)
    session = Session("http://h:1", "hk_x", client=cast(Hearth, client))
    result = CliRunner().invoke(model, ["list", *arguments], obj=session)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_tells_what_models_can_do_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    text = listed(monkeypatch=monkeypatch)
    first = next(line for line in text.splitlines() if "gpt-5" in line)
    for part in ("yes", "400000", "tools, images, reasoning?", "1.25 / 10", "default"):
        assert part in first
    assert "schemas" not in first
    assert "no: Set GOOGLE_API_KEY." in text


def test_programs_get_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = json.loads(listed("--json", monkeypatch=monkeypatch))
    assert (first["images"], first["price"]["output"]) == ("MODEL_SUPPORT_YES", 10)
    assert second["unusable_reason"] == "Set GOOGLE_API_KEY."


def test_images_and_schema_go_into_the_request() -> None:
    request = runs._start("hi", "agent_1", "", None, "")
    runs._add(request, [Image(data=b"x")], {"type": "object"})
    assert request.images[0].data == b"x"
    assert json.loads(request.output_schema) == {"type": "object"}
    plain = runs._start("hi", "agent_1", "", None, "")
    runs._add(plain, (), None)
    assert not plain.images
    assert not plain.output_schema
