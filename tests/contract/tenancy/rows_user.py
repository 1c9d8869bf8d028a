"""The rows of user_svc."""

from collections.abc import Mapping

from google.protobuf.message import Message

from hearth.type.v1 import access_pb2
from hearth.user.internal.v1 import external_token_service_pb2 as external_token
from hearth.user.internal.v1 import limit_service_pb2 as limits
from hearth.user.internal.v1 import purge_service_pb2 as purges
from hearth.user.internal.v1 import revocation_service_pb2 as revocation
from hearth.user.v1 import api_key_service_pb2 as api_key
from hearth.user.v1 import audit_service_pb2 as audit
from hearth.user.v1 import organization_service_pb2 as organization
from hearth.user.v1 import token_service_pb2 as token
from hearth.user.v1 import trusted_issuer_service_pb2 as trusted_issuer
from hearth.user.v1 import user_service_pb2 as user
from tests.contract.tenancy.cases import Case, hidden, own, public, reach, role, same
from tests.contract.tenancy.tenants import Names


def _organization(their: Names, own: Names) -> Message:
    request = organization.UpdateOrganizationRequest()
    request.organization.id, request.organization.display_name = their.organization, "changed"
    request.update_mask.paths.append("display_name")
    return request


def _user(their: Names, own: Names) -> Message:
    request = user.UpdateUserRequest()
    request.user.id, request.user.display_name = their.user, "changed"
    request.update_mask.paths.append("display_name")
    return request


def _new_user(their: Names, own: Names) -> Message:
    return user.CreateUserRequest(
        request_id=their.request_id,
        organization_id=their.organization,
        name=f"new-{own.word}",
        role=access_pb2.ROLE_VIEWER,
    )


def _new_issuer(their: Names, own: Names) -> Message:
    return trusted_issuer.CreateTrustedIssuerRequest(
        request_id=their.request_id,
        issuer=f"http://127.0.0.1:9/{own.word}",
        audience=own.word,
        default_role=access_pb2.ROLE_VIEWER,
    )


def _issuer(their: Names, own: Names) -> Message:
    request = trusted_issuer.UpdateTrustedIssuerRequest()
    request.trusted_issuer.id, request.trusted_issuer.display_name = their.trusted_issuer, "changed"
    request.update_mask.paths.append("display_name")
    return request


USER: Mapping[str, tuple[Case, ...]] = {
    "ApiKeyService/CreateApiKey": (
        hidden(lambda their, own: api_key.CreateApiKeyRequest(user_id=their.user)),
        reach(lambda their, own: api_key.CreateApiKeyRequest(user_id=their.user, organization_id=their.organization)),
    ),
    "ApiKeyService/ListApiKeys": (
        hidden(lambda their, own: api_key.ListApiKeysRequest(user_id=their.user)),
        own(lambda their, own: api_key.ListApiKeysRequest()),
    ),
    "ApiKeyService/RevokeApiKey": (hidden(lambda their, own: api_key.RevokeApiKeyRequest(api_key_id=their.key)),),
    "AuditService/ListAuditEvents": (
        same(lambda their, own: audit.ListAuditEventsRequest(actor=their.user, resource=their.key)),
        own(lambda their, own: audit.ListAuditEventsRequest(action="hearth.user.v1.TokenService.IssueToken")),
    ),
    "AuditService/VerifyAuditLog": (own(lambda their, own: audit.VerifyAuditLogRequest()),),
    "OrganizationService/CreateOrganization": (
        role(lambda their, own: organization.CreateOrganizationRequest(name=f"made-by-{own.word}")),
    ),
    "OrganizationService/GetOrganization": (
        reach(lambda their, own: organization.GetOrganizationRequest(organization_id=their.organization)),
        own(lambda their, own: organization.GetOrganizationRequest(include_usage=True, include_deleted=True)),
    ),
    "OrganizationService/ListOrganizations": (role(lambda their, own: organization.ListOrganizationsRequest()),),
    "OrganizationService/UpdateOrganization": (reach(_organization),),
    "OrganizationService/DeleteOrganization": (
        role(lambda their, own: organization.DeleteOrganizationRequest(organization_id=their.organization)),
    ),
    "TokenService/IssueToken": (public(lambda their, own: token.IssueTokenRequest(api_key="hk_" + "A" * 43)),),
    "TokenService/GetJwks": (public(lambda their, own: token.GetJwksRequest()),),
    "TokenService/RotateSigningKey": (role(lambda their, own: token.RotateSigningKeyRequest()),),
    "TokenService/WhoAmI": (own(lambda their, own: token.WhoAmIRequest()),),
    "TrustedIssuerService/CreateTrustedIssuer": (own(_new_issuer),),
    "TrustedIssuerService/GetTrustedIssuer": (
        hidden(lambda their, own: trusted_issuer.GetTrustedIssuerRequest(trusted_issuer_id=their.trusted_issuer)),
    ),
    "TrustedIssuerService/ListTrustedIssuers": (own(lambda their, own: trusted_issuer.ListTrustedIssuersRequest()),),
    "TrustedIssuerService/UpdateTrustedIssuer": (hidden(_issuer),),
    "TrustedIssuerService/DeleteTrustedIssuer": (
        hidden(lambda their, own: trusted_issuer.DeleteTrustedIssuerRequest(trusted_issuer_id=their.trusted_issuer)),
    ),
    "UserService/CreateUser": (reach(_new_user),),
    "UserService/GetUser": (hidden(lambda their, own: user.GetUserRequest(user_id=their.user)),),
    "UserService/ListUsers": (own(lambda their, own: user.ListUsersRequest()),),
    "UserService/UpdateUser": (hidden(_user),),
    "UserService/DeleteUser": (hidden(lambda their, own: user.DeleteUserRequest(user_id=their.user)),),
}

USER_INTERNAL: Mapping[str, tuple[Case, ...]] = {
    # What organizations may use, and which are to be purged: the same for every service, each serves all organizations.
    "LimitService/ListLimits": (own(lambda their, own: limits.ListLimitsRequest()),),
    "PurgeService/ListPurges": (own(lambda their, own: purges.ListPurgesRequest()),),
    # Nobody but the platform deletes an organization, so there is nothing to report of one that is not.
    "PurgeService/ReportPurge": (
        hidden(lambda their, own: purges.ReportPurgeRequest(organization_id=their.organization), "NOT_FOUND"),
    ),
    # Whom a token stands for is for the service to know that was called with it, whatever organization it leads to.
    "ExternalTokenService/ResolveToken": (own(lambda their, own: external_token.ResolveTokenRequest(token="a.b.c")),),
    # Addresses of identity providers, the same for every service: each verifies tokens of all organizations.
    "ExternalTokenService/ListIssuers": (own(lambda their, own: external_token.ListIssuersRequest()),),
    "ExternalTokenService/GetIssuerJwks": (public(lambda their, own: external_token.GetIssuerJwksRequest()),),
    # Ids of whose tokens are void, the same for every service: each verifies tokens of all organizations.
    "RevocationService/ListRevocations": (own(lambda their, own: revocation.ListRevocationsRequest()),),
}
