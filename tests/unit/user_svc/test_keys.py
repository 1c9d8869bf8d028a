"""Signing keys: sealed, opened only under their master key, and what they sign is what others verify."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import jwt
import pytest

from chassis import ids
from chassis.auth import TokenVerifier
from chassis.identity import Role
from user_svc.adapters.keys import Ed25519Forge, JwtSigner
from user_svc.adapters.local_jwks import LocalJwks
from user_svc.domain.token import LIFETIME, Claims, SigningKey

_SEAL = b"s" * 32


class Keys:
    """The keys at hand: those given."""

    def __init__(self, *keys: SigningKey) -> None:
        self._keys = keys

    async def signing(self) -> SigningKey:
        return self._keys[0]

    async def usable(self) -> tuple[SigningKey, ...]:
        return self._keys


def _claims() -> Claims:
    now = datetime.now(UTC)
    return Claims("user_1", ids.new(), Role.MEMBER, "key_1", "", now, now + LIFETIME)


async def test_what_is_signed_is_verified() -> None:
    key, other = Ed25519Forge(_SEAL).make(), Ed25519Forge(_SEAL).make()
    claims = _claims()
    token = JwtSigner(_SEAL, "hearth", "hearth").sign(claims, key)
    identity = await TokenVerifier(LocalJwks(Keys(other, key))).verify(token)
    assert (identity.subject, identity.organization_id, identity.role) == (
        "user_1",
        claims.organization_id,
        Role.MEMBER,
    )


def test_two_tokens_are_never_the_same() -> None:
    key, signer, claims = Ed25519Forge(_SEAL).make(), JwtSigner(_SEAL, "hearth", "hearth"), _claims()
    assert signer.sign(claims, key) != signer.sign(claims, key)


def test_another_master_key_opens_nothing() -> None:
    key = Ed25519Forge(_SEAL).make()
    with pytest.raises(ValueError, match="another master key"):
        JwtSigner(b"x" * 32, "hearth", "hearth").sign(_claims(), key)
    with pytest.raises(ValueError, match="another master key"):
        Ed25519Forge(b"x" * 32).check(key)


def test_a_sealed_key_is_bound_to_its_id_and_cannot_be_swapped() -> None:
    key, other = Ed25519Forge(_SEAL).make(), Ed25519Forge(_SEAL).make()
    with pytest.raises(ValueError, match="another master key"):
        Ed25519Forge(_SEAL).check(replace(key, sealed_private_key=other.sealed_private_key))
    flipped = key.sealed_private_key[:-1] + bytes([key.sealed_private_key[-1] ^ 1])
    with pytest.raises(ValueError, match="another master key"):
        Ed25519Forge(_SEAL).check(replace(key, sealed_private_key=flipped))


def test_the_jwk_is_public_and_complete() -> None:
    key = Ed25519Forge(_SEAL).make()
    assert set(key.jwk()) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert jwt.PyJWK(key.jwk()).key_id == key.key_id
    assert "d" not in json.loads(json.dumps(key.jwk()))
    assert "sealed" not in repr(key)
