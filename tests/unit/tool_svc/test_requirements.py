"""What a tool may write as a requirement: a package of the index by name and version, and nothing that pip would take for an order."""

import pytest

from chassis.errors import InvalidArgument
from tool_svc.adapters.packages.requirements import check, key_of

_HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.parametrize(
    "requirements",
    [
        [],
        ["humanize"],
        ["humanize==4.9.0", "six>=1.16,<2"],
        ["httpx[http2]==0.27.0"],
        ['tomli==2.0.1 ; python_version < "3.12"'],
        [f"six==1.17.0 {_HASH}"],
        [f"six==1.17.0 {_HASH} {_HASH}", f"humanize==4.9.0 {_HASH}"],
    ],
)
def test_names_and_versions(requirements: list[str]) -> None:
    check(requirements)


@pytest.mark.parametrize(
    "requirement",
    [
        "",
        " ",
        "-r /etc/passwd",
        "-e .",
        "--index-url http://127.0.0.1/",
        "x --index-url http://127.0.0.1/",
        "x --find-links /tmp",
        "x\n--index-url=http://127.0.0.1/",
        "x==1\r\n-r y",
        f"x {_HASH}\n-r /etc/passwd",
        f"x {_HASH} --index-url=http://127.0.0.1/",
        "x --hash=md5:" + "0" * 32,
        "x --hash=sha256:" + "0" * 63,
        "x @ file:///etc/passwd",
        "x @ git+https://127.0.0.1/x",
        "./local",
        "../x",
        "/etc/passwd",
        "https://127.0.0.1/x.whl",
        "x; __import__('os')",
        "${HOME}",
        "x # comment",
        "\u202ex",
        "x\0",
        "x\\",
    ],
)
def test_anything_else(requirement: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(["six", requirement])
    assert refused.value.field_violations[0].field == "tool.settings.requirements[1]"


def test_hashes_are_for_all_or_none() -> None:
    with pytest.raises(InvalidArgument, match="all requirements or for none"):
        check([f"six==1.17.0 {_HASH}", "humanize==4.9.0"])


def test_the_order_of_requirements_does_not_matter() -> None:
    assert key_of(["a", "b"]) == key_of(["b", "a", "a"])
    assert key_of(["a", "b"]) != key_of(["a"])
