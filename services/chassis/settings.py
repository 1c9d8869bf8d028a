"""Settings that every service has. Each comes from an environment variable `HEARTH_<NAME>`."""

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """What a service needs to run. Subclass it for more; an `alias` reads a variable without the prefix."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", extra="ignore", populate_by_name=True)

    environment: Literal["development", "production"] = "production"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    listen: str = "127.0.0.1:0"
    user_svc_address: str = ""
    tool_svc_address: str = ""
    memory_svc_address: str = ""
    agent_svc_address: str = ""

    database_url: SecretStr = SecretStr("")
    database_owner_url: SecretStr = SecretStr("")
    database_pool_size: int = Field(default=10, ge=1, le=200)

    nats_url: SecretStr = SecretStr("")

    master_key_file: Path | None = None
    service_key_file: Path | None = None

    jwt_issuer: str = "hearth"
    jwt_audience: str = "hearth"

    # Seconds that running calls get after SIGTERM.
    shutdown_grace_s: float = Field(default=10.0, ge=0)
    # Seconds after which a client's connection is renewed, so that load moves to new replicas; 0 = never.
    max_connection_age_s: float = Field(default=0.0, ge=0)

    # A folder of faults to be met on purpose, see chassis.failpoints.
    failpoints: str = ""

    @model_validator(mode="after")
    def _no_failpoints_in_production(self) -> Self:
        if self.failpoints and self.environment != "development":
            raise ValueError("HEARTH_FAILPOINTS is for HEARTH_ENVIRONMENT=development alone")
        return self

    def master_key(self) -> bytes:
        """The 32 bytes in HEARTH_MASTER_KEY_FILE. Raises ValueError naming the variable when they cannot be had."""
        if self.master_key_file is None:
            raise ValueError("HEARTH_MASTER_KEY_FILE is not set")
        try:
            key = base64.b64decode(self.master_key_file.read_text().strip(), validate=True)
        except (OSError, UnicodeDecodeError, binascii.Error):
            raise ValueError("HEARTH_MASTER_KEY_FILE cannot be read as base64") from None
        if len(key) != 32:
            raise ValueError("HEARTH_MASTER_KEY_FILE must hold 32 bytes")
        return key

    def derived_key(self, purpose: str) -> bytes:
        """32 bytes for one purpose, as in `page-tokens`, from which the master key cannot be found."""
        return hmac.digest(self.master_key(), purpose.encode(), hashlib.sha256)
