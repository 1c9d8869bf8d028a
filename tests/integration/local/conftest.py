"""Stacks without Hearth's own services: what is tested here is the runner, with real components that start quickly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import Stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """PostgreSQL and NATS, shared by the tests of a module."""
    with Stack(only=("postgres", "nats")) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that nobody has used."""
    return tmp_path / "home"
