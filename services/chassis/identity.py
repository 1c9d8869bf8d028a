"""Who is calling: the identity that a verified token stands for, and how the code of a call finds it."""

import enum
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from chassis.errors import PermissionDenied, Unauthenticated

# What a service's token holds when it acts for no organization. No row belongs to it.
NO_ORGANIZATION = UUID(int=0)


class Role(enum.IntEnum):
    """What a credential may do. Each may all that the one before may, SERVICE aside. Numbers as in hearth.type.v1.Role."""

    VIEWER = 1
    MEMBER = 2
    ORGANIZATION_ADMIN = 3
    PLATFORM_ADMIN = 4
    SERVICE = 5


class Access(enum.IntEnum):
    """The least that a caller must be to use a method. Numbers as in hearth.type.v1.Access."""

    UNSPECIFIED = 0
    ANONYMOUS = 1
    VIEWER = 2
    MEMBER = 3
    ORGANIZATION_ADMIN = 4
    PLATFORM_ADMIN = 5
    SERVICE = 6

    def admits(self, role: Role) -> bool:
        """Whether a caller with this role may pass. A service passes where a member would."""
        if self is Access.ANONYMOUS:
            return True
        if role is Role.SERVICE:
            return self in (Access.SERVICE, Access.VIEWER, Access.MEMBER)
        if self in (Access.SERVICE, Access.UNSPECIFIED):
            return False
        return role.value >= self.value - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller. `subject` is `user_…` or `svc:<name>`; times are Unix times in seconds.

    `key_id` names what the caller got in by, `key_…` or `issuer_…`; `scopes` is what it is limited to, None: to nothing.
    """

    organization_id: UUID
    subject: str
    role: Role
    token: str = field(repr=False)
    key_id: str = ""
    on_behalf_of: str = ""
    expires_at: float = 0.0
    issued_at: float = 0.0
    scopes: frozenset[str] | None = None

    def at_least(self, role: Role) -> bool:
        """Whether this is a person or program of this role or above. Never true for a service."""
        return self.role is not Role.SERVICE and self.role >= role

    def require(self, role: Role) -> None:
        """Raises PermissionDenied ROLE_INSUFFICIENT below the role, for rules finer than a method's."""
        if not self.at_least(role):
            raise role_insufficient(role.name)


def role_insufficient(needed: str) -> PermissionDenied:
    """The answer to a caller whose role does not reach."""
    return PermissionDenied(f"needs the role {needed}", reason="ROLE_INSUFFICIENT", metadata={"needed": needed})


def scope_insufficient(needed: str) -> PermissionDenied:
    """The answer to a credential whose scopes do not reach; `needed` are the scopes it lacks, separated by spaces."""
    return PermissionDenied(f"needs the scope {needed}", reason="SCOPE_INSUFFICIENT", metadata={"needed": needed})


def credential_revoked() -> Unauthenticated:
    """The answer to a token whose key, user or organization stopped being good after it was issued."""
    return Unauthenticated("the credential has been revoked", reason="TOKEN_INVALID")


def token_expired() -> Unauthenticated:
    """The answer to a token that was good."""
    return Unauthenticated("the token has expired", reason="TOKEN_EXPIRED")


_current: ContextVar[Identity | None] = ContextVar("hearth_identity", default=None)


def current() -> Identity:
    """The identity of the call being served. Raises Unauthenticated outside of one."""
    identity = _current.get()
    if identity is None:
        raise Unauthenticated("the call carries no credential", reason="TOKEN_MISSING")
    return identity


def current_or_none() -> Identity | None:
    """The identity of the call being served, or None outside of one."""
    return _current.get()


@contextmanager
def use(identity: Identity) -> Generator[Identity]:
    """Acts as this identity within the block: `current()` and outgoing calls see it."""
    reset = _current.set(identity)
    try:
        yield identity
    finally:
        _current.reset(reset)


def set_current(identity: Identity | None) -> None:
    """Sets the identity for the rest of the running task. For the server's edge; others take `use`."""
    _current.set(identity)
