"""memory_svc's own environment variables, beside those of every service."""

from pathlib import Path

from pydantic import Field

from chassis.settings import ServiceSettings


class MemorySettings(ServiceSettings):
    """HEARTH_VECTOR_PATH (required): the folder of the vector index. It may be deleted: it is filled again from Postgres.

    HEARTH_EMBEDDING_CACHE_SIZE: how many vectors are kept in memory, 1.5 kB each.
    """

    vector_path: Path | None = None
    embedding_cache_size: int = Field(default=8192, ge=16, le=1_000_000)

    def vector_folder(self) -> Path:
        """Raises ValueError naming the variable."""
        if self.vector_path is None:
            raise ValueError("HEARTH_VECTOR_PATH is not set")
        return self.vector_path
