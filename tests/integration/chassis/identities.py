"""Tokens for tests of the server's edge: signed for real, by a key that only the test has."""

import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis import ids
from chassis.identity import Role

ORGANIZATION = ids.new()


class Issuer:
    """Signs tokens, and is the JwksSource for them."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        algorithm = jwt.get_algorithm_by_name("EdDSA")
        return {"k": jwt.PyJWK(json.loads(algorithm.to_jwk(self._key.public_key())), algorithm="EdDSA")}

    def token(self, role: Role, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": "hearth",
            "aud": "hearth",
            "sub": "svc:test" if role is Role.SERVICE else "user_1",
            "org": ids.encode("org", ORGANIZATION),
            "role": role.name,
            "key": "key_1",
            "iat": now,
            "exp": now + 900,
            "jti": "j",
        }
        return jwt.encode(claims | changes, self._key, "EdDSA", headers={"kid": "k"})

    def metadata(self, role: Role = Role.MEMBER) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token(role)}"),)
