"""Reading from issuers over real sockets: who cannot prove to be who it is, is not believed."""

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from user_svc.adapters.oidc.fetch import FetchError, JsonFetcher


def _self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "issuer.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return _self_signed(tmp_path)


@pytest.fixture
async def address(certificate: Path) -> AsyncIterator[str]:
    """An https server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    app = web.Application()

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"cookies": len(request.cookies)}, headers={"set-cookie": "a=b"})

    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_a_certificate_that_nobody_vouches_for_is_refused(address: str) -> None:
    fetcher = JsonFetcher(allow_private=True)
    with pytest.raises(FetchError, match="does not answer"):
        await fetcher.read(address)
    await fetcher.close()


async def test_one_that_the_operator_vouches_for_is_taken(
    address: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetcher = JsonFetcher(allow_private=True)
    for _ in range(2):
        # Nothing that it said before is told it again.
        assert await fetcher.read(address) == {"cookies": 0}
    await fetcher.close()


async def test_an_address_inside_is_not_connected_to(address: str) -> None:
    fetcher = JsonFetcher(allow_private=False)
    for host in ("127.0.0.1", "localhost.", "127.1"):
        with pytest.raises(FetchError):
            await fetcher.read(address.replace("127.0.0.1", host))
    await fetcher.close()
