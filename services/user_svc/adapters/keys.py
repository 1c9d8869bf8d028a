"""Ed25519 key pairs, sealed with AES-256-GCM, and the JWTs that they sign."""

import os
from datetime import UTC, datetime

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis import ids
from user_svc.domain.token import Claims, SigningKey, thumbprint

_NONCE_BYTES = 12


class Ed25519Forge:
    """A KeyForge. `sealing_key` is 32 bytes derived from the master key."""

    def __init__(self, sealing_key: bytes) -> None:
        self._seal = AESGCM(sealing_key)

    def make(self, activate_time: datetime | None = None) -> SigningKey:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        key_id = thumbprint(public)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._seal.encrypt(nonce, private.private_bytes_raw(), key_id.encode())
        now = datetime.now(UTC)
        return SigningKey(key_id, public, sealed, now, None, activate_time or now)

    def check(self, key: SigningKey) -> None:
        """Raises ValueError when the key was sealed under another master key."""
        _open(self._seal, key)


class JwtSigner:
    """A TokenSigner. Opened private keys stay in this process's memory."""

    def __init__(self, sealing_key: bytes, issuer: str, audience: str) -> None:
        self._seal = AESGCM(sealing_key)
        self._issuer = issuer
        self._audience = audience
        self._opened: dict[str, Ed25519PrivateKey] = {}

    def sign(self, claims: Claims, key: SigningKey) -> str:
        """A JWT with the claims of this Hearth. Raises ValueError when the key was sealed under another master key."""
        organization = "" if claims.organization_id is None else ids.encode("org", claims.organization_id)
        payload = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": claims.subject,
            "org": organization,
            "role": claims.role.name,
            "key": claims.key_id,
            "iat": int(claims.issue_time.timestamp()),
            "exp": int(claims.expire_time.timestamp()),
            "jti": ids.new().hex,
        }
        if claims.on_behalf_of:
            payload["obo"] = claims.on_behalf_of
        if claims.scopes is not None:
            payload["scope"] = " ".join(sorted(claims.scopes))
        return jwt.encode(payload, self._private(key), algorithm="EdDSA", headers={"kid": key.key_id})

    def _private(self, key: SigningKey) -> Ed25519PrivateKey:
        private = self._opened.get(key.key_id)
        if private is None:
            private = self._opened[key.key_id] = _open(self._seal, key)
        return private


def _open(seal: AESGCM, key: SigningKey) -> Ed25519PrivateKey:
    nonce, sealed = key.sealed_private_key[:_NONCE_BYTES], key.sealed_private_key[_NONCE_BYTES:]
    try:
        return Ed25519PrivateKey.from_private_bytes(seal.decrypt(nonce, sealed, key.key_id.encode()))
    except InvalidTag:
        raise ValueError("the signing key was sealed under another master key") from None
