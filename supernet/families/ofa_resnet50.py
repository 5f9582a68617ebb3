"""OFA-ResNet50-D: elastic width, depth, bottleneck, stem and resolution (Once-for-All)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.edits import Cut, Drop, Edit, Resize, Rule, Set, follow, follow_all
from supernet.errors import InputError
from supernet.families._checks import check_options, check_resolutions, check_stages
from supernet.families._configuration import (
    describe_images,
    fit_resolutions,
    fit_to_digits,
    make_network,
)
from supernet.families._mobile import (
    Normalize,
    conv_block,
    initialise,
    make_divisible,
    zero_last_norm,
)
from supernet.families._mobile_rows import input_rows, output_rows
from supernet.families._ofa import find_block_needs, list_block_prefixes
from supernet.families._pixels import IMAGENET, PixelStatistics
from supernet.space import Architecture, Choice, SearchSpace, Value
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "ResNet50-D with elastic width, depth, bottleneck, stem and resolution (Once-for-All)"
DEFAULT_PRESET = "tiny"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: output width at multiplier 1, stride, and the depths it may have."""

    width: int
    stride: int
    depths: tuple[int, ...] = (2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one OFA-ResNet50 supernet.

    The defaults are the published network.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        resolutions: Sides of the image in pixels, rising.
        widths: Factors of the channels within the stem, after it, and of each stage, rising.
        expands: Channels within a bottleneck per channel it puts out, rising.
        stem_width: Channels after the stem.
        stem_stride: Stride of the stem.
        stem_pool: Whether the stem ends with pooling, which halves the image.
        stages: The elastic stages, each with the depths it may have.
        dropout: Share of features that training drops before the classifier.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    classes: int = 1000
    channels: int = 3
    resolutions: tuple[int, ...] = (128, 160, 192, 224)
    widths: tuple[float, ...] = (0.65, 0.8, 1.0)
    expands: tuple[float, ...] = (0.2, 0.25, 0.35)
    stem_width: int = 64
    stem_stride: int = 2
    stem_pool: bool = True
    stages: tuple[Stage, ...] = (
        Stage(256, 1),
        Stage(512, 2),
        Stage(1024, 2, (4, 5, 6)),
        Stage(2048, 2),
    )
    dropout: float = 0.0
    pixels: PixelStatistics = field(default=IMAGENET, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_stages(self.stages)
        check_options(self, "resolutions", "widths", "expands")
        for name in ("widths", "expands"):
            if min(getattr(self, name)) <= 0:
                raise InputError(f"{name} = {list(getattr(self, name))} must be positive")
        strides = (self.stem_stride, 2 if self.stem_pool else 1)
        check_resolutions(self.resolutions, *strides, stages=self.stages)

    @property
    def stage_depths(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of blocks each stage may have."""
        return tuple(stage.depths for stage in self.stages)

    def scale_stem(self, width: float) -> int:
        """Compute the channels after the stem at a multiplier."""
        return make_divisible(self.stem_width * width)

    def scale_stem_mid(self, width: float) -> int:
        """Compute the channels within the stem at a multiplier."""
        return make_divisible(self.scale_stem(width) // 2)


PRESETS: dict[str, Config] = {
    "imagenet": Config(),
    "small-image": Config(classes=10, resolutions=(24, 28, 32), stem_stride=1, stem_pool=False),
    "tiny": fit_to_digits(
        Config(
            resolutions=(5, 6, 8),
            widths=(0.5, 1.0),
            expands=(0.25, 0.5),
            stem_width=32,
            stem_stride=1,
            stem_pool=False,
            stages=(Stage(48, 1, (1, 2)), Stage(64, 2, (1, 2))),
        )
    ),
}

configure = partial(fit_resolutions, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


class Residual(nn.Module):
    """A convolution of the stem that an architecture may leave out; shapes stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = conv_block(channels, channels, 3, 1, "relu")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class Stem(nn.Module):
    """Three small convolutions instead of a large one, then perhaps pooling (ResNet-D)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widest = max(config.widths)
        middle, outputs = config.scale_stem_mid(widest), config.scale_stem(widest)
        self.first = conv_block(config.channels, middle, 3, config.stem_stride, "relu")
        self.optional = nn.Sequential(Residual(middle))
        self.last = conv_block(middle, outputs, 3, 1, "relu")
        if config.stem_pool:
            self.last.add_module("pool", nn.MaxPool2d(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.optional(self.first(x)))
        return y


class Bottleneck(nn.Module):
    """Reduce, convolve, expand; the shortcut of a stage's first block pools and projects."""

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int, first: bool) -> None:
        super().__init__()
        self.reduce = conv_block(inputs, hidden, 1, 1, "relu")
        self.convolve = conv_block(hidden, hidden, 3, stride, "relu")
        self.expand = conv_block(hidden, outputs, 1, 1, None)
        self.shortcut = _make_projection(inputs, outputs, stride) if first else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.convolve(self.reduce(x)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def _make_projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stride > 1:
        # Odd images: the last window is smaller, as the convolution's is.
        layers["pool"] = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
    layers.update(conv_block(inputs, outputs, 1, 1, None).named_children())
    return nn.Sequential(layers)


class Head(nn.Module):
    """Pool and classify."""

    def __init__(self, inputs: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits


class ResNetD(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = Stem(config)
        self.stages = nn.ModuleList()
        inputs = config.scale_stem(max(config.widths))
        for stage in config.stages:
            outputs = make_divisible(stage.width * max(config.widths))
            hidden = make_divisible(round(outputs * max(config.expands)))
            blocks = nn.Sequential()
            for index in range(max(stage.depths)):
                stride = stage.stride if index == 0 else 1
                blocks.append(Bottleneck(inputs, outputs, hidden, stride, index == 0))
                inputs = outputs
            self.stages.append(blocks)
        self.head = Head(inputs, config.classes, config.dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem(self.normalize(pixels))
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: resolution, stem, then width, depth and bottlenecks of each stage."""
    choices = [
        Choice("resolution", config.resolutions, "resolution"),
        Choice("stem.depth", (0, 1), "depth"),
        Choice("stem.mid_width", config.widths, "width"),
        Choice("stem.width", config.widths, "width"),
    ]
    for s, stage in enumerate(config.stages, start=1):
        depth = Choice(f"stage{s}.depth", stage.depths, "depth")
        choices += [Choice(f"stage{s}.width", config.widths, "width"), depth]
        for b in range(1, max(stage.depths) + 1):
            needs = find_block_needs(depth, b)
            choices.append(Choice(f"stage{s}.block{b}.expand", config.expands, "expand", needs))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, ResNetD, _initialise)
    space = make_space(config)
    edits: list[Edit] = [Resize("resolution")]
    middle = follow(space.choice("stem.mid_width"), config.scale_stem_mid)
    width = follow(space.choice("stem.width"), config.scale_stem)
    edits += _stem_rows(space, middle, width)
    units = ["normalize", "stem.first", "stem.optional.0", "stem.last"]
    for s, stage in enumerate(config.stages, start=1):
        edits.append(Drop(f"stages.{s - 1}", follow(space.choice(f"stage{s}.depth"), int)))
        inputs, width = width, _scale_width(space.choice(f"stage{s}.width"), stage.width)
        for b in range(1, max(stage.depths) + 1):
            path = f"stages.{s - 1}.{b - 1}"
            units.append(path)
            edits += _block_rows(path, f"stage{s}.block{b}", space, inputs, width, b == 1)
            inputs = width
    edits += [Cut("head.classifier.weight", 1, width), Set("head.classifier", "in_features", width)]
    return Supernet(
        model,
        space,
        edits,
        units=[*units, "head"],
        inputs=describe_images(config.channels, max(config.resolutions)),
    )


def _initialise(model: ResNetD) -> None:
    initialise(model)
    for module in model.modules():
        if isinstance(module, Bottleneck) and module.shortcut is None:
            # Deep subnetworks start as shallow ones (BigNAS, section 3.1).
            zero_last_norm(module.expand)


def _scale_width(choice: Choice, width: int) -> Rule:
    return follow(choice, lambda w: make_divisible(width * w))


def _stem_rows(space: SearchSpace, middle: Rule, width: Rule) -> list[Edit]:
    return [
        Drop("stem.optional", follow(space.choice("stem.depth"), int)),
        *output_rows("stem.first", middle),
        *input_rows("stem.optional.0.body", middle),
        *output_rows("stem.optional.0.body", middle),
        *input_rows("stem.last", middle),
        *output_rows("stem.last", width),
    ]


def _block_rows(
    path: str, prefix: str, space: SearchSpace, inputs: Rule, outputs: Rule, first: bool
) -> list[Edit]:
    expand = space.choice(f"{prefix}.expand")
    stage = space.choice(outputs.choices[0])
    channels = {value: outputs.values[(value,)] for value in stage.values}

    def hidden() -> Rule:
        return follow_all([stage, expand], lambda w, e: make_divisible(round(channels[w] * e)))

    # Two sets of channels of one size, on either side of the inner convolution.
    before, after = hidden(), hidden()
    rows = [
        *input_rows(f"{path}.reduce", inputs),
        *output_rows(f"{path}.reduce", before),
        *input_rows(f"{path}.convolve", before),
        *output_rows(f"{path}.convolve", after),
        *input_rows(f"{path}.expand", after),
        *output_rows(f"{path}.expand", outputs),
    ]
    if first:
        rows += [*input_rows(f"{path}.shortcut", inputs), *output_rows(f"{path}.shortcut", outputs)]
    return rows


# -- the familiar dictionary form ----------------------------------------------------------------


def to_ofa(config: Config, architecture: Architecture) -> dict[str, Any]:
    """Write ``{"d", "e", "w", "r"}`` like ``ofa``; inert blocks hold the first option.

    ``d`` counts blocks above the fewest (its first entry is the stem's), ``w`` positions among
    the width multipliers.
    """
    prefixes = list_block_prefixes(config.stage_depths)
    stages = list(enumerate(config.stages, start=1))
    most = max(len(stage.depths) for stage in config.stages) - 1
    extra = [int(architecture[f"stage{s}.depth"]) - min(stage.depths) for s, stage in stages]
    return {
        "d": [most if architecture["stem.depth"] else 0, *extra],
        "e": [architecture[f"{prefix}.expand"] for prefix in prefixes],
        "w": [config.widths.index(float(architecture[name])) for name in _list_width_names(config)],
        "r": [architecture["resolution"]],
    }


def from_ofa(config: Config, space: SearchSpace, record: Mapping[str, Any]) -> Architecture:
    """Read ``{"d", "e", "w", "r"}``; ``r`` may be a number or a list of one, or missing.

    Raises:
        InputError: A list is missing, has the wrong length or holds an illegal value.
    """
    prefixes = list_block_prefixes(config.stage_depths)
    widths = _list_width_names(config)
    counts = {"d": len(config.stages) + 1, "e": len(prefixes), "w": len(widths)}
    for key, count in counts.items():
        if len(record.get(key, ())) != count:
            raise InputError(f"{key!r} must list {count} values, one per place")
    resolution = record.get("r", [max(config.resolutions)])
    most = max(len(stage.depths) for stage in config.stages) - 1
    values: dict[str, Value] = {
        "resolution": resolution[0] if isinstance(resolution, (list, tuple)) else resolution,
        "stem.depth": int(record["d"][0] == most),
    }
    for s, (stage, extra) in enumerate(zip(config.stages, record["d"][1:], strict=True), start=1):
        values[f"stage{s}.depth"] = min(stage.depths) + extra
    for prefix, expand in zip(prefixes, record["e"], strict=True):
        values[f"{prefix}.expand"] = expand
    for name, position in zip(widths, record["w"], strict=True):
        if position not in range(len(config.widths)):
            raise InputError(
                f"'w' holds {position!r}; it lists positions from 0 to {len(config.widths) - 1}"
            )
        values[name] = config.widths[position]
    return space.architecture(values)


def _list_width_names(config: Config) -> list[str]:
    stages = [f"stage{s}.width" for s in range(1, len(config.stages) + 1)]
    return ["stem.mid_width", "stem.width", *stages]
