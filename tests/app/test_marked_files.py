"""Files with a byte-order mark, as editors on Windows save them, say what they say without one."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from app.commands.config_file import read_settings
from supernet.errors import InputError
from supernet.files import read_json
from supernet.text_encoding import to_utf8
from tests.app.conftest import Command

MARKED = ("utf-8-sig", "utf-16", "utf-32")


@pytest.mark.parametrize("encoding", MARKED)
def test_options_and_records_are_read_without_their_mark(tmp_path: Path, encoding: str) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_bytes('data = "folder:f\u00f6to"\r\nsteps = 3\r\n'.encode(encoding))
    options = {"steps": "integer", "data": "text"}
    read = read_settings(settings, "train", ["train"], options)
    assert read == {"data": "folder:f\u00f6to", "steps": 3}
    payload = {"a": "\u00e9", "b": [1, 2.5]}
    file = tmp_path / "file.json"
    file.write_bytes(json.dumps(payload, ensure_ascii=False).encode(encoding))
    assert read_json(file) == payload


@pytest.mark.parametrize("encoding", MARKED)
def test_an_architecture_file_may_have_a_mark(
    command: Command, finished_run: Path, tmp_path: Path, encoding: str
) -> None:
    show = ("evaluate", "--run", finished_run, "--json", "--arch")
    front = json.loads((finished_run / "searches/default/front.json").read_text())
    point = front["points"][0]
    file = tmp_path / "architecture.json"
    content = json.dumps({"format": 1, "choices": point["architecture"]})
    file.write_bytes(content.encode(encoding))
    found = command(*show, file)
    assert found.code == 0, found.err
    assert json.loads(found.out)["digest"] == point["digest"]


def test_what_is_no_text_is_one_sentence_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(codecs.BOM_UTF16_LE + b"a")
    with pytest.raises(InputError, match=r"settings.toml is not valid TOML: .*truncated data"):
        read_settings(file, "train", ["train"], {})
    with pytest.raises(InputError, match=r"settings.toml is not valid JSON \(.*truncated data"):
        read_json(file)
    assert to_utf8(file.read_bytes()) == file.read_bytes()
