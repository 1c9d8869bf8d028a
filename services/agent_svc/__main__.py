"""`python -m agent_svc` serves and works; `python -m agent_svc migrate` migrates the database and exits."""

from pathlib import Path

from agent_svc.factory import build
from agent_svc.settings import AgentSettings
from chassis.server import run

if __name__ == "__main__":
    run("agent_svc", AgentSettings, build, migrations=Path(__file__).parent / "migrations")
