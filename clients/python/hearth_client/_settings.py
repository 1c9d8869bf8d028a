"""Where a client finds its Hearth: given values, the environment, or the `.hearth/env` that `make up` writes."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Address and API key; empty strings where nothing was found. `source` says where from, for people."""

    url: str
    api_key: str
    source: str = ""


def discover(
    url: str = "",
    api_key: str = "",
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> Settings:
    """What is given wins over HEARTH_URL and HEARTH_API_KEY, these over the file. The file's key goes to the file's address only."""
    environment = os.environ if environ is None else environ
    url = url or environment.get("HEARTH_URL", "")
    api_key = api_key or environment.get("HEARTH_API_KEY", "")
    if url and api_key:
        return Settings(url, api_key, "options or environment")
    path = _find(environment, start or Path.cwd())
    if path is None:
        return Settings(url, api_key)
    found = read_env_file(path)
    file_url = found.get("HEARTH_URL", "")
    if not url or url.rstrip("/") == file_url.rstrip("/"):
        api_key = api_key or found.get("HEARTH_API_KEY", "")
    return Settings(url or file_url, api_key, str(path))


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments of a file that a shell could source; lines of another kind are passed over."""
    values: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        for word in words[1:] if words[:1] == ["export"] else words[:1]:
            name, separator, value = word.partition("=")
            if separator and name.isidentifier():
                values[name] = value
    return values


def _find(environment: Mapping[str, str], start: Path) -> Path | None:
    home = environment.get("HEARTH_HOME", "")
    candidates = [Path(home) / "env"] if home else [folder / ".hearth" / "env" for folder in (start, *start.parents)]
    return next((path for path in candidates if _is_ours(path)), None)


def _is_ours(path: Path) -> bool:
    """Whether it is there and nobody else wrote it: a file that a stranger left above us must not choose where keys are sent."""
    try:
        return path.is_file() and os.access(path, os.R_OK) and path.stat().st_uid in (os.getuid(), 0)
    except OSError:
        return False
