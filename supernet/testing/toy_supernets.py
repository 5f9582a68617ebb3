"""Supernets of a few hundred weights and data to go with them, for fast checks and tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.data import DataSource
from supernet.data.source import make_image_source
from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Cut, Edit, Pick, Rule, Set, follow
from supernet.space import Choice, SearchSpace
from supernet.supernet import InputSpec, Supernet


class ToyNetwork(nn.Module):
    """One convolution with batch normalisation and dropout, and a classifier."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width * 4, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(pixels)))
        x = nn.functional.adaptive_avg_pool2d(x, 2)
        # Channel by channel, so that a prefix of the features is a prefix of the channels.
        return self.classifier(self.dropout(x.flatten(1)))


def build_toy_supernet(seed: int = 0, classes: int = 3, dropout: float = 0.0) -> Supernet:
    """Build one convolution of width 2, 4 or 8 and a classifier, from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ToyNetwork(8, classes, dropout)
    width = Choice("width", (2, 4, 8), "width")
    rows = follow(width, int)
    tensors = ["conv.weight", "conv.bias", "bn.weight", "bn.bias"]
    tensors += ["bn.running_mean", "bn.running_var"]
    edits: list[Edit] = [
        *(Cut(name, 0, rows) for name in tensors),
        Set("conv", "out_channels", rows),
        Set("bn", "num_features", rows),
        Cut("classifier.weight", 1, follow(width, lambda w: 4 * w)),
        Set("classifier", "in_features", follow(width, lambda w: 4 * w)),
    ]
    return Supernet(
        model,
        SearchSpace((width,)),
        edits,
        units=["conv", "bn", "classifier"],
        inputs=InputSpec((1, 6, 6), torch.float32),
        no_decay=["model.conv.weight"],
    )


class ChoiceNetwork(nn.Module):
    """A stem, two choice blocks and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.first = _block(4)
        self.second = _block(4)
        self.widen = nn.Conv2d(4, 6, 1)
        self.classifier = nn.Linear(6, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.second(self.first(torch.relu(self.stem(pixels))))
        return self.classifier(torch.relu(self.widen(x)).mean((2, 3)))


def _block(width: int) -> Alternatives:
    candidates = {
        "skip": nn.Identity(),
        "point": nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()),
        "conv": nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        ),
    }
    return Alternatives("conv", **candidates)


OPERATIONS = ("skip", "point", "conv")


def build_choice_supernet(seed: int = 0) -> Supernet:
    """Build a supernet of two operations with three options each and a width with two."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ChoiceNetwork()
    first = Choice("first", OPERATIONS, "operation")
    second = Choice("second", OPERATIONS, "operation")
    width = Choice("width", (3, 6), "width")
    size = follow(width, int)
    edits: list[Edit] = [
        Pick("first", follow(first, str)),
        Pick("second", follow(second, str)),
        *narrow_between("widen", "out_channels", "classifier", size),
    ]
    return Supernet(
        model,
        SearchSpace((first, second, width)),
        edits,
        units=["stem", "first", "second", "widen", "classifier"],
        inputs=InputSpec((1, 6, 6), torch.float32),
    )


def narrow_between(before: str, outputs: str, after: str, size: Rule) -> list[Edit]:
    """Make the rows of a width between a layer with a bias and a linear one.

    Args:
        before: Path of the first layer.
        outputs: Its attribute that holds the width.
        after: Path of the linear layer.
        size: The width.
    """
    return [
        Cut(f"{before}.weight", 0, size),
        Cut(f"{before}.bias", 0, size),
        Set(before, outputs, size),
        Cut(f"{after}.weight", 1, size),
        Set(after, "in_features", size),
    ]


def make_toy_data(count: int = 60, classes: int = 3, seed: int = 0) -> DataSource:
    """Make images of 6x6 pixels in 0..1: noise around one fixed pattern per class."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, 1, 6, 6, generator=generator)
    splits = {}
    for name, size in (("train", count), ("val", count // 3), ("test", count // 3)):
        targets = torch.arange(size) % classes
        noise = torch.rand(size, 1, 6, 6, generator=generator)
        splits[name] = (0.5 * patterns[targets] + 0.5 * noise, targets)
    return make_image_source("toy", splits, tuple(map(str, range(classes))))
