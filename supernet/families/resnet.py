"""Slimmable residual networks for small images: elastic width and depth of every stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.edits import Cut, Drop, Edit, Rule, Set, follow
from supernet.errors import InputError
from supernet.families._checks import check_depths, check_filled, check_resolutions, check_rising
from supernet.families._configuration import describe_images, fit_size, fit_to_digits, make_network
from supernet.families._mobile import Normalize, conv_block, initialise_layers, zero_last_norm
from supernet.families._mobile_rows import input_rows, output_rows
from supernet.families._pixels import CIFAR10, PixelStatistics
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "Residual networks with elastic width and depth per stage (slimmable ResNet)"
DEFAULT_PRESET = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one supernet of residual networks.

    The defaults hold the networks of He et al. 2016, "Deep Residual Learning", section 4.2, with 20
    to 56 layers, at a quarter to all of their width; a stage's first shortcut is a projection.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        stem_width: Channels after the stem.
        widths: Channels of each stage, rising.
        depths: Blocks of each stage, rising; every stage but the first halves the image.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.
    """

    classes: int = 10
    channels: int = 3
    size: int = 32
    stem_width: int = 16
    widths: tuple[tuple[int, ...], ...] = ((4, 8, 12, 16), (8, 16, 24, 32), (16, 32, 48, 64))
    depths: tuple[tuple[int, ...], ...] = ((3, 5, 7, 9), (3, 5, 7, 9), (3, 5, 7, 9))
    pixels: PixelStatistics = field(default=CIFAR10, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_filled(widths=self.widths, depths=self.depths)
        if len(self.widths) != len(self.depths):
            raise InputError(
                f"widths are given for {len(self.widths)} stages and depths for "
                f"{len(self.depths)}; each stage needs both"
            )
        for stage, widths in enumerate(self.widths, start=1):
            name = f"widths of stage {stage}"
            check_filled(**{name: widths})
            check_rising(**{name: widths})
            if widths[0] < 1:
                raise InputError(f"{name} = {list(widths)} must be at least one channel")
        check_depths(self.depths)
        check_resolutions((self.size,), 2 ** (len(self.widths) - 1))


PRESETS: dict[str, Config] = {
    "cifar": Config(),
    "small-image": Config(
        stem_width=64,
        widths=((32, 48, 64), (64, 96, 128), (128, 192, 256), (256, 384, 512)),
        depths=((1, 2), (1, 2), (1, 2), (1, 2)),
    ),
    "tiny": fit_to_digits(
        Config(
            size=8,
            widths=((8, 16), (16, 24, 32), (32, 48, 64)),
            depths=((1, 2), (1, 2), (1, 2)),
        )
    ),
}

configure = partial(fit_size, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a shortcut, which is a projection in the first block of a stage."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.first = conv_block(inputs, outputs, 3, stride, "relu")
        self.second = conv_block(outputs, outputs, 3, 1, None)
        self.shortcut = conv_block(inputs, outputs, 1, stride, None) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class Head(nn.Module):
    """Pool and classify."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


class ResNet(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = conv_block(config.channels, config.stem_width, 3, 1, "relu")
        self.stages = nn.Sequential()
        inputs = config.stem_width
        for s, (widths, depths) in enumerate(zip(config.widths, config.depths, strict=True)):
            width, stride = max(widths), 2 if s > 0 else 1
            blocks = [Block(inputs, width, stride, project=True)]
            blocks += [Block(width, width, 1, project=False) for _ in range(max(depths) - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
        self.head = Head(inputs, config.classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(self.normalize(pixels))))
        return logits


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: width and depth of each stage, ``stage1.width``, ``stage1.depth``, ..."""
    choices = []
    for stage, (widths, depths) in enumerate(zip(config.widths, config.depths, strict=True), 1):
        choices.append(Choice(f"stage{stage}.width", widths, "width"))
        choices.append(Choice(f"stage{stage}.depth", depths, "depth"))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, ResNet, _initialise)
    space = make_space(config)
    edits: list[Edit] = []
    units = ["normalize", "stem"]
    before: Rule | None = None  # the stem has one width
    for s, stage in enumerate(model.stages):
        assert isinstance(stage, nn.Sequential)
        depth, width = space.choice(f"stage{s + 1}.depth"), space.choice(f"stage{s + 1}.width")
        outputs = follow(width, int)
        edits.append(Drop(f"stages.{s}", follow(depth, int)))
        for b in range(len(stage)):
            path = f"stages.{s}.{b}"
            edits += _block_rows(path, before if b == 0 else outputs, width, outputs, b == 0)
            units.append(path)
        before = outputs
    assert before is not None
    edits += [
        Cut("head.classifier.weight", 1, before),
        Set("head.classifier", "in_features", before),
    ]
    size = config.size
    inputs = describe_images(config.channels, size)
    return Supernet(model, space, edits, units=[*units, "head"], inputs=inputs)


def _block_rows(
    path: str, inputs: Rule | None, width: Choice, outputs: Rule, project: bool
) -> list[Edit]:
    # Channels between the two convolutions are a set of their own: one block, one rule object.
    between = follow(width, int)
    rows = [
        *output_rows(f"{path}.first", between),
        *input_rows(f"{path}.second", between),
        *output_rows(f"{path}.second", outputs),
    ]
    readers = [f"{path}.first"]
    if project:
        rows += output_rows(f"{path}.shortcut", outputs)
        readers.append(f"{path}.shortcut")
    if inputs is not None:
        for reader in readers:
            rows += input_rows(reader, inputs)
    return rows


def _initialise(model: nn.Module) -> None:
    initialise_layers(model)
    for module in model.modules():
        if isinstance(module, Block):
            # A deep network starts as a shallow one (BigNAS, section 3.1).
            zero_last_norm(module.second)
