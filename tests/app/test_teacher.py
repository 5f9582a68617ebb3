"""`supernet train --teacher RUN`: recorded, resumed, or refused with a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.records.run import TeacherRecord
from app.runs.directory import open_run
from app.runs.teacher import open_teacher
from app.runs.trained import open_trained
from supernet import checksums
from supernet.data import open_data
from supernet.testing.toy_supernets import make_toy_data
from tests.app.conftest import Command

SHORT = ["--steps", "4", "--batch-size", "32"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and one that learnt from it."""
    from app.commands.main import run

    folder = tmp_path_factory.mktemp("runs")
    teacher, student = folder / "teacher", folder / "student"
    assert run(["train", "--out", str(teacher), *SHORT]) == 0
    assert run(["train", "--out", str(student), "--teacher", str(teacher), *SHORT]) == 0
    return teacher, student


def test_the_teacher_is_recorded_by_the_digest_of_its_weights(taught: tuple[Path, Path]) -> None:
    teacher, student = taught
    record = open_run(student).record
    stage = open_run(teacher).stage("train")
    assert stage is not None
    digest = stage.checkpoint
    assert digest is not None
    assert record.teacher == TeacherRecord(run=str(teacher), checkpoint=digest)
    assert record.recipe["distill"] == "teacher"
    assert record.recipe["label_share"] == 1.0
    assert open_run(teacher).record.teacher is None


def test_it_is_the_calibrated_largest_network_at_any_size(taught: tuple[Path, Path]) -> None:
    network, _ = open_teacher(taught[0], open_data("digits"), print)
    x = torch.rand(5, 1, 8, 8)
    assert network(x).shape == (5, 10)
    assert network(torch.rand(5, 1, 20, 20)).shape == (5, 10)
    # Calibrated: its statistics are no longer those of the mixture in the checkpoint.
    mixture = open_trained(open_run(taught[0]), print).supernet.model.state_dict()
    own = {n.removeprefix("network."): b for n, b in network.named_buffers()}
    means = [name for name in own if name.endswith("running_mean")]
    assert means
    assert not any(torch.equal(own[name], mixture[name]) for name in means)


def test_resume_needs_no_flag_and_another_teacher_is_another_run(
    taught: tuple[Path, Path], tmp_path: Path, command: Command, refused: Callable[..., str]
) -> None:
    teacher, student = taught
    copy = Path(shutil.copytree(student, tmp_path / "copy"))
    assert command("train", "--out", copy, "--resume").code == 0
    other = tmp_path / "other"
    assert command("train", "--out", other, "--seed", 1, *SHORT).code == 0
    said = refused("train", "--out", copy, "--teacher", other, *SHORT)
    assert "another run (teacher.checkpoint: " in said
    moved = Path(shutil.copytree(teacher, tmp_path / "moved"))
    assert command("train", "--out", copy, "--teacher", moved, *SHORT).code == 0
    record = open_run(copy).record.teacher
    assert record is not None
    assert record.run == str(moved), "the new place is recorded"
    moved.rename(tmp_path / "again")
    said = refused("train", "--out", copy, "--resume")
    assert said == (
        f"the teacher of {copy} is no longer in {moved}; if it moved, give its new place with "
        "--teacher"
    )


def test_what_cannot_teach_is_refused(
    taught: tuple[Path, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    teacher, _ = taught
    out = tmp_path / "out"

    def train(*arguments: Any) -> str:
        said = refused("train", "--out", out, *SHORT, *arguments)
        assert not out.exists()
        return said

    assert "is not a run directory" in train("--teacher", tmp_path / "nowhere")
    assert "choose one of them" in train("--teacher", teacher, "--recipe", "digits+alphanet")
    assert "--teacher" in train("--recipe", "teacher")
    unfinished = Path(shutil.copytree(teacher, tmp_path / "unfinished"))
    record = checksums.read_json(unfinished / "run.json")
    record["stages"]["train"]["status"] = "running"
    (unfinished / "run.json").write_text(json.dumps(record))
    assert "is not complete" in train("--teacher", unfinished)
    text = tmp_path / "corpus.txt"
    text.write_text("to be, or not to be, that is the question. " * 500)
    said = train("--teacher", teacher, "--data", f"text:{text}", "--family", "matlm")
    assert "is for image-classification" in said


def test_a_teacher_of_other_classes_is_refused(taught: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"knows other classes \(10\) than toy has \(3\)"):
        open_teacher(taught[0], make_toy_data(), print)
