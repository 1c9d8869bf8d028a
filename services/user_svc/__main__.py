"""`python -m user_svc` serves; `python -m user_svc migrate` migrates the database and exits."""

from pathlib import Path

from chassis.server import run
from user_svc.factory import build
from user_svc.settings import UserSettings

if __name__ == "__main__":
    run("user_svc", UserSettings, build, migrations=Path(__file__).parent / "migrations")
