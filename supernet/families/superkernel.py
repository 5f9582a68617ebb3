"""MobileNetV2 blocks as superkernels: kernel, expand ratio or no block at all (Single-Path NAS)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Edit, Pick, follow
from supernet.errors import InputError
from supernet.families._checks import check_filled, check_resolutions
from supernet.families._configuration import describe_images, fit_size, fit_to_digits, make_network
from supernet.families._mobile import InvertedResidual, MixHead, Normalize, conv_block, initialise
from supernet.families._mobile_rows import hidden_rows, kernel_rows
from supernet.families._pixels import IMAGENET, PixelStatistics
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "MobileNetV2 blocks with elastic kernel and expand ratio, or skipped (Single-Path NAS)"
DEFAULT_PRESET = "tiny"

KERNELS = (3, 5)
SKIPPED = 0
EXPANDS = (3, 6)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: output width, stride of its first block, number of blocks."""

    width: int
    stride: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one supernet of superkernels.

    The defaults are the macro-architecture of Single-Path NAS (Stamoulis et al. 2019, section 3).

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        stages: The elastic ones.
        stem_width: Channels after the stem, a 3x3 convolution.
        stem_stride: Stride of the stem.
        first_width: Channels after the fixed, unexpanded block that follows the stem.
        feature_width: Channels before the classifier.
        dropout: Share of features that training drops before the classifier.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.
    """

    classes: int = 1000
    channels: int = 3
    size: int = 224
    stages: tuple[Stage, ...] = (
        Stage(24, 2, 4),
        Stage(40, 2, 4),
        Stage(80, 2, 4),
        Stage(96, 1, 4),
        Stage(192, 2, 4),
        Stage(320, 1, 1),
    )
    stem_width: int = 32
    stem_stride: int = 2
    first_width: int = 16
    feature_width: int = 1280
    dropout: float = 0.2
    pixels: PixelStatistics = field(default=IMAGENET, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_filled(stages=self.stages)
        if any(stage.blocks < 1 for stage in self.stages):
            raise InputError("a stage without blocks is impossible; blocks must be at least 1")
        check_resolutions((self.size,), self.stem_stride, stages=self.stages)


PRESETS: dict[str, Config] = {
    "imagenet": Config(),
    "small-image": Config(
        classes=10,
        size=32,
        stages=(
            Stage(24, 1, 3),
            Stage(40, 2, 3),
            Stage(80, 2, 3),
            Stage(96, 1, 3),
            Stage(192, 2, 3),
        ),
        stem_stride=1,
    ),
    "tiny": fit_to_digits(
        Config(
            size=8,
            stages=(Stage(16, 1, 2), Stage(24, 2, 3)),
            stem_width=16,
            stem_stride=1,
            first_width=16,
            feature_width=128,
            dropout=0.1,
        )
    ),
}

configure = partial(fit_size, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Superkernel:
    """One elastic block: where it is and which choices decide what it becomes.

    Args:
        unit: Path of the block's place, which is a cost unit.
        block: Path of the :class:`InvertedResidual` in the full model.
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Stride of the depthwise convolution.
        kernel: Name of the choice of the kernel.
        expand: Name of the choice of the expand ratio.
    """

    unit: str
    block: str
    inputs: int
    outputs: int
    stride: int
    kernel: str
    expand: str

    @property
    def skippable(self) -> bool:
        """Whether the block may be left out: it has a shortcut."""
        return self.stride == 1 and self.inputs == self.outputs


def list_superkernels(config: Config) -> tuple[Superkernel, ...]:
    """List all elastic blocks in network order."""
    result = []
    inputs = config.first_width
    for s, stage in enumerate(config.stages):
        for b in range(stage.blocks):
            stride = stage.stride if b == 0 else 1
            unit, name = f"stages.{s}.{b}", f"stage{s + 1}.block{b + 1}"
            inner = ".block" if stride == 1 and inputs == stage.width else ""
            result.append(
                Superkernel(
                    unit,
                    unit + inner,
                    inputs,
                    stage.width,
                    stride,
                    f"{name}.kernel",
                    f"{name}.expand",
                )
            )
            inputs = stage.width
    return tuple(result)


class SuperkernelNet(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        stem, first = config.stem_width, config.first_width
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = conv_block(config.channels, stem, 3, config.stem_stride, "relu")
        self.first = InvertedResidual(stem, first, stem, 3, 1, "relu", shortcut=False)
        blocks = iter(list_superkernels(config))
        self.stages = nn.Sequential()
        for stage in config.stages:
            places = nn.Sequential(*(_make_place(next(blocks)) for _ in range(stage.blocks)))
            self.stages.append(places)
        self.head = MixHead(
            config.stages[-1].width, config.feature_width, config.classes, config.dropout, "relu"
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stages(self.first(self.stem(self.normalize(pixels))))
        logits: Tensor = self.head(x)
        return logits


def _make_place(kernel: Superkernel) -> nn.Module:
    hidden = EXPANDS[-1] * kernel.inputs
    block = InvertedResidual(
        kernel.inputs, kernel.outputs, hidden, KERNELS[-1], kernel.stride, "relu"
    )
    if not kernel.skippable:
        return block
    return Alternatives("block", skipped=nn.Identity(), block=block)


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: expand ratio and kernel of each block; ratio 0 leaves a block out."""
    choices = []
    for kernel in list_superkernels(config):
        ratios = (SKIPPED, *EXPANDS) if kernel.skippable else EXPANDS
        needs = (kernel.expand, EXPANDS[0]) if kernel.skippable else None
        choices.append(Choice(kernel.expand, ratios, "expand"))
        choices.append(Choice(kernel.kernel, KERNELS, "kernel", needs))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, SuperkernelNet, initialise)
    space = make_space(config)
    kernels = list_superkernels(config)
    edits: list[Edit] = []
    for kernel in kernels:
        block = model.get_submodule(kernel.block)
        assert isinstance(block, InvertedResidual)
        expand, inputs = space.choice(kernel.expand), kernel.inputs
        if kernel.skippable:
            child = follow(expand, lambda e: "skipped" if e == SKIPPED else "block")
            edits.append(Pick(kernel.unit, child))
        # Of a skipped block the width does not matter, but it must be some.
        hidden = follow(expand, lambda e, inputs=inputs: inputs * max(e, EXPANDS[0]))  # type: ignore[misc]
        edits += hidden_rows(kernel.block, block, hidden)
        edits += kernel_rows(f"{kernel.block}.depthwise", space.choice(kernel.kernel))
    return Supernet(
        model,
        space,
        edits,
        units=["normalize", "stem", "first", *(kernel.unit for kernel in kernels), "head"],
        inputs=describe_images(config.channels, config.size),
        # Their norms decide in the differentiable search; decay would push all below a threshold.
        no_decay=[f"model.{kernel.block}.depthwise.conv.weight" for kernel in kernels],
    )
