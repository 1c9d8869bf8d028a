"""An MCP server on stdio that does what no server should: `python hostile_stdio.py FACE`. Needs nothing but Python."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

FACE = sys.argv[1]


def answer(number: Any, result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}) + "\n")
    sys.stdout.flush()


def misbehave() -> None:
    if FACE == "hang":
        time.sleep(3600)
    if FACE == "die":
        os._exit(3)
    if FACE == "dies_of_a_signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if FACE == "falls_silent":
        os.close(1)
        time.sleep(3600)
    if FACE == "garbage":
        while True:
            sys.stdout.write("this is no JSON\n" * 1000)
    if FACE == "endless_line":
        while True:
            sys.stdout.write("x" * 65_536)
    if FACE == "flood":
        line = json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}) + "\n"
        while True:
            sys.stdout.write(line * 100)
    if FACE == "fills_its_folder":
        for number in range(20):
            with open(f"file{number}", "wb") as file:
                file.write(b"x" * 10_000_000)
        time.sleep(3600)
    if FACE == "deaf":
        time.sleep(3600)
    if FACE == "noisy":
        sys.stderr.write("x" * 5_000_000)


def main() -> None:
    if FACE == "breeds":
        # Each of these has children too, in a group of its own if it can.
        for _ in range(3):
            subprocess.Popen(["/bin/sh", "-c", "trap '' HUP TERM; sleep 3600 & sleep 3600"])
    if FACE == "silent":
        time.sleep(3600)
    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message.get("method")
        if method == "initialize":
            info = {"name": "hostile", "version": "1"}
            answer(number, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            answer(number, {"tools": [{"name": "do", "inputSchema": {"type": "object"}}]})
        elif method == "tools/call":
            misbehave()
            answer(number, {"content": [{"type": "text", "text": str(os.getpid())}]})


main()
