"""Keys and passwords of one stack: made at the first start, kept in files that only their owner reads."""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.home import write_private

# Processes that have an identity of their own before user_svc.
SERVICES_WITH_KEYS = ("tool_svc", "memory_svc", "agent_svc", "gateway")


@dataclass(frozen=True)
class Credentials:
    """The folder of credentials. `ensure()` makes what is missing and keeps the rest."""

    folder: Path

    @property
    def admin_key(self) -> Path:
        """The API key of the first administrator."""
        return self.folder / "admin.key"

    @property
    def master_key(self) -> Path:
        """32 bytes, base64: what encrypts secrets at rest. Lost with it: every stored secret and signing key."""
        return self.folder / "master.key"

    @property
    def service_hashes(self) -> Path:
        """JSON, service → SHA-256 of its key in hex: what user_svc knows of them."""
        return self.folder / "service-keys.json"

    @property
    def passwords_file(self) -> Path:
        """JSON, role of PostgreSQL or user of NATS → password."""
        return self.folder / "passwords.json"

    def service_key(self, service: str) -> Path:
        """The key by which a service proves who it is."""
        return self.folder / f"{service}.key"

    def ensure(self) -> None:
        """Writes each file that does not exist yet."""
        _once(self.admin_key, _api_key)
        _once(self.master_key, lambda: base64.b64encode(secrets.token_bytes(32)).decode())
        for service in SERVICES_WITH_KEYS:
            _once(self.service_key(service), _api_key)
        hashes = {
            service: hashlib.sha256(self.service_key(service).read_text().strip().encode()).hexdigest()
            for service in SERVICES_WITH_KEYS
        }
        write_private(self.service_hashes, json.dumps(hashes, indent=1))

    def password(self, name: str) -> str:
        """The password of a role or user; made when it is first asked for."""
        known: dict[str, str] = json.loads(self.passwords_file.read_text()) if self.passwords_file.exists() else {}
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            write_private(self.passwords_file, json.dumps(known, indent=1))
        return known[name]


def _api_key() -> str:
    return "hk_" + secrets.token_urlsafe(32)


def _once(path: Path, make: Callable[[], str]) -> None:
    if not path.exists():
        write_private(path, make() + "\n")
