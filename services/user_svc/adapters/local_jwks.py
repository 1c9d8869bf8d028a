"""user_svc's own keys as a JwksSource: it verifies tokens without calling itself."""

from collections.abc import Mapping

import jwt

from user_svc.interfaces.signing import SigningKeys


class LocalJwks:
    """A chassis JwksSource over the keys at hand."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        """All public keys by key id. Raises Unavailable when the database does not answer."""
        return {key.key_id: jwt.PyJWK(key.jwk()) for key in await self._keys.usable()}
