"""Checkpoint folders: complete or absent, verified, bounded in number."""

from __future__ import annotations

import json
import shutil
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


def damage(checkpoint: Path, name: str = checkpoints.WEIGHTS) -> None:
    """Flip the last bit of one of its files."""
    content = bytearray((checkpoint / name).read_bytes())
    content[-2] ^= 1
    (checkpoint / name).write_bytes(content)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("file", [checkpoints.WEIGHTS, checkpoints.OPTIMIZER, checkpoints.STATE])
def test_what_was_just_written_stays_beside_later_damaged_ones(tmp_path: Path, file: str) -> None:
    write(tmp_path, 40)
    write(tmp_path, 50)
    for step in (40, 50):
        damage(tmp_path / str(step), file)
    write(tmp_path, 10)
    assert names(tmp_path) == {"10"}, "the damaged ones go, and not what was written"
    write(tmp_path, 20)
    assert names(tmp_path) == {"10", "20"}
    found = checkpoints.find(tmp_path)
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.notes) == (20, ())


def test_the_good_one_it_was_continued_from_stays_in_reserve(tmp_path: Path) -> None:
    write(tmp_path, 20)
    write(tmp_path, 22)
    damage(tmp_path / "22")
    write(tmp_path, 25)
    assert names(tmp_path) == {"20", "25"}, "the damaged one was nearer, and is no reserve"
    tensors = {"a": torch.ones(1)}
    checkpoints.write(tmp_path, 26, tensors, {}, {"recipe": {}}, reserve=20)
    assert names(tmp_path) == {"20", "26"}


@pytest.mark.parametrize("number", ["88888", "99999", "3"])
def test_folders_of_the_user_and_of_other_trainings_stay(tmp_path: Path, number: str) -> None:
    foreign = tmp_path / number
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    (tmp_path / "77777").mkdir()
    (tmp_path / "040").mkdir()
    shutil.copytree(write(tmp_path / "elsewhere", 60).path, tmp_path / "60")
    state = (tmp_path / "60" / "state.json").read_text()
    (tmp_path / "60" / "state.json").write_text(state.replace('"step": 60', '"steps": 60'))
    (tmp_path / "70").mkdir()
    (tmp_path / "70" / checkpoints.WEIGHTS).write_bytes(b"a copy that was put here by hand")
    theirs = checkpoints.write(
        tmp_path / "another", 80, {"a": torch.ones(1)}, {}, {"recipe": {"seed": 9}}
    )
    shutil.move(theirs.path, tmp_path / "80")
    kept = {number, "77777", "040", "elsewhere", "60", "70", "another", "80"}
    for step in (8, 9, 10):
        write(tmp_path, step)
        assert names(tmp_path) - kept == {str(s) for s in (step - 1, step) if s >= 8}
    assert names(tmp_path) == {*kept, "9", "10"}
    assert (foreign / "notes.txt").read_text() == "mine"


def test_folders_of_the_user_are_not_called_damaged(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for name in ("88888", "0099", "٤"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    assert checkpoints.find(tmp_path).notes == ()


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    write(tmp_path / "other", 5)
    (tmp_path / "checkpoints").symlink_to(tmp_path / "other")
    with pytest.raises(ValueError, match="checkpoints is a link"):
        write(tmp_path / "checkpoints", 6)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "5").symlink_to(tmp_path / "other" / "5")
    write(tmp_path / "real", 6)
    write(tmp_path / "real", 7)
    assert (tmp_path / "real" / "5").is_symlink()
    assert len(names(tmp_path / "other" / "5")) == 3


def test_a_renamed_folder_is_not_a_later_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 30)
    write(tmp_path, 40)
    (tmp_path / "40").rename(tmp_path / "60")
    found = checkpoints.find(tmp_path)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 30
    assert "says step 40, so the folder was renamed" in found.notes[0]


def test_every_fact_of_the_state_is_covered(tmp_path: Path) -> None:
    facts = {"recipe": {"learning_rate": 0.1, "seed": 1}, "space": "abc", "data": {"spec": "x"}}
    path = checkpoints.write(tmp_path, 40, {"a": torch.ones(1)}, {}, facts).path
    state = json.loads((path / "state.json").read_text())
    assert checkpoints.read(path).state == state

    def change(place: dict, key: str) -> None:
        kept = place[key]
        place[key] = {**kept, "more": 1} if isinstance(kept, dict) else f"{kept}0"
        files.write_json(path / "state.json", state)
        with pytest.raises(ValueError, match=r"checkpoint .* (is damaged|unknown version)"):
            checkpoints.read(path)
        place[key] = kept

    for key in state:
        change(state, key)
    for place in (state["recipe"], state["data"], state["sha256"]):
        for key in place:
            change(place, key)
    files.write_json(path / "state.json", state)
    assert checkpoints.read(path).step == 40
    moved = path.rename(tmp_path / "60")
    files.write_json(moved / "state.json", {**state, "step": 60})
    with pytest.raises(ValueError, match=r"state\.json was changed"):
        checkpoints.read(moved)


def test_checkpoints_of_releases_without_a_digest_of_the_state_stay_readable(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, 40).path
    state = json.loads((path / "state.json").read_text())
    del state["digest"]
    files.write_json(path / "state.json", state)
    assert checkpoints.read(path).step == 40


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
