"""user_svc's own environment variables, beside those of every service."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from chassis.settings import ServiceSettings
from user_svc.domain.limits import LIMITS

_DIGEST = re.compile(r"[0-9a-f]{64}")


class UserSettings(ServiceSettings):
    """HEARTH_BOOTSTRAP_ADMIN_KEY_FILE and HEARTH_SERVICE_KEYS_FILE, both read at start; HEARTH_SIGNING_KEY_PUBLICATION_S,
    HEARTH_OIDC_REFRESH_S, HEARTH_OIDC_ALLOW_PRIVATE, HEARTH_PURGE_GRACE_S and HEARTH_LIMIT_*.
    """

    bootstrap_admin_key_file: Path | None = None
    service_keys_file: Path | None = None
    # Seconds that a new signing key is published before it signs: a replica's look (5 s) and Envoy's cache (10 s), and some.
    signing_key_publication_s: float = Field(default=20.0, ge=10)

    # Seconds after which the keys of a trusted issuer are read again.
    oidc_refresh_s: float = Field(default=60.0, ge=1)
    # Whether trusted issuers may be at addresses inside this network, and without TLS.
    oidc_allow_private: bool = False

    # Seconds that the data of a deleted organization is kept; ten at least, whatever is set.
    purge_grace_s: float = Field(default=7 * 86_400.0, ge=0)

    # What organizations may use that have no number of their own; None: no limit (see hearth.user.v1.OrganizationLimits).
    limit_requests_per_second: int | None = Field(default=1_000, ge=1)
    limit_user_requests_per_second: int | None = Field(default=None, ge=1)
    limit_concurrent_runs: int | None = Field(default=1_000, ge=0)
    limit_user_concurrent_runs: int | None = Field(default=None, ge=0)
    limit_stored_passages: int | None = Field(default=None, ge=0)
    limit_tool_calls_per_minute: int | None = Field(default=None, ge=0)
    limit_max_tool_timeout_s: int | None = Field(default=None, ge=1, le=600)
    limit_max_tool_memory_mib: int | None = Field(default=None, ge=16, le=4096)
    limit_max_tool_output_kib: int | None = Field(default=None, ge=1, le=4096)
    limit_max_tool_packages: int | None = Field(default=None, ge=0, le=32)

    @field_validator(*(f"limit_{name}" for name in LIMITS), mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        """So that a default can be taken away by an environment variable."""
        return None if value == "" else value

    def default_limits(self) -> Mapping[str, int]:
        """By name; a name that is not there has no limit."""
        given = {name: getattr(self, f"limit_{name}") for name in LIMITS}
        return {name: value for name, value in given.items() if value is not None}

    def bootstrap_admin_key(self) -> str:
        """The first administrator's API key; empty when no file is named. Raises OSError when it cannot be read."""
        return self.bootstrap_admin_key_file.read_text().strip() if self.bootstrap_admin_key_file else ""

    def service_keys(self) -> Mapping[bytes, str]:
        """SHA-256 of each service's key → the service's name. Raises ValueError naming the variable."""
        if self.service_keys_file is None:
            return {}
        wrong = ValueError('HEARTH_SERVICE_KEYS_FILE must hold {"<service>": "<sha256 of its key, hex>"}')
        try:
            content = json.loads(self.service_keys_file.read_text())
        except json.JSONDecodeError:
            raise wrong from None
        if not isinstance(content, dict) or not all(_DIGEST.fullmatch(str(value)) for value in content.values()):
            raise wrong
        return {bytes.fromhex(digest): str(name) for name, digest in content.items()}
