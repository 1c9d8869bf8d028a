"""NATS with JetStream: loopback, a user per service, files in the state folder."""

import sys
from pathlib import Path

from deploy.local.component import Component, http_ok
from deploy.local.credentials import Credentials
from deploy.local.home import Home, write_private

# User → subjects that it may publish and subscribe to.
USERS = {"agent_svc": ("hearth.>", "$JS.API.>", "$JS.ACK.>", "_INBOX.>")}

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
    subjects = ", ".join(f'"{subject}"' for subject in USERS[name])
    return (
        f'    {{ user: {name}, password: "{password}", '
        f"permissions: {{ publish: [{subjects}], subscribe: [{subjects}] }} }}"
    )
