"""A trusted issuer: an external identity provider whose tokens an organization accepts, and what they mean there."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis import ids
from chassis.errors import AlreadyExists, DomainError, ResourceExhausted, invalid_field
from chassis.identity import Role

# Each is asked for its keys again and again.
MOST_PER_ORGANIZATION = 16


class TrustedIssuerState(enum.IntEnum):
    """Whether its tokens are accepted. Numbers as in hearth.user.v1.TrustedIssuerState."""

    ENABLED = 1
    DISABLED = 2


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """What a token must say to belong here: its `iss`, one of its `aud`, and a claim with a value (both empty: no claim)."""

    issuer: str
    audience: str
    claim_name: str = ""
    claim_value: str = ""

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token with this issuer and audience belongs here. A claim that is a list fits nothing: it could be two's."""
        return not self.claim_name or claims.get(self.claim_name) == self.claim_value


@dataclass(frozen=True, slots=True)
class RoleRule:
    """What the bearer of a token may do: the most of what the values of `claim` mean, else `default`, None: nothing."""

    claim: str
    mappings: tuple[tuple[str, Role], ...]
    default: Role | None

    def role_of(self, claims: Mapping[str, Any]) -> Role | None:
        """The role, None for those who have none here."""
        values = set(_texts(_at(claims, self.claim))) if self.claim else set[str]()
        return max((role for value, role in self.mappings if value in values), default=self.default)

    def check(self, prefix: str = "") -> None:
        """Raises InvalidArgument for a rule by which nobody would have a role, or part of which means nothing."""
        if bool(self.claim) != bool(self.mappings):
            raise invalid_field(f"{prefix}role_mappings", "go together with role_claim")
        if not self.mappings and self.default is None:
            raise invalid_field(f"{prefix}default_role", "without it and role_mappings every token would be refused")


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """As stored. `version` counts its changes from 1; `scopes` None: no limit but the role."""

    id: UUID
    organization_id: UUID
    display_name: str
    address: TokenAddress
    roles: RoleRule
    scopes: frozenset[str] | None
    state: TrustedIssuerState
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class TrustedIssuerDraft:
    """One to be created."""

    display_name: str
    address: TokenAddress
    roles: RoleRule
    scopes: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class TrustedIssuerChange:
    """New values of the fields in `paths`; the others are not looked at."""

    paths: frozenset[str]
    display_name: str
    role_claim: str
    role_mappings: tuple[tuple[str, Role], ...]
    default_role: Role | None
    scopes: frozenset[str] | None
    state: TrustedIssuerState | None

    @property
    def concerns_tokens(self) -> bool:
        """Whether a token that was accepted before may mean something else now."""
        return bool(self.paths - {"display_name"})

    def roles_after(self, present: RoleRule) -> RoleRule:
        """The rule that comes of it. Raises InvalidArgument."""
        rule = RoleRule(
            self.role_claim if "role_claim" in self.paths else present.claim,
            self.role_mappings if "role_mappings" in self.paths else present.mappings,
            self.default_role if "default_role" in self.paths else present.default,
        )
        rule.check("trusted_issuer.")
        return rule


def require_free(wanted: TokenAddress, taken: Sequence[TokenAddress]) -> None:
    """A token must lead to one organization, whatever it says: who share an issuer and audience require the same claim, each with
    another value. `taken` are those of all organizations with this issuer and audience. Raises AlreadyExists ISSUER_TAKEN.
    """
    for other in taken:
        same_claim = wanted.claim_name and wanted.claim_name == other.claim_name
        if not same_claim or wanted.claim_value == other.claim_value:
            raise AlreadyExists(
                "tokens of this issuer for this audience lead to an organization already", reason="ISSUER_TAKEN"
            )


def require_own_audience(audience: str, organization_id: UUID) -> None:
    """Nobody takes tokens that are meant for an organization by its id. Raises AlreadyExists ISSUER_TAKEN."""
    try:
        meant = ids.decode("org", audience)
    except DomainError:
        return
    if meant != organization_id:
        raise AlreadyExists("this audience is another organization", reason="ISSUER_TAKEN")


def require_room(count: int) -> None:
    """Raises ResourceExhausted QUOTA_EXCEEDED for an organization that has as many as it may."""
    if count >= MOST_PER_ORGANIZATION:
        raise ResourceExhausted(
            f"an organization trusts at most {MOST_PER_ORGANIZATION} issuers", reason="QUOTA_EXCEEDED"
        )


def new_trusted_issuer(
    identifier: UUID, organization_id: UUID, draft: TrustedIssuerDraft, now: datetime
) -> TrustedIssuer:
    """An enabled one that is not stored yet."""
    return TrustedIssuer(
        id=identifier,
        organization_id=organization_id,
        display_name=draft.display_name,
        address=draft.address,
        roles=draft.roles,
        scopes=draft.scopes,
        state=TrustedIssuerState.ENABLED,
        create_time=now,
        update_time=now,
        delete_time=None,
        version=1,
    )


def _at(claims: Mapping[str, Any], path: str) -> object:
    """The value of a claim: of that name, which may hold dots, else along the path."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _texts(value: object) -> Iterable[str]:
    values = value if isinstance(value, list) else [value]
    return (one for one in values if isinstance(one, str))
