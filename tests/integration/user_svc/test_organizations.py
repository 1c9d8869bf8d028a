"""OrganizationService: made by platform administrators, seen by its own."""

import uuid

import pytest

from chassis import errors, ids
from hearth.user.v1 import organization_pb2
from hearth.user.v1 import organization_service_pb2 as pb
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import bytes_of_refusal, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _update(organization_id: str, *paths: str, **values: object) -> pb.UpdateOrganizationRequest:
    request = pb.UpdateOrganizationRequest(organization=organization_pb2.Organization(id=organization_id))
    for name, value in values.items():
        setattr(request.organization, name, value)
    request.update_mask.paths.extend(paths)
    return request


async def test_create_get_update_delete(admin: Client) -> None:
    stub, metadata = admin.organizations, admin.metadata
    create = pb.CreateOrganizationRequest(name="acme", display_name="Acme & Söhne")
    made = (await stub.CreateOrganization(create, metadata=metadata)).organization
    assert (made.name, made.display_name, made.state) == (
        "acme",
        "Acme & Söhne",
        organization_pb2.ORGANIZATION_STATE_ACTIVE,
    )
    get = pb.GetOrganizationRequest(organization_id=made.id)
    assert (await stub.GetOrganization(get, metadata=metadata)).organization == made
    update = _update(made.id, "display_name", display_name="Acme", etag=made.etag)
    changed = (await stub.UpdateOrganization(update, metadata=metadata)).organization
    assert changed.display_name == "Acme"
    assert changed.etag != made.etag
    got = await refused(stub.UpdateOrganization(update, metadata=metadata))
    assert isinstance(got, errors.Aborted)
    assert got.reason == "ETAG_MISMATCH"
    delete = pb.DeleteOrganizationRequest(organization_id=made.id)
    await stub.DeleteOrganization(delete, metadata=metadata)
    await stub.DeleteOrganization(delete, metadata=metadata)
    assert isinstance(await refused(stub.GetOrganization(get, metadata=metadata)), errors.NotFound)
    assert isinstance(
        await refused(stub.UpdateOrganization(_update(made.id, "display_name"), metadata=metadata)), errors.NotFound
    )
    await stub.CreateOrganization(create, metadata=metadata)


async def test_names_are_unique_and_checked(admin: Client) -> None:
    stub, metadata = admin.organizations, admin.metadata
    await stub.CreateOrganization(pb.CreateOrganizationRequest(name="taken"), metadata=metadata)
    got = await refused(stub.CreateOrganization(pb.CreateOrganizationRequest(name="taken"), metadata=metadata))
    assert isinstance(got, errors.AlreadyExists)
    assert (got.reason, got.metadata) == ("NAME_TAKEN", {"field": "name"})
    for name in ("", "Upper", "-x", "x-", "a b", "ü", "x" * 64, "a\0"):
        got = await refused(stub.CreateOrganization(pb.CreateOrganizationRequest(name=name), metadata=metadata))
        assert isinstance(got, errors.InvalidArgument)
        assert got.field_violations[0].field == "name"
    await stub.CreateOrganization(pb.CreateOrganizationRequest(name="x" * 63), metadata=metadata)


async def test_a_repeated_request_makes_one(admin: Client) -> None:
    stub, metadata = admin.organizations, admin.metadata
    request = pb.CreateOrganizationRequest(name="once", request_id=str(uuid.uuid4()))
    first = await stub.CreateOrganization(request, metadata=metadata)
    assert await stub.CreateOrganization(request, metadata=metadata) == first
    request.display_name = "other"
    got = await refused(stub.CreateOrganization(request, metadata=metadata))
    assert got.reason == "REQUEST_ID_REUSED"
    request.request_id = "nonsense"
    assert (await refused(stub.CreateOrganization(request, metadata=metadata))).field_violations[
        0
    ].field == "request_id"


async def test_pages_hold_each_once_in_order(admin: Client) -> None:
    made = {admin.organization_id} | {(await admin.create_organization()).id for _ in range(5)}
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListOrganizationsRequest(page_size=2, page_token=token)
        page = await admin.organizations.ListOrganizations(request, metadata=admin.metadata)
        seen += [organization.id for organization in page.organizations]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(seen))
    assert made <= set(seen)
    for bad in ("nonsense", "AAAA"):
        request = pb.ListOrganizationsRequest(page_token=bad)
        got = await refused(admin.organizations.ListOrganizations(request, metadata=admin.metadata))
        assert got.reason == "PAGE_TOKEN_INVALID"


async def test_others_see_their_own_only(world: World, admin: Client) -> None:
    organization = await admin.create_organization()
    foreign = await world.member_of(admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    own = await foreign.organizations.GetOrganization(pb.GetOrganizationRequest(), metadata=foreign.metadata)
    assert own.organization == organization
    listing = foreign.organizations.ListOrganizations(pb.ListOrganizationsRequest(), metadata=foreign.metadata)
    assert isinstance(await refused(listing), errors.PermissionDenied)


@pytest.mark.parametrize("role", ["ROLE_VIEWER", "ROLE_ORGANIZATION_ADMIN"])
async def test_another_organization_is_not_found_byte_for_byte(world: World, admin: Client, role: str) -> None:
    organization = await admin.create_organization()
    foreign = await world.member_of(admin, organization.id, role)
    absent = ids.encode("org", ids.new())

    async def seen(organization_id: str) -> set[tuple[str, str, bytes]]:
        calls = [
            foreign.organizations.GetOrganization(
                pb.GetOrganizationRequest(organization_id=organization_id), metadata=foreign.metadata
            ),
            foreign.organizations.UpdateOrganization(
                _update(organization_id, "display_name"), metadata=foreign.metadata
            ),
        ]
        answers = [await bytes_of_refusal(call) for call in calls]
        return {
            (code, text.replace(organization_id, "ID"), details.replace(organization_id.encode(), b"ID"))
            for code, text, details in answers
        }

    assert await seen(admin.organization_id) == await seen(absent)


async def test_an_organization_s_admin_may_rename_it_and_not_set_its_state(world: World, admin: Client) -> None:
    organization = await admin.create_organization()
    local = await world.member_of(admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    stub, metadata = local.organizations, local.metadata
    await stub.UpdateOrganization(_update(organization.id, "display_name", display_name="Ours"), metadata=metadata)
    disabled = organization_pb2.ORGANIZATION_STATE_DISABLED
    got = await refused(stub.UpdateOrganization(_update(organization.id, "state", state=disabled), metadata=metadata))
    assert isinstance(got, errors.PermissionDenied)


async def test_nobody_shuts_the_door_behind_himself(admin: Client) -> None:
    delete = pb.DeleteOrganizationRequest(organization_id=admin.organization_id)
    disabled = organization_pb2.ORGANIZATION_STATE_DISABLED
    for call in (
        admin.organizations.DeleteOrganization(delete, metadata=admin.metadata),
        admin.organizations.UpdateOrganization(
            _update(admin.organization_id, "state", state=disabled), metadata=admin.metadata
        ),
    ):
        got = await refused(call)
        assert isinstance(got, errors.FailedPrecondition)
        assert got.reason == "RESOURCE_IN_USE"


async def test_masks_and_values_are_checked(admin: Client) -> None:
    stub, metadata = admin.organizations, admin.metadata
    organization = await admin.create_organization()
    for paths in ((), ("name",), ("display_name", "id"), ("",)):
        got = await refused(stub.UpdateOrganization(_update(organization.id, *paths), metadata=metadata))
        assert (type(got), got.reason) == (errors.InvalidArgument, "UPDATE_MASK_INVALID")
    for field, value in (("display_name", "x" * 129), ("state", 0), ("state", 3), ("state", 99)):
        request = _update(organization.id, field, **{field: value})
        got = await refused(stub.UpdateOrganization(request, metadata=metadata))
        assert [violation.field for violation in got.field_violations] == [f"organization.{field}"]
    got = await refused(
        stub.UpdateOrganization(_update(organization.id, "display_name", display_name="a\0b"), metadata=metadata)
    )
    assert [violation.field for violation in got.field_violations] == ["organization.display_name"]
