"""What tools talk to in tests: servers on loopback addresses, one of which stands for the Internet, and names for them."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Generator, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tool_svc.domain.egress import Address

# The operator allows the first as if it were public; the second is what it is: a private address.
PUBLIC = "127.0.0.1"
PRIVATE = "127.0.0.2"


class WebServer:
    """Answers GET /PATH with "PATH", /redirect?URL with a redirect there, /bytes?N with N bytes; counts what it was asked."""

    def __init__(self, address: str, certificate: Path | None = None) -> None:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append(self.path)
                path, _, query = self.path.partition("?")
                body = b"x" * int(query) if path == "/bytes" else path.encode()
                self.send_response(302 if path == "/redirect" else 200)
                if path == "/redirect":
                    self.send_header("Location", query)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.asked = asked
        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(address: str, certificate: Path | None = None) -> Generator[WebServer]:
    server = WebServer(address, certificate)
    try:
        yield server
    finally:
        server.close()


class Names:
    """A resolver whose answers are given beforehand: per name a list of answers, the last of which stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers: dict[str, Iterator[Sequence[str]]] = {}
        self._last: dict[str, Sequence[str]] = {}
        for name, said in answers.items():
            self._answers[name.replace("_", ".")] = iter(said)

    async def __call__(self, name: str) -> Sequence[Address]:
        if name not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self._last[name] = next(self._answers[name], self._last.get(name, ()))
        return [ipaddress.ip_address(text) for text in self._last[name]]


def certificate(folder: Path, name: str) -> Path:
    """A file with a key and a certificate of this name, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file
