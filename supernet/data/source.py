"""Data as values: what a network sees, three disjoint splits, and their fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernet.data.augment import AUGMENTATIONS
from supernet.data.memory import count_in_bytes, split_by_bytes
from supernet.data.reading import Count, count_nothing
from supernet.data.vocabulary import Vocabulary
from supernet.dataclass_json import decode_dataclass, encode_dataclass
from supernet.errors import InputError

IMAGES = "image-classification"
TEXT = "language-modelling"
SPLITS = ("train", "val", "test")
_FURTHER = "+"
# Of further samples, besides the set that is looked at.
KEPT_BYTES = 1 << 28
HASHED_BYTES = 1 << 22
MEASURED_SAMPLES, MEASURED_BYTES = 256, 1 << 25


@dataclass(frozen=True)
class DataShape:
    """What a model must know about the data it is built for.

    Args:
        task: ``"image-classification"`` or ``"language-modelling"``.
        input: ``(channels, height, width)`` of an image, or ``(context,)`` in tokens.
        classes: Number of classes, or size of the vocabulary.
        labels: Name of each class, or of each token of the vocabulary.
        mean: Mean of each channel over the training split, pixels in 0..1; ``()`` for text.
        std: Standard deviation of each channel over the training split.
    """

    task: str
    input: tuple[int, ...]
    classes: int
    labels: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Turn it into a JSON-able record."""
        return encode_dataclass(self)

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> DataShape:
        """Read what :meth:`to_json` wrote; InputError names a field that is not as it should be."""
        return decode_dataclass(cls, payload, "the data's shape")


@dataclass(frozen=True)
class Split:
    """Aligned inputs and targets, and which samples belong together.

    Args:
        inputs: Images ``(N, C, H, W)``, uint8 in 0..255 or float32 in 0..1; or token ids
            ``(N, context)``, int64.
        targets: Class indices ``(N,)``, or next token ids ``(N, context)``; int64.
        groups: Number of the group of each sample, ``(N,)``, int64: samples of one group (views of
            one object, frames of one film) are not independent, and errors of means are larger
            than as many independent samples would give. ``None`` where all are independent.

    Raises:
        InputError: ``groups`` are no tensor with one int64 number for each sample.
    """

    inputs: Tensor
    targets: Tensor
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        groups: object = self.groups
        if groups is None:
            return
        found = f"are of type {type(groups).__name__}"
        if isinstance(groups, Tensor):
            if groups.dtype == torch.int64 and groups.shape == (len(self.inputs),):
                return
            found = f"have type {groups.dtype} and shape {tuple(groups.shape)}"
        raise InputError(
            f"the groups of a split of {len(self.inputs)} samples {found}; they must be a tensor "
            "with one int64 number for each sample"
        )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: Tensor | slice) -> Split:
        """Take the chosen samples, with their targets and groups."""
        groups = None if self.groups is None else self.groups[indices]
        return Split(self.inputs[indices], self.targets[indices], groups)

    def batch(self, indices: Tensor | slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """The chosen samples on ``device``, images as float32 in 0..1."""
        inputs = self.inputs[indices].to(device)
        if inputs.dtype == torch.uint8:
            inputs = inputs.float().div_(255)
        return inputs, self.targets[indices].to(device)


@dataclass(frozen=True)
class DataSource:
    """Three disjoint splits of one data set.

    Args:
        spec: How the data was asked for (``"digits"``, ``"folder:PATH"``, ``"text:PATH"``,
            ``"package.module:function"``).
        shape: What a model must know.
        train: The split for gradients, normalisation statistics and recalibration.
        val: The split for choosing architectures.
        test: The split that is touched once, when a result is verified.
        fingerprint: SHA-256 over the content of all three splits, 64 hexadecimal digits; see
            :meth:`fingerprint_further` for further samples.
        epoch: Number of samples that make up one pass over ``train``.
        augmentation: What suits this data: ``"none"``, ``"shift"``, ``"affine"``, ``"crop_flip"``.
        notes: What a user should know of it, a sentence each.
        further: Makes the 1st, 2nd, ... set of further samples of what ``val`` is drawn from, such
            as other renderings of its objects, whose groups are then those of ``val``; the same
            ones every time. ``None`` where there is no more than ``val``.
        vocabulary: What turns text into the token ids of this data and back; ``None`` for images,
            and where nobody says it.
        bytes_per_token: Mean number of bytes, in UTF-8, that a token stands for, by split; empty
            where there is no text.
    """

    spec: str
    shape: DataShape
    train: Split
    val: Split
    test: Split
    fingerprint: str
    epoch: int
    augmentation: str
    notes: tuple[str, ...] = ()
    further: Callable[[int], Split] | None = None
    vocabulary: Vocabulary | None = None
    bytes_per_token: Mapping[str, float] = field(default_factory=dict)
    _made: dict[int, Split] = field(default_factory=dict, init=False, repr=False, compare=False)
    _hashed: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def split(self, name: str) -> Split:
        """The split called ``name``, or further samples by :func:`name_further`.

        Further samples are made once and kept as far as they take little memory.

        Raises:
            InputError: There is none of that name, and the names are listed; or what was made for
                it are no samples like those of ``val``.
        """
        stem, _, number = name.partition(_FURTHER)
        if self.further is not None and stem == "val" and number.isdecimal() and int(number) > 0:
            return self._find_further(name, self.further, int(number))
        if name not in SPLITS:
            raise InputError(f"unknown split {name!r}; the splits are {', '.join(SPLITS)}")
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def fingerprint_further(self, name: str) -> str | None:
        """The fingerprint of a set of further samples, which :attr:`fingerprint` does not cover.

        Args:
            name: Of the set; ``"train"``, ``"val"`` and ``"test"`` are covered.

        Returns:
            SHA-256 over its content, 64 hexadecimal digits; ``None`` for the three splits.

        Raises:
            InputError: As for :meth:`split`.
        """
        if name in SPLITS:
            return None
        if name not in self._hashed:
            found = self.split(name)
            self._hashed[name] = fingerprint(_list_tensors({name: found}))
        return self._hashed[name]

    def _find_further(self, name: str, make: Callable[[int], object], number: int) -> Split:
        """What was made before, or is made now; what was asked for longest ago goes first."""
        found = self._made.pop(number, None)
        if found is None:
            found = self._make_further(name, make, number)
            # What is made anew should be the same; whether it is, only its content tells.
            self._hashed.pop(name, None)
        self._made[number] = found
        while len(self._made) > 1 and _count_bytes(self._made.values()) > KEPT_BYTES:
            del self._made[next(iter(self._made))]
        return self._made[number]

    def _make_further(self, name: str, make: Callable[[int], object], number: int) -> Split:
        """What is made, if networks can be evaluated on it as on ``val``."""
        try:
            found = make(number)
        except InputError:
            raise
        # The function may be a user's and fail in any way; its kind and reason are all there is.
        except Exception as error:
            raise InputError(
                f"the further samples {name} of {self.spec} failed with {type(error).__name__}: "
                f"{error}"
            ) from error
        what = f"is a {type(found).__name__}"
        if isinstance(found, Split):
            pairs = ((self.val.inputs, found.inputs), (self.val.targets, found.targets))
            alike = (a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in pairs)
            if len(found) and all(alike) and len(found.targets) == len(found):
                return found
            what = " and ".join(
                f"{part} of {tensor.dtype} and shape {tuple(tensor.shape)}"
                for part, tensor in (("inputs", found.inputs), ("targets", found.targets))
            )
            what = f"has {what}"
        raise InputError(
            f"the further samples {name} of {self.spec} must be a Split of samples like those of "
            f"val, {self.val.inputs.dtype} and shape {tuple(self.val.inputs.shape)} with a target "
            f"for each; what was made {what}"
        )

    def count_bits_per_byte(self, loss: float | None, split: str) -> float | None:
        """Convert a loss, so that those of networks with other tokens can be compared with it.

        Args:
            loss: Nats per token; ``None`` where there is none.
            split: What it is of.

        Returns:
            Bits per byte of the text in UTF-8; ``None`` where there is no text or loss. Characters
            that the vocabulary lacks cost what the unknown token costs, which flatters small ones.
        """
        size = self.bytes_per_token.get(split)
        return None if size is None or loss is None else loss / math.log(2) / size

    def check_same_classes(self, trained: DataShape) -> None:
        """InputError unless a network built for ``trained`` can be run on this data."""
        ours, theirs = self.shape, trained
        if ours.task != theirs.task:
            raise InputError(f"{self.spec} is for {ours.task}; the network does {theirs.task}")
        if ours.labels != theirs.labels:
            raise InputError(
                f"the classes of {self.spec} differ from those the network was trained on: "
                f"{_shorten(ours.labels)} here, {_shorten(theirs.labels)} there"
            )
        if ours.input != theirs.input:
            raise InputError(
                f"{self.spec} has inputs of shape {ours.input}; "
                f"the network was built for {theirs.input}"
            )


def _count_bytes(splits: Iterable[Split]) -> int:
    return sum(split.inputs.nbytes + split.targets.nbytes for split in splits)


def name_further(number: int) -> str:
    """Name the 1st, 2nd, ... set of further validation samples, as records of evaluations do."""
    return f"val{_FURTHER}{number}"


def lay_channels_last(inputs: Tensor) -> Tensor:
    """Copy images so that channels vary fastest in memory; token ids come back as they are.

    Convolutions follow the layout of their input, and depthwise ones run several times faster on
    a CPU this way. A copy, because images of one channel count as having either layout already
    and a conversion would do nothing.
    """
    if inputs.ndim != 4:
        return inputs
    return torch.empty_like(inputs, memory_format=torch.channels_last).copy_(inputs)


def make_image_source(
    spec: str,
    splits: Mapping[str, tuple[Tensor, Tensor]],
    labels: tuple[str, ...],
    augmentation: str | None = None,
    notes: tuple[str, ...] = (),
    groups: Mapping[str, Tensor] | None = None,
    further: Callable[[int], Split] | None = None,
    count: Count = count_nothing,
) -> DataSource:
    """Checks and summaries that every image data set shares.

    Args:
        spec: Name for messages and the run's record.
        splits: ``train``, ``val``, ``test`` -> images ``(N, C, H, W)`` and labels ``(N,)``.
        labels: Name of each class.
        augmentation: ``None``: shift for small or grey images, crop and flip for larger colour.
        notes: What a user should know of the data.
        groups: Split -> groups of its samples, as for :class:`Split`; ``None`` where all samples
            are independent.
        further: As for :class:`DataSource`.
        count: Told what is found out about all images together.

    Raises:
        InputError: Fewer than two classes, or an empty split.
    """
    if len(labels) < 2:
        raise InputError(
            f"{spec} has {len(labels)} class{'es' * (len(labels) != 1)} ({_shorten(labels)}); "
            "classification needs at least 2"
        )
    for name in SPLITS:
        if len(splits[name][0]) == 0:
            raise InputError(f"the {name} split of {spec} has no images; each split needs some")
    images = splits["train"][0]
    channels, height, width = images.shape[1:]
    count("measuring colours", 0, None)
    mean, std = _measure_channels(images)
    if augmentation is not None and augmentation not in AUGMENTATIONS:
        raise InputError(
            f"unknown augmentation {augmentation!r}; choose one of {', '.join(AUGMENTATIONS)}"
        )
    if augmentation is None:
        augmentation = "crop_flip" if channels == 3 and min(height, width) >= 32 else "shift"
    belongs = {} if groups is None else groups
    content = {name: Split(*splits[name], belongs.get(name)) for name in SPLITS}
    count("computing the fingerprint", 0, None)
    return DataSource(
        spec=spec,
        shape=DataShape(IMAGES, (channels, height, width), len(labels), labels, mean, std),
        train=content["train"],
        val=content["val"],
        test=content["test"],
        fingerprint=fingerprint_splits(content),
        epoch=len(images),
        augmentation=augmentation,
        notes=notes,
        further=further,
    )


def fingerprint_splits(splits: Mapping[str, Split]) -> str:
    """Hash inputs, targets and any groups of ``train``, ``val`` and ``test``.

    See :func:`fingerprint`.
    """
    return fingerprint(_list_tensors({name: splits[name] for name in SPLITS}))


def _list_tensors(splits: Mapping[str, Split]) -> Iterator[tuple[str, Tensor]]:
    for name, split in splits.items():
        for part in ("inputs", "targets", "groups"):
            tensor = getattr(split, part)
            if tensor is not None:
                yield f"{name}.{part}", tensor


def fingerprint(parts: Iterable[tuple[str, Tensor]]) -> str:
    """Hash named tensors by SHA-256: names, types, shapes and content; 64 hexadecimal digits."""
    result = hashlib.sha256()
    for name, tensor in parts:
        result.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # In blocks: windows of a text are overlapping views, much smaller than their copies.
        for block in split_by_bytes(tensor, HASHED_BYTES):
            result.update(block.contiguous().numpy().tobytes())
    return result.hexdigest()


def split_stratified(
    targets: np.ndarray, parts: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Shuffle every class and cut it by the given shares, at least one sample per part.

    Args:
        targets: Class of each sample, ``(N,)``.
        parts: Share of each part; they sum to 1 and the first takes what rounding leaves.
        seed: Seed of the shuffle.

    Returns:
        Sorted, disjoint indices of each part.

    Raises:
        InputError: A class has fewer samples than there are parts.
    """
    rng = np.random.default_rng(seed)
    chosen: dict[str, list[np.ndarray]] = {name: [] for name in parts}
    first, *rest = parts
    for label in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == label))
        if len(members) < len(parts):
            raise InputError(
                f"class number {label} has {len(members)} samples; splitting into "
                f"{', '.join(parts)} needs at least {len(parts)} of every class"
            )
        for name in rest:
            count = max(1, round(parts[name] * len(targets[targets == label])))
            chosen[name].append(members[:count])
            members = members[count:]
        chosen[first].append(members)
    return {name: np.sort(np.concatenate(found)) for name, found in chosen.items()}


def _measure_channels(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in 0..1, in blocks to bound memory."""
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    square = torch.zeros_like(total)
    # Sums depend on the blocks in their last digits, so small images keep theirs.
    fitting = count_in_bytes(images, MEASURED_BYTES, itemsize=torch.float64.itemsize)
    for block in images.split(min(MEASURED_SAMPLES, fitting)):
        pixels = block.to(torch.float64, copy=True).div_(scale)
        total += pixels.sum((0, 2, 3))
        square += pixels.square_().sum((0, 2, 3))
    count = images.numel() / images.shape[1]
    mean = total / count
    std = (square / count - mean.square()).clamp(min=0).sqrt()
    # A constant channel is left unscaled instead of being divided by zero.
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    return tuple(mean.tolist()), tuple(std.tolist())


def _shorten(labels: tuple[str, ...], most: int = 5) -> str:
    shown = ", ".join(map(repr, labels[:most]))
    return shown + (f", ... ({len(labels)} in total)" if len(labels) > most else "")
