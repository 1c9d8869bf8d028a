"""`python -m memory_svc` serves; `python -m memory_svc migrate` migrates the database and exits."""

from pathlib import Path

from chassis.server import run
from memory_svc.factory import build
from memory_svc.settings import MemorySettings

if __name__ == "__main__":
    run("memory_svc", MemorySettings, build, migrations=Path(__file__).parent / "migrations")
