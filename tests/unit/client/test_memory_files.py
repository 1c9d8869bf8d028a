"""What `hearth memory import` takes: its own exports, mem0's, and plain lines."""

import json
from pathlib import Path

import pytest

from hearth_client.cli._memory_files import open_file
from hearth_client.cli._session import Failure

RECORD = {"passage": {"passage": {"id": "psg_1", "text": "x"}, "versions": [{"version": 1, "text": "x"}]}}
MEM0 = {
    "results": [
        {
            "id": "1f",
            "memory": "Likes rain",
            "hash": "abc",
            "metadata": {"mood": "calm", "list": [1, 2]},
            "created_at": "2026-03-01T12:00:00Z",
            "user_id": "ada",
            "updated_at": None,
        }
    ]
}


def write(folder: Path, content: str) -> Path:
    path = folder / "file"
    path.write_text(content)
    return path


def test_an_export_is_known_by_its_records(tmp_path: Path) -> None:
    found = open_file(write(tmp_path, f"\n{json.dumps(RECORD)}\n{json.dumps(RECORD)}\n"), "auto")
    assert found.format == "hearth"
    assert [record.passage.passage.text for record in found.records()] == ["x", "x"]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(MEM0),
        json.dumps(MEM0, indent=2),
        json.dumps(MEM0["results"]),
        json.dumps(MEM0["results"][0]) + "\n",
    ],
)
def test_mem0s_exports(tmp_path: Path, content: str) -> None:
    found = open_file(write(tmp_path, content), "auto")
    assert found.format == "mem0"
    [spec] = found.passages()
    assert spec.text == "Likes rain"
    assert dict(spec.metadata) == {
        "mood": "calm",
        "list": "[1, 2]",
        "mem0_id": "1f",
        "mem0_user_id": "ada",
        "mem0_created_at": "2026-03-01T12:00:00Z",
    }


def test_plain_lines(tmp_path: Path) -> None:
    line = {"text": "A fact.", "tags": ["a"], "metadata": {"year": 2026}, "expire_time": "2030-01-01T00:00:00Z"}
    found = open_file(write(tmp_path, json.dumps(line) + '\n\n{"text": "Another."}\n'), "auto")
    assert found.format == "jsonl"
    first, second = found.passages()
    assert (first.text, list(first.tags), first.metadata["year"]) == ("A fact.", ["a"], 2026)
    assert first.HasField("expire_time")
    assert second.text == "Another."


@pytest.mark.parametrize(
    "content", ['{"text": 3}', '{"text": "x", "colour": "red"}', '{"text": "x"}\nnonsense', "[1]", "{}"]
)
def test_what_is_none_of_them_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(Failure):
        list(open_file(write(tmp_path, content), "auto").passages())


def test_the_same_file_is_the_same_import(tmp_path: Path) -> None:
    one = open_file(write(tmp_path, '{"text": "x"}'), "auto")
    assert one.import_id("agent_1") == one.import_id("agent_1") != one.import_id("agent_2")
