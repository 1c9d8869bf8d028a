"""Page tokens: opaque, signed, and good only for the query that they came from."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

import orjson
from google.protobuf.message import Message

from chassis.errors import InvalidArgument, invalid_field

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
_SIGNATURE_BYTES = 16


class PageTokens:
    """Makes and reads page tokens. `secret` is the same in all replicas, as `settings.derived_key("page-tokens")`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, fingerprint: bytes, position: Sequence[str | int]) -> str:
        """A token that continues the query after a position: the sort key of the last row on the page."""
        payload = orjson.dumps(list(position))
        return base64.urlsafe_b64encode(self._signature(fingerprint, payload) + payload).decode().rstrip("=")

    def verify(self, token: str, fingerprint: bytes) -> list[str | int] | None:
        """The position in a token, None for the empty token: the first page.

        Raises InvalidArgument PAGE_TOKEN_INVALID when it was not made for this query.
        """
        if not token:
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid() from None
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(fingerprint, payload)):
            raise _invalid()
        return orjson.loads(payload)

    def _signature(self, fingerprint: bytes, payload: bytes) -> bytes:
        return hmac.digest(self._secret, len(fingerprint).to_bytes(4) + fingerprint + payload, hashlib.sha256)[
            :_SIGNATURE_BYTES
        ]


def fingerprint(request: Message, *scope: object) -> bytes:
    """What makes a list query the same query: its filters and order, without its page. `scope`: organization, parent."""
    query = type(request)()
    query.CopyFrom(request)
    query.ClearField("page_token")
    query.ClearField("page_size")
    parts = [request.DESCRIPTOR.full_name.encode(), query.SerializeToString(deterministic=True)]
    parts += [str(part).encode() for part in scope]
    return hashlib.sha256(b"\0".join(parts)).digest()


def page_size(requested: int) -> int:
    """Rows on a page: 0 means 50, more than 200 means 200. Raises InvalidArgument below 0."""
    if requested < 0:
        raise invalid_field("page_size", "must not be negative")
    return min(requested or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _invalid() -> InvalidArgument:
    return InvalidArgument("the page token is not from this query", reason="PAGE_TOKEN_INVALID")
