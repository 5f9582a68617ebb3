"""A supernet of choice blocks with an optional one and an elastic width, for fast tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Cut, Pick, Set, follow
from supernet.space import Choice, SearchSpace
from supernet.supernet import InputSpec, Supernet


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


def choice_supernet(seed: int = 0) -> Supernet:
    """Two operations of three options each, and a width of two."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ChoiceNetwork()
    first = Choice("first", OPERATIONS, "operation")
    second = Choice("second", OPERATIONS, "operation")
    width = Choice("width", (3, 6), "width")
    size = follow(width, int)
    edits = [
        Pick("first", follow(first, str)),
        Pick("second", follow(second, str)),
        Cut("widen.weight", 0, size),
        Cut("widen.bias", 0, size),
        Set("widen", "out_channels", size),
        Cut("classifier.weight", 1, size),
        Set("classifier", "in_features", size),
    ]
    return Supernet(
        model,
        SearchSpace((first, second, width)),
        edits,
        units=["stem", "first", "second", "widen", "classifier"],
        inputs=InputSpec((1, 6, 6), torch.float32),
    )
