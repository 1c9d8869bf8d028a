"""Trusted issuers, protobuf ⇄ domain."""

from collections.abc import Collection, Iterable

from chassis import ids, validation
from chassis.errors import invalid_field
from chassis.identity import Role
from hearth.user.v1 import trusted_issuer_pb2, trusted_issuer_service_pb2
from user_svc.domain.etag import etag_of
from user_svc.domain.trusted_issuer import (
    RoleRule,
    TokenAddress,
    TrustedIssuer,
    TrustedIssuerChange,
    TrustedIssuerDraft,
    TrustedIssuerState,
)
from user_svc.interfaces.external_tokens import IssuerHealth
from user_svc.servicers.mapping import role_to_proto, timestamp

_PLACEHOLDER = "https://unchanged.example"


def issuer_to_proto(issuer: TrustedIssuer, health: IssuerHealth | None = None) -> trusted_issuer_pb2.TrustedIssuer:
    """As clients see it; with `health`, how it stands with its keys."""
    address, roles = issuer.address, issuer.roles
    message = trusted_issuer_pb2.TrustedIssuer(
        id=ids.encode("issuer", issuer.id),
        organization_id=ids.encode("org", issuer.organization_id),
        display_name=issuer.display_name,
        issuer=address.issuer,
        audience=address.audience,
        role_claim=roles.claim,
        scopes=sorted(issuer.scopes or ()),
        state=trusted_issuer_pb2.TrustedIssuerState.ValueType(issuer.state.value),
        problem=health.problem(address.issuer) if health is not None else "",
        create_time=timestamp(issuer.create_time),
        update_time=timestamp(issuer.update_time),
        etag=etag_of(issuer),
    )
    if address.claim_name:
        message.required_claim.name, message.required_claim.value = address.claim_name, address.claim_value
    for value, role in roles.mappings:
        message.role_mappings.add(value=value, role=role_to_proto(role))
    if roles.default is not None:
        message.default_role = role_to_proto(roles.default)
    return message


def issuer_draft(request: trusted_issuer_service_pb2.CreateTrustedIssuerRequest) -> TrustedIssuerDraft:
    """What is to be trusted."""
    claim = request.required_claim
    return TrustedIssuerDraft(
        display_name=request.display_name,
        address=TokenAddress(request.issuer, request.audience, claim.name, claim.value),
        roles=RoleRule(request.role_claim, _mappings(request.role_mappings), _default(request.default_role)),
        scopes=frozenset(request.scopes) or None,
    )


def issuer_change(given: trusted_issuer_pb2.TrustedIssuer, paths: Collection[str]) -> TrustedIssuerChange:
    """The fields named by the mask, which must fit the rules that a new issuer's fit. Raises InvalidArgument naming them."""
    checked = trusted_issuer_service_pb2.CreateTrustedIssuerRequest(issuer=_PLACEHOLDER, audience="unchanged")
    for path in ("display_name", "role_claim", "default_role"):
        if path in paths:
            setattr(checked, path, getattr(given, path))
    if "role_mappings" in paths:
        checked.role_mappings.extend(given.role_mappings)
    if "scopes" in paths:
        checked.scopes.extend(given.scopes)
    validation.check(checked, prefix="trusted_issuer.")
    if "state" in paths and given.state not in (TrustedIssuerState.ENABLED, TrustedIssuerState.DISABLED):
        raise invalid_field("trusted_issuer.state", "must be ENABLED or DISABLED")
    return TrustedIssuerChange(
        paths=frozenset(paths),
        display_name=given.display_name,
        role_claim=given.role_claim,
        role_mappings=_mappings(given.role_mappings) if "role_mappings" in paths else (),
        default_role=_default(given.default_role) if "default_role" in paths else None,
        scopes=frozenset(given.scopes) or None,
        state=TrustedIssuerState(given.state) if "state" in paths else None,
    )


def _mappings(given: Iterable[trusted_issuer_pb2.RoleMapping]) -> tuple[tuple[str, Role], ...]:
    return tuple((one.value, Role(one.role)) for one in given)


def _default(given: int) -> Role | None:
    return Role(given) if given else None
