"""A convolutional supernet of a few hundred weights and data to go with it, for fast tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.data import DataSource
from supernet.data.source import make_image_source
from supernet.elastic.edits import Cut, Set, follow
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


def toy_supernet(seed: int = 0, classes: int = 3, dropout: float = 0.0) -> Supernet:
    """Widths 2, 4 and 8."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ToyNetwork(8, classes, dropout)
    width = Choice("width", (2, 4, 8), "width")
    rows = follow(width, int)
    tensors = ["conv.weight", "conv.bias", "bn.weight", "bn.bias"]
    tensors += ["bn.running_mean", "bn.running_var"]
    edits = [
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


def toy_data(count: int = 60, classes: int = 3, seed: int = 0) -> DataSource:
    """Noise around one fixed pattern per class, 6x6 pixels in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, 1, 6, 6, generator=generator)
    splits = {}
    for name, size in (("train", count), ("val", count // 3), ("test", count // 3)):
        targets = torch.arange(size) % classes
        noise = torch.rand(size, 1, 6, 6, generator=generator)
        splits[name] = (0.5 * patterns[targets] + 0.5 * noise, targets)
    return make_image_source("toy", splits, tuple(map(str, range(classes))))
