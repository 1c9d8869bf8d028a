"""Where the client finds its Hearth, and what it must not do with a key."""

import os
from pathlib import Path

import pytest

from hearth_client import AsyncHearth
from hearth_client._settings import discover, read_env_file

FILE = "export HEARTH_URL=http://127.0.0.1:8080\nexport HEARTH_API_KEY='hk_file'  # the admin's\nexport PATH=\"/x:$PATH\"\nif true; then\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".hearth").mkdir()
    (tmp_path / ".hearth" / "env").write_text(FILE)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    return below


def test_the_nearest_file_above_is_found(project: Path) -> None:
    found = discover(environ={}, start=project)
    assert (found.url, found.api_key) == ("http://127.0.0.1:8080", "hk_file")
    assert found.source.endswith(".hearth/env")


def test_what_is_given_wins_over_the_environment_and_that_over_the_file(project: Path) -> None:
    environ = {"HEARTH_URL": "http://env:1", "HEARTH_API_KEY": "hk_env"}
    assert discover("http://opt:1", "hk_opt", environ=environ, start=project).url == "http://opt:1"
    assert discover(environ=environ, start=project).api_key == "hk_env"


def test_the_files_key_goes_only_to_the_files_address(project: Path) -> None:
    assert discover("http://elsewhere:1", environ={}, start=project).api_key == ""
    assert discover("http://127.0.0.1:8080/", environ={}, start=project).api_key == "hk_file"


def test_hearth_home_names_the_folder(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "env").write_text("HEARTH_URL=http://home:1\nHEARTH_API_KEY=hk_home\n")
    assert discover(environ={"HEARTH_HOME": str(home)}, start=project).url == "http://home:1"


def test_a_strangers_file_is_not_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    owner = (project.parent.parent / ".hearth" / "env").stat().st_uid
    found = discover(environ={}, start=project)
    assert (found.url == "") == (owner != 0)


def test_nothing_is_nothing(tmp_path: Path) -> None:
    found = discover(environ={"HEARTH_HOME": str(tmp_path)}, start=tmp_path)
    assert (found.url, found.api_key) == ("", "")


def test_lines_that_are_no_assignments_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text(FILE)
    assert set(read_env_file(path)) == {"HEARTH_URL", "HEARTH_API_KEY", "PATH"}


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://h/path", "http://u:p@h", "http://h?x=1"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="Hearth"):
        AsyncHearth(url, "hk")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://hearth.example", "hearth.example:443"),
        ("http://hearth.example/", "hearth.example:80"),
        ("http://[::1]:9", "[::1]:9"),
    ],
)
def test_addresses(url: str, target: str) -> None:
    assert AsyncHearth(url, "hk")._connection._target == target
