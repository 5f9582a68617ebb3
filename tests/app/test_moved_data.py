"""Data that moved: every command that reads them takes the new place, checks and records it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.progress import Step
from app.runs.directory import open_run
from app.runs.trained import open_run_data, open_trained
from supernet import checksums
from tests.app.conftest import Command, contents

SHORT = ["--steps", "2", "--batch-size", "8"]
OWN = """
import torch
from supernet.data import from_datasets

def load(image_size=8):
    generator = torch.Generator().manual_seed({seed})
    pixels = torch.rand(60, 1, image_size, image_size, generator=generator)
    samples = [(image, number % 2) for number, image in enumerate(pixels)]
    return {{"train": samples[:40], "val": samples[40:50], "test": samples[50:]}}
"""


@dataclass(frozen=True)
class Moved:
    """A run whose data are no longer where they were; specifications of where they are now."""

    run: Path
    old: str
    new: str
    other: str


def write_images(folder: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (12, 10), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def write_text(file: Path, seed: int = 0) -> Path:
    letters = np.random.default_rng(seed).choice(list("abcdefgh \n"), 3000)
    file.write_text("".join(letters))
    return file


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained run of every kind of data, with options that are no defaults."""
    from app.commands.main import run

    folder = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        write_images(folder / "images")
        write_text(folder / "text.txt")
        (folder / "moved_before.py").write_text(OWN.format(seed=0))
        asked = {
            "folder": ["--data", "folder:images", "--image-size", "8"],
            "text": ["--data", "text:text.txt", "--context", "8", "--family", "matlm"],
            "function": ["--data", "moved_before:load", "--image-size", "8"],
        }
        for kind, flags in asked.items():
            assert run(["train", "--out", kind, *flags, *SHORT]) == 0
    return {kind: folder / kind for kind in asked}


@pytest.fixture
def move(
    originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Moved]:
    """Copy a run, with its data in another place and none in the old one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def prepare(kind: str) -> Moved:
        run = Path(shutil.copytree(originals[kind], tmp_path / "run"))
        record = checksums.read_json(run / "run.json")
        if kind == "folder":
            write_images(tmp_path / "new")
            write_images(tmp_path / "other", seed=1)
            old = f"folder:{tmp_path / 'old'}"
            moved = Moved(run, old, f"folder:{tmp_path / 'new'}", "folder:other")
        elif kind == "text":
            write_text(tmp_path / "new.txt")
            write_text(tmp_path / "other.txt", seed=1)
            old = f"text:{tmp_path / 'old.txt'}"
            moved = Moved(run, old, f"text:{tmp_path / 'new.txt'}", "text:other.txt")
        else:
            (tmp_path / "moved_after.py").write_text(OWN.format(seed=0))
            (tmp_path / "moved_other.py").write_text(OWN.format(seed=1))
            moved = Moved(run, "moved_gone:load", "moved_after:load", "moved_other:load")
        record["data"]["spec"] = moved.old
        (run / "run.json").write_text(json.dumps(record))
        return moved

    return prepare


def read_spec(run: Path) -> str:
    spec: str = json.loads((run / "run.json").read_text())["data"]["spec"]
    return spec


@pytest.mark.parametrize("kind", ["folder", "text", "function"])
def test_the_new_place_is_asked_for_checked_and_recorded(
    command: Command, refused: Callable[..., str], move: Callable[[str], Moved], kind: str
) -> None:
    moved = move(kind)
    before = contents(moved.run)
    export = ("export", "--run", moved.run, "--arch", "smallest")
    trusting = ("--trust", moved.old) if kind == "function" else ()
    said = refused(*export, *trusting)
    assert f"the data of {moved.run} cannot be opened: there is no " in said
    assert said.endswith("if they moved, give their new place with --data")
    said = refused(*export, "--data", moved.other)
    assert f"{moved.other} is not what {moved.run} was trained on: its content differs" in said
    said = refused(*export, "--data", "digits")
    assert f"digits is not what {moved.run} was trained on" in said
    assert contents(moved.run) == before
    result = command(*export, "--data", moved.new)
    assert result.code == 0, result.err
    assert read_spec(moved.run) == moved.new
    # From now on it need not be repeated; a function is trusted like any that a file names.
    trusting = ("--trust", moved.new) if kind == "function" else ()
    result = command("export", "--run", moved.run, "--arch", "largest", *trusting)
    assert result.code == 0, result.err
    options = open_run(moved.run).record.data.options
    assert options == ({"context": 8} if kind == "text" else {"image_size": 8})


def test_every_command_that_reads_the_data_takes_their_new_place(
    command: Command, move: Callable[[str], Moved]
) -> None:
    moved = move("folder")
    untouched = (moved.run / "run.json").read_bytes()
    search = ("--objectives", "accuracy,macs", "--strategy", "random_search", "--evaluations", 6)
    for code, *arguments in (
        (0, "search", *search),
        (0, "report"),
        (0, "report", "--no-baseline"),
        # Their plans are what needs the data first; these go no further.
        (2, "audit", "--recipe-part", "momentum=x"),
        (2, "finetune", "--arch", "largest", "--recipe-part", "momentum=x"),
    ):
        (moved.run / "run.json").write_bytes(untouched)
        # A relative place is recorded as an absolute one.
        result = command(*arguments, "--run", moved.run, "--data", "folder:new")
        assert result.code == code, result.err
        assert read_spec(moved.run) == moved.new, arguments


def test_a_training_that_is_resumed_keeps_the_new_place(
    command: Command, refused: Callable[..., str], move: Callable[[str], Moved]
) -> None:
    moved = move("folder")
    resume = ("train", "--out", moved.run, "--resume")
    said = refused(*resume)
    assert said.endswith("if they moved, give their new place with --data")
    assert "another run (data: " in refused(*resume, "--data", moved.other)
    assert read_spec(moved.run) == moved.old
    assert command(*resume, "--data", "folder:new").code == 0
    assert read_spec(moved.run) == moved.new
    assert open_run(moved.run).record.data.options == {"image_size": 8}
    assert command(*resume).code == 0


def test_an_interrupted_training_is_continued_with_the_data_that_were_named(
    refused: Callable[..., str], move: Callable[[str], Moved]
) -> None:
    moved = move("folder")
    record = checksums.read_json(moved.run / "run.json")
    record["stages"]["train"]["status"] = "running"
    (moved.run / "run.json").write_text(json.dumps(record))
    said = refused("search", "--run", moved.run, "--data", "folder:new")
    assert said.endswith(f"run: supernet train --out {moved.run} --resume --data folder:new")


def test_a_run_that_cannot_be_written_to_is_read_with_its_moved_data(
    move: Callable[[str], Moved], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = move("folder")
    before = contents(moved.run)

    def refuse(run: object, **places: object) -> None:
        raise PermissionError(13, "Permission denied", "run.json")

    monkeypatch.setattr("app.runs.directory.Run.set_places", refuse)
    said: list[str | Step] = []
    trained = open_trained(open_run(moved.run), said.append, "folder:new")
    assert [line for line in said if isinstance(line, str)] == [
        f"warning: {moved.run} cannot be written to; the next command needs --data again"
    ]
    assert trained.data.fingerprint == open_run(moved.run).record.data.fingerprint
    assert contents(moved.run) == before


def test_a_function_that_was_typed_is_trusted_by_processes_that_open_the_run(
    move: Callable[[str], Moved],
) -> None:
    moved = move("function")
    trained = open_trained(open_run(moved.run), print, moved.new)
    again = open_run(moved.run, trained.run.trusted)
    assert open_run_data(again).fingerprint == trained.data.fingerprint
    with pytest.raises(ValueError, match="names the data 'moved_after:load'"):
        open_run_data(open_run(moved.run))


def test_weights_imported_without_data_have_none_that_could_move(
    refused: Callable[..., str], move: Callable[[str], Moved]
) -> None:
    moved = move("folder")
    record = checksums.read_json(moved.run / "run.json")
    record["data"] = {**record["data"], "spec": "none", "fingerprint": "none"}
    (moved.run / "run.json").write_text(json.dumps(record))
    said = refused("export", "--run", moved.run, "--arch", "smallest", "--data", moved.new)
    assert "were imported without data" in said
    assert said.endswith("import them again with --data")
