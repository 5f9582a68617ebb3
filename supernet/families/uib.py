"""MobileNetV4's universal inverted bottleneck with optional depthwise layers (Qin et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Derive, Drop, Edit, Pick, Resize, Rule, Set, follow
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
from supernet.families._mobile_rows import crop_kernel, depthwise_rows, input_rows, output_rows
from supernet.families._pixels import IMAGENET, PixelStatistics
from supernet.space import Choice, SearchSpace, Value
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "Universal inverted bottlenecks: optional depthwise layers, expand, depth (MobileNetV4)"
DEFAULT_PRESET = "tiny"

KERNELS = (0, 3, 5)
LARGEST = max(KERNELS)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: output width, stride of its first block, and how many blocks it may have."""

    width: int
    stride: int
    depths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one supernet of universal inverted bottlenecks.

    The defaults follow the stages of MobileNetV4-Conv-M (Qin et al. 2024, "MobileNetV4: Universal
    Models for the Mobile Ecosystem", appendix D), whose blocks are members of this space.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        resolutions: Sides of the image in pixels.
        expands: Expand ratios.
        stages: The elastic stages.
        stem_width: Channels after the stem, a 3x3 convolution.
        stem_stride: Stride of the stem.
        fused_width: Channels after the fixed block that follows it: 3x3 to four times the width,
            then a projection.
        fused_stride: Stride of that block.
        final_width: Channels that are pooled.
        feature_width: Channels before the classifier.
        dropout: Share of features that training drops before the classifier.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.
    """

    classes: int = 1000
    channels: int = 3
    resolutions: tuple[int, ...] = (160, 192, 224, 256)
    expands: tuple[int, ...] = (2, 4, 6)
    stages: tuple[Stage, ...] = (
        Stage(80, 2, (1, 2)),
        Stage(160, 2, (4, 6, 8)),
        Stage(256, 2, (7, 9, 11)),
    )
    stem_width: int = 32
    stem_stride: int = 2
    fused_width: int = 48
    fused_stride: int = 2
    final_width: int = 960
    feature_width: int = 1280
    dropout: float = 0.2
    pixels: PixelStatistics = field(default=IMAGENET, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_stages(self.stages)
        check_options(self, "resolutions", "expands")
        strides = (self.stem_stride, self.fused_stride)
        check_resolutions(self.resolutions, *strides, stages=self.stages)


PRESETS: dict[str, Config] = {
    "imagenet": Config(),
    "small-image": Config(
        classes=10,
        resolutions=(24, 28, 32),
        stages=(Stage(80, 2, (1, 2)), Stage(160, 2, (2, 3, 4)), Stage(256, 1, (2, 3, 4))),
        stem_stride=1,
        dropout=0.1,
    ),
    "tiny": fit_to_digits(
        Config(
            resolutions=(5, 6, 8),
            expands=(1, 2, 4),
            stages=(Stage(24, 2, (1, 2)), Stage(32, 2, (1, 2))),
            stem_width=16,
            stem_stride=1,
            fused_width=16,
            fused_stride=1,
            final_width=96,
            feature_width=128,
            dropout=0.1,
        )
    ),
}

configure = partial(fit_resolutions, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


class UniversalBottleneck(nn.Module):
    """Depthwise on the input, expand, depthwise inside, project; both depthwise layers optional.

    Neither gives a feed-forward layer, only the first a ConvNext-like block, only the second the
    inverted bottleneck, both the "extra depthwise" block (MobileNetV4, section 3). The stride is
    that of the second depthwise layer when there is one.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.start = _make_optional(conv_block(inputs, inputs, LARGEST, 1, None, groups=inputs))
        self.expand = conv_block(inputs, hidden, 1, 1, "relu")
        self.middle = _make_optional(
            conv_block(hidden, hidden, LARGEST, stride, "relu", groups=hidden)
        )
        self.project = conv_block(hidden, outputs, 1, 1, None)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.middle(self.expand(self.start(x))))
        return x + y if self.shortcut else y


def _make_optional(layer: nn.Module) -> Alternatives:
    return Alternatives("present", absent=nn.Identity(), present=layer)


class Head(nn.Module):
    """Expand, pool, mix features, classify."""

    def __init__(
        self, inputs: int, final: int, features: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.expand = conv_block(inputs, final, 1, 1, "relu")
        self.mix = nn.Conv2d(final, features, 1)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.mix(self.expand(x).mean((2, 3), keepdim=True))).flatten(1)
        logits: Tensor = self.classifier(self.dropout(x))
        return logits


class UniversalNet(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        stem, fused = config.stem_width, config.fused_width
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = conv_block(config.channels, stem, 3, config.stem_stride, "relu")
        self.fused = nn.Sequential(
            conv_block(stem, 4 * stem, 3, config.fused_stride, "relu"),
            conv_block(4 * stem, fused, 1, 1, None),
        )
        self.stages = nn.Sequential()
        inputs = fused
        for stage in config.stages:
            blocks = nn.Sequential()
            for index in range(stage.depths[-1]):
                hidden = make_divisible(inputs * config.expands[-1])
                stride = stage.stride if index == 0 else 1
                blocks.append(UniversalBottleneck(inputs, stage.width, hidden, stride))
                inputs = stage.width
            self.stages.append(blocks)
        self.head = Head(
            inputs, config.final_width, config.feature_width, config.classes, config.dropout
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.fused(self.stem(self.normalize(pixels)))
        logits: Tensor = self.head(self.stages(x))
        return logits


# -- the table -----------------------------------------------------------------------------------


def list_depthwise_values(stride: int) -> tuple[str, ...]:
    """List the kernels of the two depthwise layers as ``"start-middle"``, cheapest first.

    A block with a stride has one of them at least: nothing else in it can carry the stride.
    """
    pairs = [(start, middle) for middle in KERNELS for start in KERNELS]
    return tuple(f"{a}-{b}" for a, b in pairs if stride == 1 or a or b)


def parse_depthwise_value(value: Value) -> tuple[int, int]:
    """Parse ``"3-5"`` as ``(3, 5)``; 0 stands for no layer."""
    start, _, middle = str(value).partition("-")
    return int(start), int(middle)


def make_space(config: Config) -> SearchSpace:
    """Make the space: resolution, then depth and blocks of each stage in network order."""
    choices = [Choice("resolution", config.resolutions, "resolution")]
    for s, stage in enumerate(config.stages, start=1):
        depth = Choice(f"stage{s}.depth", stage.depths, "depth")
        choices.append(depth)
        for b in range(1, stage.depths[-1] + 1):
            least = min(d for d in stage.depths if d >= b)
            needs = (depth.name, least) if b > stage.depths[0] else None
            kernels = list_depthwise_values(stage.stride if b == 1 else 1)
            prefix = f"stage{s}.block{b}"
            choices.append(Choice(f"{prefix}.depthwise", kernels, "kernel", needs))
            choices.append(Choice(f"{prefix}.expand", config.expands, "expand", needs))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``.

    The last normalisation of every block with a shortcut starts at zero, which makes the block an
    identity whatever depthwise layers it has.
    """
    model = make_network(config, UniversalNet, _initialise)
    space = make_space(config)
    edits: list[Edit] = [Resize("resolution")]
    units = ["normalize", "stem", "fused"]
    for s, stage in enumerate(config.stages, start=1):
        edits.append(Drop(f"stages.{s - 1}", follow(space.choice(f"stage{s}.depth"), int)))
        for b in range(1, stage.depths[-1] + 1):
            path, prefix = f"stages.{s - 1}.{b - 1}", f"stage{s}.block{b}"
            units.append(path)
            edits += _kernel_rows(path, space.choice(f"{prefix}.depthwise"), model)
            edits += _expand_rows(path, space.choice(f"{prefix}.expand"), model)
    return Supernet(
        model,
        space,
        edits,
        units=[*units, "head"],
        inputs=describe_images(config.channels, config.resolutions[-1]),
    )


def crop_start(weight: Tensor, values: tuple[Value, ...]) -> Tensor:
    """Crop ``(channels, 1, 5, 5)`` to the centre that the first depthwise layer uses."""
    return crop_kernel(weight, parse_depthwise_value(values[0])[:1])


def crop_middle(weight: Tensor, values: tuple[Value, ...]) -> Tensor:
    """Crop ``(channels, 1, 5, 5)`` to the centre that the second depthwise layer uses."""
    return crop_kernel(weight, parse_depthwise_value(values[0])[1:])


def _kernel_rows(path: str, choice: Choice, model: nn.Module) -> list[Edit]:
    middle = model.get_submodule(f"{path}.middle.present.conv")
    assert isinstance(middle, nn.Conv2d)
    stride = middle.stride
    rows: list[Edit] = [
        # Without the second layer the first one carries the stride of the block.
        Set(
            f"{path}.start.present.conv",
            "stride",
            follow(choice, lambda v: (1, 1) if parse_depthwise_value(v)[1] else stride),
        )
    ]
    for index, (layer, crop) in enumerate((("start", crop_start), ("middle", crop_middle))):
        kernels: dict[tuple[Value, ...], int]
        kernels = {(v,): parse_depthwise_value(v)[index] for v in choice.values}
        names = (choice.name,)
        # Of an absent layer the numbers do not matter, but they must be some.
        sizes = {key: (kernel or LARGEST,) * 2 for key, kernel in kernels.items()}
        margins = {key: (kernel // 2, kernel // 2) for key, (kernel, _) in sizes.items()}
        child = {key: "present" if kernel else "absent" for key, kernel in kernels.items()}
        conv = f"{path}.{layer}.present.conv"
        rows += [
            Pick(f"{path}.{layer}", Rule(names, child)),
            Derive(f"{conv}.weight", names, crop),
            Set(conv, "kernel_size", Rule(names, sizes)),
            Set(conv, "padding", Rule(names, margins)),
        ]
    return rows


def _expand_rows(path: str, choice: Choice, model: nn.Module) -> list[Edit]:
    expand = model.get_submodule(f"{path}.expand.conv")
    assert isinstance(expand, nn.Conv2d)
    inputs = expand.in_channels
    hidden = follow(choice, lambda e: make_divisible(inputs * e))
    return [
        *output_rows(f"{path}.expand", hidden),
        *depthwise_rows(f"{path}.middle.present", hidden),
        *input_rows(f"{path}.project", hidden),
    ]


def _initialise(model: UniversalNet) -> None:
    initialise(model)
    for module in model.modules():
        if isinstance(module, UniversalBottleneck) and module.shortcut:
            zero_last_norm(module.project)
