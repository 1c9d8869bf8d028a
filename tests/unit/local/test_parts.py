"""What the runner decides without a process: credentials, ports, which components and what each is told."""

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import local_model
from deploy.local.components import Catalogue
from deploy.local.credentials import Credentials
from deploy.local.home import Home, write_private
from deploy.local.ports import bindable, free_ports
from deploy.local.processes import alive, started
from deploy.local.supervisor import StartError

FIVE = ("user_svc", "tool_svc", "memory_svc", "agent_svc", "gateway")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def catalogue(home: Home, environment: dict[str, str]) -> Catalogue:
    credentials = Credentials(home.credentials)
    credentials.ensure()
    return Catalogue(home, credentials, environment, "127.0.0.1:8080")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_credentials_are_private_stable_and_well_formed(home: Home) -> None:
    credentials = Credentials(home.credentials)
    credentials.ensure()
    credentials.password("postgres")
    files = sorted(home.credentials.iterdir())
    before = {path.name: path.read_text() for path in files}
    assert {mode(path) for path in files} == {0o600}
    assert mode(home.credentials) == 0o700
    assert re.fullmatch(r"hk_[A-Za-z0-9_-]{43}\n", before["admin.key"])
    assert len(base64.b64decode(before["master.key"], validate=False)) == 32
    hashes = json.loads(before["service-keys.json"])
    assert hashes["agent_svc"] == hashlib.sha256(before["agent_svc.key"].strip().encode()).hexdigest()
    assert set(hashes) == {"tool_svc", "memory_svc", "agent_svc", "gateway"}

    credentials.ensure()
    assert {path.name: path.read_text() for path in sorted(home.credentials.iterdir())} == before
    assert credentials.password("postgres") != credentials.password("user_svc")


def test_a_private_file_is_replaced_whole_and_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old and readable by all")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_free_ports_are_distinct_free_and_not_for_outgoing_connections() -> None:
    ports = free_ports(20)
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 20
    assert all(port < lowest or lowest < 16_000 for port in ports)
    with socket.socket() as server:
        server.bind(("127.0.0.1", ports[0]))
        server.listen()
        assert not bindable("127.0.0.1", ports[0])
    assert bindable("127.0.0.1", ports[1])


def test_only_one_runner_has_a_home(home: Home) -> None:
    first = home.lock()
    assert first is not None
    assert home.lock() is None
    os.close(first)
    second = home.lock()
    assert second is not None
    os.close(second)


def test_a_process_is_known_by_pid_and_start_time() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    at = started(child.pid)
    assert at is not None
    assert alive(child.pid, at)
    assert not alive(child.pid, at + 1), "another process with a reused pid is not ours"
    child.kill()
    child.communicate()
    assert not alive(child.pid, at)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, True),
        ({"HEARTH_LOCAL_MODEL": "0"}, False),
        ({"OPENAI_API_KEY": "k"}, False),
        ({"ANTHROPIC_API_KEY": "k"}, False),
        ({"HEARTH_OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, False),
        ({"OPENAI_API_KEY": ""}, True),
        ({"OPENAI_API_KEY": "k", "HEARTH_LOCAL_MODEL": "1"}, True),
    ],
)
def test_the_local_model_runs_when_nothing_else_answers(home: Home, environment: dict[str, str], wanted: bool) -> None:
    components = {one.name: one for one in catalogue(home, environment).components()}
    assert local_model.wanted(environment) is wanted
    assert ("local_model" in components) is wanted
    url = components["agent_svc"].env["HEARTH_LOCAL_MODEL_URL"]
    assert url == (f"http://{components['local_model'].address}/v1" if wanted else "")


def test_each_process_is_told_what_it_needs_and_no_more(home: Home) -> None:
    shell = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "OPENAI_API_KEY": "provider-secret",
        "AWS_SECRET_ACCESS_KEY": "unrelated-secret",
        "HEARTH_LOG_LEVEL": "DEBUG",
    }
    components = {one.name: one for one in catalogue(home, shell).components()}
    for name, component in components.items():
        text = json.dumps(dict(component.env))
        assert "unrelated-secret" not in text
        assert ("provider-secret" in text) == (name == "agent_svc")
        assert "_owner" not in text, "only a migration sees the owner's password"
    for name in FIVE:
        env = components[name].env
        assert env["HEARTH_LISTEN"] == components[name].address
        assert env["HEARTH_LOG_LEVEL"] == "DEBUG"
        for service in FIVE[:4]:
            assert env[f"HEARTH_{service.upper()}_ADDRESS"] == components[service].address
        assert ("HEARTH_DATABASE_URL" in env) == (name != "gateway")
        assert ("HEARTH_SERVICE_KEY_FILE" in env) == (name in ("tool_svc", "memory_svc", "agent_svc", "gateway"))
        assert ("HEARTH_NATS_URL" in env) == (name != "gateway")
        assert ("HEARTH_BOOTSTRAP_ADMIN_KEY_FILE" in env) == (name == "user_svc")
        assert ("HEARTH_VECTOR_PATH" in env) == (name == "memory_svc")
        assert ("HEARTH_SANDBOX_DIR" in env) == (name == "tool_svc")
    assert "/hearth_tool" in components["tool_svc"].env["HEARTH_DATABASE_URL"]


def test_a_part_of_the_stack_brings_what_it_needs(home: Home) -> None:
    names = [one.name for one in catalogue(home, {}).components(["agent_svc"])]
    assert names == ["postgres", "nats", "agent_svc"]
    with pytest.raises(StartError, match=r"no component 'agnet_svc'; there are postgres, nats"):
        catalogue(home, {}).components(["agnet_svc"])


def test_what_is_called_is_stopped_after_who_calls_it(home: Home) -> None:
    tier = {one.name: one.tier for one in catalogue(home, {}).components()}
    order = sorted(tier, key=lambda name: -tier[name])
    assert order[:3] == ["envoy", "gateway", "agent_svc"]
    assert set(order[-3:]) == {"postgres", "nats", "local_model"}
    assert order[-4] == "user_svc"
