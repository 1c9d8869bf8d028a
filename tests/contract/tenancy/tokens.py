"""Tokens that must be refused, made by somebody who has even the stack's signing key."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from deploy.local import Stack

_NONCE_BYTES = 12


class Forger:
    """Makes bad tokens out of a good one."""

    def __init__(self, stack: Stack) -> None:
        master = base64.b64decode((stack.credentials / "master.key").read_text())
        seal = AESGCM(hmac.digest(master, b"signing-keys", hashlib.sha256))
        with psycopg.connect(stack.superuser_url("hearth_user")) as connection:
            row = connection.execute("SELECT key_id, sealed_private_key FROM signing_keys").fetchone()
        assert row is not None
        self._key_id, sealed = str(row[0]), bytes(row[1])
        private = seal.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._key_id.encode())
        self._key = Ed25519PrivateKey.from_private_bytes(private)

    def sign(self, token: str, **changes: object) -> str:
        """The claims of a token, changed, under the stack's own key."""
        claims = _claims(token) | changes
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._key_id})

    def bad(self, token: str) -> Mapping[str, str]:
        """One token of each bad kind, by what is wrong with it; each for the organization and role of a good one."""
        claims = _claims(token)
        header, payload, signature = token.split(".")
        stranger = Ed25519PrivateKey.generate()
        as_admin = _part(claims | {"role": "PLATFORM_ADMIN"})
        return {
            "expired": self.sign(token, iat=claims["iat"] - 3600, exp=claims["iat"] - 2700),
            "another issuer": self.sign(token, iss="elsewhere"),
            "another audience": self.sign(token, aud="elsewhere"),
            "a tampered claim": f"{header}.{as_admin}.{signature}",
            "alg none": f"{_part({'alg': 'none', 'kid': self._key_id})}.{payload}.",
            "a stranger's key": jwt.encode(claims, stranger, algorithm="EdDSA", headers={"kid": self._key_id}),
            "the public key as a secret": self._confused(claims),
            "not a token": "nonsense",
        }

    def _confused(self, claims: Mapping[str, Any]) -> str:
        """HS256 with what everybody can read in the JWKS."""
        signed = f"{_part({'alg': 'HS256', 'kid': self._key_id})}.{_part(claims)}"
        secret = self._key.public_key().public_bytes_raw()
        return f"{signed}.{_text(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def _part(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(dict(value)).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
