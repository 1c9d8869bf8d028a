"""Secrets: set by administrators, listed by name, given to the tools that name them, and told to nobody."""

import base64
import os
import urllib.parse
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from chassis.channels import open_channel
from chassis.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from hearth.tool.v1 import secret_pb2, tool_pb2
from hearth.tool.v1 import secret_service_pb2 as pb
from tests.integration.tool_svc.service import Caller, Executed, Organization, ToolProcess
from tests.support.databases import FreshDatabase

VALUE = "canary-q7Zt/9+x=w0r&d"


async def put(caller: Caller, name: str = "TOKEN", value: str = VALUE) -> secret_pb2.Secret:
    return (await caller.secrets.SetSecret(pb.SetSecretRequest(name=name, value=value))).secret


async def run(organization: Organization, body: str, *secrets: str, name: str = "f") -> Executed:
    """Runs a function body that gets some secrets."""
    source = f"import os, sys, base64, json, urllib.parse\ndef {name}():\n    {body}"
    settings = tool_pb2.ToolSettings(secrets=secrets or ["TOKEN"])
    tool = await organization.member.create(source, name=f"f{os.urandom(6).hex()}", settings=settings)
    return await organization.member.execute(tool)


async def test_a_tool_gets_the_secrets_that_it_names_and_no_others(organization: Organization) -> None:
    await put(organization.admin)
    await put(organization.admin, "OTHER", "other-value")
    executed = await run(organization, f"return [os.environ['TOKEN'] == {VALUE!r}, sorted(os.environ)]")
    assert executed.value == [True, ["TOKEN"]]
    both = await run(organization, "return sorted(os.environ)", "TOKEN", "OTHER")
    assert both.value == ["OTHER", "TOKEN"]
    none = await organization.member.create("import os\ndef none():\n    return dict(os.environ)")
    assert (await organization.member.execute(none)).value == {}


async def test_a_secret_that_a_tool_prints_returns_or_raises_is_masked(organization: Organization) -> None:
    await put(organization.admin)
    printed = await run(
        organization,
        "t = os.environ['TOKEN']; print('it is', t); print(base64.b64encode(b'user:' + t.encode()).decode(), file=sys.stderr); "
        "[(sys.stdout.write(c), sys.stdout.flush()) for c in t]; return {'a': [t, 1], t: json.dumps({'k': t})}",
    )
    assert "it is [secret TOKEN]" in printed.output
    assert printed.value == {"a": ["[secret TOKEN]", 1], "[secret TOKEN]": '{"k": "[secret TOKEN]"}'}
    failed = await run(organization, "raise type(os.environ['TOKEN'], (Exception,), {})(os.environ['TOKEN'])")
    assert (failed.result.error.type, failed.result.error.message) == ("[secret TOKEN]", "[secret TOKEN]")
    for executed in (printed, failed):
        said = executed.output + executed.result.text + str(executed.result)
        forms = (VALUE, urllib.parse.quote(VALUE, safe=""), base64.b64encode(b"user:" + VALUE.encode()).decode()[8:24])
        assert not any(form in said for form in forms)


async def test_a_missing_secret_is_named_before_anything_runs(organization: Organization) -> None:
    tool = await organization.member.create(settings=tool_pb2.ToolSettings(secrets=["ABSENT"]))
    with pytest.raises(FailedPrecondition) as refused:
        await organization.member.execute(tool, a=1)
    assert (refused.value.reason, refused.value.metadata["name"]) == ("SECRET_MISSING", "ABSENT")


async def test_set_list_replace_and_delete(organization: Organization) -> None:
    first = await put(organization.admin, "B_TOKEN")
    await put(organization.admin, "A_TOKEN")
    again = await put(organization.admin, "B_TOKEN", "changed-value")
    assert (again.id, again.name) == (first.id, "B_TOKEN")
    assert again.update_time.ToDatetime() > first.update_time.ToDatetime()
    page = await organization.member.secrets.ListSecrets(pb.ListSecretsRequest(page_size=1))
    assert [secret.name for secret in page.secrets] == ["A_TOKEN"]
    rest = await organization.member.secrets.ListSecrets(
        pb.ListSecretsRequest(page_size=1, page_token=page.next_page_token)
    )
    assert ([secret.name for secret in rest.secrets], rest.next_page_token) == (["B_TOKEN"], "")
    assert (await run(organization, "return os.environ['B_TOKEN'] == 'changed-value'", "B_TOKEN")).value is True
    for _ in range(2):
        await organization.admin.secrets.DeleteSecret(pb.DeleteSecretRequest(name="B_TOKEN"))
    listed = await organization.member.secrets.ListSecrets(pb.ListSecretsRequest())
    assert [secret.name for secret in listed.secrets] == ["A_TOKEN"]


async def test_only_administrators_change_them_and_nobody_sees_anothers(
    organization: Organization, stranger: Organization
) -> None:
    await put(organization.admin)
    for call in (
        put(organization.member),
        organization.member.secrets.DeleteSecret(pb.DeleteSecretRequest(name="TOKEN")),
        organization.viewer.secrets.ListSecrets(pb.ListSecretsRequest()),
    ):
        with pytest.raises(PermissionDenied):
            await call
    assert (await stranger.admin.secrets.ListSecrets(pb.ListSecretsRequest())).secrets == []
    await stranger.admin.secrets.DeleteSecret(pb.DeleteSecretRequest(name="TOKEN"))
    with pytest.raises(FailedPrecondition):
        await run(stranger, "return os.environ['TOKEN']")
    assert (await run(organization, f"return os.environ['TOKEN'] == {VALUE!r}")).value is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token", VALUE),
        ("1X", VALUE),
        ("", VALUE),
        ("A" * 65, VALUE),
        ("OK", "abc"),
        ("OK", "x" * 65_537),
        ("OK", "abcd\0"),
    ],
)
async def test_what_cannot_be_a_secret(name: str, value: str, organization: Organization) -> None:
    with pytest.raises(InvalidArgument):
        await put(organization.admin, name, value)


async def test_a_secret_moved_to_another_name_or_organization_cannot_be_opened(
    organization: Organization, stranger: Organization, tool_database: FreshDatabase
) -> None:
    await put(organization.admin)
    await put(organization.admin, "LESSER", "lesser-value")
    await put(stranger.admin, "TOKEN", "strangers-value")
    columns = "key_id = s.key_id, wrapped_key = s.wrapped_key, sealed = s.sealed"
    with psycopg.connect(tool_database.superuser_url, autocommit=True) as database:
        query = f"UPDATE secrets AS t SET {columns} FROM secrets AS s WHERE s.name = 'TOKEN' AND s.organization_id = %s"
        change = database.execute(
            (query + " AND ((t.organization_id = %s AND t.name = 'LESSER') OR t.organization_id = %s)").encode(),
            (organization.id, organization.id, stranger.id),
        )
        assert change.rowcount == 2
    for whose, name in ((organization, "LESSER"), (stranger, "TOKEN")):
        with pytest.raises(FailedPrecondition) as refused:
            await run(whose, "return 1", name)
        assert refused.value.reason == "SECRET_MISSING"


async def test_a_canary_is_in_no_log_and_no_dump(
    organization: Organization, service: ToolProcess, tool_database: FreshDatabase
) -> None:
    canary = f"canary-{os.urandom(12).hex()}"
    await put(organization.admin, "CANARY", canary)
    await run(organization, "print(os.environ['CANARY']); return os.environ['CANARY']", "CANARY")
    await run(organization, "raise ValueError(os.environ['CANARY'])", "CANARY")
    await run(organization, "os._exit(3)", "CANARY")
    with pytest.raises(InvalidArgument):
        await put(organization.admin, "no", canary)
    with pytest.raises(InvalidArgument):
        await put(organization.admin, "CANARY", canary + "\0")
    forms = [canary.encode(), base64.b64encode(canary.encode())[:-4], canary.encode().hex().encode()]
    log = service.log.read_bytes()
    dumped = dump(tool_database)
    assert b"CANARY" in dumped  # The name is there, so this is the dump that would hold the value.
    assert not any(form in log or form in dumped for form in forms)


def dump(database: FreshDatabase) -> bytes:
    """Every row of every table, as text."""
    with psycopg.connect(database.superuser_url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert names
        parts: list[bytes] = []
        for (name,) in names:
            copy = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(name))
            with connection.cursor().copy(copy) as rows:
                parts += [bytes(row) for row in rows]
    return b"".join(parts)


async def test_a_former_master_key_still_opens_and_the_new_one_seals(own_service: ToolProcess, tmp_path: Path) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, own_service.issuer)
        await put(organization.admin)
        assert (await run(organization, f"return os.environ['TOKEN'] == {VALUE!r}")).value is True
    own_service.stop()
    current = Path(own_service.environment["HEARTH_MASTER_KEY_FILE"])
    former = tmp_path / "former.key"
    former.write_text(current.read_text())
    current.write_text(base64.b64encode(os.urandom(32)).decode())
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.rebind(channel)
        with pytest.raises(FailedPrecondition):
            await run(organization, "return 1")
    own_service.stop()
    own_service.environment["HEARTH_FORMER_MASTER_KEY_FILES"] = str(former)
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.rebind(channel)
        assert (await run(organization, f"return os.environ['TOKEN'] == {VALUE!r}")).value is True
        await put(organization.admin, "TOKEN", "sealed-anew")
    own_service.stop()
    del own_service.environment["HEARTH_FORMER_MASTER_KEY_FILES"]
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.rebind(channel)
        assert (await run(organization, "return os.environ['TOKEN'] == 'sealed-anew'")).value is True
