"""Cluttered digits: the same bytes everywhere, what is drawn, and which images belong together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from supernet.data import SPLITS, DataSource, Split, open_data
from supernet.data.clutter import FINE, LARGEST, MOST_TURN, NOISE, SIDE, SMALLEST, render
from supernet.data.source import fingerprint_splits, make_image_source
from supernet.errors import InputError

FINGERPRINT = "5aa688f46304cc950ba69dd43156390371ad6245f4d1ef10424a951da9a6372a"


@pytest.fixture(scope="module")
def source() -> DataSource:
    return open_data("clutter")


@pytest.fixture(scope="module")
def inks() -> np.ndarray:
    found: np.ndarray = load_digits().images[:200].astype(np.int32)
    return found


def square(ink: int = 16) -> np.ndarray:
    """Two base digits that are full of ink, or of less."""
    return np.full((2, 8, 8), ink, dtype=np.int32)


# -- what the data are -------------------------------------------------------------------------


@pytest.mark.exactness
def test_the_content_is_the_same_everywhere(source: DataSource) -> None:
    assert source.fingerprint == FINGERPRINT


def test_it_is_made_once() -> None:
    assert open_data("clutter") is open_data("clutter")


def test_sizes_and_what_a_model_must_know(source: DataSource) -> None:
    assert [len(source.split(name)) for name in SPLITS] == [32370, 2154, 2154]
    assert source.shape.input == (1, 20, 20)
    assert source.shape.labels == tuple("0123456789")
    assert source.augmentation == "none"
    assert source.epoch == 32370
    assert source.train.inputs.dtype == torch.uint8
    pixels = source.train.inputs.double() / 255
    assert source.shape.mean[0] == pytest.approx(float(pixels.mean()), abs=1e-9)
    assert source.shape.std[0] == pytest.approx(float(pixels.std(correction=0)), abs=1e-9)


def test_classes_are_as_frequent_in_every_split(source: DataSource) -> None:
    whole = np.bincount(load_digits().target) / 1797
    for name in SPLITS:
        targets = source.split(name).targets
        shares = torch.bincount(targets).numpy() / len(targets)
        assert np.abs(shares - whole).max() < 0.003


def test_groups_are_base_digits_and_none_is_in_two_splits(source: DataSource) -> None:
    labels = torch.from_numpy(load_digits().target)
    seen: list[int] = []
    for name, bases, count in (("train", 1079, 30), ("val", 359, 6), ("test", 359, 6)):
        split = source.split(name)
        assert split.groups is not None
        groups, sizes = split.groups.unique(return_counts=True)
        assert len(groups) == bases
        assert (sizes == count).all()
        assert torch.equal(split.targets, labels[split.groups])
        seen += groups.tolist()
    assert sorted(seen) == list(range(1797))


def test_renderings_are_of_their_base_digit(source: DataSource) -> None:
    digits = load_digits().images
    split = source.val
    assert split.groups is not None
    # Where digits lie does not matter to how much ink they have.
    ink = digits[split.groups.numpy()].sum((1, 2))
    grey = split.inputs.flatten(1).sum(1).numpy()
    assert np.corrcoef(ink, grey)[0, 1] > 0.4
    assert abs(np.corrcoef(np.roll(ink, 600), grey)[0, 1]) < 0.1


# -- what is drawn -----------------------------------------------------------------------------


def test_no_sine_is_near_to_being_rounded_the_other_way() -> None:
    for turn in range(-MOST_TURN, MOST_TURN + 1):
        for value in (math.sin(math.radians(turn)), math.cos(math.radians(turn))):
            assert abs(value * 2**20 % 1 - 0.5) > 1e-3


@pytest.mark.exactness
def test_every_digit_lies_within_the_image() -> None:
    images = render(square(), 400, 3, fragments=0, noise=0).astype(float) / 255
    # A square of full ink has an area between those of its smallest and largest side, blurred.
    area = images.sum((1, 2))
    smallest, largest = (SMALLEST / FINE) ** 2, (LARGEST / FINE) ** 2
    assert area.min() > 0.97 * smallest
    assert area.max() < 1.03 * largest
    assert area.min() < 1.1 * smallest
    assert area.max() > 0.95 * largest
    # It is drawn up to either border, and its middle is never nearer than half its side.
    for axis in (1, 2):
        middles = (images.sum(3 - axis) * (np.arange(SIDE) + 0.5)).sum(1) / area
        assert middles.min() > SMALLEST / FINE / 2 - 0.1
        assert middles.max() < SIDE - SMALLEST / FINE / 2 + 0.1
        assert middles.min() < 8
        assert middles.max() > 12


def test_digits_are_turned_to_either_side() -> None:
    bar = np.zeros((2, 8, 8), dtype=np.int32)
    bar[:, :, 3:5] = 16
    images = render(bar, 200, 0, fragments=0, noise=0).astype(float)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    total = images.sum((1, 2))
    y = rows - (images * rows).sum((1, 2))[:, None, None] / total[:, None, None]
    x = columns - (images * columns).sum((1, 2))[:, None, None] / total[:, None, None]
    covariance, upright = (images * x * y).sum((1, 2)), (images * (y * y - x * x)).sum((1, 2))
    turns = np.degrees(0.5 * np.arctan2(2 * covariance, upright))
    assert -MOST_TURN - 0.5 < turns.min() < -MOST_TURN + 1
    assert MOST_TURN - 1 < turns.max() < MOST_TURN + 0.5
    assert abs(turns.mean()) < 1.5


@pytest.mark.parametrize(("ink", "grey"), [(16, 255), (8, 128), (1, 16), (0, 0)])
def test_brightness_is_proportional_to_ink(ink: int, grey: int) -> None:
    images = render(square(ink), 20, 0, fragments=0, noise=0)
    assert (images.max((1, 2)) == grey).all()
    assert images.min() == 0


def test_noise_is_uniform_and_ends_where_grey_levels_do(inks: np.ndarray) -> None:
    clean = render(inks, 4, 0, noise=0).astype(int)
    noisy = render(inks, 4, 0).astype(int)
    difference = noisy - clean
    middle = difference[(clean > NOISE) & (clean < 255 - NOISE)]
    counts = np.bincount(middle + NOISE, minlength=2 * NOISE + 1)
    assert len(counts) == 2 * NOISE + 1
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()
    assert (difference[clean == 0].min(), difference[clean == 0].max()) == (0, NOISE)
    assert (noisy.min(), noisy.max()) == (0, 255)


def test_fragments_are_small_bright_and_of_other_digits() -> None:
    inks = square()
    inks[0] = 0
    # The first digit has no ink, so that all one sees in its images are pieces of the second.
    images = render(inks, 500, 0, noise=0)[:500]
    lit = (images > 127).sum((1, 2))
    # Two of them may lie on each other or beyond the border; the largest are 3 * 1.875 wide.
    assert lit.max() <= 2 * 40
    assert lit.mean() > 12
    assert (lit > 0).mean() > 0.95
    # The second meets pieces of the first alone, which has no ink.
    without = render(inks, 500, 0, fragments=0, noise=0)
    assert np.array_equal(render(inks, 500, 0, noise=0)[500:], without[500:])


def test_fragments_only_brighten(inks: np.ndarray) -> None:
    without, after = (render(inks, 2, 0, fragments=n, noise=0).astype(int) for n in (0, 2))
    assert (after >= without).all()
    changed = (after > without).sum((1, 2))
    assert (changed > 0).mean() > 0.95
    # With the blur around it, a turned patch is at most 4 * 1.875 pixels wide.
    assert changed.max() <= 2 * 60


def test_other_seeds_draw_other_images(inks: np.ndarray) -> None:
    first, again, other = (render(inks, 2, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# -- groups ------------------------------------------------------------------------------------


def test_groups_follow_the_samples_that_are_taken() -> None:
    split = Split(torch.rand(6, 1, 2, 2), torch.arange(6), torch.tensor([0, 0, 1, 1, 2, 2]))
    some = split.take(torch.tensor([5, 0, 3]))
    assert some.groups is not None
    assert some.groups.tolist() == [2, 0, 1]
    assert some.targets.tolist() == [5, 0, 3]
    assert torch.equal(some.inputs, split.inputs[[5, 0, 3]])
    assert split.take(slice(2, 4)).groups is not None
    assert replace(split, groups=None).take(slice(2)).groups is None


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (torch.zeros(3, dtype=torch.int64), r"have type torch.int64 and shape \(3,\)"),
        (torch.zeros(4), r"have type torch.float32 and shape \(4,\)"),
        (torch.zeros(4, 1).long(), r"have type torch.int64 and shape \(4, 1\)"),
        ([0, 0, 1, 1], "are of type list"),
        (np.zeros(4, np.int64), "are of type ndarray"),
    ],
)
def test_unusable_groups_are_explained(groups: Any, found: str) -> None:
    expected = f"groups of a split of 4 samples {found}; they must be a tensor with one int64"
    with pytest.raises(InputError, match=expected):
        Split(torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64), groups)


def test_groups_are_part_of_the_fingerprint_where_there_are_some() -> None:
    images = torch.arange(16, dtype=torch.uint8).reshape(4, 1, 2, 2)
    targets = torch.tensor([0, 1, 0, 1])
    content = dict.fromkeys(SPLITS, (images, targets))
    groups = {name: torch.tensor([0, 0, 1, 1]) for name in SPLITS}
    plain = make_image_source("x", content, ("a", "b"))
    grouped = make_image_source("x", content, ("a", "b"), groups=groups)
    other = make_image_source(
        "x", content, ("a", "b"), groups={**groups, "val": torch.tensor([0, 1, 1, 1])}
    )
    assert len({plain.fingerprint, grouped.fingerprint, other.fingerprint}) == 3
    assert grouped.fingerprint == fingerprint_splits({n: grouped.split(n) for n in SPLITS})


# -- further samples ---------------------------------------------------------------------------


def test_further_samples_are_other_renderings_of_the_same_digits(source: DataSource) -> None:
    first, second = source.split("val+1"), source.split("val+2")
    for further in (first, second):
        assert further.inputs.shape == source.val.inputs.shape
        assert further.groups is not None
        assert source.val.groups is not None
        assert (further.groups == source.val.groups).all()
        assert (further.targets == source.val.targets).all()
    pairs = [(source.val, first), (source.val, second), (first, second)]
    assert all((a.inputs != b.inputs).any(dim=(1, 2, 3)).all() for a, b in pairs)
    assert (source.split("val+1").inputs == first.inputs).all()
    # Training and test renderings have seeds of their own.
    seeds = [first.inputs[0].numpy().tobytes(), second.inputs[0].numpy().tobytes()]
    others = {image.numpy().tobytes() for part in ("train", "test") for image in
              source.split(part).inputs}  # fmt: skip
    assert not others.intersection(seeds)


@pytest.mark.parametrize("name", ["val+0", "val+", "val+x", "val-1", "test+1", "+1"])
def test_names_of_further_samples_that_there_are_not(source: DataSource, name: str) -> None:
    with pytest.raises(InputError, match="unknown split"):
        source.split(name)
    with pytest.raises(InputError, match="unknown split"):
        open_data("digits").split("val+1")


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (None, "is a NoneType"),
        (Split(torch.zeros(0, 1, 20, 20, dtype=torch.uint8), torch.zeros(0)), "has inputs of"),
        (Split(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(3)), r"\(3, 1, 8, 8\)"),
        (Split(torch.zeros(3, 1, 20, 20), torch.zeros(3)), "float32"),
    ],
)
def test_further_samples_that_are_not_like_the_others(
    source: DataSource, made: Any, what: str
) -> None:
    broken = replace(source, further=lambda number: made)
    with pytest.raises(InputError, match=f"further samples val.1 of clutter must be .*{what}"):
        broken.split("val+1")


def test_further_samples_have_fingerprints_of_their_own(source: DataSource) -> None:
    found = [source.fingerprint_further(f"val+{number}") for number in (1, 2)]
    assert len({source.fingerprint, *found}) == 3
    assert {len(one or "") for one in found} == {64}
    first = source.split("val+1")
    assert first.groups is not None
    for part in ("inputs", "targets", "groups"):
        tensor = getattr(first, part).clone()
        tensor[-1] += 1
        changed = replace(first, **{part: tensor})
        other = replace(source, further=lambda number, made=changed: made)
        assert other.fingerprint_further("val+1") != found[0], part
        assert other.fingerprint == source.fingerprint
    assert replace(source).fingerprint_further("val+1") == found[0]


def test_splits_that_the_fingerprint_of_the_source_covers_have_no_other(
    source: DataSource,
) -> None:
    for plain in (source, open_data("digits")):
        assert [plain.fingerprint_further(name) for name in SPLITS] == [None] * 3
    with pytest.raises(InputError, match="unknown split"):
        open_data("digits").fingerprint_further("val+1")


def test_further_samples_that_fail(source: DataSource) -> None:
    def fail(number: int) -> Split:
        raise OSError("the disk is gone")

    with pytest.raises(InputError, match=r"val.2 of clutter failed with OSError: the disk is gone"):
        replace(source, further=fail).split("val+2")


def test_further_samples_are_made_once(source: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def make(number: int) -> Split:
        asked.append(number)
        return source.val

    slow = replace(source, further=make)
    assert all(slow.split(f"val+{number}") is source.val for number in (1, 2, 1, 2, 2))
    assert asked == [1, 2]
    # One more than there is room for: what was asked for longest ago is made anew.
    size = source.val.inputs.nbytes + source.val.targets.nbytes
    monkeypatch.setattr("supernet.data.source.KEPT_BYTES", 2 * size)
    for number in (1, 3, 1, 2):
        slow.split(f"val+{number}")
    assert asked == [1, 2, 3, 2]


def test_further_samples_that_are_others_the_second_time_have_another_fingerprint(
    source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def make(number: int) -> Split:
        asked.append(number)
        return Split(source.val.inputs, source.val.targets.roll(len(asked)))

    odd = replace(source, further=make)
    first = odd.fingerprint_further("val+1")
    odd.split("val+1")
    assert odd.fingerprint_further("val+1") == first
    # There is room for one alone, so that the first is made anew.
    monkeypatch.setattr("supernet.data.source.KEPT_BYTES", 1)
    odd.split("val+2")
    odd.split("val+1")
    assert asked == [1, 2, 1]
    assert odd.fingerprint_further("val+1") != first


def test_further_samples_without_a_target_for_each(source: DataSource) -> None:
    short = Split(source.val.inputs, source.val.targets[:-1])
    with pytest.raises(InputError, match=r"a target for each.* targets of torch.int64 and shape"):
        replace(source, further=lambda number: short).split("val+1")
