"""Puts user_svc together. The only file that knows every class."""

from dataclasses import dataclass
from datetime import timedelta

from chassis.audit.trail import AuditTrail
from chassis.auth import TokenVerifier
from chassis.channels import open_channel
from chassis.database import Database
from chassis.external_tokens import ExternalTokens
from chassis.nats_connection import NatsConnection
from chassis.pagination import PageTokens
from chassis.purge import Purger
from chassis.revocations import RevocationList
from chassis.server import Assembly
from hearth.user.internal.v1.external_token_service_pb2_grpc import add_ExternalTokenServiceServicer_to_server
from hearth.user.internal.v1.limit_service_pb2_grpc import add_LimitServiceServicer_to_server
from hearth.user.internal.v1.purge_service_pb2_grpc import add_PurgeServiceServicer_to_server
from hearth.user.internal.v1.revocation_service_pb2_grpc import add_RevocationServiceServicer_to_server
from hearth.user.v1.api_key_service_pb2_grpc import add_ApiKeyServiceServicer_to_server
from hearth.user.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from hearth.user.v1.organization_service_pb2_grpc import add_OrganizationServiceServicer_to_server
from hearth.user.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server
from hearth.user.v1.trusted_issuer_service_pb2_grpc import add_TrustedIssuerServiceServicer_to_server
from hearth.user.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from user_svc.adapters.audit_feed import AuditFeed
from user_svc.adapters.audit_road import LocalRoad
from user_svc.adapters.keys import Ed25519Forge, JwtSigner
from user_svc.adapters.local_external_tokens import LocalExternalTokens
from user_svc.adapters.local_jwks import LocalJwks
from user_svc.adapters.local_limits import LocalPurges, local_limits
from user_svc.adapters.local_revocations import NoticeToList, local_list
from user_svc.adapters.oidc.fetch import JsonFetcher
from user_svc.adapters.oidc.issuer_keys import IssuerKeys
from user_svc.adapters.oidc.token_check import OidcTokenCheck
from user_svc.clients.usage_client import OwnIdentity, UsageClient
from user_svc.managers.api_key_manager import ApiKeyManager
from user_svc.managers.audit_manager import AuditManager
from user_svc.managers.bootstrap_manager import BootstrapManager
from user_svc.managers.external_token_manager import ExternalTokenManager
from user_svc.managers.key_use_recorder import KeyUseRecorder
from user_svc.managers.limit_manager import LimitManager
from user_svc.managers.organization_manager import OrganizationManager
from user_svc.managers.purge_manager import PurgeManager
from user_svc.managers.revocation_manager import RevocationManager
from user_svc.managers.signing_key_manager import SigningKeyManager
from user_svc.managers.token_manager import TokenManager
from user_svc.managers.trusted_issuer_manager import TrustedIssuerManager
from user_svc.managers.user_manager import UserManager
from user_svc.repositories.audit_log import PostgresAuditLogs
from user_svc.repositories.directory import PostgresDirectory
from user_svc.repositories.issuer_list import IssuerList
from user_svc.repositories.key_use_repository import PostgresKeyUses
from user_svc.repositories.unit_of_work import PostgresUnitOfWork
from user_svc.servicers.api_key_servicer import ApiKeyServicer
from user_svc.servicers.audit_servicer import AuditServicer
from user_svc.servicers.external_token_servicer import ExternalTokenServicer
from user_svc.servicers.limit_servicer import LimitServicer
from user_svc.servicers.organization_servicer import OrganizationServicer
from user_svc.servicers.purge_servicer import PurgeServicer
from user_svc.servicers.revocation_servicer import RevocationServicer
from user_svc.servicers.token_servicer import TokenServicer
from user_svc.servicers.trusted_issuer_servicer import TrustedIssuerServicer
from user_svc.servicers.user_servicer import UserServicer
from user_svc.settings import UserSettings


async def build(settings: UserSettings) -> Assembly:
    """Everything that serves, after what the first start needs is there.

    Raises ValueError for settings that cannot be right, DomainError when the database does not answer.
    """
    database = Database(
        settings.database_url.get_secret_value(),
        application_name="user_svc",
        pool_size=settings.database_pool_size,
    )
    work = PostgresUnitOfWork(database)
    sealing_key = settings.derived_key("signing-keys")
    keys = SigningKeyManager(work, Ed25519Forge(sealing_key), settings.signing_key_publication_s)
    signer = JwtSigner(sealing_key, settings.jwt_issuer, settings.jwt_audience)
    await keys.ensure()
    await BootstrapManager(work).ensure(settings.bootstrap_admin_key())

    revoking = RevocationManager(work)
    revocations = local_list(revoking)
    notice = NoticeToList(revocations)
    pages = PageTokens(settings.derived_key("page-tokens"))
    channels = {
        "agent_svc": open_channel(settings.agent_svc_address, retry=False),
        "memory_svc": open_channel(settings.memory_svc_address, retry=False),
        "tool_svc": open_channel(settings.tool_svc_address, retry=False),
    }
    limiting = LimitManager(work, settings.default_limits(), UsageClient(OwnIdentity(keys, signer), channels))
    limits = local_limits(limiting)
    purging = PurgeManager(work)
    grace = timedelta(seconds=settings.purge_grace_s)
    directory = PostgresDirectory(database)
    foreign = _foreign(settings, work, directory, revocations)
    organizations = OrganizationServicer(OrganizationManager(work, notice, grace), limiting, pages)
    users = UserServicer(UserManager(work, notice), pages)
    api_keys = ApiKeyServicer(ApiKeyManager(work, notice), pages)
    issuers = TrustedIssuerServicer(
        TrustedIssuerManager(work, notice, foreign.issuers, foreign.keys), foreign.keys, pages
    )
    external = ExternalTokenServicer(foreign.tokens, foreign.issuers, foreign.keys)
    uses = KeyUseRecorder(PostgresKeyUses(database))
    issuing = TokenManager(directory, keys, signer, settings.service_keys(), revocations, uses)
    tokens = TokenServicer(issuing, keys)
    audit = AuditManager(PostgresAuditLogs(database))
    nats = NatsConnection(settings.nats_url.get_secret_value(), "user_svc")
    await nats.open()
    return Assembly(
        servicers=[
            (add_OrganizationServiceServicer_to_server, organizations, "hearth.user.v1.OrganizationService"),
            (add_UserServiceServicer_to_server, users, "hearth.user.v1.UserService"),
            (add_ApiKeyServiceServicer_to_server, api_keys, "hearth.user.v1.ApiKeyService"),
            (add_TokenServiceServicer_to_server, tokens, "hearth.user.v1.TokenService"),
            (add_TrustedIssuerServiceServicer_to_server, issuers, "hearth.user.v1.TrustedIssuerService"),
            (add_AuditServiceServicer_to_server, AuditServicer(audit, pages), "hearth.user.v1.AuditService"),
            (add_ExternalTokenServiceServicer_to_server, external, "hearth.user.internal.v1.ExternalTokenService"),
            (
                add_RevocationServiceServicer_to_server,
                RevocationServicer(revoking),
                "hearth.user.internal.v1.RevocationService",
            ),
            (add_LimitServiceServicer_to_server, LimitServicer(limiting), "hearth.user.internal.v1.LimitService"),
            (add_PurgeServiceServicer_to_server, PurgeServicer(purging), "hearth.user.internal.v1.PurgeService"),
        ],
        verifier=TokenVerifier(
            LocalJwks(keys),
            settings.jwt_issuer,
            settings.jwt_audience,
            revocations=revocations,
            external=ExternalTokens(LocalExternalTokens(foreign.tokens, foreign.issuers), list_s=0),
        ),
        audit=AuditTrail(database, LocalRoad(audit)),
        background=[
            revocations,
            limits,
            uses,
            foreign.keys,
            AuditFeed(nats, audit),
            Purger(LocalPurges(purging), database, kept=("organizations", "audit_events", "audit_heads")),
        ],
        closers=[
            database.close,
            nats.close,
            foreign.fetcher.close,
            *(channel.close for channel in channels.values()),
        ],
        limits=limits,
    )


@dataclass(frozen=True, slots=True)
class _Foreign:
    """What it takes to accept tokens of external issuers."""

    fetcher: JsonFetcher
    issuers: IssuerList
    keys: IssuerKeys
    tokens: ExternalTokenManager


def _foreign(
    settings: UserSettings, work: PostgresUnitOfWork, directory: PostgresDirectory, revocations: RevocationList
) -> _Foreign:
    fetcher = JsonFetcher(allow_private=settings.oidc_allow_private)
    issuers = IssuerList(directory)
    keys = IssuerKeys(issuers, fetcher, refresh_s=settings.oidc_refresh_s)
    check = OidcTokenCheck(keys, settings.jwt_issuer)
    return _Foreign(fetcher, issuers, keys, ExternalTokenManager(work, directory, issuers, check, revocations))
