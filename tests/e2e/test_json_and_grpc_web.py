"""The ways in for those without gRPC: JSON by curl, and gRPC-Web as a browser frames it."""

import asyncio
import json
import struct

import aiohttp
import pytest

from deploy.local import Stack
from hearth.agent.v1 import agent_service_pb2
from tests.support.api import Api


async def curl(*arguments: str) -> tuple[int, str]:
    """Runs curl; returns HTTP status and body."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    body, _, status = out.decode().rpartition("\n")
    return int(status), body


async def post(stack: Stack, method: str, body: object, token: str = "") -> tuple[int, str]:
    """Calls a method with JSON."""
    headers = ["-H", "content-type: application/json"]
    if token:
        headers += ["-H", f"authorization: Bearer {token}"]
    return await curl(*headers, "-d", json.dumps(body), f"{stack.url}/{method}")


async def test_curl_signs_in_and_talks(stack: Stack) -> None:
    status, body = await post(stack, "hearth.user.v1.TokenService/IssueToken", {"api_key": stack.api_key})
    assert status == 200, body
    token = json.loads(body)["token"]

    status, body = await post(stack, "hearth.agent.v1.AgentService/CreateAgent", {"name": "by-curl"}, token)
    assert status == 200, body
    agent = json.loads(body)["agent"]
    assert agent["name"] == "by-curl"
    assert agent["default_conversation_id"].startswith("conv_")

    said = {"start": {"agent_id": agent["id"], "text": "Hello over JSON."}}
    status, body = await post(stack, "hearth.agent.v1.RunService/SendMessage", said, token)
    assert status == 200, body
    assert "run_succeeded" in body
    assert "Hello over JSON." in body


async def test_curl_without_a_token_is_refused(stack: Stack) -> None:
    status, body = await post(stack, "hearth.agent.v1.AgentService/ListAgents", {})
    assert status == 401, body


async def test_an_unknown_id_is_404(stack: Stack, api: Api) -> None:
    status, body = await post(stack, "hearth.agent.v1.RunService/GetRun", {"run_id": "run_0"}, api.token)
    assert status == 404
    assert "RESOURCE_NOT_FOUND" in body


@pytest.mark.parametrize("body", ["{", '{"name": 7}', "[]", "null", '{"nope": "x"}'])
async def test_malformed_json_is_the_clients_fault(stack: Stack, api: Api, body: str) -> None:
    status, _ = await curl(
        "-H", "content-type: application/json", "-H", f"authorization: Bearer {api.token}", "-d", body,
        f"{stack.url}/hearth.agent.v1.AgentService/CreateAgent",
    )  # fmt: skip
    assert 400 <= status < 500


async def test_the_public_keys_are_where_everyone_looks(stack: Stack) -> None:
    status, body = await curl(f"{stack.url}/.well-known/jwks.json")
    assert status == 200
    keys = json.loads(body)["keys"]
    assert keys
    assert all(key["kty"] == "OKP" and key["kid"] and "d" not in key for key in keys)


async def test_grpc_web(stack: Stack, api: Api) -> None:
    message = agent_service_pb2.ListAgentsRequest(page_size=1).SerializeToString()
    url = f"{stack.url}/hearth.agent.v1.AgentService/ListAgents"
    headers = {
        "content-type": "application/grpc-web+proto",
        "x-grpc-web": "1",
        "authorization": f"Bearer {api.token}",
    }
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, data=struct.pack(">BI", 0, len(message)) + message, headers=headers) as answer,
    ):
        assert answer.status == 200
        body = await answer.read()
    flag, size = struct.unpack(">BI", body[:5])
    assert flag == 0
    agent_service_pb2.ListAgentsResponse.FromString(body[5 : 5 + size])
    trailers = body[5 + size :]
    assert trailers[0] & 0x80
    assert b"grpc-status:0" in trailers.replace(b" ", b"")
