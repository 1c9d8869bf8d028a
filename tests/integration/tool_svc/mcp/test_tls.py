"""HTTPS: the connection goes to the address that was checked, the certificate must be the name's."""

import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.mcp.hostile_server import HostileServer
from tests.integration.tool_svc.mcp.conftest import http_server, silent
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.interfaces.mcp import McpFailed


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of `localhost`, and of no address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[HostileServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = HostileServer(context)
    await server.start()
    yield server
    await server.stop()


async def _call(connections: McpConnections, url: str) -> object:
    return (await connections.call(http_server(url), {}, "add", {"a": 1}, 10, silent)).value


async def test_the_name_is_verified_although_the_address_is_called(
    connections: McpConnections, secure: HostileServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tool_svc.adapters.mcp import http

    named, addressed = secure.url.replace("127.0.0.1", "localhost") + "/good", secure.url + "/good"
    with pytest.raises(McpFailed, match="cannot be connected to"):
        await _call(connections, named)
    monkeypatch.setattr(http, "_tls", lambda: ssl.create_default_context(cafile=str(certificate)))
    assert await _call(connections, named) == "good"
    assert {headers["Host"] for headers in secure.headers} == {named.split("/")[2]}
    with pytest.raises(McpFailed, match="cannot be connected to"):
        await _call(connections, addressed)
