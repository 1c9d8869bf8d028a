"""NATS with JetStream: loopback, a user per service, files in the state folder."""

import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.local.component import Component, http_ok
from deploy.local.credentials import Credentials
from deploy.local.home import Home, write_private


@dataclass(frozen=True, slots=True)
class User:
    """What a service may publish, and what it may subscribe to besides its own inboxes, `_INBOX.<user>.>`."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def _stream(name: str, consumer: str) -> tuple[str, ...]:
    """What it takes to make a stream with one consumer, and to read it."""
    return (
        *(f"$JS.API.STREAM.{verb}.{name}" for verb in ("INFO", "CREATE")),
        *(f"$JS.API.CONSUMER.{verb}.{name}.{consumer}" for verb in ("INFO", "CREATE", "DURABLE.CREATE", "MSG.NEXT")),
        f"$JS.ACK.{name}.>",
    )


def _audited(service: str) -> User:
    """A service whose audit records go to user_svc."""
    return User(publish=(f"hearth.audit.{service}",), subscribe=(f"hearth.audited.{service}",))


_RUNS = ("hearth.ev.>", "hearth.worker.>", "hearth.run.>", "_INBOX.agent_svc.>")

USERS = {
    "agent_svc": User(
        publish=(*_audited("agent_svc").publish, *_RUNS, *_stream("HEARTH_RUNS", "workers")),
        subscribe=(*_audited("agent_svc").subscribe, "hearth.ev.>", "hearth.worker.>"),
    ),
    "tool_svc": _audited("tool_svc"),
    "memory_svc": _audited("memory_svc"),
    # Alone reads what the others send.
    "user_svc": User(publish=("hearth.audited.*", *_stream("HEARTH_AUDIT", "chain")), subscribe=()),
}

_CONFIGURATION = """\
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor_port}"
server_name: hearth
# An event holds a message of up to 1 MiB and what belongs to it.
max_payload: 4MB
jetstream {{
  store_dir: "{store}"
  max_memory_store: 64MB
  max_file_store: 4GB
}}
authorization {{
  users: [
{users}
  ]
}}
"""


def component(home: Home, credentials: Credentials, port: int, monitor_port: int) -> Component:
    """Writes the configuration and describes the server's process."""
    configuration = home.state / "nats.conf"
    store = home.state / "nats"
    store.mkdir(mode=0o700, exist_ok=True)
    text = _CONFIGURATION.format(
        port=port,
        monitor_port=monitor_port,
        store=store,
        users="\n".join(_user(name, credentials.password(f"nats:{name}")) for name in USERS),
    )
    write_private(configuration, text)
    return Component(
        name="nats",
        command=(str(Path(sys.executable).parent / "nats-server"), "-c", str(configuration)),
        address=f"127.0.0.1:{port}",
        env={"GOMEMLIMIT": "96MiB"},
        ready=http_ok(f"127.0.0.1:{monitor_port}", "/healthz?js-enabled-only=true"),
    )


def url(credentials: Credentials, user: str, address: str) -> str:
    """The server's address with a user's name and password."""
    return f"nats://{user}:{credentials.password(f'nats:{user}')}@{address}"


def _user(name: str, password: str) -> str:
    user = USERS[name]
    subscribe = (f"_INBOX.{name}.>", *user.subscribe)
    permissions = f"publish: [{_quoted(user.publish)}], subscribe: [{_quoted(subscribe)}]"
    return f'    {{ user: {name}, password: "{password}", permissions: {{ {permissions} }} }}'


def _quoted(subjects: tuple[str, ...]) -> str:
    return ", ".join(f'"{subject}"' for subject in subjects)
