"""Folders as people have them: names of splits, system files, copies, and what is left out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from supernet.data import DataSource, open_data
from supernet.data.copies import find_copies
from tests.supernet.test_data import make_folder

NAMES = ("train", "val", "test")


def make_images(path: Path, counts: dict[str, int]) -> Path:
    """``counts``: folder below ``path`` -> number of images; no two of all are equal."""
    number = 0
    for name, count in counts.items():
        (path / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            number += 1
            pixels = np.zeros((4, 4), dtype=np.uint8)
            pixels[0, :2] = divmod(number, 256)
            Image.fromarray(pixels).save(path / name / f"{i}.png")
    return path


def count_samples(data: DataSource) -> list[int]:
    return [len(data.split(name)) for name in NAMES]


def list_numbers(data: DataSource, split: str) -> list[int]:
    """Numbers of the images of a split, by their first two pixels."""
    inputs = data.split(split).inputs
    return (inputs[:, 0, 0, 0].long() * 256 + inputs[:, 0, 0, 1].long()).tolist()


# -- names of splits ---------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "training"])
@pytest.mark.parametrize(
    ("val", "test"),
    [
        ("val", "test"),
        ("Val", "Test"),
        ("validation", "testing"),
        ("valid", "TEST"),
        ("dev", "Test"),
    ],
)
def test_splits_go_by_their_usual_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    sizes = {train: 5, val: 3, test: 2}
    make_images(tmp_path, {f"{s}/{c}": n for s, n in sizes.items() for c in ("cat", "dog")})
    data = open_data(f"folder:{tmp_path}")
    assert data.shape.labels == ("cat", "dog")
    assert [list_numbers(data, name) for name in NAMES] == [
        [*range(1, 11)],
        [*range(11, 17)],
        [*range(17, 21)],
    ]
    assert data.notes == ()


def test_a_class_inside_a_split_may_be_called_train(tmp_path: Path) -> None:
    make_images(tmp_path, {f"train/{c}": 10 for c in ("bus", "car", "train")})
    data = open_data(f"folder:{tmp_path}")
    assert data.shape.labels == ("bus", "car", "train")
    assert count_samples(data) == [24, 3, 3]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"val/a": 3, "val/b": 3, "test/a": 3, "test/b": 3},
            r"\(test, val\) and none for training",
        ),
        ({"Test/a": 3, "Test/b": 3}, r"\(Test\) and none for training"),
        (
            {"train/a": 9, "train/b": 9, "bus": 9},
            r"names of splits \(train\) beside others \(bus\); .*move them into .*/train$",
        ),
        ({"bus": 9, "car": 9, "train": 9}, r"\(train\) beside others \(bus, car\)"),
        ({"bus": 9, "car": 9, "test": 9}, r"\(test\) beside others \(bus, car\)"),
        (
            {"Train/a": 3, "Train/b": 3, "training/a": 3, "training/b": 3},
            r"/Train and .*/training are both the train split",
        ),
        (
            {f"{s}/{c}": 3 for s in ("train", "val", "valid") for c in "ab"},
            r"/val and .*/valid are both the val split",
        ),
        ({"train": 3, "test": 3}, r"/train has no images in folders of classes; expected train/C"),
        (
            {f"{c}/{s}": 9 for c in ("cat", "dog") for s in ("train", "test")},
            r"cat holds folders of splits \(test, train\); splits come first",
        ),
        (
            {f"train/{s}/{c}": 9 for c in ("cat", "dog") for s in ("train", "val")},
            r"/train holds folders of splits \(train, val\); splits come first",
        ),
        *(
            ({f"{s}/{c}": 9 for c in ("cat", "dog") for s in names}, r"look like splits \(.*; call")
            for names in (
                ("training_set", "test_set"),
                ("seg_train", "seg_test", "seg_pred"),
                ("Train-Images", "Val-Images", "Test-Images"),
                ("train2017", "val2017"),
                ("train ", "test "),
            )
        ),
        ({"data/cat": 9, "data/dog": 9}, r"only one class \('data'\).*; did you mean .*/data\?"),
    ],
)
def test_folders_that_would_be_misread_are_refused(
    tmp_path: Path, counts: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_data(f"folder:{make_images(tmp_path, counts)}")


def test_classes_may_have_words_of_splits_in_their_names(tmp_path: Path) -> None:
    make_images(tmp_path, {"steam train": 10, "test tube": 10, "valley": 10, "trains": 10})
    assert len(open_data(f"folder:{tmp_path}").shape.labels) == 4


def test_folders_beside_splits_that_hold_no_images_do_not_matter(tmp_path: Path) -> None:
    make_images(tmp_path, {"train/a": 10, "train/b": 10, "scripts": 0})
    (tmp_path / "scripts" / "make.py").write_text("")
    assert count_samples(open_data(f"folder:{tmp_path}")) == [16, 2, 2]


# -- what systems leave behind -----------------------------------------------------------------


def leave_traces(folder: Path, *, deep: bool = True) -> None:
    """What archives, file managers and storage servers put into a folder."""
    image = next(folder.parent.rglob("*.png"), None)
    content = b"" if image is None else image.read_bytes()
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._x.png", ".hidden.png"):
        (folder / name).write_bytes(b"no image")
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", "lost+found", "$RECYCLE.BIN"):
        (folder / name / "train").mkdir(parents=True)
        (folder / name / "x.png").write_bytes(content)
        (folder / name / "train" / "y.png").write_bytes(b"no image")


@pytest.mark.parametrize("split", [False, True])
def test_what_systems_leave_behind_is_no_data(tmp_path: Path, split: bool) -> None:
    names = [f"{s}/{c}" for s in NAMES for c in "ab"] if split else ["a", "b"]
    make_images(tmp_path, dict.fromkeys(names, 10))
    clean = open_data(f"folder:{tmp_path}")
    for folder in [f for f in (tmp_path, *tmp_path.rglob("*")) if f.is_dir()]:
        leave_traces(folder)
    again = open_data(f"folder:{tmp_path}")
    assert again.fingerprint == clean.fingerprint
    assert again.shape.labels == ("a", "b")
    assert again.notes == ()


def test_images_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    make_images(tmp_path, {"a": 3, "a-1": 3, "a/deep/x": 3, "a/b": 3})
    files = [p for p in tmp_path.rglob("*.png") if p.relative_to(tmp_path).parts[0] == "a"]
    numbers = {f: int(np.asarray(Image.open(f))[0, 1]) for f in files}
    data = open_data(f"folder:{tmp_path}")
    expected = [numbers[file] for file in sorted(files)]
    # Sorted rows of every split, so that each is in the order of the files.
    for name in NAMES:
        found = [
            n
            for n, label in zip(list_numbers(data, name), data.split(name).targets, strict=True)
            if label == 0
        ]
        assert found == [n for n in expected if n in found]
    assert sum(int((data.split(n).targets == 0).sum()) for n in NAMES) == 9


# -- what is left out --------------------------------------------------------------------------


def test_class_folders_without_images_are_mentioned(tmp_path: Path) -> None:
    make_images(tmp_path, {"cat": 10, "dog": 10, "bird": 0, "fish": 0})
    (tmp_path / "fish" / "1.heic").write_bytes(b"of a telephone")
    data = open_data(f"folder:{tmp_path}")
    assert data.shape.labels == ("cat", "dog")
    (note,) = data.notes
    assert note.startswith(
        f"left out 2 class folders without images: {tmp_path / 'bird'}, {tmp_path / 'fish'} "
    )


def test_files_among_images_that_are_none_by_name_are_mentioned(tmp_path: Path) -> None:
    make_images(tmp_path, {"cat": 10, "dog": 10})
    (tmp_path / "cat" / "more").mkdir()
    for name in ("1.heic", "more/2.AVIF", "Thumbs.db", ".hidden.heic"):
        (tmp_path / "cat" / name).write_bytes(b"of a telephone")
    assert open_data(f"folder:{tmp_path}").notes == (
        f"left out 2 files among the images that are none by name ({tmp_path / 'cat' / '1.heic'})",
    )


def test_a_class_without_images_in_one_split_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path, {"train/a": 4, "train/b": 4, "train/c": 4, "test/a": 2, "test/b": 2})
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(
        ValueError, match=r"/train and .*/test differ: c is in one of them only; ev"
    ):
        open_data(f"folder:{tmp_path}")


def test_images_of_no_class_are_mentioned(tmp_path: Path) -> None:
    make_images(tmp_path, {"train/a": 10, "train/b": 10, "train": 2})
    assert open_data(f"folder:{tmp_path}").notes == (
        f"left out 2 images directly in {tmp_path / 'train'} (0.png), since a class is a folder",
    )


# -- copies ------------------------------------------------------------------------------------

Copy = Callable[[Path, Path], object]


@pytest.mark.parametrize("copy", [shutil.copy, os.link, lambda a, b: os.symlink(a, b)])
def test_a_copy_in_two_splits_is_refused_by_both_names(tmp_path: Path, copy: Copy) -> None:
    make_images(tmp_path, {f"{s}/{c}": 3 for s in NAMES for c in "ab"})
    copy(tmp_path / "train" / "a" / "0.png", tmp_path / "test" / "a" / "new.png")
    message = (
        rf"{tmp_path}/test/a/new\.png \(test\) is the same image as "
        rf"{tmp_path}/train/a/0\.png \(train\); .*remove one"
    )
    with pytest.raises(ValueError, match=message):
        open_data(f"folder:{tmp_path}")
    copy(tmp_path / "train" / "b" / "1.png", tmp_path / "val" / "a" / "other.png")
    with pytest.raises(ValueError, match=r"\(and 1 more are in two splits\)"):
        open_data(f"folder:{tmp_path}")


def test_copies_in_one_split_are_accepted(tmp_path: Path) -> None:
    make_images(tmp_path, {f"{s}/{c}": 3 for s in NAMES for c in "ab"})
    shutil.copy(tmp_path / "train" / "a" / "0.png", tmp_path / "train" / "a" / "again.png")
    data = open_data(f"folder:{tmp_path}")
    assert count_samples(data) == [7, 6, 6]
    assert data.notes == ()


def test_the_automatic_cut_keeps_copies_together(tmp_path: Path) -> None:
    make_images(tmp_path, {"a": 20, "b": 20})
    plain = open_data(f"folder:{tmp_path}")
    for i in range(20):
        shutil.copy(tmp_path / "a" / f"{i}.png", tmp_path / "a" / f"copy of {i}.png")
    data = open_data(f"folder:{tmp_path}")
    assert [set(list_numbers(data, n)) for n in NAMES] == [
        set(list_numbers(plain, n)) for n in NAMES
    ], "and otherwise it is the cut that is made without them"
    assert count_samples(data) == [48, 6, 6]
    # What is given is kept, and only the rest is cut.
    make_images(tmp_path / "given", {})
    for place, names in (("train", range(3, 20)), ("test", range(3))):
        for label in "ab":
            (tmp_path / "given" / place / label).mkdir(parents=True)
            for i in names:
                shutil.copy(tmp_path / label / f"{i}.png", tmp_path / "given" / place / label)
                if place == "train":
                    where = tmp_path / "given" / place / label / f"{i} again.png"
                    shutil.copy(tmp_path / label / f"{i}.png", where)
    given = open_data(f"folder:{tmp_path / 'given'}")
    assert not set(list_numbers(given, "train")) & set(list_numbers(given, "val"))
    assert count_samples(given) == [60, 8, 6]


def test_copies_in_two_classes_are_mentioned_and_kept_together(tmp_path: Path) -> None:
    make_images(tmp_path, {"a": 20, "b": 20})
    for i in range(6):
        shutil.copy(tmp_path / "a" / f"{i}.png", tmp_path / "b" / f"same as {i}.png")
    data = open_data(f"folder:{tmp_path}")
    seen = [set(list_numbers(data, name)) for name in NAMES]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    first, copy = tmp_path / "a" / "0.png", tmp_path / "b" / "same as 0.png"
    assert data.notes == (
        f"the same image is in two classes: {copy} and {first}, and 5 more such pairs",
    )
    assert sum(map(len, seen)) == 40
    assert sum(count_samples(data)) == 46


def test_too_few_images_besides_copies_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path, {"a": 9, "b": 2})
    for i in range(5):
        shutil.copy(tmp_path / "b" / "0.png", tmp_path / "b" / f"copy {i}.png")
    with pytest.raises(ValueError, match="class 'b' has 2 images that are no copies of others"):
        open_data(f"folder:{tmp_path}")


def test_copies_are_told_by_their_whole_content(tmp_path: Path) -> None:
    head = os.urandom(1 << 17)
    contents = {"a": head + b"1", "b": head + b"2", "c": head + b"1", "d": b"", "e": b""}
    contents |= {"f": b"short", "g": b"other", "h": b"short"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sizes = {tmp_path / name: len(content) for name, content in contents.items()}
    assert find_copies(sizes) == {tmp_path / "c": tmp_path / "a", tmp_path / "h": tmp_path / "f"}


def test_files_that_differ_in_size_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for length in range(1, 20):
        (tmp_path / str(length)).write_bytes(bytes(length))
    sizes = {path: path.stat().st_size for path in tmp_path.iterdir()}
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("it was opened"))
    assert find_copies(sizes) == {}


# -- what was before ---------------------------------------------------------------------------


def test_folders_of_plain_images_have_the_fingerprint_they_always_had(tmp_path: Path) -> None:
    data = open_data(f"folder:{make_folder(tmp_path / 'a', {'cat': 20, 'dog': 30}, size=32)}")
    assert data.fingerprint == FINGERPRINTS["cut"]
    assert data.shape.mean == (0.49764418658088233, 0.5000692210477942, 0.49843778722426474)
    layout = {f"{s}/{c}": n for s, n in (("train", 12), ("test", 2)) for c in "ab"}
    folder = make_folder(tmp_path / "b", layout, size=9, colour=False)
    assert open_data(f"folder:{folder}", image_size=6).fingerprint == FINGERPRINTS["grey"]
    assert open_data("digits").fingerprint == FINGERPRINTS["digits"]


FINGERPRINTS = {
    "cut": "3acdaf6a3f353876613ff2f6ef1fc1d09fd5a0ec7b83001c81bc58494a1d86ec",
    "grey": "02f10b5c11bc21eafb6749a8f74e067af93a33df9e04d9e1e641dfd343446ab1",
    "digits": "71e70fd4d1b98f13eedd67b75f482fea6e55bb7c60421d7bb848b8e81389ae02",
}
