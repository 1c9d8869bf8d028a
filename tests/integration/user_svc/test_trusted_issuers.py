"""TrustedIssuerService: what an organization may trust, and that no other can take its tokens."""

import asyncio
from typing import Any

import pytest

from chassis import errors, ids
from hearth.type.v1 import access_pb2
from hearth.user.v1 import api_key_service_pb2, trusted_issuer_pb2
from hearth.user.v1 import trusted_issuer_service_pb2 as pb
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import bytes_of_refusal, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

_REQUIRED = trusted_issuer_pb2.RequiredClaim


def request(**fields: Any) -> pb.CreateTrustedIssuerRequest:
    """A good one, with these fields."""
    values: dict[str, Any] = {
        "issuer": f"https://{ids.new().hex}.example",
        "audience": "hearth",
        "default_role": access_pb2.ROLE_VIEWER,
    }
    return pb.CreateTrustedIssuerRequest(**(values | fields))


async def create(client: Client, **fields: Any) -> trusted_issuer_pb2.TrustedIssuer:
    answer = await client.issuers.CreateTrustedIssuer(request(**fields), metadata=client.metadata)
    return answer.trusted_issuer


async def update(client: Client, issuer: trusted_issuer_pb2.TrustedIssuer, *paths: str) -> Any:
    changed = pb.UpdateTrustedIssuerRequest(trusted_issuer=issuer)
    changed.update_mask.paths.extend(paths)
    return (await client.issuers.UpdateTrustedIssuer(changed, metadata=client.metadata)).trusted_issuer


async def second(world: World, first_admin: Client) -> Client:
    organization = await first_admin.create_organization()
    return await world.member_of(first_admin, organization.id, "ROLE_ORGANIZATION_ADMIN")


async def test_what_is_created_is_got_and_listed(admin: Client) -> None:
    mapping = trusted_issuer_pb2.RoleMapping(value="chiefs", role=access_pb2.ROLE_ORGANIZATION_ADMIN)
    made = await create(
        admin,
        display_name="Sign-in of the house",
        required_claim=_REQUIRED(name="tid", value="t1"),
        role_claim="groups",
        role_mappings=[mapping],
        scopes=["agent.write"],
    )
    assert made.id.startswith("issuer_")
    assert made.organization_id == admin.organization_id
    assert made.state == trusted_issuer_pb2.TRUSTED_ISSUER_STATE_ENABLED
    assert (list(made.role_mappings), list(made.scopes)) == ([mapping], ["agent.write"])
    get = pb.GetTrustedIssuerRequest(trusted_issuer_id=made.id)
    got = (await admin.issuers.GetTrustedIssuer(get, metadata=admin.metadata)).trusted_issuer
    got.problem = ""
    assert got == made
    listed = await admin.issuers.ListTrustedIssuers(pb.ListTrustedIssuersRequest(), metadata=admin.metadata)
    assert [one.id for one in listed.trusted_issuers] == [made.id]


async def test_the_same_request_makes_one(admin: Client) -> None:
    once = request(request_id="6f0f8c3e-58a6-4b69-9e6c-1f2d3c4b5a69")
    first = await admin.issuers.CreateTrustedIssuer(once, metadata=admin.metadata)
    assert await admin.issuers.CreateTrustedIssuer(once, metadata=admin.metadata) == first


async def test_pages(admin: Client) -> None:
    made = [(await create(admin)).id for _ in range(3)]
    seen: list[str] = []
    token = ""
    while True:
        listing = pb.ListTrustedIssuersRequest(page_size=2, page_token=token)
        page = await admin.issuers.ListTrustedIssuers(listing, metadata=admin.metadata)
        seen += [one.id for one in page.trusted_issuers]
        token = page.next_page_token
        if not token:
            break
    assert seen == made


async def test_no_other_organization_takes_the_same_tokens(world: World, first_admin: Client, admin: Client) -> None:
    thief = await second(world, first_admin)
    mine = await create(admin)
    for fields in (
        {},
        {"required_claim": _REQUIRED(name="tid", value="mine")},
        {"display_name": "other"},
    ):
        got = await refused(create(thief, issuer=mine.issuer, **fields))
        assert (got.code, got.reason) == ("ALREADY_EXISTS", "ISSUER_TAKEN")
    await create(thief, issuer=mine.issuer, audience="another")
    await create(thief, issuer=mine.issuer + "/other-realm")
    # Free again when it is given up.
    delete = pb.DeleteTrustedIssuerRequest(trusted_issuer_id=mine.id)
    await admin.issuers.DeleteTrustedIssuer(delete, metadata=admin.metadata)
    await create(thief, issuer=mine.issuer)


async def test_who_share_an_issuer_require_the_same_claim_with_other_values(
    world: World, first_admin: Client, admin: Client
) -> None:
    other = await second(world, first_admin)
    mine = await create(admin, required_claim=_REQUIRED(name="tid", value="a"))
    for taken in (None, _REQUIRED(name="tid", value="a"), _REQUIRED(name="hd", value="b")):
        got = await refused(create(other, issuer=mine.issuer, required_claim=taken))
        assert got.reason == "ISSUER_TAKEN"
    await create(other, issuer=mine.issuer, required_claim=_REQUIRED(name="tid", value="b"))


async def test_one_of_two_who_want_the_same_at_once_gets_it(world: World, first_admin: Client, admin: Client) -> None:
    others = [await second(world, first_admin) for _ in range(4)]
    issuer = f"https://{ids.new().hex}.example"
    claims = [None, _REQUIRED(name="tid", value="a"), None, _REQUIRED(name="hd", value="a"), None]
    tries = [
        create(who, issuer=issuer, required_claim=claim) for who, claim in zip([admin, *others], claims, strict=True)
    ]
    ended = await asyncio.gather(*tries, return_exceptions=True)
    assert len([one for one in ended if isinstance(one, trusted_issuer_pb2.TrustedIssuer)]) == 1


async def test_an_organization_s_id_as_the_audience_is_its_own(
    world: World, first_admin: Client, admin: Client
) -> None:
    thief = await second(world, first_admin)
    assert (await refused(create(thief, audience=admin.organization_id))).reason == "ISSUER_TAKEN"
    await create(admin, audience=admin.organization_id)


async def test_an_organization_trusts_so_many_and_no_more(world: World, first_admin: Client) -> None:
    keen = await second(world, first_admin)
    for _ in range(16):
        await create(keen)
    got = await refused(create(keen))
    assert (got.code, got.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"issuer": ""}, "issuer"),
        ({"issuer": "hearth"}, "issuer"),
        ({"issuer": "ftp://idp.example"}, "issuer"),
        ({"issuer": "https://user:secret@idp.example"}, "issuer"),
        ({"issuer": "https://idp.example?x=1"}, "issuer"),
        ({"issuer": "https://idp.example#x"}, "issuer"),
        ({"issuer": "https://idp.example/\x00"}, "issuer"),
        ({"issuer": "https://" + "x" * 505}, "issuer"),
        ({"audience": ""}, "audience"),
        ({"audience": "x" * 257}, "audience"),
        ({"display_name": "x" * 129}, "display_name"),
        ({"required_claim": _REQUIRED(name="", value="x")}, "required_claim.name"),
        ({"required_claim": _REQUIRED(name="x", value="")}, "required_claim.value"),
        ({"required_claim": _REQUIRED(name="x", value="y" * 257)}, "required_claim.value"),
        ({"default_role": 0}, "default_role"),
        ({"default_role": access_pb2.ROLE_PLATFORM_ADMIN}, "default_role"),
        ({"default_role": access_pb2.ROLE_SERVICE}, "default_role"),
        ({"role_claim": "groups"}, "role_mappings"),
        ({"role_mappings": [{"value": "x", "role": 1}]}, "role_mappings"),
        ({"role_claim": "g", "role_mappings": [{"value": "x", "role": 4}]}, "role_mappings[0].role"),
        ({"role_claim": "g", "role_mappings": [{"value": "x", "role": 5}]}, "role_mappings[0].role"),
        ({"role_claim": "g", "role_mappings": [{"value": "x", "role": 0}]}, "role_mappings[0].role"),
        ({"role_claim": "g", "role_mappings": [{"value": "x", "role": 1}] * 65}, "role_mappings"),
        ({"scopes": ["everything"]}, "scopes[0]"),
    ],
)
async def test_what_makes_no_sense_is_refused(admin: Client, fields: dict[str, Any], field: str) -> None:
    got = await refused(create(admin, **fields))
    assert isinstance(got, errors.InvalidArgument), got
    assert [violation.field for violation in got.field_violations] == [field]


@pytest.mark.parametrize(
    "fields",
    [
        {"issuer": "https://" + "x" * 504},
        {"audience": "x" * 256, "display_name": "ü" * 128},
        {"role_claim": "g" * 128, "role_mappings": [{"value": "x" * 256, "role": 3}] * 64, "default_role": 0},
        {"required_claim": _REQUIRED(name="x" * 128, value="y" * 256)},
        {"issuer": "https://idp.example:8443/realms/a(b)~c"},
    ],
)
async def test_limits_are_reached(admin: Client, fields: dict[str, Any]) -> None:
    await create(admin, **fields)


async def test_changes(admin: Client) -> None:
    made = await create(admin)
    made.display_name, made.default_role = "other", access_pb2.ROLE_MEMBER
    changed = await update(admin, made, "display_name")
    assert (changed.display_name, changed.default_role) == ("other", access_pb2.ROLE_VIEWER)
    assert changed.etag != made.etag
    got = await refused(update(admin, made, "display_name"))
    assert (got.code, got.reason) == ("ABORTED", "ETAG_MISMATCH")
    changed.role_claim = "groups"
    changed.role_mappings.add(value="x", role=access_pb2.ROLE_MEMBER)
    for paths in (("role_claim",), ("role_mappings",)):
        assert (await refused(update(admin, changed, *paths))).field_violations[0].field.endswith("role_mappings")
    mapped = await update(admin, changed, "role_claim", "role_mappings")
    mapped.default_role = access_pb2.ROLE_UNSPECIFIED
    strict = await update(admin, mapped, "default_role")
    assert strict.default_role == access_pb2.ROLE_UNSPECIFIED
    del strict.role_mappings[:]
    strict.role_claim = ""
    got = await refused(update(admin, strict, "role_claim", "role_mappings"))
    assert got.field_violations[0].field == "trusted_issuer.default_role"


@pytest.mark.parametrize("path", ["issuer", "audience", "required_claim", "organization_id", "id", "nonsense", ""])
async def test_what_cannot_be_changed(admin: Client, path: str) -> None:
    got = await refused(update(admin, await create(admin), path))
    assert isinstance(got, errors.InvalidArgument)


async def test_wrong_values_are_refused_in_changes_too(admin: Client) -> None:
    made = await create(admin)
    for field, value in (("default_role", 4), ("default_role", 5), ("display_name", "x" * 129), ("state", 0)):
        wrong = trusted_issuer_pb2.TrustedIssuer()
        wrong.CopyFrom(made)
        setattr(wrong, field, value)
        got = await refused(update(admin, wrong, field))
        assert isinstance(got, errors.InvalidArgument)
        assert got.field_violations[0].field == f"trusted_issuer.{field}"


async def test_another_organization_s_is_not_found_byte_for_byte(
    world: World, first_admin: Client, admin: Client
) -> None:
    stranger = await second(world, first_admin)
    mine, absent = (await create(admin)).id, ids.encode("issuer", ids.new())
    answers: list[tuple[str, str, bytes]] = []
    for issuer_id in (mine, absent):
        get = pb.GetTrustedIssuerRequest(trusted_issuer_id=issuer_id)
        code, text, details = await bytes_of_refusal(stranger.issuers.GetTrustedIssuer(get, metadata=stranger.metadata))
        answers.append((code, text.replace(issuer_id, "ID"), details.replace(issuer_id.encode(), b"ID")))
        delete = pb.DeleteTrustedIssuerRequest(trusted_issuer_id=issuer_id)
        got = await refused(stranger.issuers.DeleteTrustedIssuer(delete, metadata=stranger.metadata))
        assert isinstance(got, errors.NotFound)
    assert answers[0] == answers[1]
    assert answers[0][0] == "NOT_FOUND"


async def test_members_do_not_manage_issuers(world: World, admin: Client) -> None:
    member = await world.member_of(admin)
    assert (await refused(create(member))).reason == "ROLE_INSUFFICIENT"


async def test_a_limited_key_lets_nobody_in_who_may_more(world: World, admin: Client) -> None:
    key = api_key_service_pb2.CreateApiKeyRequest(scopes=["user.write", "agent.read"])
    made = await admin.api_keys.CreateApiKey(key, metadata=admin.metadata)
    limited = await world.sign_in(made.secret)
    assert (await refused(create(limited))).reason == "SCOPE_INSUFFICIENT"
    assert (await refused(create(limited, scopes=["agent.write"]))).reason == "SCOPE_INSUFFICIENT"
    own = await create(limited, scopes=["agent.read"])
    own.scopes.append("tool.read")
    assert (await refused(update(limited, own, "scopes"))).reason == "SCOPE_INSUFFICIENT"
    whole = await create(admin)
    whole.default_role = access_pb2.ROLE_ORGANIZATION_ADMIN
    assert (await refused(update(limited, whole, "default_role"))).reason == "SCOPE_INSUFFICIENT"


async def test_deleting_twice_is_fine(admin: Client) -> None:
    delete = pb.DeleteTrustedIssuerRequest(trusted_issuer_id=(await create(admin)).id)
    for _ in range(2):
        await admin.issuers.DeleteTrustedIssuer(delete, metadata=admin.metadata)
    get = pb.GetTrustedIssuerRequest(trusted_issuer_id=delete.trusted_issuer_id)
    assert isinstance(await refused(admin.issuers.GetTrustedIssuer(get, metadata=admin.metadata)), errors.NotFound)
