"""`hearth model`."""

import click

from hearth_client.cli._output import print_json, print_table
from hearth_client.cli._session import Session, examples, json_option, pass_session


@click.group()
def model() -> None:
    """List the language models."""


@model.command("list", epilog=examples("hearth model list"))
@json_option
@pass_session
def list_models(session: Session, as_json: bool) -> None:
    """List the models that agents can use, and why the others cannot be used."""
    models = session.client.models.list()
    if as_json:
        print_json(models)
        return
    print_table(
        ("name", "usable", "tools", "context tokens", "default"),
        (
            (
                m.name,
                "yes" if m.usable else f"no: {m.unusable_reason}",
                "yes" if m.supports_tools else "no",
                m.context_window_tokens or "",
                "default" if m.default else "",
            )
            for m in models
        ),
    )
