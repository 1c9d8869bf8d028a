"""Page tokens are good for their query and for nothing else."""

import base64

import pytest

from chassis.errors import InvalidArgument
from chassis.pagination import PageTokens, fingerprint, page_size
from hearth.user.v1 import api_key_service_pb2, user_service_pb2

_TOKENS = PageTokens(b"k" * 32)
_QUERY = api_key_service_pb2.ListApiKeysRequest(user_id="user_a")


def test_a_token_gives_its_position_back() -> None:
    print_ = fingerprint(_QUERY, "org")
    token = _TOKENS.sign(print_, ["ünïcode", 12])
    assert _TOKENS.verify(token, print_) == ["ünïcode", 12]


def test_no_token_is_the_first_page() -> None:
    assert _TOKENS.verify("", fingerprint(_QUERY)) is None


def test_the_page_size_may_change_and_the_filter_may_not() -> None:
    base = fingerprint(_QUERY, "org")
    assert (
        fingerprint(api_key_service_pb2.ListApiKeysRequest(user_id="user_a", page_size=3, page_token="x"), "org")
        == base
    )
    assert fingerprint(api_key_service_pb2.ListApiKeysRequest(user_id="user_b"), "org") != base
    assert fingerprint(_QUERY, "other org") != base
    assert fingerprint(user_service_pb2.ListUsersRequest(), "org") != fingerprint(
        api_key_service_pb2.ListApiKeysRequest(), "org"
    )


@pytest.mark.parametrize("other", [fingerprint(_QUERY, "other"), fingerprint(user_service_pb2.ListUsersRequest())])
def test_a_token_of_another_query_is_refused(other: bytes) -> None:
    token = _TOKENS.sign(fingerprint(_QUERY, "org"), ["a"])
    with pytest.raises(InvalidArgument) as raised:
        _TOKENS.verify(token, other)
    assert raised.value.reason == "PAGE_TOKEN_INVALID"


def test_a_token_of_another_secret_is_refused() -> None:
    token = PageTokens(b"x" * 32).sign(fingerprint(_QUERY), ["a"])
    with pytest.raises(InvalidArgument):
        _TOKENS.verify(token, fingerprint(_QUERY))


def test_every_changed_byte_is_noticed() -> None:
    print_ = fingerprint(_QUERY)
    raw = base64.urlsafe_b64decode(_TOKENS.sign(print_, ["abc"]) + "==")
    for index in range(len(raw)):
        changed = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
        with pytest.raises(InvalidArgument):
            _TOKENS.verify(base64.urlsafe_b64encode(changed).decode().rstrip("="), print_)


@pytest.mark.parametrize("token", ["x", "!!!!", "é", "AAAA", "a" * 2048, "\0"])
def test_nonsense_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        _TOKENS.verify(token, fingerprint(_QUERY))
    assert raised.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)])
def test_page_size(asked: int, given: int) -> None:
    assert page_size(asked) == given


def test_a_negative_page_size_is_an_error() -> None:
    with pytest.raises(InvalidArgument):
        page_size(-1)
