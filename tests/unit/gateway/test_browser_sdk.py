"""Runs the browser SDK's own tests under node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_hearth_js() -> None:
    done = subprocess.run(
        ["node", "--test", str(Path(__file__).with_name("hearth_js.test.mjs"))],
        env=os.environ | {"HEARTH_JS": str(ROOT / "clients" / "web" / "hearth.js")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout
