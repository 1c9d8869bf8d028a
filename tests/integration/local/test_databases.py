"""The cluster as services meet it: who may connect where, who owns what, what survives a crash."""

import os
import signal
import socket
from pathlib import Path

import psycopg
import pytest

from deploy.local import Stack
from deploy.local.postgres import DATABASES


def test_a_service_has_its_own_database_and_no_other(stack: Stack) -> None:
    for service in DATABASES:
        for other, database in DATABASES.items():
            url = stack.database_url(service).replace(DATABASES[service], database)
            if service == other:
                with psycopg.connect(url) as connection:
                    assert connection.execute("SELECT current_user").fetchone() == (service,)
                continue
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(stack.database_url("agent_svc").replace("hearth_agent", "postgres"))


def test_a_password_is_needed(stack: Stack) -> None:
    host, _, port = stack.address("postgres").partition(":")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=host, port=int(port), user="postgres", dbname="postgres", password="wrong")


def test_the_service_uses_what_its_owner_makes_and_cannot_pass_row_level_security(stack: Stack) -> None:
    with psycopg.connect(stack.database_url("tool_svc", owner=True)) as owner:
        owner.execute("CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY, word text)")
        owner.execute("CREATE EXTENSION pg_trgm")
        owner.execute("CREATE TABLE closed (word text)")
        owner.execute("ALTER TABLE closed ENABLE ROW LEVEL SECURITY")
        owner.execute("INSERT INTO closed VALUES ('another tenant''s')")
    with psycopg.connect(stack.database_url("tool_svc"), autocommit=True) as service:
        service.execute("INSERT INTO made (word) VALUES ('x')")
        assert service.execute("UPDATE made SET word = 'y' RETURNING id").fetchone() == (1,)
        assert service.execute("SELECT * FROM closed").fetchall() == []
        for statement in (
            "DROP TABLE made",
            "CREATE TABLE mine (id int)",
            "ALTER TABLE closed DISABLE ROW LEVEL SECURITY",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(statement)
        role = service.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        assert role.fetchone() == (False, False, False)


def test_commits_are_durable_and_only_loopback_listens(stack: Stack) -> None:
    with psycopg.connect(stack.superuser_url()) as connection:

        def shown(name: str) -> str:
            row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            assert row is not None
            return row[0]

        assert (shown("fsync"), shown("synchronous_commit"), shown("full_page_writes")) == ("on", "on", "on")
        assert (shown("listen_addresses"), shown("unix_socket_directories")) == ("127.0.0.1", "")
        version = int(shown("server_version_num"))
    assert version >= 180000
    for component in ("postgres", "nats"):
        port = int(stack.address(component).partition(":")[2])
        with socket.socket() as probe:
            # Another address of this machine than the one it should listen at.
            assert probe.connect_ex(("127.0.0.2", port)) != 0, component


def test_what_was_committed_survives_kill_9(stack: Stack) -> None:
    with psycopg.connect(stack.database_url("agent_svc", owner=True)) as owner:
        owner.execute("CREATE TABLE kept (word text)")
        owner.execute("INSERT INTO kept VALUES ('kept')")
    before = stack.restarts("postgres")
    killed = stack.kill("postgres", signal.SIGKILL)
    stack.wait_ready("postgres")
    assert stack.restarts("postgres") == before + 1
    assert stack.pid("postgres") != killed
    with psycopg.connect(stack.database_url("agent_svc")) as service:
        assert service.execute("SELECT word FROM kept").fetchall() == [("kept",)]


def test_the_server_is_not_root(stack: Stack) -> None:
    uids = Path(f"/proc/{stack.pid('postgres')}/status").read_text().split("Uid:")[1].split()[:4]
    assert "0" not in uids
    if os.geteuid() != 0:
        assert set(uids) == {str(os.geteuid())}


def test_passwords_are_in_no_log_and_no_command_line(stack: Stack) -> None:
    passwords = (stack.credentials / "passwords.json").read_text().split('"')[3::4]
    assert len(passwords) >= 10
    texts = [path.read_text(errors="replace") for path in stack.home.joinpath("logs").iterdir()]
    for pids in stack.processes().values():
        texts += [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
    for text in texts:
        assert not any(password in text for password in passwords)
