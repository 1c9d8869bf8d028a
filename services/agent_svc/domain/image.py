"""Images that come with a message: what is accepted, told by their first bytes and not by what they are called."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_IMAGES = 8
MAX_IMAGE_BYTES = 4 * 1024 * 1024
# Of all images of one message, so that a message can be sent, stored and read in one piece.
MAX_TOTAL_BYTES = 6 * 1024 * 1024
# A large picture costs about this much with the common providers.
IMAGE_TOKENS = 1_100
_MAX_URL = 2_048
_DATA = "data:"


class BadImage(ValueError):
    """What was given is no image that a model can take; the text says why, in words that go behind a field's name."""


@dataclass(frozen=True, slots=True)
class Image:
    """Either `data` with its `media_type`, or the https `url` that the provider fetches. Hearth itself fetches nothing."""

    media_type: str = ""
    data: bytes = b""
    url: str = ""

    @property
    def data_url(self) -> str:
        """The bytes as a `data:` URL."""
        return f"data:{self.media_type};base64,{self.base64}"

    @property
    def base64(self) -> str:
        """The bytes in base64."""
        return base64.b64encode(self.data).decode()

    @property
    def sha256(self) -> str:
        """Of the bytes, in hexadecimal digits; empty for a URL."""
        return hashlib.sha256(self.data).hexdigest() if self.data else ""


def image_from_bytes(data: bytes, media_type: str = "") -> Image:
    """An image of the type that its bytes show. Raises BadImage, also when they show another type than named."""
    if len(data) > MAX_IMAGE_BYTES:
        raise BadImage(f"is larger than {MAX_IMAGE_BYTES // 1024**2} MiB")
    found = _type_of(data)
    if not found:
        raise BadImage("is not a PNG, JPEG, GIF or WebP image")
    named = media_type.strip().lower().replace("image/jpg", "image/jpeg")
    if named and named != found:
        raise BadImage(f"is called {named[:40]} and is {found}")
    return Image(found, data)


def image_from_url(url: str) -> Image:
    """An image behind an https address, or inside of a `data:` URL. Raises BadImage."""
    if url[: len(_DATA)].lower() == _DATA:
        return _from_data_url(url)
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "https" and bool(parts.hostname) and parts.username is None
    except ValueError:
        valid = False
    if not valid or len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise BadImage("is neither an https:// address nor a data: URL of an image")
    return Image(url=url)


def check_together(images: tuple[Image, ...]) -> None:
    """Raises BadImage when they are too large together."""
    if sum(len(image.data) for image in images) > MAX_TOTAL_BYTES:
        raise BadImage(f"are larger than {MAX_TOTAL_BYTES // 1024**2} MiB together")


def _from_data_url(url: str) -> Image:
    head, comma, body = url[len(_DATA) :].partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or encoding.rpartition(";")[2].strip().lower() != "base64":
        raise BadImage("is a data: URL that is not base64")
    if len(body) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise BadImage(f"is larger than {MAX_IMAGE_BYTES // 1024**2} MiB")
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise BadImage("is a data: URL whose base64 is broken") from None
    return image_from_bytes(data, media_type)


def _type_of(data: bytes) -> str:
    """The media type that the first bytes show; empty for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return ""
