"""The keys in an issuer's JWK set that tokens may be signed with, and nothing else of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

# Only asymmetric ones: with a secret, whoever can verify could sign.
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
ALGORITHMS = frozenset((*_RSA, *_CURVES.values(), "EdDSA"))

_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_MOST_KEYS = 32
_MOST_TEXT = 2048
# Smaller ones are weak, larger ones cost every verifier too much.
_RSA_BITS = range(2048, 8192 + 1)


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One public key. `algorithms` is what it may verify; `members` its JWK, public members only."""

    key_id: str | None
    algorithms: frozenset[str]
    public: PublicKey
    members: Mapping[str, str]


def usable_keys(document: Mapping[str, Any]) -> list[IssuerKey]:
    """Those of a JWK set, at most 32; what is no such key is left out, as RFC 7517 asks."""
    keys = document.get("keys")
    if not isinstance(keys, list):
        return []
    found = [_key(one) for one in keys[: 4 * _MOST_KEYS] if isinstance(one, Mapping)]
    return [one for one in found if one is not None][:_MOST_KEYS]


def nobodys_key() -> dict[str, str]:
    """A key of which the private half is gone: a set with it is never empty, which Envoy would not take."""
    public = Ed25519PrivateKey.generate().public_key()
    members = jwt.get_algorithm_by_name("EdDSA").to_jwk(public, as_dict=True)
    return {name: str(members[name]) for name in ("kty", "crv", "x")} | {
        "kid": "nobody",
        "alg": "EdDSA",
        "use": "sig",
    }


def _key(given: Mapping[str, Any]) -> IssuerKey | None:
    kind, key_id, algorithm = given.get("kty"), given.get("kid"), given.get("alg")
    if given.get("use", "sig") != "sig" or not isinstance(kind, str) or kind not in _MEMBERS:
        return None
    members = {name: given.get(name) for name in _MEMBERS[kind]}
    texts = {name: value for name, value in members.items() if isinstance(value, str) and len(value) <= _MOST_TEXT}
    if len(texts) != len(members) or not isinstance(key_id, str | None) or len(key_id or "") > 256:
        return None
    try:
        public, able = _load({"kty": kind, **texts})
    except (jwt.InvalidTokenError, jwt.InvalidKeyError, ValueError, KeyError):
        return None
    if public is None or (algorithm is not None and algorithm not in able):
        return None
    rest = {"kid": key_id, "alg": algorithm}
    whole = {"kty": kind, "use": "sig", **texts, **{name: value for name, value in rest.items() if value}}
    return IssuerKey(key_id or None, frozenset(able if algorithm is None else [algorithm]), public, whole)


def _load(members: dict[str, str]) -> tuple[PublicKey | None, tuple[str, ...]]:
    """The key, None for one that is too small or of another curve, and what it can verify."""
    match members["kty"]:
        case "RSA":
            public = jwt.get_algorithm_by_name("RS256").from_jwk(members)
            good = isinstance(public, RSAPublicKey) and public.key_size in _RSA_BITS
            return (public if good else None), _RSA
        case "EC" if members["crv"] in _CURVES:
            return jwt.get_algorithm_by_name("ES256").from_jwk(members), (_CURVES[members["crv"]],)
        case "OKP" if members["crv"] == "Ed25519":
            return jwt.get_algorithm_by_name("EdDSA").from_jwk(members), ("EdDSA",)
        case _:
            return None, ()
