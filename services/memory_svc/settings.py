"""memory_svc's own environment variables, beside those of every service."""

from pathlib import Path

from pydantic import Field, SecretStr

from chassis.settings import ServiceSettings


class MemorySettings(ServiceSettings):
    """HEARTH_VECTOR_PATH (required): the folder of the vector index. It may be deleted: it is filled again from Postgres.

    HEARTH_QDRANT_URL: a Qdrant server's gRPC address (http://host:6334) instead of the folder; HEARTH_QDRANT_API_KEY.
    HEARTH_EMBEDDING_URL: an OpenAI-compatible API (its base, as https://api.openai.com/v1) instead of the model in this
    process; then HEARTH_EMBEDDING_MODEL and HEARTH_EMBEDDING_DIMENSIONS are required, HEARTH_EMBEDDING_API_KEY is not.
    HEARTH_EMBEDDING_CACHE_SIZE: how many vectors are kept in memory, 1.5 kB each.
    """

    vector_path: Path | None = None
    qdrant_url: str = ""
    qdrant_api_key: SecretStr = SecretStr("")
    embedding_url: str = ""
    embedding_model: str = Field(default="", pattern=r"^[A-Za-z0-9._:/-]{0,128}$")
    embedding_dimensions: int = Field(default=0, ge=0, le=65_536)
    embedding_api_key: SecretStr = SecretStr("")
    embedding_cache_size: int = Field(default=8192, ge=16, le=1_000_000)

    def vector_folder(self) -> Path:
        """Raises ValueError naming the variable."""
        if self.vector_path is None:
            raise ValueError("HEARTH_VECTOR_PATH is not set")
        return self.vector_path

    def endpoint(self) -> tuple[str, int]:
        """Model and dimensions of the embedding endpoint. Raises ValueError naming the variable that is missing."""
        if not self.embedding_model:
            raise ValueError("HEARTH_EMBEDDING_URL is set: HEARTH_EMBEDDING_MODEL must be, too")
        if not self.embedding_dimensions:
            raise ValueError("HEARTH_EMBEDDING_URL is set: HEARTH_EMBEDDING_DIMENSIONS must be, too")
        return self.embedding_model, self.embedding_dimensions
