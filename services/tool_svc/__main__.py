"""`python -m tool_svc` serves; `python -m tool_svc migrate` migrates the database and exits."""

from pathlib import Path

from chassis.server import run
from tool_svc.factory import build
from tool_svc.settings import ToolServiceSettings

if __name__ == "__main__":
    run("tool_svc", ToolServiceSettings, build, migrations=Path(__file__).parent / "migrations")
