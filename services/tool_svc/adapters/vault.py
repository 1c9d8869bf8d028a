"""Envelope encryption of secrets: AES-256-GCM with a data key for each value, wrapped under a key derived from the master key.

Another keeper of the wrapping key (a key management service) is another KeyWrapper; nothing else changes.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tool_svc.domain.secret import SealedSecret, WrappedKey
from tool_svc.interfaces.vault import CannotOpen, KeyWrapper

_NONCE_BYTES = 12
_KEY_BITS = 256
_KEPT_KEYS = 1024
_WRAPPING = b"hearth tool secret data key"


class MasterKeyWrapper:
    """A KeyWrapper with keys in memory: the first wraps, all unwrap. So a key is rotated by putting a new one first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])

    async def wrap(self, data_key: bytes) -> WrappedKey:
        return WrappedKey(self._current, _encrypt(self._keys[self._current], data_key, _WRAPPING))

    async def unwrap(self, key: WrappedKey) -> bytes:
        if key.key_id not in self._keys:
            raise CannotOpen(f"the key {key.key_id} is not here")
        return _decrypt(self._keys[key.key_id], key.wrapped, _WRAPPING)


class EnvelopeVault:
    """A Vault. Unwrapped data keys stay in this process's memory, so that a remote keeper is not asked at every call."""

    def __init__(self, wrapper: KeyWrapper) -> None:
        self._wrapper = wrapper
        self._unwrapped: OrderedDict[WrappedKey, bytes] = OrderedDict()

    async def seal(self, organization_id: UUID, name: str, value: str) -> SealedSecret:
        data_key = AESGCM.generate_key(_KEY_BITS)
        key = await self._wrapper.wrap(data_key)
        sealed = _encrypt(AESGCM(data_key), value.encode(), _bound_to(organization_id, name))
        return SealedSecret(name, key.key_id, key.wrapped, sealed)

    async def open(self, organization_id: UUID, secret: SealedSecret) -> str:
        data_key = await self._unwrap(WrappedKey(secret.key_id, secret.wrapped_key))
        return _decrypt(AESGCM(data_key), secret.sealed, _bound_to(organization_id, secret.name)).decode()

    async def _unwrap(self, key: WrappedKey) -> bytes:
        data_key = self._unwrapped.get(key)
        if data_key is None:
            data_key = self._unwrapped[key] = await self._wrapper.unwrap(key)
            while len(self._unwrapped) > _KEPT_KEYS:
                self._unwrapped.popitem(last=False)
        return data_key


def _bound_to(organization_id: UUID, name: str) -> bytes:
    return organization_id.bytes + name.encode()


def _encrypt(key: AESGCM, data: bytes, bound_to: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + key.encrypt(nonce, data, bound_to)


def _decrypt(key: AESGCM, data: bytes, bound_to: bytes) -> bytes:
    try:
        return key.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound_to)
    except InvalidTag:
        raise CannotOpen("it was sealed for something else, or was changed") from None


def _key_id(key: bytes) -> str:
    """Says which key it is and nothing about it."""
    return "mk-" + hashlib.blake2b(key, digest_size=8, person=b"hearth key id").hexdigest()
