"""Scopes: what a method needs follows from its package and access, and what is granted covers it or not."""

import importlib
from pathlib import Path

import pytest

from chassis.identity import Access
from chassis.methods import methods_of
from chassis.scopes import ALL_SCOPES, covers, scope_of

_PROTOS = Path(__file__).parents[3] / "protos"
_SERVICES = sorted(
    f"{'.'.join(path.relative_to(_PROTOS).parts[:-1])}.{''.join(part.capitalize() for part in path.stem.split('_'))}"
    for path in (_PROTOS / "hearth").rglob("*_service.proto")
)


@pytest.mark.parametrize(
    ("service", "method", "access", "needed"),
    [
        ("hearth.agent.v1.RunService", "WatchRun", Access.VIEWER, "agent.read"),
        ("hearth.agent.v1.RunService", "StartRun", Access.MEMBER, "agent.write"),
        ("hearth.tool.v1.SecretService", "ListSecrets", Access.MEMBER, "tool.write"),
        ("hearth.user.v1.OrganizationService", "ListOrganizations", Access.PLATFORM_ADMIN, "user.write"),
        # A viewer's key that may only read must not make keys that outlive it.
        ("hearth.user.v1.ApiKeyService", "CreateApiKey", Access.VIEWER, "user.write"),
        ("hearth.user.v1.ApiKeyService", "RevokeApiKey", Access.VIEWER, "user.write"),
        ("hearth.user.v1.TokenService", "GetJwks", Access.ANONYMOUS, ""),
        ("hearth.memory.internal.v1.ContextService", "CompileContext", Access.VIEWER, ""),
        ("hearth.user.internal.v1.RevocationService", "ListRevocations", Access.SERVICE, ""),
    ],
)
def test_what_a_method_needs(service: str, method: str, access: Access, needed: str) -> None:
    assert scope_of(service, method, access) == needed


def test_every_public_method_that_needs_a_credential_needs_a_scope() -> None:
    assert len(_SERVICES) > 15
    for service in _SERVICES:
        parts = service.split(".")
        stem = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in parts[-1])[1:]
        importlib.import_module(f"{'.'.join(parts[:-1])}.{stem}_pb2")
        for method in methods_of(service).values():
            if "internal" in parts or method.access is Access.ANONYMOUS:
                assert method.scope == ""
            else:
                assert method.scope in ALL_SCOPES, method.path


def test_writing_includes_reading_of_the_same_domain_and_nothing_else() -> None:
    assert covers({"agent.write"}, "agent.read")
    assert covers({"agent.write"}, "agent.write")
    assert not covers({"agent.read"}, "agent.write")
    assert not covers({"agent.write", "agent.read"}, "tool.read")


def test_no_limit_is_not_an_empty_one() -> None:
    assert all(covers(None, scope) for scope in ALL_SCOPES)
    assert not any(covers(frozenset[str](), scope) for scope in ALL_SCOPES)
    assert covers(frozenset[str](), "")


@pytest.mark.parametrize("odd", ["write", "agent", "agent.*", "*", "", ".write", "AGENT.WRITE", "agent.writes"])
def test_what_is_no_scope_allows_nothing(odd: str) -> None:
    assert not any(covers({odd}, scope) for scope in ALL_SCOPES)
