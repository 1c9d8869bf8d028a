"""`hearth template`."""

from pathlib import Path
from typing import BinaryIO

import click

from hearth_client.cli._output import first, note, print_json, print_table, shorten, when
from hearth_client.cli._session import Session, examples, json_option, limit_option, pass_session


@click.group()
def template() -> None:
    """Push, list, show and delete templates: recipes for agents, every change a version."""


@template.command(
    epilog=examples("hearth template push support.yaml", "hearth template push - --name support < support.yaml")
)
@click.argument("file", type=click.File("rb"))
@click.option("--name", default="", help="What to call it; default: the file's name without its ending.")
@json_option
@pass_session
def push(session: Session, file: BinaryIO, name: str, as_json: bool) -> None:
    """Make the template in FILE, or a new version of it. What changes nothing makes no version."""
    name = name or ("" if file.name == "<stdin>" else Path(file.name).stem)
    if not name:
        raise click.UsageError("say what to call it: --name NAME")
    try:
        document = file.read().decode()
    except UnicodeDecodeError:
        raise click.BadParameter("is not UTF-8 text", param_hint="FILE") from None
    answer = session.client.templates.upsert(name, document)
    if as_json:
        print_json(answer.template)
        return
    click.echo(answer.template.id)
    made = "created template" if answer.created else "template"
    note(f"{made} {name}, version {answer.template.version}; use it: hearth agent create --template {name}")


@template.command("list", epilog=examples("hearth template list", "hearth template list --text support"))
@click.option("--text", default="", help="Only those with this in their name or description.")
@limit_option
@json_option
@pass_session
def list_templates(session: Session, text: str, limit: int, as_json: bool) -> None:
    """List templates, newest first."""
    found = first(session.client.templates.list(text=text), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "version", "description", "changed", "id"),
        ((one.name, str(one.version), shorten(one.description), when(one, "update_time"), one.id) for one in found),
    )


@template.command(epilog=examples("hearth template show support", "hearth template show support --version 2"))
@click.argument("name")
@click.option("--version", type=click.IntRange(min=0), default=0, help="Which one; default: the newest.")
@json_option
@pass_session
def show(session: Session, name: str, version: int, as_json: bool) -> None:
    """Show the document of the template NAME, as it can be pushed again."""
    found = session.client.templates.get(name, version)
    if as_json:
        print_json(found)
        return
    click.echo(found.document, nl=not found.document.endswith("\n"))


@template.command(epilog=examples("hearth template versions support"))
@click.argument("name")
@limit_option
@json_option
@pass_session
def versions(session: Session, name: str, limit: int, as_json: bool) -> None:
    """List what the template NAME was, newest first."""
    found = first(session.client.templates.versions(name), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("version", "description", "made"),
        ((str(one.version), shorten(one.description), when(one, "update_time")) for one in found),
    )


@template.command(epilog=examples("hearth template delete support"))
@click.argument("name")
@pass_session
def delete(session: Session, name: str) -> None:
    """Delete the template NAME with all its versions. Agents made of it stay."""
    session.client.templates.delete(name)
    note(f"deleted template {name}")
