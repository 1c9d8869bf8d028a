"""A revoked credential has no socket for long, and opens no new one."""

from tests.integration.gateway.conftest import Harness


async def _ticket(harness: Harness, token: str) -> str:
    headers = {"authorization": f"Bearer {token}", "origin": harness.origin}
    async with harness.http.post(f"{harness.origin}/v1/tickets", headers=headers) as answer:
        assert answer.status == 200
        return str((await answer.json())["ticket"])


async def test_the_socket_of_a_revoked_user_is_closed_and_others_stay(harness: Harness) -> None:
    token, other = harness.world.tokens.issue(subject="user_1"), harness.world.tokens.issue(subject="user_2")
    client, bystander = await harness.connect(token), await harness.connect(other)
    ticket = await _ticket(harness, token)
    harness.world.void.append("user_1")
    closing, code = await client.closed()
    assert code == 4401
    assert closing is not None
    assert closing["message"] == "TOKEN_INVALID: the credential has been revoked"
    assert (await bystander.request("call", method="agent.ListAgents"))["type"] == "ok"

    late = await harness.dial(url=f"{harness.url}?ticket={ticket}")
    assert (await late.closed())[1] == 4401
    again = await harness.dial()
    await again.send(type="hello", id=1, token=token)
    assert (await again.closed())[1] == 4401


async def test_an_auth_with_a_revoked_token_changes_nothing(harness: Harness) -> None:
    client = await harness.connect(harness.world.tokens.issue(subject="user_1", key="key_1"))
    harness.world.void.append("key_2")
    await harness.built.revocations.refresh()
    answer = await client.request("auth", token=harness.world.tokens.issue(subject="user_1", key="key_2"))
    assert answer["type"] == "error"
    assert answer["reason"] == "TOKEN_INVALID"
    assert (await client.request("call", method="agent.ListAgents"))["type"] == "ok"
