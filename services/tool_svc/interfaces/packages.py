"""Python packages that tools import."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol


class PackagesNotAllowed(Exception):
    """The operator does not allow packages."""


class PackagesUnavailable(Exception):
    """The packages could not be installed. The message says why, for the tool's author."""


class PackageStore(Protocol):
    """Keeps one read-only environment for each set of requirements; the first use installs it."""

    def check(self, requirements: Sequence[str]) -> None:
        """Whether such requirements can be asked for. Raises PackagesNotAllowed, InvalidArgument naming the requirement."""
        ...

    def environment(self, requirements: Sequence[str]) -> AbstractAsyncContextManager[Path | None]:
        """The folder to import from, kept while the block runs; None for no requirements.

        Raises PackagesNotAllowed, PackagesUnavailable.
        """
        ...
