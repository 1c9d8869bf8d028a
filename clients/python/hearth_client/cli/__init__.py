"""The `hearth` command."""

import click

from hearth_client.cli._agent import agent
from hearth_client.cli._audit import audit
from hearth_client.cli._chat import chat
from hearth_client.cli._conversation import conversation
from hearth_client.cli._issuer import issuer
from hearth_client.cli._key import key
from hearth_client.cli._mcp import mcp
from hearth_client.cli._memory import memory
from hearth_client.cli._model import model
from hearth_client.cli._organization import org
from hearth_client.cli._run import run
from hearth_client.cli._secret import secret
from hearth_client.cli._session import Failure, Session, debugging, examples
from hearth_client.cli._template import template
from hearth_client.cli._token import keys, token, whoami
from hearth_client.cli._tool import tool
from hearth_client.cli._user import user
from hearth_client.errors import HearthError


class _Hearth(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        """Runs a command; what goes wrong becomes one clear line, unless HEARTH_DEBUG=1."""
        try:
            return super().invoke(ctx)
        except HearthError as error:
            if debugging():
                raise
            raise ctx.ensure_object(Session).failure(error) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort, OSError):
            raise
        except Exception as error:
            if debugging():
                raise
            hint = "That is a fault of this program. HEARTH_DEBUG=1 shows where."
            raise Failure(f"{type(error).__name__}: {error}", hint) from None


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("hearth")
    except PackageNotFoundError:
        found = "(not installed as a package)"
    click.echo(f"hearth {found}")
    ctx.exit()


@click.group(
    cls=_Hearth,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        'hearth chat --agent demo "My dog is called Rex."',
        "hearth agent list",
        "hearth run list --json",
    ),
)
@click.option(
    "--url", metavar="URL", default="", help="Address of the Hearth, as http://127.0.0.1:8080.  [env: HEARTH_URL]"
)
@click.option("--api-key", metavar="KEY", default="", help="Your API key, hk_….  [env: HEARTH_API_KEY]")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
@click.pass_context
def cli(ctx: click.Context, url: str, api_key: str) -> None:
    """Talk to agents that live in a Hearth, and look after them.

    Which Hearth, and as whom: the options below, else HEARTH_URL and HEARTH_API_KEY, else the file .hearth/env that `make up` writes, looked
    for in this directory and those above it.

    Commands exit with 0, with 1 when something failed (the reason is on standard error), with 2 when they were called wrongly. HEARTH_DEBUG=1
    shows tracebacks.
    """
    if ctx.obj is None:
        ctx.obj = Session(url, api_key)
    ctx.call_on_close(ctx.ensure_object(Session).close)


for _command in (
    chat,
    agent,
    template,
    conversation,
    run,
    tool,
    secret,
    mcp,
    memory,
    model,
    org,
    user,
    key,
    issuer,
    keys,
    token,
    audit,
    whoami,
):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the `hearth` command."""
    cli.main(prog_name="hearth")
