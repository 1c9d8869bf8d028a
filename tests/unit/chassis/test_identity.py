"""The role ladder, and who the code of a call sees as its caller."""

import asyncio

import pytest

from chassis import ids
from chassis.errors import PermissionDenied, Unauthenticated
from chassis.identity import Access, Identity, Role, current, current_or_none, use

_LADDER = [Role.VIEWER, Role.MEMBER, Role.ORGANIZATION_ADMIN, Role.PLATFORM_ADMIN]


def _identity(role: Role) -> Identity:
    return Identity(ids.new(), "user_x", role, token="secret-token")


@pytest.mark.parametrize("role", list(Role))
def test_everyone_passes_an_anonymous_method(role: Role) -> None:
    assert Access.ANONYMOUS.admits(role)


@pytest.mark.parametrize("access", [Access.VIEWER, Access.MEMBER, Access.ORGANIZATION_ADMIN, Access.PLATFORM_ADMIN])
def test_the_ladder(access: Access) -> None:
    needed = Role[access.name]
    for role in _LADDER:
        assert access.admits(role) == (_LADDER.index(role) >= _LADDER.index(needed))


def test_a_service_passes_where_a_member_would_and_where_only_services_may() -> None:
    passes = {access for access in Access if access.admits(Role.SERVICE)}
    assert passes == {Access.ANONYMOUS, Access.VIEWER, Access.MEMBER, Access.SERVICE}


def test_nobody_else_passes_where_only_services_may() -> None:
    assert not any(Access.SERVICE.admits(role) for role in _LADDER)


def test_nobody_passes_an_undeclared_method() -> None:
    assert not any(Access.UNSPECIFIED.admits(role) for role in Role)


def test_a_service_is_never_an_administrator() -> None:
    assert not any(_identity(Role.SERVICE).at_least(role) for role in Role)
    with pytest.raises(PermissionDenied):
        _identity(Role.SERVICE).require(Role.VIEWER)


def test_the_token_is_not_in_the_representation() -> None:
    assert "secret-token" not in repr(_identity(Role.MEMBER))


def test_no_identity_outside_of_a_call() -> None:
    assert current_or_none() is None
    with pytest.raises(Unauthenticated):
        current()


async def test_identities_of_concurrent_tasks_do_not_mix() -> None:
    async def see(role: Role) -> bool:
        identity = _identity(role)
        with use(identity):
            await asyncio.sleep(0.01)
            return current() is identity

    assert all(await asyncio.gather(*(see(role) for role in _LADDER)))
    assert current_or_none() is None


def test_use_restores_what_was() -> None:
    outer, inner = _identity(Role.MEMBER), _identity(Role.SERVICE)
    with use(outer):
        with pytest.raises(KeyError), use(inner):
            raise KeyError
        assert current() is outer
