"""What every RPC of Hearth declares to leave in the audit log, from the generated descriptors: a new one that declares nothing fails here."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from chassis.audit.declared import AuditRule, declared
from chassis.methods import Method, UndeclaredAudit, methods_of
from hearth.agent.v1 import agent_service_pb2, run_service_pb2
from hearth.user.v1 import api_key_service_pb2

_DESCRIPTORS = Path(__file__).parents[3] / "protos/gen/descriptors.binpb"
# Whatever begins like this changes something, so it cannot have been declared to leave nothing.
_MUTATIONS = ("Create", "Update", "Delete", "Upsert", "Set", "Revoke", "Edit", "Attach", "Detach", "Restore", "Insert")
_MORE = (
    "Import",
    "Export",
    "Start",
    "Send",
    "Cancel",
    "Resolve",
    "Submit",
    "Write",
    "Execute",
    "Sync",
    "Issue",
    "Rotate",
)


def _services() -> Iterator[str]:
    files = descriptor_pb2.FileDescriptorSet.FromString(_DESCRIPTORS.read_bytes()).file
    for file in files:
        if file.package.startswith("hearth."):
            importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
            yield from (f"{file.package}.{service.name}" for service in file.service)


def _methods() -> Iterator[Method]:
    for service in _services():
        yield from methods_of(service).values()


def _name(method: Method) -> str:
    return method.path.rpartition("/")[2]


def test_every_method_is_declared_and_names_fields_that_exist() -> None:
    methods = list(_methods())
    assert len(methods) > 80
    for method in methods:
        assert method.audit.rule is not AuditRule.UNSPECIFIED, method.path


def test_whatever_changes_something_is_recorded_and_says_what_it_was_about() -> None:
    for method in _methods():
        if _name(method).startswith((*_MUTATIONS, *_MORE)):
            assert method.audit.rule is AuditRule.ALWAYS, method.path
            named = method.audit.request_path or method.audit.response_path
            assert named or _name(method) in ("IssueToken", "ResolveToken"), method.path


def test_reads_of_people_are_not_recorded() -> None:
    for method in _methods():
        if _name(method).startswith(("Get", "List", "Watch", "Search")):
            assert method.audit.rule in (AuditRule.NEVER, AuditRule.SERVICES), method.path


def test_what_is_no_transaction_is_recorded_ahead() -> None:
    ahead = {_name(method) for method in _methods() if method.audit.ahead}
    assert ahead == {
        *("ExecuteTool", "ImportPassages", "ImportMemory", "ExportMemory", "ReconcileIndex", "ExportAgent")
    }


def test_a_method_that_declares_nothing_keeps_the_server_from_starting() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="undeclared.proto", package="undeclared", syntax="proto3")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Shop")
    for name in ("SellShoe", "GetShoe"):
        method = service.method.add(name=name, input_type=".undeclared.Empty", output_type=".undeclared.Empty")
        # (hearth.type.v1.access) = ACCESS_VIEWER, as the wire has it.
        method.options.MergeFromString(_option(50101, 2))
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    with pytest.raises(UndeclaredAudit, match="SellShoe") as caught:
        methods_of("undeclared.Shop")
    assert "GetShoe" not in str(caught.value)


def test_an_id_is_found_where_the_method_says() -> None:
    methods = methods_of("hearth.agent.v1.RunService")
    started = run_service_pb2.StartRunResponse()
    started.run.id = "run_1"
    assert methods["StartRun"].audit.answered_about(started) == "run_1"
    assert methods["StartRun"].audit.answered_about(started.SerializeToString()) == "run_1"
    assert methods["StartRun"].audit.answered_about(b"\xff") == ""
    cancel = run_service_pb2.CancelRunRequest(run_id="run_2")
    assert methods["CancelRun"].audit.asked_about(cancel) == "run_2"
    update = agent_service_pb2.UpdateAgentRequest()
    update.agent.id = "agent_1"
    assert methods_of("hearth.agent.v1.AgentService")["UpdateAgent"].audit.asked_about(update) == "agent_1"


def test_a_path_to_nothing_is_refused() -> None:
    method = api_key_service_pb2.DESCRIPTOR.services_by_name["ApiKeyService"].methods_by_name["CreateApiKey"]
    assert declared(method).response_path == ("api_key", "id")
    assert not declared(method).ahead


def _option(field: int, value: int) -> bytes:
    key, encoded = field << 3, bytearray()
    while key >= 0x80:
        encoded.append(key & 0x7F | 0x80)
        key >>= 7
    return bytes([*encoded, key, value])
