"""ViT-ResNAS: vision transformers of several stages, elastic in all their sizes (Liao 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.edits import Cut, Drop, Edit, Rule, Set, follow
from supernet.errors import InputError
from supernet.families._checks import (
    check_depths,
    check_dropout,
    check_filled,
    check_positive,
    check_rising,
)
from supernet.families._configuration import describe_images, make_network
from supernet.families._mobile import Normalize, conv_block, initialise_layers
from supernet.families._pixels import CIFAR10, DIGITS, IMAGENET, PixelStatistics
from supernet.families._transformer_rows import find_need, input_rows, norm_rows, output_rows
from supernet.families._vit import Dimensions, Layer, fit_patches
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "Vision transformer of stages with elastic width, depth, heads and FFNs (ViT-ResNAS)"
DEFAULT_PRESET = "tiny"

_STD = 0.02
_SHRINK = 2  # a reduction halves the sides, as published


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Sizes of one stage, each list rising.

    Args:
        widths: Widths of the residual stream, of all blocks of the stage at once.
        heads: Numbers of attention heads a block may have; the first heads stay.
        head_size: Size of one head.
        ffn: Hidden sizes a block may have; each is a prefix of the next.
        depths: Numbers of blocks; the first blocks stay.
    """

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    head_size: int
    ffn: tuple[int, ...]
    depths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one ViT-ResNAS supernet.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        patch: Side in pixels of what becomes one token of the first stage.
        stem_width: Channels of the convolutions before patches are cut.
        stages: Sizes of each stage; every stage but the first has half as many tokens a side.
        dropout: Dropout of the embedding and of what every block adds to the residual stream.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    classes: int = 10
    channels: int = 1
    size: int = 8
    patch: int = 2
    stem_width: int = 8
    stages: tuple[Stage, ...] = (
        Stage(widths=(16, 24, 32), heads=(1, 2), head_size=16, ffn=(32, 64, 96), depths=(1, 2)),
        Stage(widths=(32, 48, 64), heads=(2, 3, 4), head_size=16, ffn=(64, 128), depths=(1, 2)),
    )
    dropout: float = 0.0
    pixels: PixelStatistics = field(default=DIGITS, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_filled(stages=self.stages)
        check_positive(
            classes=self.classes,
            channels=self.channels,
            size=self.size,
            patch=self.patch,
            stem_width=self.stem_width,
        )
        for number, stage in enumerate(self.stages, start=1):
            for name in ("widths", "heads", "ffn"):
                label, values = f"{name} of stage {number}", getattr(stage, name)
                check_filled(**{label: values})
                check_rising(**{label: values})
                check_positive(**{label: values[0]})
            check_positive(**{f"head_size of stage {number}": stage.head_size})
        check_depths([stage.depths for stage in self.stages])
        total = self.patch * _SHRINK ** (len(self.stages) - 1)
        if self.size % total:
            raise InputError(
                f"size = {self.size} is not a multiple of {total}, the pixels a side that one "
                f"token of stage {len(self.stages)} stands for at patch = {self.patch}"
            )
        check_dropout(self.dropout)


# "sr_tiny" and "sr_tiny_mh" have the sizes of the released files of those names; the second is what
# the paper's ViT-ResNAS-Tiny was searched in. Published are widths, heads, FFNs, how many blocks a
# stage has and how many of them may be left out; which ones is ours: the last, where the released
# code leaves out every second by itself. "tiny" and "small" are ours.
PRESETS: dict[str, Config] = {
    "tiny": Config(),
    "small": Config(
        channels=3,
        size=32,
        patch=2,
        stem_width=24,
        stages=(
            Stage(widths=(40, 48, 64), heads=(1, 2), head_size=32, ffn=(96, 128, 192),
                  depths=(1, 2)),
            Stage(widths=(80, 96, 128), heads=(2, 3, 4), head_size=32, ffn=(192, 256, 384),
                  depths=(1, 2, 3)),
            Stage(widths=(160, 192, 256), heads=(4, 6, 8), head_size=32, ffn=(384, 512, 768),
                  depths=(1, 2)),
        ),
        dropout=0.1,
        pixels=CIFAR10,
    ),
    "sr_tiny": Config(
        classes=1000,
        channels=3,
        size=224,
        patch=14,
        stem_width=24,
        stages=(
            Stage(widths=(160, 176, 192, 224, 256), heads=(2, 3, 4), head_size=64,
                  ffn=(384, 512, 640, 768), depths=(4, 5, 6, 7)),
            Stage(widths=(320, 352, 384, 448, 512), heads=(4, 6, 8), head_size=64,
                  ffn=(768, 1024, 1280, 1536), depths=(4, 5, 6, 7)),
            Stage(widths=(640, 704, 768, 896, 1024), heads=(8, 10, 12), head_size=64,
                  ffn=(1536, 2048, 2560, 3072), depths=(4,)),
        ),
        pixels=IMAGENET,
    ),
    "sr_tiny_mh": Config(
        classes=1000,
        channels=3,
        size=224,
        patch=14,
        stem_width=24,
        stages=(
            Stage(widths=(160, 176, 192, 224, 256), heads=(3, 4, 5, 6), head_size=32,
                  ffn=tuple(range(384, 769, 64)), depths=(3, 4, 5, 6)),
            Stage(widths=(320, 352, 384, 448, 512), heads=(6, 8, 10, 12), head_size=48,
                  ffn=tuple(range(768, 1537, 128)), depths=(3, 4, 5, 6)),
            Stage(widths=(640, 704, 768, 896, 1024), heads=(6, 8, 10, 12), head_size=64,
                  ffn=tuple(range(1536, 3073, 256)), depths=(3, 4, 5, 6)),
        ),
        pixels=IMAGENET,
    ),
}  # fmt: skip

configure = partial(fit_patches, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


class Embedding(nn.Module):
    """Patches as tokens, cut out of what overlapping convolutions see.

    Three 3x3 convolutions, the last two around a shortcut, then one as wide as its stride; each
    token has a learned position.

    ``(N, C, H, W)`` images to ``(N, patches, width)``, patches row by row.
    """

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        # Published patches are even; one of odd side is cut without halving the image before.
        stride = 2 if config.patch % 2 == 0 else 1
        stem = config.stem_width
        self.first = conv_block(config.channels, stem, 3, stride, "relu")
        self.second = conv_block(stem, stem, 3, 1, "relu")
        self.third = conv_block(stem, stem, 3, 1, "relu")
        self.patches = nn.Conv2d(stem, width, config.patch // stride, config.patch // stride)
        self.positions = nn.Parameter(torch.empty((config.size // config.patch) ** 2, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        x = self.patches(x + self.third(self.second(x)))
        return self.dropout(x.flatten(2).transpose(1, 2) + self.positions)


class Reduction(nn.Module):
    """Residual spatial reduction: a quarter of the tokens, of another width.

    A normalised strided convolution of the tokens as an image, with positions of its own, is added
    to their average pool behind a linear layer. Where this has the linear layer the released code
    appends zeros, which needs stages that only widen.

    Args:
        inputs: Width of the stage before.
        outputs: Width of the stage after.
        side: Tokens along a side of the image before.

    ``(N, side ** 2, inputs)`` to ``(N, (side / 2) ** 2, outputs)``.
    """

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.norm = nn.LayerNorm(inputs)
        self.conv = nn.Conv2d(inputs, outputs, _SHRINK + 1, _SHRINK, _SHRINK // 2)
        self.shortcut = nn.Linear(inputs, outputs)
        self.positions = nn.Parameter(torch.empty((side // _SHRINK) ** 2, outputs))

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.conv(self._arrange(self.norm(x))).flatten(2).transpose(1, 2)
        pooled = F.avg_pool2d(self._arrange(x), _SHRINK).flatten(2).transpose(1, 2)
        shortcut: Tensor = self.shortcut(pooled)
        return shortcut + reduced + self.positions

    def _arrange(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).unflatten(2, (self.side, self.side))


class Head(nn.Module):
    """Normalise tokens, pool and classify; ``(N, tokens, width)`` to ``(N, classes)``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.norm(x).mean(1))
        return logits


class StagedTransformer(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits.

    The mean of all tokens is classified. The released network carries a class token through the
    reductions by a linear layer of its own; the mean needs neither, and every token is an image's.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        width, side = config.stages[0].widths[-1], config.size // config.patch
        self.embedding = Embedding(config, width)
        self.stages = nn.ModuleList()
        self.reductions = nn.ModuleList()
        for number, stage in enumerate(config.stages):
            if number > 0:
                self.reductions.append(Reduction(width, stage.widths[-1], side))
                width, side = stage.widths[-1], side // _SHRINK
            sizes = _describe_layers(config, stage)
            self.stages.append(nn.Sequential(*(Layer(sizes) for _ in range(sizes.layers))))
        self.head = Head(width, config.classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embedding(self.normalize(pixels))
        for number, stage in enumerate(self.stages):
            if number > 0:
                x = self.reductions[number - 1](x)
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits


def _describe_layers(config: Config, stage: Stage) -> Dimensions:
    return Dimensions(
        classes=config.classes,
        channels=config.channels,
        size=config.size,
        patch=config.patch,
        width=stage.widths[-1],
        heads=stage.heads[-1],
        head_size=stage.head_size,
        hidden=stage.ffn[-1],
        layers=stage.depths[-1],
        dropout=config.dropout,
        relative=False,
        pixels=config.pixels,
    )


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space, stage by stage.

    ``stage1.width``, ``stage1.depth``, ``stage1.block1.heads``, ``stage1.block1.ffn``, and so on.
    """
    choices = []
    for number, stage in enumerate(config.stages, start=1):
        name = f"stage{number}"
        choices.append(Choice(f"{name}.width", stage.widths, "width"))
        choices.append(Choice(f"{name}.depth", stage.depths, "depth"))
        for i in range(1, stage.depths[-1] + 1):
            needs = find_need(stage.depths, i, f"{name}.depth")
            choices.append(Choice(f"{name}.block{i}.heads", stage.heads, "heads", needs))
            choices.append(Choice(f"{name}.block{i}.ffn", stage.ffn, "ffn", needs))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, StagedTransformer, _initialise)
    space = make_space(config)
    units, edits = ["normalize", "embedding"], list[Edit]()
    before: Rule | None = None
    for s, stage in enumerate(config.stages):
        width = follow(space.choice(f"stage{s + 1}.width"), int)
        if before is None:
            edits += _position_rows("embedding", "patches", width)
        else:
            path = f"reductions.{s - 1}"
            edits += _reduction_rows(path, before, width)
            units.append(path)
        edits.append(Drop(f"stages.{s}", follow(space.choice(f"stage{s + 1}.depth"), int)))
        for i in range(stage.depths[-1]):
            edits += _layer_rows(s, i, space, width, stage.head_size)
            units.append(f"stages.{s}.{i}")
        before = width
    assert before is not None
    edits += [*norm_rows("head.norm", before), *input_rows("head.classifier", before)]
    return Supernet(
        model,
        space,
        edits,
        units=[*units, "head"],
        inputs=describe_images(config.channels, config.size),
        no_decay=[f"model.{n}" for n, _ in model.named_parameters() if n.endswith("positions")],
    )


def _position_rows(path: str, convolution: str, width: Rule) -> list[Edit]:
    return [
        Cut(f"{path}.{convolution}.weight", 0, width),
        Cut(f"{path}.{convolution}.bias", 0, width),
        Set(f"{path}.{convolution}", "out_channels", width),
        Cut(f"{path}.positions", 1, width),
    ]


def _reduction_rows(path: str, before: Rule, width: Rule) -> list[Edit]:
    return [
        *norm_rows(f"{path}.norm", before),
        *_position_rows(path, "conv", width),
        Cut(f"{path}.conv.weight", 1, before),
        Set(f"{path}.conv", "in_channels", before),
        *output_rows(f"{path}.shortcut", width),
        *input_rows(f"{path}.shortcut", before),
    ]


def _layer_rows(s: int, i: int, space: SearchSpace, width: Rule, head_size: int) -> list[Edit]:
    layer, block = f"stages.{s}.{i}", f"stage{s + 1}.block{i + 1}"
    size = follow(space.choice(f"{block}.heads"), lambda heads: heads * head_size)
    hidden = follow(space.choice(f"{block}.ffn"), int)
    rows: list[Edit] = []
    for path, inputs, outputs in (
        ("attention.query", width, size),
        ("attention.key", width, size),
        ("attention.value", width, size),
        ("attention.out", size, width),
        ("ffn.up", width, hidden),
        ("ffn.down", hidden, width),
    ):
        rows += [*output_rows(f"{layer}.{path}", outputs), *input_rows(f"{layer}.{path}", inputs)]
    return rows + [row for n in (1, 2) for row in norm_rows(f"{layer}.norm{n}", width)]


def _initialise(model: StagedTransformer) -> None:
    """Fill the network; what is added to the residual stream shrinks with the depth."""
    initialise_layers(model)
    blocks = sum(len(list(stage.children())) for stage in model.stages)
    for name, parameter in model.named_parameters():
        if name.endswith("positions"):
            nn.init.normal_(parameter, std=_STD)
        elif (parameter.dim() > 1 and not name.startswith("embedding.")) or "patches.w" in name:
            std = prod(parameter.shape[1:]) ** -0.5
            if name.endswith(("attention.out.weight", "ffn.down.weight")):
                std /= (2 * blocks) ** 0.5
            nn.init.normal_(parameter, std=std)
        elif name.endswith(".bias") and "norm" not in name:
            nn.init.zeros_(parameter)
