"""A tool's network from its settings to a server, through the whole service."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chassis.channels import open_channel
from hearth.tool.v1 import secret_service_pb2, tool_pb2
from tests.integration.tool_svc.service import Organization, ToolProcess

SOURCE = """
import os
import urllib.request


def fetch(url: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ.get("TOKEN", "")})
    return urllib.request.urlopen(request, timeout=5).read().decode()
"""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """Answers with the Authorization header that it got."""

    class Echo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.headers["Authorization"].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.server.seen = body  # pyright: ignore[reportAttributeAccessIssue]

    running = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def settings(port: int) -> tool_pb2.ToolSettings:
    network = tool_pb2.NetworkPolicy(allowed_hosts=[f"localhost:{port}"])
    return tool_pb2.ToolSettings(network=network, secrets=["TOKEN"])


async def test_a_tool_reaches_its_host_with_its_secret_and_tells_it_to_nobody(
    own_service: ToolProcess, server: ThreadingHTTPServer
) -> None:
    own_service.environment["HEARTH_EGRESS_ALLOW_NETWORKS"] = "127.0.0.1/32"
    own_service.start()
    port = server.server_address[1]
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, own_service.issuer)
        secret = secret_service_pb2.SetSecretRequest(name="TOKEN", value="canary-secret-value")
        await organization.admin.secrets.SetSecret(secret)
        tool = await organization.member.create(SOURCE, settings=settings(port))
        executed = await organization.member.execute(tool, url=f"http://localhost:{port}/")
        assert executed.value == "Bearer [secret TOKEN]"
        assert vars(server)["seen"] == b"Bearer canary-secret-value"
        refused = await organization.member.execute(tool, url=f"http://127.0.0.2:{port}/")
        assert refused.result.error.type == "URLError"
        assert "not among the hosts that this tool may reach" in refused.result.error.message
    assert "canary-secret-value" not in own_service.log.read_text()


async def test_a_local_address_is_refused_unless_the_operator_says_otherwise(
    organization: Organization, server: ThreadingHTTPServer
) -> None:
    port = server.server_address[1]
    secret = secret_service_pb2.SetSecretRequest(name="TOKEN", value="canary-secret-value")
    await organization.admin.secrets.SetSecret(secret)
    tool = await organization.member.create(SOURCE, settings=settings(port))
    executed = await organization.member.execute(tool, url=f"http://localhost:{port}/")
    assert executed.result.error.type == "URLError"
    assert "is not a public address" in executed.result.error.message
    assert "seen" not in vars(server)
