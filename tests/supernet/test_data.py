"""Data sources: disjoint splits, statistics from training data alone, and clear refusals."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data import AUGMENTATIONS, DataShape, DataSource, augment, from_datasets, open_data
from supernet.data.source import HASHED_BYTES, fingerprint


def contents(source: DataSource) -> dict[str, set[bytes]]:
    return {
        name: {image.numpy().tobytes() for image in source.split(name).inputs}
        for name in ("train", "val", "test")
    }


def make_folder(path: Path, layout: dict[str, int], size: int = 8, colour: bool = True) -> Path:
    """``layout``: folder below ``path`` -> number of different random images."""
    rng = np.random.default_rng(0)
    for name, count in layout.items():
        (path / name).mkdir(parents=True)
        for i in range(count):
            shape = (size, size, 3) if colour else (size, size)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(
                path / name / f"{i}.png"
            )
    return path


# -- digits ------------------------------------------------------------------------------------


def test_digits_splits_are_disjoint_stratified_and_repeatable() -> None:
    first, second = open_data("digits"), open_data("digits")
    sets = contents(first)
    assert not sets["train"] & sets["val"]
    assert not sets["train"] & sets["test"]
    assert not sets["val"] & sets["test"]
    assert [len(first.split(n)) for n in ("train", "val", "test")] == [1259, 269, 269]
    assert first.fingerprint == second.fingerprint
    for name in ("train", "val", "test"):
        counts = torch.bincount(first.split(name).targets) / len(first.split(name))
        assert counts.min() > 0.09
        assert counts.max() < 0.11
    assert first.shape.input == (1, 8, 8)
    assert first.train.inputs.min() == 0
    assert first.train.inputs.max() == 1


def test_statistics_come_from_training_images_alone() -> None:
    source = open_data("digits")
    assert source.shape.mean[0] == pytest.approx(float(source.train.inputs.mean()), abs=1e-6)
    std = float(source.train.inputs.std(correction=0))
    assert source.shape.std[0] == pytest.approx(std, abs=1e-6)


def test_shape_survives_json() -> None:
    shape = open_data("digits").shape
    assert DataShape.from_json(shape.to_json()) == shape


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", r"unknown data 'digit'.*did you mean 'digits'\?"),
        ("cluter", r"unknown data 'cluter'.*did you mean 'clutter'\?"),
        ("clutter:", r"unknown data 'clutter:'.*did you mean 'clutter'\?.*; use digits, clu"),
        ("foldr:/x", r"unknown data 'foldr:/x'.*did you mean 'folder'\?"),
        ("folder", r"data 'folder' lacks a path; write folder:PATH"),
        ("text:", r"data 'text:' lacks a path; write text:PATH"),
        ("folder:/no/such", r"there is no folder /no/such"),
        ("text:/no/such", r"there is no text file /no/such"),
    ],
)
def test_bad_specs_are_explained(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_data(spec)


def test_a_bare_path_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"did you mean 'folder:{tmp_path}'"):
        open_data(str(tmp_path))


def test_unknown_split_lists_the_names() -> None:
    with pytest.raises(ValueError, match="unknown split 'valid'; the splits are train, val, test"):
        open_data("digits").split("valid")


def test_other_classes_than_the_networks_are_refused(tmp_path: Path) -> None:
    cats = open_data(f"folder:{make_folder(tmp_path / 'a', {'cat': 10, 'dog': 10})}")
    birds = open_data(f"folder:{make_folder(tmp_path / 'b', {'bird': 10, 'dog': 10})}")
    cats.check_same_classes(cats.shape)
    with pytest.raises(ValueError, match="'cat', 'dog' here, 'bird', 'dog' there"):
        cats.check_same_classes(birds.shape)
    with pytest.raises(ValueError, match="is for image-classification; the network does language"):
        cats.check_same_classes(DataShape("language-modelling", (8,), 4, ("a",) * 4))


# -- folders -----------------------------------------------------------------------------------


def test_folder_without_splits_is_cut_by_class(tmp_path: Path) -> None:
    source = open_data(f"folder:{make_folder(tmp_path, {'cat': 20, 'dog': 30})}")
    assert [len(source.split(n)) for n in ("train", "val", "test")] == [40, 5, 5]
    assert torch.bincount(source.test.targets).tolist() == [2, 3]
    sets = contents(source)
    assert len(sets["train"] | sets["val"] | sets["test"]) == 50
    assert source.shape.labels == ("cat", "dog")
    assert source.shape.input == (3, 8, 8)
    assert source.train.inputs.dtype == torch.uint8
    images, _ = source.train.batch(slice(0, 4), torch.device("cpu"))
    assert images.max() <= 1
    assert images.dtype == torch.float32


def test_folder_keeps_given_splits_and_grey_images(tmp_path: Path) -> None:
    layout = {f"{s}/{c}": n for s, n in (("train", 6), ("val", 2), ("test", 3)) for c in "ab"}
    source = open_data(f"folder:{make_folder(tmp_path, layout, colour=False)}")
    assert [len(source.split(n)) for n in ("train", "val", "test")] == [12, 4, 6]
    assert source.shape.input == (1, 8, 8)


def test_missing_validation_is_cut_from_training(tmp_path: Path) -> None:
    layout = {f"{s}/{c}": n for s, n in (("train", 20), ("test", 3)) for c in "ab"}
    source = open_data(f"folder:{make_folder(tmp_path, layout)}")
    assert [len(source.split(n)) for n in ("train", "val", "test")] == [36, 4, 6]
    assert not contents(source)["train"] & contents(source)["val"]


def test_images_are_resized_on_the_shorter_side_and_cropped(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 9, "b": 10})
    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(tmp_path / "a" / "wide.png")
    source = open_data(f"folder:{tmp_path}", image_size=4)
    assert source.shape.input == (3, 4, 4)
    everything = torch.cat([source.split(n).inputs for n in ("train", "val", "test")])
    # The white middle third, softened at its edges, is all that is left of the wide image.
    assert (everything.flatten(1).float().mean(1) > 200).sum() == 1


def test_broken_image_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 10, "dog": 10})
    good = (tmp_path / "cat" / "3.png").read_bytes()
    (tmp_path / "cat" / "3.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"cannot decode image .*cat/3\.png"):
        open_data(f"folder:{tmp_path}")
    (tmp_path / "cat" / "3.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"cannot decode image .*cat/3\.png"):
        open_data(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"cat": 10}, r"has only one class \('cat'\)"),
        ({}, r"has no images; expected"),
        ({"cat": 10, "dog": 2}, r"class 'dog' has 2 images; splitting into train, val, test"),
        ({"train/a": 4, "train/b": 4, "test/a": 2}, r"/train and .*/test differ: b is in one"),
        ({"train/a": 4, "train/b": 4, "val": 0}, r"val has no images"),
    ],
)
def test_unusable_folders_are_explained(
    tmp_path: Path, layout: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_data(f"folder:{make_folder(tmp_path, layout)}")


def test_one_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    layout = {f"{s}/{c}": 3 for s in ("train", "val", "test") for c in "ab"}
    make_folder(tmp_path, layout)
    (tmp_path / "test" / "a" / "link.png").symlink_to(tmp_path / "train" / "a" / "0.png")
    with pytest.raises(ValueError, match=r"link\.png \(test\) is the same image as"):
        open_data(f"folder:{tmp_path}")


def test_unequal_sizes_ask_for_a_size(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 10, "b": 10})
    Image.fromarray(np.zeros((9, 7, 3), dtype=np.uint8)).save(tmp_path / "b" / "odd.png")
    with pytest.raises(ValueError, match="give an image size"):
        open_data(f"folder:{tmp_path}")


# -- text --------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    text = "ab\u00e9\r\n" * 500
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    plain.write_bytes(text.encode())
    expected = open_data(f"text:{plain}", context=10)
    assert "\ufeff" not in expected.shape.labels
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        marked.write_bytes(text.encode(encoding))
        found = open_data(f"text:{marked}", context=10)
        assert found.shape == expected.shape
        assert found.fingerprint == expected.fingerprint


def test_text_predicts_the_next_character_in_disjoint_parts(tmp_path: Path) -> None:
    text = "".join(chr(97 + i * i % 17) for i in range(2000)) + "\u00e9"
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    source = open_data(f"text:{tmp_path / 't.txt'}", context=10)
    labels = source.shape.labels
    assert len(labels) == source.shape.classes
    for name, start in (("train", 0), ("val", 1800), ("test", 1900)):
        split = source.split(name)
        decoded = "".join(labels[i] for i in split.inputs[0])
        assert decoded == text[start : start + 10]
        assert torch.equal(split.inputs[0][1:], split.targets[0][:-1])
    # 100 characters hold 9 windows of 10 with a next character each; training windows overlap.
    assert len(source.val) == 9
    assert len(source.train) == 1790
    # The accent occurs in the test part only, so the vocabulary cannot know it.
    assert "\u00e9" not in labels


def test_rare_characters_become_the_unknown_token(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab" * 500 + "xyz" + "ab" * 500, encoding="utf-8")
    from supernet.data.text import open_text

    source = open_text(tmp_path / "t.txt", context=4, vocabulary=3)
    assert source.shape.labels == ("\ufffd", "a", "b")
    assert int((source.train.inputs == 0).any(1).sum()) > 0


@pytest.mark.parametrize(
    ("content", "context", "message"),
    [
        (b"abc", 10, "has 3 characters; with a context of 10 tokens at least 420 are needed"),
        (b"\xff\xfa" * 500, 4, r"is not UTF-8 text \(invalid start byte at byte 0\); save it as"),
        (b"\xff\xfe" + b"a\0" * 500 + b"a", 4, r"is not UTF-16.* text .*; save it as UTF-8"),
        (b"a\0" * 500, 4, "holds NUL characters, .* or UTF-16 without a byte-order mark"),
        (b"abc", 0, "context = 0 tokens is impossible"),
    ],
)
def test_unusable_text_is_explained(
    tmp_path: Path, content: bytes, context: int, message: str
) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_data(f"text:{tmp_path / 't.txt'}", context=context)


# -- your own data sets ------------------------------------------------------------------------


def images(count: int, seed: int) -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(1, 4, 4, generator=generator), i % 2) for i in range(count)]


def test_any_data_set_can_be_used() -> None:
    source = from_datasets(images(8, 0), images(4, 1), images(4, 2), labels=["no", "yes"])
    assert source.shape.labels == ("no", "yes")
    assert len(source.train) == 8
    assert torch.equal(source.val.inputs[1], images(4, 1)[1][0])


def test_shared_samples_are_refused() -> None:
    data = images(8, 0)
    with pytest.raises(ValueError, match="image 0 of the val split of dataset is also image 6"):
        from_datasets(data, data[6:], images(2, 1))
    assert len(from_datasets(data, data[6:], images(2, 1), allow_duplicates=True).val) == 2


def test_unusable_data_sets_are_explained() -> None:
    with pytest.raises(
        ValueError, match=r"sample 0 of dataset .train. is a Tensor; expected a pair"
    ):
        from_datasets([image for image, _ in images(8, 0)], images(4, 1), images(4, 2))
    with pytest.raises(ValueError, match="the val split of dataset has no images"):
        from_datasets(images(8, 0), [], images(4, 2))
    with pytest.raises(ValueError, match=r"values from .* float images must lie in 0\.\.1"):
        from_datasets([(x * 255, y) for x, y in images(8, 0)], images(4, 1), images(4, 2))
    with pytest.raises(ValueError, match="class numbers 0 to 1; with 1 labels"):
        from_datasets(images(8, 0), images(4, 1), images(4, 2), labels=["only"])
    mixed = [images(1, 0)[0], (torch.zeros(1, 4, 4, dtype=torch.uint8), 0)]
    with pytest.raises(ValueError, match=r"sample 1 of dataset \(train\) has torch.uint8 pixels"):
        from_datasets(mixed, images(4, 1), images(4, 2))
    with pytest.raises(ValueError, match=r"sample 1 of dataset \(train\) has shape \(1, 2, 2\)"):
        from_datasets([images(1, 0)[0], (torch.zeros(1, 2, 2), 0)], images(4, 1), images(4, 2))


# -- augmentation ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentation_is_a_function_of_the_generator(kind: str) -> None:
    batch = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def run(seed: int) -> torch.Tensor:
        return augment(batch, kind, torch.Generator().manual_seed(seed))

    assert torch.equal(run(1), run(1))
    assert torch.equal(run(1), run(2)) == (kind == "none")
    assert run(1).shape == batch.shape
    assert 0 <= run(1).min() <= run(1).max() <= 1


def test_shift_moves_whole_images_by_at_most_one_pixel() -> None:
    batch = torch.zeros(64, 1, 8, 8)
    batch[:, :, 4, 4] = 1
    moved = augment(batch, "shift", torch.Generator().manual_seed(0))
    where = {tuple(row[2:].tolist()) for row in moved.nonzero()}
    assert where == {(r, c) for r in (3, 4, 5) for c in (3, 4, 5)}
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(64))


def test_unknown_augmentation_is_named() -> None:
    with pytest.raises(ValueError, match="unknown augmentation 'spin'"):
        augment(torch.zeros(1, 1, 8, 8), "spin", torch.Generator())


OWN_DATA = """
import torch
from supernet.data import from_datasets, open_data


class Pictures(torch.utils.data.Dataset):
    def __init__(self, seed, count=6, size=8):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.rand((count, 1, size, size), generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], index % 2


SEEDS = (0, 1, 2)
COUNT = 3


def three():
    return tuple(map(Pictures, SEEDS))


def named(image_size=8):
    parts = [Pictures(seed, size=image_size) for seed in SEEDS]
    return {"train": parts[0], "val": parts[1], "test": parts[2], "labels": ["cat", "dog"]}


def source():
    return from_datasets(*three(), augmentation="none")


def overlapping():
    return Pictures(0), Pictures(0), Pictures(1)


def needy(where):
    return three()


def other():
    return 7


def broken():
    return {}["nothing"]
"""


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package in the working directory, which nobody has imported yet."""
    package = f"own_{tmp_path.name}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "data.py").write_text(OWN_DATA, encoding="utf-8")
    (tmp_path / package / "unready.py").write_text("import no_such_library\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    return package


@pytest.mark.parametrize("function", ["three", "named", "source"])
def test_a_function_of_ones_own_is_a_data_source(own_data: str, function: str) -> None:
    spec = f"{own_data}.data:{function}"
    data = open_data(spec, own_modules=True)
    assert data.spec == spec
    assert data.shape.input == (1, 8, 8)
    assert data.shape.labels == (("cat", "dog") if function == "named" else ("0", "1"))
    assert data.augmentation == ("none" if function == "source" else "shift")
    assert open_data(spec, own_modules=True).fingerprint == data.fingerprint


def test_the_fingerprint_is_that_of_the_content(own_data: str) -> None:
    spec = f"{own_data}.data:source"
    before = open_data(spec, own_modules=True)
    module = sys.modules[f"{own_data}.data"]
    assert before.fingerprint == module.source().fingerprint
    module.SEEDS = (0, 1, 3)
    assert open_data(spec, own_modules=True).fingerprint != before.fingerprint
    # A source whose own fingerprint is not its content's protects a run all the same.
    lying = replace(module.source(), fingerprint="0" * 64)
    module.source = lambda: lying
    assert open_data(spec, own_modules=True).fingerprint not in ("0" * 64, before.fingerprint)


def test_a_text_has_the_fingerprint_of_its_windows(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("abcdefgh" * 20_000, encoding="utf-8")
    windows = open_data(f"text:{tmp_path / 't.txt'}", context=16).train.inputs
    whole = hashlib.sha256(f"x {windows.dtype} {tuple(windows.shape)}\n".encode())
    whole.update(windows.contiguous().numpy().tobytes())
    assert windows.numel() * windows.element_size() > 2 * HASHED_BYTES, "several blocks"
    assert fingerprint([("x", windows)]) == whole.hexdigest()


def test_options_reach_functions_that_take_them(own_data: str) -> None:
    data = open_data(f"{own_data}.data:named", image_size=12, own_modules=True)
    assert data.shape.input == (1, 12, 12)
    with pytest.raises(ValueError, match=r"data '.*:three' has no argument image_size"):
        open_data(f"{own_data}.data:three", image_size=12, own_modules=True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("data:twree", "module 'own.*data' has no function 'twree'.*did you mean 'three'?"),
        ("data:COUNT", "module 'own.*data' has no function 'COUNT'"),
        ("data:other", "returned int; it must return a DataSource, the three data sets"),
        ("data:overlapping", "image 0 of the val split of own.*:overlapping is also image 0"),
        ("data:needy", "data 'own.*:needy' needs where; only image_size, context, tokens and"),
        ("data:broken", "data 'own.*:broken' failed with KeyError: 'nothing'"),
        (
            "unready:load",
            "module 'own.*unready' of the data .* needs no_such_library, which is not",
        ),
        ("missing:load", "there is no module 'own.*missing' for the data 'own.*missing:load'"),
    ],
)
def test_functions_that_give_no_data_are_explained(
    own_data: str, function: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_data(f"{own_data}.{function}", own_modules=True)


def test_modules_of_the_working_directory_are_for_typed_names_alone(own_data: str) -> None:
    with pytest.raises(ValueError, match="there is no module"):
        open_data(f"{own_data}.data:three")
    assert not any(path in ("", str(Path.cwd())) for path in sys.path)
    with pytest.raises(ValueError, match=r"there is no module 'foldr' .*.*did you mean 'folder'\?"):
        open_data("foldr:photos")
