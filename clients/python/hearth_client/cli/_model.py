"""`hearth model`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hearth_client.cli._output import print_json, print_table
from hearth_client.cli._session import Session, examples, json_option, pass_session

if TYPE_CHECKING:
    from hearth.agent.v1.model_pb2 import Model


@click.group()
def model() -> None:
    """List the language models."""


@model.command("list", epilog=examples("hearth model list"))
@json_option
@pass_session
def list_models(session: Session, as_json: bool) -> None:
    """List the models that agents can use, what they can do and cost, and why the others cannot be used.

    A question mark stands behind what is not known of a model. `google/*` means: any model of that provider, by its own name.
    """
    models = session.client.models.list()
    if as_json:
        print_json(models)
        return
    print_table(
        ("name", "usable", "context tokens", "can", "$ per million in/out", "default"),
        (
            (
                m.name,
                "yes" if m.usable else f"no: {m.unusable_reason}",
                m.context_window_tokens or "",
                _abilities(m),
                f"{m.price.input:g} / {m.price.output:g}" if m.HasField("price") else "",
                "default" if m.default else "",
            )
            for m in models
        ),
    )


def _abilities(model: Model) -> str:
    """What it is known to be able to do; a question mark behind what is not known."""
    from hearth.agent.v1.model_pb2 import ModelSupport

    known = (("images", model.images), ("reasoning", model.reasoning), ("schemas", model.structured_output))
    words = ["tools"] if model.supports_tools else []
    for word, support in known:
        if support != ModelSupport.MODEL_SUPPORT_NO:
            words.append(word if support == ModelSupport.MODEL_SUPPORT_YES else f"{word}?")
    return ", ".join(words)
