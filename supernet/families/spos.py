"""SPOS: a choice of four ShuffleNetV2 units and of inner width per layer (Guo et al. 2020)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Cut, Edit, Pick, Set, follow
from supernet.errors import InputError
from supernet.families._checks import check_filled, check_resolutions, check_rising
from supernet.families._configuration import describe_images, fit_size, fit_to_digits, make_network
from supernet.families._mobile import Normalize
from supernet.families._pixels import IMAGENET, PixelStatistics
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "Choice of four ShuffleNetV2 units and their inner width per layer (SPOS)"
DEFAULT_PRESET = "tiny"

# Cheapest first: the largest architecture has the last one everywhere.
KERNELS = {"shuffle_k3": 3, "shuffle_k5": 5, "shuffle_k7": 7}
OPERATIONS = (*KERNELS, "xception")
RATIOS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers of one stage, channels between them, and the stride of the first."""

    layers: int
    width: int
    stride: int


def compute_inner_width(width: int, ratio: float) -> int:
    """Compute the channels inside a block of ``width`` outputs, for a multiple of half of them."""
    return int(round(width // 2 * ratio, 6))  # 0.6 * 5 is a little less than 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one supernet of choice blocks; the defaults are as published.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        stem_width: Channels after the stem.
        stem_stride: Stride of the stem.
        stages: Stages of choice blocks.
        ratios: Inner channels of a block, as a multiple of half of its outputs, rising. One value
            makes it a space of operations alone.
        feature_width: Channels before the classifier.
        affine: Whether normalisation learns a scale and a shift. Off in the published supernet;
            networks trained alone have it.
        dropout: Share of features that training drops before the classifier.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.
    """

    classes: int = 1000
    channels: int = 3
    size: int = 224
    stem_width: int = 16
    stem_stride: int = 2
    stages: tuple[Stage, ...] = (
        Stage(4, 64, 2),
        Stage(4, 160, 2),
        Stage(8, 320, 2),
        Stage(4, 640, 2),
    )
    ratios: tuple[float, ...] = RATIOS
    feature_width: int = 1024
    affine: bool = False
    dropout: float = 0.1
    pixels: PixelStatistics = field(default=IMAGENET, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_filled(stages=self.stages, ratios=self.ratios)
        check_rising(ratios=self.ratios)
        inputs = self.stem_width
        for number, stage in enumerate(self.stages, start=1):
            if stage.layers < 1:
                raise InputError(f"stage {number} has {stage.layers} layers; it needs at least 1")
            if stage.width % 2:
                raise InputError(f"width {stage.width} of stage {number} must be even to be split")
            if stage.width <= inputs:
                raise InputError(
                    f"width {stage.width} of stage {number} must be above the {inputs} channels "
                    "that come in: its first block keeps them and adds to them"
                )
            if compute_inner_width(stage.width, self.ratios[0]) < 1:
                raise InputError(
                    f"ratio {self.ratios[0]} leaves no channels inside blocks of width "
                    f"{stage.width}"
                )
            inputs = stage.width
        check_resolutions((self.size,), self.stem_stride, stages=self.stages)


PRESETS: dict[str, Config] = {
    "imagenet": Config(),
    "imagenet-blocks": Config(ratios=(1.0,)),
    "small-image": Config(
        classes=10,
        size=32,
        stem_stride=1,
        stages=(Stage(4, 64, 1), Stage(4, 160, 2), Stage(8, 320, 2), Stage(4, 640, 2)),
    ),
    "tiny": fit_to_digits(
        Config(
            size=8,
            stem_width=8,
            stem_stride=1,
            stages=(Stage(2, 16, 1), Stage(2, 32, 2), Stage(2, 64, 2)),
            ratios=(0.5, 1.0, 1.5, 2.0),
            feature_width=128,
        )
    ),
}

configure = partial(fit_size, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


def _make_layer(
    inputs: int,
    outputs: int,
    kernel: int,
    affine: bool,
    *,
    stride: int = 1,
    depthwise: bool = False,
    relu: bool = True,
) -> nn.Sequential:
    groups = inputs if depthwise else 1
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        ),
        bn=nn.BatchNorm2d(outputs, affine=affine),
    )
    if relu:
        layers["act"] = nn.ReLU()
    return nn.Sequential(layers)


def _make_shuffle_branch(
    inputs: int, inner: int, outputs: int, kernel: int, stride: int, affine: bool
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        reduce=_make_layer(inputs, inner, 1, affine),
        depthwise=_make_layer(
            inner, inner, kernel, affine, stride=stride, depthwise=True, relu=False
        ),
        expand=_make_layer(inner, outputs, 1, affine),
    )
    return nn.Sequential(layers)


def _make_xception_branch(
    inputs: int, inner: int, outputs: int, stride: int, affine: bool
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    widths = (inputs, inner, inner, outputs)
    for pair in (1, 2, 3):
        before, after = widths[pair - 1 : pair + 1]
        step = stride if pair == 1 else 1
        layers[f"depthwise{pair}"] = _make_layer(
            before, before, 3, affine, stride=step, depthwise=True, relu=False
        )
        layers[f"pointwise{pair}"] = _make_layer(before, after, 1, affine)
    return nn.Sequential(layers)


class Split(nn.Module):
    """Even channels pass, odd ones go through the branch; which shuffles both halves."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x[:, 0::2], self.branch(x[:, 1::2])), 1)


class Open(nn.Module):
    """First block of a stage: all channels go through both the branch and a short projection."""

    def __init__(self, branch: nn.Sequential, short: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch
        self.short = short

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.short(x), self.branch(x)), 1)


def _make_unit(operation: str, inputs: int, stage: Stage, first: bool, config: Config) -> nn.Module:
    """One operation of one layer, at its widest; outputs are the channels that pass and more."""
    passing = inputs if first else inputs // 2
    stride, affine = (stage.stride if first else 1), config.affine
    inner, outputs = compute_inner_width(stage.width, config.ratios[-1]), stage.width - passing
    kernel = KERNELS.get(operation, 3)
    if operation == "xception":
        branch = _make_xception_branch(passing, inner, outputs, stride, affine)
    else:
        branch = _make_shuffle_branch(passing, inner, outputs, kernel, stride, affine)
    if not first:
        return Split(branch)
    short: OrderedDict[str, nn.Module] = OrderedDict(
        depthwise=_make_layer(
            passing, passing, kernel, affine, stride=stride, depthwise=True, relu=False
        ),
        pointwise=_make_layer(passing, passing, 1, affine),
    )
    return Open(branch, nn.Sequential(short))


class Head(nn.Module):
    """Mix features, pool, classify without a bias."""

    def __init__(self, inputs: int, config: Config) -> None:
        super().__init__()
        self.mix = _make_layer(inputs, config.feature_width, 1, config.affine)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.feature_width, config.classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.mix(x).mean((2, 3))))
        return logits


class ShuffleNet(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = _make_layer(
            config.channels, config.stem_width, 3, config.affine, stride=config.stem_stride
        )
        self.layers = nn.Sequential()
        inputs = config.stem_width
        for stage in config.stages:
            for index in range(stage.layers):
                units = {o: _make_unit(o, inputs, stage, index == 0, config) for o in OPERATIONS}
                self.layers.append(Alternatives(OPERATIONS[-1], **units))
                inputs = stage.width
        self.head = Head(inputs, config)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.stem(self.normalize(pixels))))
        return logits


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: operation and inner width of each layer, ``layer1.operation``, ..."""
    choices = []
    for layer in range(1, sum(stage.layers for stage in config.stages) + 1):
        choices.append(Choice(f"layer{layer}.operation", OPERATIONS, "operation"))
        if len(config.ratios) > 1:
            choices.append(Choice(f"layer{layer}.ratio", config.ratios, "expand"))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``.

    Operations share no weights: each layer has all four, and an architecture picks one.
    """
    model = make_network(config, ShuffleNet, _initialise)
    space = make_space(config)
    edits: list[Edit] = []
    widths = [stage.width for stage in config.stages for _ in range(stage.layers)]
    same: Callable[[str], str] = str
    for index, width in enumerate(widths):
        prefix = f"layer{index + 1}"
        edits.append(Pick(f"layers.{index}", follow(space.choice(f"{prefix}.operation"), same)))
        if len(config.ratios) > 1:
            ratio = space.choice(f"{prefix}.ratio")
            edits += _inner_rows(f"layers.{index}", ratio, width, config.affine)
    slots = [f"layers.{index}" for index in range(len(widths))]
    return Supernet(
        model,
        space,
        edits,
        units=["normalize", "stem", *slots, "head"],
        inputs=describe_images(config.channels, config.size),
    )


def _inner_rows(slot: str, ratio: Choice, width: int, affine: bool) -> list[Edit]:
    """Inner width of all operations of a layer, each with channels of its own."""
    # Layers that make, pass on and read a set of inner channels.
    sets = [(f"{slot}.{o}.branch", "reduce", "depthwise", "expand") for o in KERNELS]
    xception = f"{slot}.xception.branch"
    sets.append((xception, "pointwise1", "depthwise2", "pointwise2"))
    sets.append((xception, "pointwise2", "depthwise3", "pointwise3"))
    rows: list[Edit] = []
    for branch, maker, depthwise, reader in sets:
        inner = follow(ratio, lambda r: compute_inner_width(width, r))
        for part in (maker, depthwise):
            rows += [
                Cut(f"{branch}.{part}.conv.weight", 0, inner),
                Set(f"{branch}.{part}.conv", "out_channels", inner),
                Set(f"{branch}.{part}.bn", "num_features", inner),
            ]
            tensors = ("running_mean", "running_var", *(("weight", "bias") if affine else ()))
            rows += [Cut(f"{branch}.{part}.bn.{name}", 0, inner) for name in tensors]
        rows += [
            Set(f"{branch}.{depthwise}.conv", "in_channels", inner),
            Set(f"{branch}.{depthwise}.conv", "groups", inner),
            Cut(f"{branch}.{reader}.conv.weight", 1, inner),
            Set(f"{branch}.{reader}.conv", "in_channels", inner),
        ]
    return rows


def _initialise(model: ShuffleNet) -> None:
    """As published: deviations of 0.01 at both ends, of one over the inputs in between."""
    stem = model.stem[0]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            deviation = 0.01 if module is stem else 1.0 / module.weight.shape[1]
            nn.init.normal_(module.weight, std=deviation)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
