"""Templates through the gRPC face, and the agents that are made of them."""

import asyncio
import uuid
from typing import Any

from chassis import ids
from hearth.agent.v1 import agent_pb2, agent_service_pb2
from hearth.agent.v1 import template_service_pb2 as pb
from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from hearth.agent.v1.template_service_pb2_grpc import TemplateServiceStub
from tests.integration.agent_svc.grpc_client import Client, refused
from tests.integration.agent_svc.replica import Replica

DOCUMENT = """\
description: Answers customers.
variables:
  customer: {required: true, description: Who it works for.}
agent:
  name: "support-{{ customer }}"
  description: "Helps {{ customer }}"
  instructions: "You work for {{ customer }}."
  tools: [lookup]
  blocks:
    - {label: customer, value: "{{ customer }}"}
  tags: [support]
  settings: {max_steps: 5, passive_recall: false}
  metadata: {customer: "{{ customer }}", made: by template}
"""


async def push(client: Client, name: str, document: str, **fields: Any) -> pb.UpsertTemplateResponse:
    request = pb.UpsertTemplateRequest(name=name, document=document, **fields)
    return await TemplateServiceStub(client.channel).UpsertTemplate(request, metadata=client.md)


async def test_every_change_of_a_template_is_a_version(client: Client) -> None:
    templates = TemplateServiceStub(client.channel)
    first = await push(client, "support", DOCUMENT)
    assert (first.created, first.template.version, first.template.description) == (True, 1, "Answers customers.")
    assert [(v.name, v.required, v.HasField("default_value")) for v in first.template.variables] == [
        ("customer", True, False)
    ]
    same = await push(client, "support", DOCUMENT)
    assert (same.created, same.template) == (False, first.template)
    second = await push(client, "support", DOCUMENT.replace("Answers", "Helps"), etag=first.template.etag)
    assert (second.created, second.template.version, second.template.id) == (False, 2, first.template.id)
    stale = push(client, "support", DOCUMENT, etag=first.template.etag)
    assert (await refused(stale)).reason == "ETAG_MISMATCH"
    absent = push(client, "another", DOCUMENT, etag="1")
    assert (await refused(absent)).reason == "ETAG_MISMATCH"
    newest = await templates.GetTemplate(pb.GetTemplateRequest(name="support"), metadata=client.md)
    assert newest.template == second.template
    older = await templates.GetTemplate(pb.GetTemplateRequest(name="support", version=1), metadata=client.md)
    assert older.template.document == DOCUMENT
    third = pb.GetTemplateRequest(name="support", version=3)
    assert (await refused(templates.GetTemplate(third, metadata=client.md))).reason == "RESOURCE_NOT_FOUND"


async def test_templates_and_versions_are_listed_in_pages_and_deleted_together(client: Client) -> None:
    templates = TemplateServiceStub(client.channel)
    for name in ("one", "two", "three"):
        await push(client, name, f"description: is {name}\nagent: {{name: a}}")
    for number in range(3):
        await push(client, "one", f"description: is one, {number}\nagent: {{name: a}}")
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListTemplatesRequest(page_size=2, page_token=token)
        page = await templates.ListTemplates(request, metadata=client.md)
        found += [f"{one.name} {one.version} {one.document}" for one in page.templates]
        token = page.next_page_token
        if not token:
            break
    assert found == ["three 1 ", "two 1 ", "one 4 "]
    by_text = await templates.ListTemplates(pb.ListTemplatesRequest(text="IS ONE"), metadata=client.md)
    assert [one.name for one in by_text.templates] == ["one"]
    versions = pb.ListTemplateVersionsRequest(name="one", page_size=3)
    page = await templates.ListTemplateVersions(versions, metadata=client.md)
    assert [one.version for one in page.templates] == [4, 3, 2]
    versions.page_token = page.next_page_token
    page = await templates.ListTemplateVersions(versions, metadata=client.md)
    assert [(one.version, one.description) for one in page.templates] == [(1, "is one")]
    for _ in range(2):
        await templates.DeleteTemplate(pb.DeleteTemplateRequest(name="one"), metadata=client.md)
    gone = pb.ListTemplateVersionsRequest(name="one")
    assert (await refused(templates.ListTemplateVersions(gone, metadata=client.md))).reason == "RESOURCE_NOT_FOUND"
    assert (await push(client, "one", "agent: {name: a}")).template.version == 1


async def test_those_who_push_at_once_make_versions_in_a_row(client: Client) -> None:
    pushed = await asyncio.gather(
        *(push(client, "busy", f"description: '{number}'\nagent: {{name: a}}") for number in range(6))
    )
    assert sorted(one.template.version for one in pushed) == [1, 2, 3, 4, 5, 6]
    assert [one.created for one in pushed].count(True) == 1


async def test_a_push_is_answered_once(client: Client) -> None:
    request_id = str(uuid.uuid4())
    first = await push(client, "once", "agent: {name: a}", request_id=request_id)
    await push(client, "once", "agent: {name: b}")
    assert await push(client, "once", "agent: {name: a}", request_id=request_id) == first
    reused = push(client, "once", "agent: {name: c}", request_id=request_id)
    assert (await refused(reused)).reason == "REQUEST_ID_REUSED"


async def test_a_template_that_makes_no_agent_is_refused_by_line(client: Client) -> None:
    error = await refused(push(client, "bad", "agent:\n  name: a\n  settings: {max_steps: 0}\n"))
    assert (error.code, error.reason, error.metadata["line"]) == ("INVALID_ARGUMENT", "TEMPLATE_INVALID", "3")


async def test_an_agent_is_made_of_a_template(client: Client, here: Replica) -> None:
    async def nothing(_: dict[str, object]) -> str:
        return ""

    tool_id = here.tools.add("lookup", nothing)
    await push(client, "support", DOCUMENT)
    made = await client.agent(name="", template="support", variables={"customer": "ACME"})
    assert (made.name, made.description, made.instructions) == ("support-ACME", "Helps ACME", "You work for ACME.")
    assert (list(made.tool_ids), list(made.tags), made.settings.max_steps) == (
        [ids.encode("tool", tool_id)],
        ["support"],
        5,
    )
    assert here.memory.blocks[ids.decode("agent", made.id)] == ["customer"]
    other = await client.agent(
        name="mine",
        template="support",
        template_version=1,
        variables={"customer": "ACME"},
        tags=["own"],
        settings=agent_pb2.AgentSettings(max_steps=7),
        metadata={"made": "by hand"},
    )
    assert (other.name, other.instructions, list(other.tags)) == ("mine", "You work for ACME.", ["own"])
    assert (other.settings.max_steps, other.settings.passive_recall) == (7, False)
    assert dict(other.metadata) == {"customer": "ACME", "made": "by hand"}


async def test_what_a_template_lacks_is_refused_and_leaves_no_agent(client: Client, foreigner: Client) -> None:
    await push(client, "support", DOCUMENT)
    missing = await refused(client.agent(name="", template="support", variables={"costumer": "ACME"}))
    assert (missing.code, missing.reason) == ("INVALID_ARGUMENT", "TEMPLATE_VARIABLES_INVALID")
    assert missing.metadata == {"missing": "customer", "unknown": "costumer"}
    tool = await refused(client.agent(name="", template="support", variables={"customer": "ACME"}))
    assert (tool.reason, "lookup" in tool.message) == ("RESOURCE_NOT_FOUND", True)
    theirs = await refused(foreigner.agent(name="a", template="support", variables={"customer": "ACME"}))
    assert (theirs.reason, theirs.metadata["resource"]) == ("RESOURCE_NOT_FOUND", "support")
    nameless = await refused(client.agent(name=""))
    assert (nameless.reason, nameless.field_violations[0].field) == ("VALIDATION_FAILED", "name")
    agents = await AgentServiceStub(client.channel).ListAgents(
        agent_service_pb2.ListAgentsRequest(), metadata=client.md
    )
    assert list(agents.agents) == []


async def test_an_agent_of_a_template_is_answered_once_even_when_the_template_is_gone(client: Client) -> None:
    await push(client, "small", "agent: {name: tiny}")
    request_id = str(uuid.uuid4())
    made = await client.agent(name="", template="small", request_id=request_id)
    templates = TemplateServiceStub(client.channel)
    await templates.DeleteTemplate(pb.DeleteTemplateRequest(name="small"), metadata=client.md)
    assert await client.agent(name="", template="small", request_id=request_id) == made


async def test_rendering_shows_the_agent_and_makes_none(client: Client, here: Replica) -> None:
    templates = TemplateServiceStub(client.channel)
    await push(client, "support", DOCUMENT)
    stored = pb.RenderTemplateRequest(name="support", variables={"customer": "ACME"})
    shown = (await templates.RenderTemplate(stored, metadata=client.md)).agent
    assert (shown.name, list(shown.tools), shown.blocks[0].value) == ("support-ACME", ["lookup"], "ACME")
    loose = pb.RenderTemplateRequest(document=DOCUMENT, variables={"customer": "ACME"})
    assert (await templates.RenderTemplate(loose, metadata=client.md)).agent == shown
    assert here.memory.blocks == {}
