"""The image's health check: asks the process of this container, and ends with 0 when it serves."""

import os
import sys
import urllib.request

import grpc

_TIMEOUT_S = 2.0


def main() -> int:
    """Returns the exit code."""
    address = "127.0.0.1:" + os.environ["HEARTH_LISTEN"].rpartition(":")[2]
    if os.environ["SERVICE"] == "gateway":
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=_TIMEOUT_S) as answer:
            return 0 if answer.status == 200 else 1
    with grpc.insecure_channel(address) as channel:
        # Raw bytes: an empty HealthCheckRequest, and a response whose status is SERVING.
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        return 0 if check(b"", timeout=_TIMEOUT_S) == b"\x08\x01" else 1


if __name__ == "__main__":
    sys.exit(main())
