"""user_svc's settings say what is wrong with the files that they name."""

import hashlib
import json
from pathlib import Path

import pytest

from user_svc.settings import UserSettings


def test_service_keys_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    digest = hashlib.sha256(b"secret").hexdigest()
    file.write_text(json.dumps({"agent_svc": digest}))
    assert UserSettings(service_keys_file=file).service_keys() == {bytes.fromhex(digest): "agent_svc"}
    assert UserSettings().service_keys() == {}


@pytest.mark.parametrize("content", ["", "[]", '"x"', '{"a": 1}', '{"a": "hk_not_a_hash"}', '{"a": null}', "{"])
def test_wrong_service_keys_name_the_variable_and_not_the_content(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(content)
    with pytest.raises(ValueError, match="HEARTH_SERVICE_KEYS_FILE") as raised:
        UserSettings(service_keys_file=file).service_keys()
    assert "hk_not_a_hash" not in str(raised.value)


def test_the_admin_key_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "admin"
    file.write_text("hk_key\n")
    assert UserSettings(bootstrap_admin_key_file=file).bootstrap_admin_key() == "hk_key"
    assert UserSettings().bootstrap_admin_key() == ""
