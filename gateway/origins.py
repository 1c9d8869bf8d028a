"""Which web pages may open a socket: the gateway's own, and those on the list."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginPolicy:
    """Same origin by default. `allowed` holds further origins in lower case, as in `https://app.example.org`."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed

    def admits(self, origin: str | None, host: str) -> bool:
        """Whether a browser's upgrade from `origin` to our `Host` is fine; none and `null` never are."""
        if not origin:
            return False
        origin = origin.strip().lower()
        return origin in self._allowed or _same(origin, host.strip().lower())


def _same(origin: str, host: str) -> bool:
    """TLS ends in front of us, so the scheme cannot be compared: host and port are."""
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{host}")
        if (
            theirs.scheme not in _DEFAULT_PORTS
            or "@" in theirs.netloc
            or theirs.path
            or theirs.query
            or not theirs.hostname
        ):
            return False
        return theirs.hostname == ours.hostname and _port(theirs) == _port(ours)
    except ValueError:
        return False


def _port(url: SplitResult) -> int:
    return url.port or _DEFAULT_PORTS[url.scheme]
