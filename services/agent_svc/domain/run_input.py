"""What a run is started with beside the text: images to look at, and the form that its answer shall have."""

from __future__ import annotations

from dataclasses import dataclass

from agent_svc.domain.image import Image


@dataclass(frozen=True, slots=True)
class ImageDraft:
    """An image as a caller gave it, not looked at yet: bytes, or a URL."""

    media_type: str = ""
    data: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class RunExtras:
    """Accepted images and JSON Schema (as text; empty: free text)."""

    images: tuple[Image, ...] = ()
    output_schema: str = ""


NO_EXTRAS = RunExtras()
