"""The door's configuration agrees with the protos: every public service and stream is in it, nothing internal is."""

import base64
import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2

from deploy.local.envoy import DESCRIPTORS, RATES, TEMPLATE, rates, render
from deploy.local.supervisor import StartError

ADDRESSES: tuple[str, ...] = ("public", "admin", "keys", "user_svc", "tool_svc", "memory_svc", "agent_svc", "gateway")

VALUES = {"DESCRIPTORS": DESCRIPTORS, "ACCESS_LOG": Path("/logs/access.log"), **RATES}


@pytest.fixture(scope="module")
def text() -> str:
    addresses = {name: f"127.0.0.1:{4000 + number}" for number, name in enumerate(ADDRESSES)}
    return render(TEMPLATE.read_text(), addresses, VALUES, None)


@pytest.fixture(scope="module")
def manager(text: str) -> dict[str, Any]:
    """The HTTP connection manager of the public listener."""
    public = yaml.safe_load(text)["static_resources"]["listeners"][0]
    assert public["name"] == "public"
    return public["filter_chains"][0]["filters"][0]["typed_config"]


@pytest.fixture(scope="module")
def services() -> dict[str, list[descriptor_pb2.MethodDescriptorProto]]:
    """Full name of a service of Hearth → its methods."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    return {f"{file.package}.{service.name}": list(service.method) for file in files for service in file.service}


def filter_of(manager: dict[str, Any], name: str) -> dict[str, Any]:
    return next(f["typed_config"] for f in manager["http_filters"] if f["name"] == f"envoy.filters.http.{name}")


def route_of(manager: dict[str, Any], path: str, *, grpc: bool) -> dict[str, Any]:
    """The route that Envoy would take: the first that matches."""
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        match = route["match"]
        fits = path == match["path"] if "path" in match else path.startswith(match["prefix"])
        if fits and (grpc or "grpc" not in match):
            return route
    raise AssertionError(path)


def test_every_public_service_speaks_json_and_no_internal_one(
    manager: dict[str, Any], services: dict[str, Any]
) -> None:
    public = {name for name in services if ".internal." not in name}
    assert set(filter_of(manager, "grpc_json_transcoder")["services"]) == public
    assert len(public) == 22


def test_streams_have_no_time_limit_and_unary_calls_do(manager: dict[str, Any], services: dict[str, Any]) -> None:
    for name, methods in services.items():
        if ".internal." in name:
            continue
        package = name.split(".")[1]
        for method in methods:
            route = route_of(manager, f"/{name}/{method.name}", grpc=True)["route"]
            assert route["cluster"] == f"{package}_svc", method.name
            streams = method.client_streaming or method.server_streaming
            assert (route["timeout"] == "0s") == streams, f"{name}/{method.name}"


def test_internal_services_and_foreign_grpc_lead_nowhere(manager: dict[str, Any], services: dict[str, Any]) -> None:
    internal = [f"/{name}/{m.name}" for name, methods in services.items() if ".internal." in name for m in methods]
    assert internal
    for path in [*internal, "/grpc.health.v1.Health/Check"]:
        assert route_of(manager, path, grpc=True)["direct_response"] == {"status": 404}
    for path in internal:
        assert route_of(manager, path, grpc=False)["direct_response"] == {"status": 404}


@pytest.mark.parametrize("path", ["/", "/hearth.js", "/assets/page.css", "/v1/socket", "/v1/anything"])
def test_pages_and_sockets_lead_to_the_gateway(manager: dict[str, Any], path: str) -> None:
    assert route_of(manager, path, grpc=False)["route"]["cluster"] == "gateway"


def test_all_calls_need_a_token_but_the_two_that_lead_to_one(manager: dict[str, Any], services: dict[str, Any]) -> None:
    rules = filter_of(manager, "jwt_authn")["rules"]
    free = {rule["match"].get("path") for rule in rules if "requires" not in rule}
    assert free == {"/hearth.user.v1.TokenService/IssueToken", "/hearth.user.v1.TokenService/GetJwks", "/hearth.js"}
    either = [{"provider_name": "hearth"}, {"provider_name": "trusted_issuers"}]
    assert rules[-1] == {"match": {"prefix": "/hearth."}, "requires": {"requires_any": {"requirements": either}}}
    assert {name: one["forward"] for name, one in filter_of(manager, "jwt_authn")["providers"].items()} == {
        "hearth": True,
        "trusted_issuers": True,
    }


def test_encoded_errors_say_what_the_text_beside_them_says(manager: dict[str, Any]) -> None:
    mappers = manager["local_reply_config"]["mappers"]
    grpc = [mapper for mapper in mappers if "headers_to_add" in mapper]
    plain = [mapper for mapper in mappers if "headers_to_add" not in mapper]
    assert len(grpc) == len(plain) == 7
    for encoded, json_mapper in zip(grpc, plain, strict=True):
        value: str = encoded["headers_to_add"][0]["header"]["value"]
        status = status_pb2.Status.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        body = json_mapper["body_format_override"]["json_format"]
        assert status.message == encoded["body"]["inline_string"] == json_mapper["body"]["inline_string"]
        assert (status.code, info.reason, info.domain) == (
            body["code"],
            body["details"][0]["reason"],
            body["details"][0]["domain"],
        )


def test_streams_may_be_silent_longer_than_their_checkpoints(manager: dict[str, Any]) -> None:
    assert int(manager["stream_idle_timeout"].rstrip("s")) > 2 * 25


def test_organizations_users_and_who_asks_for_tokens_have_buckets_of_their_own(manager: dict[str, Any]) -> None:
    limits = filter_of(manager, "local_ratelimit")
    rates_of = {
        tuple(entry["key"] for entry in one["entries"]): one["token_bucket"]["tokens_per_fill"]
        for one in limits["descriptors"]
    }
    assert rates_of == {
        ("organization",): RATES["ORGANIZATION_RATE"],
        ("user",): RATES["USER_RATE"],
        ("method", "masked_remote_address"): RATES["TOKEN_RATE"],
    }
    provider = filter_of(manager, "jwt_authn")["providers"]["hearth"]
    claims = [one["actions"][0]["metadata"]["metadata_key"]["path"] for one in limits["rate_limits"][:2]]
    assert [[step["key"] for step in path] for path in claims] == [
        [provider["payload_in_metadata"], claim] for claim in ("org", "sub")
    ]


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1000001", "1.5"])
def test_rates_are_settings(wrong: str) -> None:
    assert rates({}) == dict(RATES)
    assert rates({"HEARTH_DOOR_TOKEN_RATE": "7"})["TOKEN_RATE"] == 7
    with pytest.raises(StartError, match="HEARTH_DOOR_USER_RATE"):
        rates({"HEARTH_DOOR_USER_RATE": wrong})


def test_only_addresses_paths_and_rates_are_left_open() -> None:
    names = set(re.findall(r"\$\{(\w+)\}", TEMPLATE.read_text()))
    assert names == {f"{name.upper()}_{part}" for name in ADDRESSES for part in ("HOST", "PORT")} | set(VALUES)
    with pytest.raises(KeyError):
        render("${SOMETHING}", {}, {}, None)
    assert string.Template("$$").substitute() == "$"


def test_a_certificate_puts_tls_on_the_public_listener_only(text: str) -> None:
    addresses = dict.fromkeys(ADDRESSES, "127.0.0.1:1")
    with_tls = yaml.safe_load(render(TEMPLATE.read_text(), addresses, VALUES, ("/cert.pem", "/key.pem")))
    public, keys = with_tls["static_resources"]["listeners"]
    context = public["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_certificates"][0]["private_key"] == {"filename": "/key.pem"}
    assert "transport_socket" not in keys["filter_chains"][0]
    assert "transport_socket:" not in text
