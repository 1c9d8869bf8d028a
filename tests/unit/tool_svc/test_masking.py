"""A secret never comes through whole, however it is written, wherever output is cut."""

import base64
import json
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_svc.domain.execution import Failed, Limit, LimitExceeded, OutputChunk, OutputStream, Succeeded
from tool_svc.domain.masking import Mask, MaskedOutput

SECRET = "s3cr'et\"/+ä?&=\\x"
MASK = Mask({"TOKEN": SECRET})
MARK = "[secret TOKEN]"


@pytest.mark.parametrize(
    "write",
    [
        str,
        repr,
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        urllib.parse.quote,
        urllib.parse.quote_plus,
        lambda text: urllib.parse.quote(text, safe=""),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(b"u:" + text.encode() + b"\n").decode(),
        lambda text: base64.b64encode(b"user:" + text.encode() + b"xy").decode(),
        lambda text: base64.b64encode(b"abc" + text.encode()).decode(),
    ],
)
def test_every_way_to_write_it_is_masked(write: Callable[[str], str]) -> None:
    written = f"before {write(SECRET)} after"
    masked = MASK.text(written)
    assert MARK in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")


def test_other_text_is_left_alone() -> None:
    assert MASK.text("nothing here, s3cr") == "nothing here, s3cr"
    assert Mask({}).text(SECRET) == SECRET
    assert MASK.value({"a": [1, 1.5, None, True, "s3"]}) == {"a": [1, 1.5, None, True, "s3"]}


def test_values_keys_and_numbers_are_masked() -> None:
    mask = Mask({"PIN": "483920"})
    assert mask.value({"483920": [483920, 1483920.5, "x483920y"]}) == {
        "[secret PIN]": ["[secret PIN]", "1[secret PIN].5", "x[secret PIN]y"]
    }


def test_a_beginning_at_the_end_is_masked_where_the_text_was_cut() -> None:
    mask = Mask({"KEY": "abcdefghijklmnop"})
    assert mask.text("it is abcdefghij") == "it is [secret KEY]"
    assert mask.text("it is abcd") == "it is abcd"


def test_lines_of_a_key_file_are_masked_one_by_one() -> None:
    lines = ["-----BEGIN KEY-----", "MIIEvQIBADANBgkqhkiG", "9w0BAQEFAASCBKcwggSj", "-----END KEY-----"]
    mask = Mask({"PEM": "\n".join(lines)})
    assert mask.text(f"second line: {lines[1]}!") == "second line: [secret PEM]!"


def test_the_longest_secret_is_masked_in_pieces() -> None:
    secret = "".join(chr(97 + (n * n + n // 7) % 26) for n in range(65_536))
    masked = Mask({"LONG": secret}).text(f"<{secret}>")
    assert not any(secret[at : at + 64] in masked for at in range(0, 65_536 - 64, 61))


def test_outcomes_are_masked() -> None:
    assert MASK.outcome(Succeeded(json.dumps({"a": SECRET}))) == Succeeded('{"a":"[secret TOKEN]"}')
    assert MASK.outcome(Succeeded('{"a": 1}')) == Succeeded('{"a": 1}')
    assert MASK.outcome(Failed(SECRET, f"x {SECRET}", f"y {SECRET}")) == Failed(MARK, f"x {MARK}", f"y {MARK}")
    assert MASK.outcome(LimitExceeded(Limit.CPU, SECRET)) == LimitExceeded(Limit.CPU, MARK)


@given(st.lists(st.integers(1, 40), max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_cuts_do_not_matter(cuts: list[int], before: str, after: str) -> None:
    secret = "abcabcabd-the-secret"
    output = MaskedOutput(Mask({"S": secret}))
    text = before + "abcabc" + secret + after + secret
    shown: list[OutputChunk] = []
    at = 0
    for cut in [*cuts, len(text)]:
        shown += output.take(OutputChunk(OutputStream.STDOUT, text[at : at + cut]))
        at += cut
    shown += output.rest()
    told = "".join(chunk.text for chunk in shown)
    assert told == text.replace(secret, "[secret S]")


def test_output_that_is_cut_within_a_secret_does_not_tell_its_beginning() -> None:
    output = MaskedOutput(Mask({"S": "0123456789abcdef"}))
    note = OutputChunk(OutputStream.STDOUT, "[output truncated]", truncated=True)
    shown = [*output.take(OutputChunk(OutputStream.STDOUT, "it is 0123456789")), *output.take(note), *output.rest()]
    assert [chunk.text for chunk in shown] == ["it is ", "[secret S]", "[output truncated]"]


def test_output_that_cannot_be_a_secret_is_not_held_back() -> None:
    output = MaskedOutput(Mask({"S": "0123456789abcdef"}))
    assert [chunk.text for chunk in output.take(OutputChunk(OutputStream.STDERR, "working…"))] == ["working…"]
