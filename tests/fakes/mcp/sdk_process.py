"""`sdk_server.py` as a process on a free port."""

import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

from deploy.local.ports import free_ports


@contextlib.contextmanager
def serving_sdk() -> Generator[str]:
    """The URL of the official SDK's server on streamable HTTP."""
    (port,) = free_ports(1)
    script = Path(__file__).with_name("sdk_server.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        _wait_for(url)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError):
            try:
                urllib.request.urlopen(url, timeout=1)
            except urllib.error.HTTPError:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing serves at {url}")
