"""Settings come from the environment, and keys from files that say what is wrong with them."""

import base64
from pathlib import Path

import pytest
from pydantic import ValidationError

from chassis.settings import ServiceSettings


def test_environment_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_LISTEN", "127.0.0.1:4711")
    monkeypatch.setenv("HEARTH_DATABASE_URL", "postgresql://u:secret@h/d")
    settings = ServiceSettings()
    assert settings.listen == "127.0.0.1:4711"
    assert settings.database_url.get_secret_value().endswith("@h/d")
    assert "secret" not in repr(settings)


def test_wrong_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_ENVIRONMENT", "staging")
    with pytest.raises(ValidationError):
        ServiceSettings()


def test_derived_keys_differ_by_purpose_and_are_not_the_master_key(tmp_path: Path) -> None:
    file = tmp_path / "master"
    file.write_text(base64.b64encode(b"m" * 32).decode() + "\n")
    settings = ServiceSettings(master_key_file=file)
    keys = {settings.master_key(), settings.derived_key("a"), settings.derived_key("b")}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)
    assert settings.derived_key("a") == settings.derived_key("a")


@pytest.mark.parametrize("content", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_bad_master_key_names_the_variable_and_not_the_content(tmp_path: Path, content: str) -> None:
    file = tmp_path / "master"
    file.write_text(content)
    with pytest.raises(ValueError, match="HEARTH_MASTER_KEY_FILE") as raised:
        ServiceSettings(master_key_file=file).master_key()
    assert not content or content not in str(raised.value)


def test_a_missing_master_key_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="HEARTH_MASTER_KEY_FILE"):
        ServiceSettings().master_key()
    with pytest.raises(ValueError, match="HEARTH_MASTER_KEY_FILE"):
        ServiceSettings(master_key_file=tmp_path / "absent").master_key()
