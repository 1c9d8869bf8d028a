"""What a row of the tenancy matrix is made of: requests, and what another organization gets for each."""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import Message

from tests.contract.tenancy.tenants import Names

Build = Callable[[Names, Names], Message]


class Outcome(enum.Enum):
    """What another organization gets. Always: nothing of the asked-about organization is told, nothing of it changes."""

    HIDDEN = "NOT_FOUND, byte for byte the answer about what does not exist"
    SAME = "OK, byte for byte the answer about what does not exist"
    OWN = "OK, on the caller's own behalf"
    REACH = "NOT_FOUND as for what does not exist, except to platform administrators, who work across organizations"
    ROLE = "PERMISSION_DENIED: only platform administrators may, and they may it for all organizations"
    UNBUILT = "UNIMPLEMENTED for everybody with a token"
    PUBLIC = "no token needed"


@dataclass(frozen=True, slots=True)
class Case:
    """One request of a row. `endings`: what else than OK the organization itself may get, as names of status codes."""

    build: Build
    outcome: Outcome
    endings: tuple[str, ...] = ()


def hidden(build: Build, *endings: str) -> Case:
    return Case(build, Outcome.HIDDEN, endings)


def same(build: Build, *endings: str) -> Case:
    return Case(build, Outcome.SAME, endings)


def own(build: Build) -> Case:
    return Case(build, Outcome.OWN)


def reach(build: Build) -> Case:
    return Case(build, Outcome.REACH)


def role(build: Build) -> Case:
    return Case(build, Outcome.ROLE)


def unbuilt(build: Build) -> Case:
    return Case(build, Outcome.UNBUILT)


def public(build: Build) -> Case:
    return Case(build, Outcome.PUBLIC)
