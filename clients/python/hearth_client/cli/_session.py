"""What all commands share: the settings, the client, and how failures are told."""

import os
import socket
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from hearth_client._settings import Settings, discover
from hearth_client.errors import UNREACHABLE, HearthError, UnavailableError

if TYPE_CHECKING:
    from hearth.agent.v1.agent_pb2 import Agent
    from hearth.agent.v1.run_service_pb2 import BusyPolicy
    from hearth_client import Hearth

_HINTS = {
    UNREACHABLE: "Is it running? `make up` in Hearth's folder starts it, `make status` says how it is.",
    "DEPENDENCY_UNAVAILABLE": "A part of Hearth does not run, or not yet: `make status` says which.",
    "CONVERSATION_BUSY": "`--when-busy queue` waits its turn, `--when-busy interrupt` ends what is unfinished.",
    "API_KEY_INVALID": "The key comes from {source}. A new Hearth makes a new key: see .hearth/env.",
    "MODEL_NOT_CONFIGURED": "`hearth model list` says why; set OPENAI_API_KEY, ANTHROPIC_API_KEY or HEARTH_OPENAI_BASE_URL and restart Hearth.",
    "MODEL_UNKNOWN": "`hearth model list` shows the models.",
    "MCP_TRANSPORT_DISABLED": "The operator sets HEARTH_MCP_STDIO=true for tool_svc; a server on HTTP needs nothing of that kind.",
    "ROLE_INSUFFICIENT": "`hearth whoami` shows your role.",
    "SCOPE_INSUFFICIENT": "Your key is limited to scopes: `hearth key list` shows them. Use another key.",
}


class Failure(click.ClickException):
    """One clear line, perhaps a hint, exit code 1."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Writes it to standard error."""
        click.echo(f"hearth: {self.message}", err=True)
        if self.hint:
            click.echo(textwrap.indent(self.hint, " " * 8), err=True)


class Session:
    """One invocation of the command. Holds at most one client, made when it is first needed."""

    def __init__(self, url: str = "", api_key: str = "", client: "Hearth | None" = None) -> None:
        self._url = url
        self._api_key = api_key
        self._client = client
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """Where the Hearth is. Raises Failure if nobody says."""
        if self._settings is None:
            self._settings = discover(self._url, self._api_key)
        found = self._settings
        if not found.url:
            raise Failure(
                "no Hearth to talk to",
                "Run this below the folder in which `make up` ran (it writes .hearth/env), or set HEARTH_URL and HEARTH_API_KEY.",
            )
        if not found.api_key:
            raise Failure(f"no API key for {found.url}", "Set HEARTH_API_KEY, or pass --api-key.")
        return found

    @property
    def client(self) -> "Hearth":
        """The client. Raises Failure if there are no settings or they make no sense."""
        if self._client is None:
            # gRPC's own notes about connections are not for this terminal.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            from hearth_client import Hearth

            settings = self.settings
            if not _somebody_listens(settings.url):
                raise self.failure(UnavailableError("connection refused", reason=UNREACHABLE))
            try:
                self._client = Hearth(settings.url, settings.api_key, retry_for_s=5.0)
            except ValueError as error:
                raise Failure(str(error)) from None
        return self._client

    def close(self) -> None:
        """Ends the client, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def agent(self, reference: str) -> "Agent":
        """An agent by name or by id."""
        from hearth_client.errors import NotFoundError

        try:
            if is_id("agent", reference):
                return self.client.agents.get(reference)
            return self.client.agents.get(name=reference)
        except NotFoundError:
            raise Failure(f"no agent {reference!r}", "`hearth agent list` shows them.") from None

    def failure(self, error: HearthError) -> Failure:
        """How an error of the server's is told."""
        source = self._settings.source if self._settings else ""
        hint = _HINTS.get(error.reason, "").format(source=source)
        if error.reason == UNREACHABLE and self._settings is not None:
            return Failure(f"cannot reach Hearth at {self._settings.url} ({error.reason})", hint)
        if error.retry_after_s:
            hint = hint or f"Try again in {error.retry_after_s:g} s."
        return Failure(str(error), hint)


def _somebody_listens(url: str) -> bool:
    """Whether a Hearth on this machine can be there at all: no need to try for seconds where nobody listens. True for other machines."""
    try:
        parts = urlsplit(url)
        if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            return True
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=1.0):
            return True
    except ConnectionRefusedError:
        return False
    except (OSError, ValueError):
        return True


def is_id(prefix: str, text: str) -> bool:
    """Whether a text looks like an id of this kind."""
    return text.startswith(f"{prefix}_") and len(text) == len(prefix) + 27


def examples(*lines: str) -> str:
    """How a help page shows what to type."""
    return "\b\n" + "\n".join(("Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)))


def read_text(text: str) -> str:
    """The text; `-` means standard input, `@FILE` what the file holds. Raises Failure."""
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {text[1:]}: {error}") from None


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("HEARTH_DEBUG", "") not in ("", "0")


pass_session = click.make_pass_decorator(Session, ensure=True)

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """`--json`: what comes out is for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, fields named as in the API.")(command)


def limit_option(command: Command) -> Command:
    """`--limit`: how many at the most."""
    return click.option(
        "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="At most so many; 0 means all."
    )(command)


def when_busy_option(command: Command) -> Command:
    """`--when-busy`, see `busy_policy`."""
    return click.option(
        "--when-busy",
        type=click.Choice(("queue", "refuse", "interrupt")),
        default="queue",
        show_default=True,
        help="If the conversation has an unfinished run: wait its turn, fail, or cancel what is unfinished.",
    )(command)


def busy_policy(when_busy: str) -> "BusyPolicy.ValueType":
    """What the server calls it."""
    from hearth.agent.v1.run_service_pb2 import BusyPolicy

    return BusyPolicy.Value(f"BUSY_POLICY_{when_busy.upper()}")
