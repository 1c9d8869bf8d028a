"""The `hearth` command for accounts, as an administrator types it, against the running stack."""

import json
import time
import uuid
from typing import Any

import jwt
import pytest

from deploy.local import Stack
from tests.e2e.test_command import hearth as run_hearth
from tests.fakes.oidc_issuer import OidcIssuer


def _name() -> str:
    return f"cli-{uuid.uuid4().hex[:10]}"


def _json(stack: Stack, *arguments: str, key: str = "") -> Any:
    return json.loads(run_hearth(stack, *arguments, "--json", key=key))


def test_an_organization_from_its_first_to_its_last_day(stack: Stack) -> None:
    name = _name()
    made = _json(stack, "org", "create", name, "--display-name", "Acme Ltd.")
    assert (made["name"], made["state"]) == (name, "ORGANIZATION_STATE_ACTIVE")
    assert name in run_hearth(stack, "org", "list", "--limit", "0")
    assert "NAME_TAKEN" in run_hearth(stack, "org", "create", name, code=1)
    assert _json(stack, "org", "update", made["id"], "--display-name", "Acme")["display_name"] == "Acme"
    admin = _json(stack, "user", "create", "boss", "--role", "organization_admin", "--organization", made["id"])
    key = run_hearth(stack, "key", "create", "--user", admin["id"], "--organization", made["id"]).strip()
    assert "boss" in run_hearth(stack, "whoami", key=key)
    assert "Acme" in run_hearth(stack, "org", "show", key=key)
    assert _json(stack, "org", "disable", made["id"])["state"] == "ORGANIZATION_STATE_DISABLED"
    assert "API_KEY_INVALID" in run_hearth(stack, "whoami", key=key, code=1)
    assert _json(stack, "org", "enable", made["id"])["state"] == "ORGANIZATION_STATE_ACTIVE"
    assert "boss" in run_hearth(stack, "whoami", key=key)
    run_hearth(stack, "org", "delete", made["id"], "--yes")
    run_hearth(stack, "org", "delete", made["id"], "--yes")
    assert "RESOURCE_NOT_FOUND" in run_hearth(stack, "org", "show", made["id"], code=1)


def test_a_user_and_its_keys(stack: Stack) -> None:
    name = _name()
    made = _json(stack, "user", "create", name, "--email", f"{name}@example.org")
    assert _json(stack, "user", "show", name) == _json(stack, "user", "show", made["id"]) == made
    assert name in run_hearth(stack, "user", "list", "--limit", "0")
    changed = _json(stack, "user", "update", name, "--role", "viewer", "--email", "", "--display-name", "Ada")
    assert (changed["role"], changed["email"], changed["display_name"]) == ("ROLE_VIEWER", "", "Ada")
    assert "say what to change" in run_hearth(stack, "user", "update", name, code=2)

    key = _json(stack, "key", "create", "--user", name, "--name", "ci", "--scope", "user.read", "--expires-in", "1d")
    assert key["api_key"]["scopes"] == ["user.read"]
    assert _json(stack, "whoami", key=key["secret"])["scopes"] == ["user.read"]
    said = run_hearth(stack, "key", "create", key=key["secret"], code=1)
    assert "SCOPE_INSUFFICIENT" in said
    assert "hearth key list" in said
    deadline = time.monotonic() + 15
    while "last_used_time" not in _json(stack, "key", "list", "--user", name)[0]:
        assert time.monotonic() < deadline, "the use of the key is not shown"
    table = run_hearth(stack, "key", "list", "--user", name)
    assert "last used" in table
    assert "user.read" in table
    assert run_hearth(stack, "token", "issue", key=key["secret"]).count(".") == 2

    run_hearth(stack, "key", "revoke", key["api_key"]["id"], "--yes")
    assert "API_KEY_INVALID" in run_hearth(stack, "whoami", key=key["secret"], code=1)
    assert _json(stack, "user", "disable", name)["disabled"] is True
    assert _json(stack, "user", "enable", name)["disabled"] is False
    run_hearth(stack, "user", "delete", name, "--yes")
    assert f"no user '{name}'" in run_hearth(stack, "user", "show", name, code=1)


def test_a_trusted_issuer(stack: Stack) -> None:
    with OidcIssuer() as idp:
        name = _name()
        roles = ["--role-claim", "groups", "--role", "staff=member", "--role", "chiefs=organization_admin"]
        made = _json(stack, "issuer", "create", idp.issuer, "--audience", name, *roles, "--require", "tid=a=b")
        assert made["required_claim"] == {"name": "tid", "value": "a=b"}
        shown = run_hearth(stack, "issuer", "show", made["id"])
        assert "staff → member" in shown
        assert "are refused" in shown
        assert idp.issuer in run_hearth(stack, "issuer", "list")
        changed = _json(stack, "issuer", "update", made["id"], "--default-role", "viewer", "--role", "x=viewer")
        assert changed["default_role"] == "ROLE_VIEWER"
        assert changed["role_mappings"] == [{"value": "x", "role": "ROLE_VIEWER"}]
        assert "ISSUER_TAKEN" in run_hearth(
            stack, "issuer", "create", idp.issuer, "--audience", name, "--default-role", "viewer", code=1
        )
        assert _json(stack, "issuer", "disable", made["id"])["state"].endswith("DISABLED")
        assert _json(stack, "issuer", "enable", made["id"])["state"].endswith("ENABLED")
        run_hearth(stack, "issuer", "delete", made["id"], "--yes")
        assert made["id"] not in run_hearth(stack, "issuer", "list")


def test_the_keys_that_sign(stack: Stack) -> None:
    found = _json(stack, "keys", "list")
    token = run_hearth(stack, "token", "issue").strip()
    assert jwt.get_unverified_header(token)["kid"] in {key["kid"] for key in found}
    assert found[0]["kid"] in run_hearth(stack, "keys", "list")


@pytest.mark.parametrize(
    "arguments",
    [
        ("issuer", "create", "https://idp.example", "--audience", "x", "--role", "staff"),
        ("issuer", "create", "https://idp.example", "--audience", "x", "--role", "staff=platform_admin"),
        ("issuer", "create", "https://idp.example", "--audience", "x", "--require", "tid"),
        ("issuer", "create", "https://idp.example"),
        ("key", "create", "--scope", "everything"),
        ("key", "create", "--expires-in", "soon"),
        ("org", "update"),
    ],
)
def test_what_was_typed_wrongly(stack: Stack, arguments: tuple[str, ...]) -> None:
    assert "Error:" in run_hearth(stack, *arguments, code=2)
