"""Built-in data with a trade-off: handwritten digits among fragments of others, 20x20 pixels.

After the cluttered translated digits of Mnih et al. 2014, "Recurrent Models of Visual Attention",
section 4.1: a digit lies anywhere, and pieces of other digits lie about. The digits are those that
ship with scikit-learn, so that nothing is downloaded.

Everything is integer arithmetic on raw words of a bit generator, whose streams NumPy promises not
to change: the same bytes on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from .source import DataSource, Split, make_image_source, split_stratified

SIDE = 20
RENDERINGS = {"train": 30, "val": 6, "test": 6}
FRAGMENTS = 2
# Places and sides are in sixteenths of a pixel. A digit of 8 source pixels becomes 12 to 15 wide.
FINE = 16
SMALLEST, LARGEST = 12 * FINE, 15 * FINE
# Degrees to either side, and grey levels up or down.
MOST_TURN, NOISE = 10, 16

_SOURCE, _PATCH, _INK_BITS = 8, 3, 4
# The largest patch, turned and with the blur around it, is less than nine pixels wide.
_WINDOW = 10
# Zeros around source pixels: one that a weight may reach, one that all places outside are moved to.
_MARGIN = 2
# Bits behind the point of sines, of source coordinates, and of weights of their neighbours.
_SINE_BITS, _PLACE_BITS, _WEIGHT_BITS = 20, 12, 8
# No sine of these is near half a unit of the last bit, which could be rounded either way.
_COSINES = np.array(
    [round(math.cos(math.radians(t)) * 2**_SINE_BITS) for t in range(-MOST_TURN, MOST_TURN + 1)],
    dtype=np.int32,
)
_SINES = np.array(
    [round(math.sin(math.radians(t)) * 2**_SINE_BITS) for t in range(-MOST_TURN, MOST_TURN + 1)],
    dtype=np.int32,
)
_POSE_WORDS, _PLACE_WORDS, _PATCH_WORDS = 2, 2, 4
_DIGIT_WORDS = _POSE_WORDS + _PLACE_WORDS
_FRAGMENT_WORDS = _DIGIT_WORDS + _PATCH_WORDS
# So few renderings at a time that their intermediate arrays stay in a processor's cache.
_BLOCK = 256

Integers = NDArray[np.int32]
Words = NDArray[np.uint64]


@cache
def open_clutter() -> DataSource:
    """Cluttered digits: base digits are split 60/20/20 by class, then each is rendered anew.

    A base digit has 30 renderings in ``train`` and 6 in ``val`` and ``test``. These are not
    independent of each other: its number among scikit-learn's digits is their group. They are made
    once per process. Further validation samples are 6 other renderings of the same base digits.
    """
    splits, groups = {}, {}
    for seed, (name, renderings) in enumerate(RENDERINGS.items()):
        made = _render_part(name, renderings, seed)
        assert made.groups is not None
        splits[name], groups[name] = (made.inputs, made.targets), made.groups
    names = tuple(str(digit) for digit in range(10))
    return make_image_source(
        "clutter", splits, names, augmentation="none", groups=groups, further=_render_further
    )


def _render_further(number: int) -> Split:
    return _render_part("val", RENDERINGS["val"], len(RENDERINGS) - 1 + number)


def _render_part(name: str, renderings: int, seed: int) -> Split:
    """Renderings of the base digits of a split, and which base each is of."""
    inks, labels, parts = _open_bases()
    rows = parts[name]
    bases = np.repeat(rows.astype(np.int64), renderings)
    images = torch.from_numpy(render(inks[rows], renderings, seed))[:, None]
    return Split(images, torch.from_numpy(labels[bases]), torch.from_numpy(bases))


@cache
def _open_bases() -> tuple[Integers, NDArray[np.int64], dict[str, NDArray[np.intp]]]:
    """Ink ``(N, 8, 8)`` and class ``(N,)`` of every base digit, and the rows of each split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inks, labels = digits.images.astype(np.int32), digits.target.astype(np.int64)
    parts = split_stratified(labels, {"train": 0.6, "val": 0.2, "test": 0.2}, seed=0)
    return inks, labels, parts


def render(
    inks: Integers, count: int, seed: int, *, fragments: int = FRAGMENTS, noise: int = NOISE
) -> NDArray[np.uint8]:
    """Render every base digit several times, each time at a place, size and turn of its own.

    Args:
        inks: Base digits ``(N, 8, 8)``, at least two, with ink in 0..16. Fragments are of these.
        count: Renderings of each.
        seed: Seed of everything that is drawn.
        fragments: Pieces of other digits in each image.
        noise: Most grey levels that are added or taken away.

    Returns:
        Grey levels ``(N * count, 20, 20)``, the renderings of one digit next to each other.
    """
    generator = np.random.PCG64(seed)
    total = len(inks) * count
    words = generator.random_raw((total, _DIGIT_WORDS))
    more = generator.random_raw((fragments, total, _FRAGMENT_WORDS))
    images = np.empty((total, SIDE, SIDE), dtype=np.int16)
    tables = _pack_neighbors(inks)
    for start in range(0, total, _BLOCK):
        bases = np.arange(start, min(start + _BLOCK, total), dtype=np.int32) // count
        part = slice(start, start + len(bases))
        block = _draw_digits(tables, bases, words[part])
        for fragment in more:
            _add_fragments(block, inks, bases, fragment[part])
        images[part] = block
    images += _draw_noise(generator, images.size, noise).reshape(images.shape)
    return images.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Pose:
    """Sizes and turns of drawings.

    Args:
        along: Source pixels to the right per sixteenth of a pixel to the right, ``(n,)``, 20 bits
            behind the point.
        across: Source pixels to the right per sixteenth of a pixel down, likewise.
        reach: Half the width of a turned digit in sixteenths of a pixel, rounded up ``(n,)``.
    """

    along: Integers
    across: Integers
    reach: Integers


def _draw_digits(tables: Integers, bases: Integers, words: Words) -> Integers:
    """Images ``(n, 20, 20)`` of one digit each, anywhere within the image."""
    pose = _draw_pose(words[:, :_POSE_WORDS])
    places = _reduce(words[:, _POSE_WORDS:].T, pose.reach, SIDE * FINE - pose.reach)
    pixels = FINE * np.arange(SIDE, dtype=np.int32) + FINE // 2
    middle = np.full(len(bases), _SOURCE - 1, dtype=np.int32)
    offsets = pixels - places[..., None]
    return _sample(tables, bases, pose, middle, *offsets)


def _add_fragments(images: Integers, inks: Integers, bases: Integers, words: Words) -> None:
    """Lay a patch of another digit over each image, in place; the brighter of both is seen."""
    pose = _draw_pose(words[:, :_POSE_WORDS])
    places = _reduce(words[:, _POSE_WORDS:_DIGIT_WORDS].T, 0, SIDE * FINE)
    patches, sides = _cut_patches(inks, bases, words[:, _DIGIT_WORDS:])
    corners = places // FINE - _WINDOW // 2
    window = corners[..., None] + np.arange(_WINDOW, dtype=np.int32)
    offsets = FINE * window + FINE // 2 - places[..., None]
    rows = np.arange(len(images), dtype=np.int32)
    drawn = _sample(_pack_neighbors(patches), rows, pose, sides - 1, *offsets)
    # What lies outside goes to a rim that is thrown away.
    rim = _WINDOW
    canvas = np.pad(images, ((0, 0), (rim, rim), (rim, rim)))
    where = (rows[:, None, None], window[0][:, :, None] + rim, window[1][:, None, :] + rim)
    canvas[where] = np.maximum(canvas[where], drawn)
    images[:] = canvas[:, rim:-rim, rim:-rim]


def _cut_patches(inks: Integers, bases: Integers, words: Words) -> tuple[Integers, Integers]:
    """Patches ``(n, 3, 3)`` of other digits than the base, and their sides ``(n,)`` of 2 or 3."""
    others = (bases + _reduce(words[:, 0], 1, len(inks) - 1)) % len(inks)
    sides = _reduce(words[:, 1], _PATCH - 1, _PATCH)
    tops = _reduce(words[:, 2], 0, _SOURCE - sides)
    # The outer columns of nearly all digits are empty.
    lefts = _reduce(words[:, 3], 1, _SOURCE - 1 - sides)
    steps = np.arange(_PATCH)
    inside = steps < sides[:, None]
    # The third row of a patch of two may lie outside the digit.
    rows = np.minimum(tops[:, None] + steps, _SOURCE - 1)[:, :, None]
    columns = (lefts[:, None] + steps)[:, None, :]
    patches = inks[others[:, None, None], rows, columns]
    return patches * (inside[:, :, None] & inside[:, None, :]), sides


def _draw_pose(words: Words) -> _Pose:
    sides = _reduce(words[:, 0], SMALLEST, LARGEST)
    turns = _reduce(words[:, 1], 0, 2 * MOST_TURN)
    cosines, sines = _COSINES[turns], _SINES[turns]
    reach = (sides * (cosines + np.abs(sines)) >> (_SINE_BITS + 1)) + 1
    return _Pose(_SOURCE * cosines // sides, _SOURCE * sines // sides, reach)


def _sample(
    tables: Integers,
    rows: Integers,
    pose: _Pose,
    middle: Integers,
    down: Integers,
    right: Integers,
) -> Integers:
    """Grey levels of source images at turned and scaled places, between pixels bilinear.

    Args:
        tables: What :func:`_pack_neighbors` made of the source images.
        rows: Which of them is drawn, ``(n,)``.
        pose: How.
        middle: Twice the coordinate of the middle of what is drawn, in source pixels ``(n,)``.
        down: How far below the middle each pixel is, in sixteenths of a pixel ``(n, height)``.
        right: How far to the right of it ``(n, width)``.
    """
    origin = middle << (_PLACE_BITS - 1)
    shift = _SINE_BITS - _PLACE_BITS

    def locate(first: Integers, second: Integers) -> tuple[Integers, Integers]:
        places = ((first + second) >> shift) + origin[:, None, None]
        weights = (places >> (_PLACE_BITS - _WEIGHT_BITS)) & (2**_WEIGHT_BITS - 1)
        return ((places >> _PLACE_BITS) + _MARGIN).clip(0, tables.shape[1] - 1), weights

    along, across = pose.along[:, None, None], pose.across[:, None, None]
    down, right = down[:, :, None], right[:, None, :]
    y, below = locate(along * down, -across * right)
    x, beside = locate(along * right, across * down)
    found = tables[rows[:, None, None], y, x]
    upper = _mix(found & 255, (found >> 8) & 255, beside)
    lower = _mix((found >> 16) & 255, found >> 24, beside)
    mixed = _mix(upper, lower, below)
    # From ink in 0..16 times both weights to rounded grey levels.
    bits = _INK_BITS + 2 * _WEIGHT_BITS
    levels: Integers = (255 * mixed + 2 ** (bits - 1)) >> bits
    return levels


def _mix(first: Integers, second: Integers, weights: Integers) -> Integers:
    """A weighted mean of two numbers, with so many more bits behind the point."""
    mixed: Integers = (first << _WEIGHT_BITS) + weights * (second - first)
    return mixed


def _pack_neighbors(inks: Integers) -> Integers:
    """Four neighbors of every place between pixels in one number each; zeros lie around.

    Args:
        inks: Source images ``(N, side, side)``, values below 128.

    Returns:
        ``(N, side + 3, side + 3)``: from the lowest byte the pixel above to the left, to the right,
        below to the left, to the right. The index is the whole part of a coordinate plus 2.
    """
    count, height, width = inks.shape
    padded = np.zeros((count, height + 2 * _MARGIN, width + 2 * _MARGIN), dtype=np.int32)
    padded[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = inks
    upper = padded[:, :, :-1] | padded[:, :, 1:] << 8
    return upper[:, :-1] | upper[:, 1:] << 16


def _reduce(words: Words, low: Integers | int, high: Integers | int) -> Integers:
    """Whole numbers from ``low`` to ``high``, both included, out of random words."""
    span = np.asarray(high - low + 1, dtype=np.uint64)
    # Of 64 bits, a remainder of so few is as good as uniform.
    drawn: Integers = (words % span).astype(np.int32) + low
    return drawn


def _draw_noise(generator: np.random.PCG64, count: int, most: int) -> NDArray[np.int16]:
    # A word holds four numbers, whichever way round a machine stores it.
    numbers = generator.random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count]
    return (numbers % (2 * most + 1)).astype(np.int16) - np.int16(most)
