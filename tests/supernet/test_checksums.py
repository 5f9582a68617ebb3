"""Checksums inside JSON notice every changed digit, and nothing that means the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supernet import checksums
from supernet.errors import InputError

PAYLOAD = {"a": 1 / 3, "b": [1, -2.5e-9, None, True], "c": {"d": "μ 1\n", "e": 2**70}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checksums.write_json(tmp_path / "x.json", PAYLOAD)
    return tmp_path / "x.json"


def test_what_was_written_is_read(path: Path) -> None:
    assert checksums.read_json(path) == PAYLOAD
    assert list(json.loads(path.read_text())) == ["a", "b", "c", "checksum"]
    checksums.append_record(path.with_name("log"), {**PAYLOAD, "checksum": "of before"})
    assert checksums.read_log(path.with_name("log")) == [PAYLOAD]


def test_every_changed_digit_is_noticed(path: Path) -> None:
    text = path.read_text()
    log = path.with_name("log")
    checksums.append_record(log, PAYLOAD)
    line = log.read_text()
    noticed = 0
    for place in (i for i, letter in enumerate(text) if letter.isdigit()):
        path.write_text(f"{text[:place]}{3 if text[place] != '3' else 4}{text[place + 1 :]}")
        with pytest.raises(InputError, match=r"x\.json was damaged or edited: its content does"):
            checksums.read_json(path)
        noticed += 1
    for place in (i for i, letter in enumerate(line) if letter.isdigit()):
        log.write_text(f"{line[:place]}{3 if line[place] != '3' else 4}{line[place + 1 :]}")
        assert checksums.read_log(log) == [None]
        noticed += 1
    assert noticed > 60


@pytest.mark.parametrize("indent", [None, 1, 2, 7])
def test_spaces_and_line_ends_do_not_count(path: Path, indent: int | None) -> None:
    text = json.dumps(json.loads(path.read_text()), indent=indent)
    path.write_bytes(f"  {text}\n\n".replace("\n", "\r\n").encode())
    assert checksums.read_json(path) == PAYLOAD


def test_what_has_no_checksum_is_read(path: Path) -> None:
    for text in (json.dumps(PAYLOAD), "[1]", '{"x": "checksum"}', '{"x": {"checksum": "0"}}', "{}"):
        path.write_text(text)
        assert checksums.read_json(path) == json.loads(text)
    path.write_text('{"a": 1, "checksum": 7}')
    with pytest.raises(InputError, match="if the change is meant, remove its entry"):
        checksums.read_json(path)


def test_damaged_lines_of_a_log_are_told_from_the_others(path: Path) -> None:
    log = path.with_name("log")
    checksums.append_record(log, PAYLOAD)
    line = log.read_bytes()
    junk = (b"\0\0", b"\xff", b"[" * 9999, b'{"a": ' + b"9" * 5000 + b"}", b"")
    log.write_bytes(b"\n".join([*junk, line]) + b'{"torn": ')
    assert checksums.read_log(log) == [None, None, None, None, None, PAYLOAD]
    assert checksums.read_log(path.with_name("none")) == []
