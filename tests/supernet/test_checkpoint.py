"""Checkpoint folders: complete or absent, verified, bounded in number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from supernet import checkpoints, files
from supernet.testing.toy_supernets import build_toy_supernet


def write(folder: Path, step: int) -> checkpoints.Checkpoint:
    tensors = {"a": torch.full((3,), float(step)), "tied": torch.ones(2)}
    tensors["too"] = tensors["tied"]
    return checkpoints.write(folder, step, tensors, {"m": torch.zeros(1)}, {"recipe": {}})


def test_round_trip_with_tied_tensors(tmp_path: Path) -> None:
    written = write(tmp_path, 7)
    found = checkpoints.require(tmp_path).checkpoint
    assert found is not None
    assert (found.step, found.digest, found.path) == (7, written.digest, tmp_path / "7")
    loaded = checkpoints.read_tensors(found, checkpoints.WEIGHTS)
    assert torch.equal(loaded["a"], torch.full((3,), 7.0))
    assert torch.equal(loaded["tied"], loaded["too"])


def test_digest_follows_the_weights(tmp_path: Path) -> None:
    assert write(tmp_path / "x", 7).digest == write(tmp_path / "y", 7).digest
    assert write(tmp_path / "x", 8).digest != write(tmp_path / "y", 7).digest


def test_newest_two_stay_counted_as_numbers(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        write(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "9"]


def test_half_written_and_foreign_folders_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / f"{files.TEMPORARY}2-99").mkdir()
    (tmp_path / "notes").mkdir()
    found = checkpoints.find(tmp_path)
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.notes) == (1, ())


def test_one_flipped_byte_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    file = tmp_path / "2" / checkpoints.WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    found = checkpoints.find(tmp_path)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 1
    assert "weights.safetensors" in found.notes[0]


def test_nothing_usable_says_why(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "1" / checkpoints.WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"no usable checkpoint .*weights\.safetensors is missing"):
        checkpoints.require(tmp_path)


def test_foreign_state_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    files.write_json(tmp_path / "1" / checkpoints.STATE, {"version": 2})
    with pytest.raises(ValueError, match="unknown version"):
        checkpoints.read(tmp_path / "1")
    files.write_json(tmp_path / "1" / checkpoints.STATE, {"version": 1})
    with pytest.raises(ValueError, match="lists no digests"):
        checkpoints.read(tmp_path / "1")


def test_weights_are_copied_in_place(tmp_path: Path) -> None:
    first, second = build_toy_supernet(0), build_toy_supernet(1)
    saved = checkpoints.write(tmp_path, 1, first.state_dict(), {"m": torch.zeros(1)}, {})
    storage = second.model.conv.weight.data_ptr()
    checkpoints.load_weights(second, saved)
    assert second.model.conv.weight.data_ptr() == storage
    assert torch.equal(second.model.conv.weight, first.model.conv.weight)
