"""agent_svc's own environment variables, beside those of every service."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import ServiceSettings


class AgentSettings(ServiceSettings):
    """HEARTH_WORKER_CONCURRENCY and its like. Models are configured by the variables that ModelSettings reads."""

    # Turns that this process works on at the same time; 0 serves the API and leaves the work to other replicas.
    worker_concurrency: int = Field(default=64, ge=0, le=10_000)
    # Connections of the run path, beside the pool of the catalogue.
    log_pool_size: int = Field(default=8, ge=1, le=200)
    # Seconds a run may take, from when a worker takes it.
    run_timeout_s: float = Field(default=3600.0, gt=0)
    # Seconds that a turn waits for memory, tools or identity to come back before its run fails.
    patience_s: float = Field(default=15.0, ge=0)
