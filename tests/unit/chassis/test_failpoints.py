"""Failpoints: a fault is done once, by whoever passes first, and never in production."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from chassis import failpoints
from chassis.failpoints import Failpoints, failpoint
from chassis.settings import ServiceSettings


def test_production_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="HEARTH_FAILPOINTS"):
        ServiceSettings(environment="production", failpoints=str(tmp_path))
    assert ServiceSettings(environment="development", failpoints=str(tmp_path)).failpoints == str(tmp_path)
    assert not ServiceSettings(environment="production").failpoints


async def test_without_a_folder_nothing_happens() -> None:
    failpoints.arm("")
    await failpoint("anywhere")


async def test_a_fault_is_taken_once(tmp_path: Path) -> None:
    faults = Failpoints(tmp_path)
    failpoints.plant(tmp_path, "here", "sleep 0.2")
    await faults.passing("elsewhere")
    assert failpoints.taken(tmp_path, "here") == []
    began = time.monotonic()
    await faults.passing("here")
    assert 0.15 < time.monotonic() - began < 1
    assert len(failpoints.taken(tmp_path, "here")) == 1
    await faults.passing("here")
    assert time.monotonic() - began < 1


async def test_an_unknown_action_is_logged_and_does_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failpoints.plant(tmp_path, "here", "dance")
    await Failpoints(tmp_path).passing("here")
    assert "does not know" in caplog.text


def test_a_process_dies_at_its_failpoint(tmp_path: Path) -> None:
    failpoints.plant(tmp_path, "here", "kill")
    program = (
        "import asyncio; from chassis import failpoints; from chassis.failpoints import failpoint; "
        f"failpoints.arm({str(tmp_path)!r}); asyncio.run(failpoint('here')); print('alive')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""
    assert len(failpoints.taken(tmp_path, "here")) == 1
