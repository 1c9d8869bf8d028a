"""UserService: users of an organization that exists, and who may manage whom."""

import asyncio
import uuid

import pytest

from chassis import errors, ids
from hearth.type.v1 import access_pb2
from hearth.user.v1 import organization_pb2, organization_service_pb2, user_pb2
from hearth.user.v1 import user_service_pb2 as pb
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import bytes_of_refusal, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _update(user_id: str, *paths: str, **values: object) -> pb.UpdateUserRequest:
    request = pb.UpdateUserRequest(user=user_pb2.User(id=user_id))
    for name, value in values.items():
        setattr(request.user, name, value)
    request.update_mask.paths.extend(paths)
    return request


async def test_create_get_update_delete(admin: Client) -> None:
    stub, metadata = admin.users, admin.metadata
    create = pb.CreateUserRequest(name="rex", display_name="Rex 🐶", email="rex@example.org")
    made = (await stub.CreateUser(create, metadata=metadata)).user
    assert (made.organization_id, made.role) == (admin.organization_id, access_pb2.ROLE_MEMBER)
    get = pb.GetUserRequest(user_id=made.id)
    assert (await stub.GetUser(get, metadata=metadata)).user == made
    update = _update(made.id, "display_name", "email", "role", display_name="R", role=2, etag=made.etag)
    changed = (await stub.UpdateUser(update, metadata=metadata)).user
    assert (changed.display_name, changed.email, changed.name) == ("R", "", "rex")
    got = await refused(stub.UpdateUser(update, metadata=metadata))
    assert got.reason == "ETAG_MISMATCH"
    delete = pb.DeleteUserRequest(user_id=made.id)
    await stub.DeleteUser(delete, metadata=metadata)
    await stub.DeleteUser(delete, metadata=metadata)
    assert isinstance(await refused(stub.GetUser(get, metadata=metadata)), errors.NotFound)
    assert isinstance(await refused(stub.UpdateUser(_update(made.id, "disabled"), metadata=metadata)), errors.NotFound)
    again = (await stub.CreateUser(create, metadata=metadata)).user
    assert again.id != made.id


async def test_names_and_addresses_are_unique_in_their_organization(world: World, admin: Client) -> None:
    await admin.create_user(name="rex", email="Rex@example.org")
    for fields, field in (({"name": "rex"}, "name"), ({"email": "rEX@example.org"}, "email")):
        got = await refused(admin.create_user(**fields))
        assert isinstance(got, errors.AlreadyExists)
        assert (got.reason, got.metadata) == ("NAME_TAKEN", {"field": field})
    other = await admin.create_user()
    got = await refused(
        admin.users.UpdateUser(_update(other.id, "email", email="rex@example.org"), metadata=admin.metadata)
    )
    assert got.reason == "NAME_TAKEN"
    organization = await admin.create_organization()
    await admin.create_user(organization_id=organization.id, name="rex", email="rex@example.org")


async def test_many_at_once_with_one_name_make_one(admin: Client) -> None:
    results = await asyncio.gather(*(admin.create_user(name="same") for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, user_pb2.User) for result in results) == 1


async def test_a_repeated_request_makes_one(admin: Client) -> None:
    request = pb.CreateUserRequest(name="once", request_id=str(uuid.uuid4()))
    answers = await asyncio.gather(*(admin.users.CreateUser(request, metadata=admin.metadata) for _ in range(4)))
    assert all(answer == answers[0] for answer in answers)
    request.display_name = "changed"
    got = await refused(admin.users.CreateUser(request, metadata=admin.metadata))
    assert got.reason == "REQUEST_ID_REUSED"


async def test_the_organization_must_exist_and_be_active(admin: Client) -> None:
    for organization_id in (ids.encode("org", ids.new()), "org_x", "nonsense"):
        assert isinstance(await refused(admin.create_user(organization_id=organization_id)), errors.NotFound)
    organization = await admin.create_organization()
    change = organization_service_pb2.UpdateOrganizationRequest()
    change.organization.id = organization.id
    change.organization.state = organization_pb2.ORGANIZATION_STATE_DISABLED
    change.update_mask.paths.append("state")
    await admin.organizations.UpdateOrganization(change, metadata=admin.metadata)
    got = await refused(admin.create_user(organization_id=organization.id))
    assert isinstance(got, errors.FailedPrecondition)
    assert got.reason == "ORGANIZATION_NOT_ACTIVE"
    delete = organization_service_pb2.DeleteOrganizationRequest(organization_id=organization.id)
    await admin.organizations.DeleteOrganization(delete, metadata=admin.metadata)
    assert isinstance(await refused(admin.create_user(organization_id=organization.id)), errors.NotFound)


async def test_an_organization_deleted_meanwhile_gets_no_more_users(admin: Client) -> None:
    organization = await admin.create_organization()
    delete = organization_service_pb2.DeleteOrganizationRequest(organization_id=organization.id)

    async def create() -> bool:
        try:
            await admin.create_user(organization_id=organization.id)
        except Exception:
            return False
        return True

    first = [asyncio.create_task(create()) for _ in range(3)]
    await admin.organizations.DeleteOrganization(delete, metadata=admin.metadata)
    assert not any(await asyncio.gather(*(create() for _ in range(3))))
    await asyncio.gather(*first)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "Upper"),
        ("name", "x" * 65),
        ("name", ".x"),
        ("display_name", "x" * 129),
        ("email", "nobody"),
        ("email", "x" * 250 + "@example.org"),
        ("role", 5),
        ("role", 99),
        ("request_id", "nonsense"),
        ("display_name", "nul \0"),
    ],
)
async def test_bad_values_name_their_field(admin: Client, field: str, value: object) -> None:
    request = pb.CreateUserRequest(name="fine")
    setattr(request, field, value)
    got = await refused(admin.users.CreateUser(request, metadata=admin.metadata))
    assert isinstance(got, errors.InvalidArgument)
    assert field in {violation.field for violation in got.field_violations}


@pytest.mark.parametrize(
    ("field", "value"), [("display_name", "x" * 129), ("email", "nobody"), ("role", 5), ("role", 0), ("role", 99)]
)
async def test_bad_changes_name_their_field(admin: Client, field: str, value: object) -> None:
    user = await admin.create_user()
    got = await refused(admin.users.UpdateUser(_update(user.id, field, **{field: value}), metadata=admin.metadata))
    assert isinstance(got, errors.InvalidArgument)
    assert [violation.field for violation in got.field_violations] == [f"user.{field}"]


async def test_the_ends_of_the_limits_are_allowed(admin: Client) -> None:
    made = await admin.create_user(name="x" * 64, display_name="ü" * 128)
    assert made.display_name == "ü" * 128


@pytest.mark.parametrize("paths", [(), ("name",), ("id",), ("role", "organization_id")])
async def test_masks_are_checked(admin: Client, paths: tuple[str, ...]) -> None:
    user = await admin.create_user()
    got = await refused(admin.users.UpdateUser(_update(user.id, *paths), metadata=admin.metadata))
    assert got.reason == "UPDATE_MASK_INVALID"


async def test_nobody_reaches_above_himself(world: World, admin: Client) -> None:
    local = await world.member_of(admin, role="ROLE_ORGANIZATION_ADMIN")
    user = await local.create_user()
    calls = [
        local.create_user(role=access_pb2.ROLE_PLATFORM_ADMIN),
        local.users.UpdateUser(_update(user.id, "role", role=4), metadata=local.metadata),
        local.users.UpdateUser(_update(admin.user_id, "disabled", disabled=True), metadata=local.metadata),
        local.users.DeleteUser(pb.DeleteUserRequest(user_id=admin.user_id), metadata=local.metadata),
        local.create_key(admin.user_id),
    ]
    for call in calls:
        got = await refused(call)
        assert isinstance(got, errors.PermissionDenied)
        assert got.reason == "ROLE_INSUFFICIENT"
    await local.users.UpdateUser(_update(user.id, "role", role=3), metadata=local.metadata)


@pytest.mark.parametrize("role", ["ROLE_VIEWER", "ROLE_MEMBER"])
async def test_members_look_and_do_not_manage(world: World, admin: Client, role: str) -> None:
    member = await world.member_of(admin, role=role)
    listed = await member.users.ListUsers(pb.ListUsersRequest(), metadata=member.metadata)
    assert {user.id for user in listed.users} == {admin.user_id, member.user_id}
    for call in (
        member.create_user(),
        member.users.UpdateUser(_update(member.user_id, "role", role=3), metadata=member.metadata),
        member.users.DeleteUser(pb.DeleteUserRequest(user_id=member.user_id), metadata=member.metadata),
    ):
        assert isinstance(await refused(call), errors.PermissionDenied)


async def test_another_organization_s_user_is_not_found_byte_for_byte(world: World, admin: Client) -> None:
    organization = await admin.create_organization()
    foreign = await world.member_of(admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    mine = await admin.create_user()
    absent = ids.encode("user", ids.new())

    async def seen(user_id: str) -> list[tuple[str, str, bytes]]:
        calls = [
            foreign.users.GetUser(pb.GetUserRequest(user_id=user_id), metadata=foreign.metadata),
            foreign.users.UpdateUser(_update(user_id, "disabled", disabled=True), metadata=foreign.metadata),
            foreign.users.DeleteUser(pb.DeleteUserRequest(user_id=user_id), metadata=foreign.metadata),
            foreign.create_key(user_id),
            foreign.create_key(user_id, foreign.organization_id),
        ]
        answers = [await bytes_of_refusal(call) for call in calls]
        return [
            (code, text.replace(user_id, "ID"), details.replace(user_id.encode(), b"ID"))
            for code, text, details in answers
        ]

    assert await seen(mine.id) == await seen(absent)
    assert {code for code, _, _ in await seen(mine.id)} == {"NOT_FOUND"}
    assert isinstance(await refused(foreign.create_user(organization_id=admin.organization_id)), errors.NotFound)
    listed = await foreign.users.ListUsers(pb.ListUsersRequest(), metadata=foreign.metadata)
    assert [user.id for user in listed.users] == [foreign.user_id]
    assert not (await admin.users.GetUser(pb.GetUserRequest(user_id=mine.id), metadata=admin.metadata)).user.disabled


async def test_pages_hold_each_once_and_their_tokens_are_not_another_s(world: World, admin: Client) -> None:
    made = [admin.user_id] + [(await admin.create_user()).id for _ in range(4)]
    first = await admin.users.ListUsers(pb.ListUsersRequest(page_size=3), metadata=admin.metadata)
    rest = pb.ListUsersRequest(page_size=100, page_token=first.next_page_token)
    second = await admin.users.ListUsers(rest, metadata=admin.metadata)
    assert [user.id for user in [*first.users, *second.users]] == made
    assert not second.next_page_token
    organization = await admin.create_organization()
    foreign = await world.member_of(admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    got = await refused(foreign.users.ListUsers(rest, metadata=foreign.metadata))
    assert got.reason == "PAGE_TOKEN_INVALID"
    got = await refused(admin.users.ListUsers(pb.ListUsersRequest(page_size=-1), metadata=admin.metadata))
    assert got.field_violations[0].field == "page_size"


async def test_concurrent_changes_do_not_overwrite_each_other(admin: Client) -> None:
    user = await admin.create_user()
    requests = [_update(user.id, "display_name", display_name=f"n{n}", etag=user.etag) for n in range(5)]
    results = await asyncio.gather(
        *(admin.users.UpdateUser(request, metadata=admin.metadata) for request in requests), return_exceptions=True
    )
    assert sum(isinstance(result, pb.UpdateUserResponse) for result in results) == 1
