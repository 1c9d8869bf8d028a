"""The catalogue: every component of the local stack, with its ports and environment. A new one is one more entry here."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deploy.local import envoy, local_model, nats
from deploy.local.component import Component, grpc_serving, http_ok
from deploy.local.credentials import SERVICES_WITH_KEYS, Credentials
from deploy.local.home import PROJECT, Home, write_private
from deploy.local.ports import free_ports
from deploy.local.postgres import DATABASES, Postgres
from deploy.local.supervisor import StartError

SERVICES = ("user_svc", "tool_svc", "memory_svc", "agent_svc")
# Variables of the user's shell that every process gets; HEARTH_* reach Hearth's own processes besides.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONPATH")
# Only agent_svc speaks to model providers.
_AGENT_ONLY = (
    *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "HEARTH_DEFAULT_MODEL"),
    *("HEARTH_OPENAI_BASE_URL", "HEARTH_ANTHROPIC_BASE_URL", "HEARTH_GOOGLE_BASE_URL"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
# Stopped from the highest down: first the door, then who calls, then who is called.
_TIERS = {"user_svc": 1, "tool_svc": 2, "memory_svc": 2, "agent_svc": 3, "gateway": 4}


class Catalogue:
    """Lays out one start of the stack: allocates ports and describes the wanted components."""

    def __init__(self, home: Home, credentials: Credentials, environment: Mapping[str, str], public: str) -> None:
        self._home = home
        self._credentials = credentials
        self._environment = environment
        self._public = public
        # Further replicas of agent_svc: the door leads to the first; the others share its work.
        more = range(2, int(environment.get("HEARTH_AGENT_REPLICAS") or "1") + 1)
        self._replicas = [f"agent_svc_{number}" for number in more]
        names = ("postgres", "nats", "nats_monitor", "local_model", *SERVICES, "gateway", "envoy_admin", "envoy_keys")
        names += tuple(self._replicas)
        ports = free_ports(len(names))
        self._addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
        self._postgres = Postgres(home, credentials, self._port("postgres"))
        self._with_model = local_model.wanted(environment)

    def components(self, only: Sequence[str] = ()) -> list[Component]:
        """All components, or `only` those named and what they need. Raises StartError for a name that there is not."""
        catalogue: dict[str, Callable[[], Component]] = {
            "postgres": self._postgres.component,
            "nats": self._nats,
            "local_model": self._local_model,
            **{service: lambda service=service: self._service(service) for service in SERVICES},
            **{replica: lambda replica=replica: self._replica(replica) for replica in self._replicas},
            "gateway": self._gateway,
            "envoy": lambda: self._envoy(wanted),
        }
        unknown = sorted(set(only) - set(catalogue))
        if unknown:
            raise StartError(f"there is no component {unknown[0]!r}; there are {', '.join(catalogue)}")
        wanted = set(only or catalogue) - (set() if self._with_model else {"local_model"})
        if "agent_svc" in wanted:
            wanted |= set(self._replicas)
        if wanted & set(SERVICES):
            wanted.add("postgres")
            wanted.add("nats")
        return [make() for name, make in catalogue.items() if name in wanted]

    def _nats(self) -> Component:
        return nats.component(self._home, self._credentials, self._port("nats"), self._port("nats_monitor"))

    def _local_model(self) -> Component:
        return local_model.component(self._port("local_model"), self._passed_on())

    def _gateway(self) -> Component:
        address = self._addresses["gateway"]
        return Component(
            name="gateway",
            command=(sys.executable, "-m", "gateway"),
            address=address,
            env=self._hearth("gateway"),
            ready=http_ok(address, "/healthz"),
            tier=_TIERS["gateway"],
        )

    def _envoy(self, wanted: set[str]) -> Component:
        upstreams = {name: self._addresses[name] for name in envoy.UPSTREAMS if name in wanted}
        admin, keys = self._addresses["envoy_admin"], self._addresses["envoy_keys"]
        return envoy.component(self._home, self._public, admin, keys, upstreams, self._environment)

    def _service(self, service: str) -> Component:
        address = self._addresses[service]
        return Component(
            name=service,
            command=(sys.executable, "-m", service),
            address=address,
            env=self._hearth(service),
            needs=("postgres", "nats"),
            prepare=self._migration(service),
            ready=grpc_serving(address),
            tier=_TIERS[service],
        )

    def _replica(self, name: str) -> Component:
        address = self._addresses[name]
        return replace(
            self._service("agent_svc"),
            name=name,
            address=address,
            env=self._hearth("agent_svc") | {"HEARTH_LISTEN": address},
            needs=("agent_svc",),
            prepare=None,
            ready=grpc_serving(address),
        )

    def _hearth(self, name: str) -> dict[str, str]:
        """The environment of one of Hearth's own processes."""
        environment = self._passed_on()
        given = {key: value for key, value in self._environment.items() if key.startswith("HEARTH_")}
        environment |= {key: value for key, value in given.items() if key not in _AGENT_ONLY}
        environment.setdefault("HEARTH_ENVIRONMENT", "development")
        environment["HEARTH_LISTEN"] = self._addresses[name]
        for service in SERVICES:
            environment[f"HEARTH_{service.upper()}_ADDRESS"] = self._addresses[service]
        if name in DATABASES:
            environment["HEARTH_DATABASE_URL"] = self._postgres.url(name, DATABASES[name])
            environment["HEARTH_MASTER_KEY_FILE"] = str(self._credentials.master_key)
            environment["HEARTH_NATS_URL"] = nats.url(self._credentials, name, self._addresses["nats"])
        if name in SERVICES_WITH_KEYS:
            environment["HEARTH_SERVICE_KEY_FILE"] = str(self._credentials.service_key(name))
        return environment | self._special(name)

    def _special(self, name: str) -> dict[str, str]:
        """What only this process gets."""
        if name == "user_svc":
            return {
                "HEARTH_BOOTSTRAP_ADMIN_KEY_FILE": str(self._credentials.admin_key),
                "HEARTH_SERVICE_KEYS_FILE": str(self._credentials.service_hashes),
            }
        if name == "tool_svc":
            return {"HEARTH_SANDBOX_DIR": str(self._folder("sandbox"))}
        if name == "memory_svc":
            return {"HEARTH_VECTOR_PATH": str(self._folder("vectors"))}
        if name == "agent_svc":
            model = f"http://{self._addresses['local_model']}/v1" if self._with_model else ""
            return {
                **{key: self._environment[key] for key in _AGENT_ONLY if self._environment.get(key)},
                "HEARTH_LOCAL_MODEL_URL": model,
            }
        return {}

    def _passed_on(self) -> dict[str, str]:
        passed = {key: self._environment[key] for key in _PASSED_ON if key in self._environment}
        # Fewer heaps: an idle service keeps tens of megabytes less. And gRPC's own notes would break the lines of JSON.
        defaults = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "ERROR"}
        return {**defaults, **passed}

    def _migration(self, service: str) -> Callable[[], Awaitable[None]]:
        return lambda: self._migrate(service)

    async def _migrate(self, service: str) -> None:
        """Runs the service's migrations, unless the same ones have run on this cluster before."""
        record = self._home.state / "migrated.json"
        now = _fingerprint(PROJECT / "services" / service / "migrations")
        done: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
        if done.get(service) == now:
            return
        environment = self._hearth(service)
        environment["HEARTH_DATABASE_OWNER_URL"] = self._postgres.url(f"{service}_owner", DATABASES[service])
        with (self._home.logs / f"{service}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", service, "migrate"), env=environment, cwd="/", stdout=log, stderr=log
            )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        if code != 0:
            raise StartError(f"cannot migrate its database (exit code {code})")
        done = json.loads(record.read_text()) if record.exists() else {}
        write_private(record, json.dumps({**done, service: now}, indent=1))

    def _folder(self, name: str) -> Path:
        folder = self._home.state / name
        folder.mkdir(mode=0o711, exist_ok=True)
        return folder

    def _port(self, name: str) -> int:
        return int(self._addresses[name].rpartition(":")[2])


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
