"""OFA-ProxylessNAS: elastic kernel, depth, expansion and resolution (Cai et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.families._checks import (
    check_kernels,
    check_options,
    check_resolutions,
    check_stages,
)
from supernet.families._configuration import fit_resolutions, fit_to_digits, make_network
from supernet.families._mobile import (
    InvertedResidual,
    MixHead,
    Normalize,
    conv_block,
    initialise,
    make_divisible,
)
from supernet.families._ofa import assemble, make_stage_choices
from supernet.families._ofa import from_ofa as from_ofa
from supernet.families._ofa import to_ofa as to_ofa
from supernet.families._pixels import IMAGENET, PixelStatistics
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "ProxylessNAS with elastic kernel, depth, expand ratio and resolution (Once-for-All)"
DEFAULT_PRESET = "tiny"
# The published networks normalise with more than torch's default.
EPS = 1e-3


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: output width before the multiplier, stride, and the depths it may have."""

    width: int
    stride: int
    depths: tuple[int, ...] = (2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one OFA-ProxylessNAS supernet.

    The stem and a first, fixed block come before the elastic stages. Widths are those before
    ``width_multiplier``. The defaults are the published network.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        resolutions: Sides of the image in pixels, rising.
        kernels: Sides of depthwise filters, rising.
        expands: Hidden channels of a block per channel that comes in, rising.
        width_multiplier: Factor of all widths.
        stem_width: Channels after the stem.
        stem_stride: Stride of the stem.
        first_width: Channels after the first block.
        stages: The elastic stages, each with the depths it may have.
        feature_width: Channels before the classifier.
        dropout: Share of features that training drops before the classifier.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    classes: int = 1000
    channels: int = 3
    resolutions: tuple[int, ...] = (128, 160, 192, 224)
    kernels: tuple[int, ...] = (3, 5, 7)
    expands: tuple[int, ...] = (3, 4, 6)
    width_multiplier: float = 1.3
    stem_width: int = 32
    stem_stride: int = 2
    first_width: int = 16
    stages: tuple[Stage, ...] = (
        Stage(24, 2),
        Stage(40, 2),
        Stage(80, 2),
        Stage(96, 1),
        Stage(192, 2),
        Stage(320, 1, (1,)),
    )
    feature_width: int = 1280
    dropout: float = 0.1
    pixels: PixelStatistics = field(default=IMAGENET, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_stages(self.stages)
        check_options(self, "resolutions", "kernels", "expands")
        check_kernels(self.kernels)
        check_resolutions(self.resolutions, self.stem_stride, stages=self.stages)

    @property
    def stage_depths(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of blocks each stage may have."""
        return tuple(stage.depths for stage in self.stages)

    def scale(self, width: int) -> int:
        """Scale a width by the multiplier."""
        return make_divisible(width * self.width_multiplier)


PRESETS: dict[str, Config] = {
    "imagenet": Config(),
    "small-image": Config(
        classes=10,
        resolutions=(24, 28, 32),
        width_multiplier=1.0,
        stem_stride=1,
        stages=(
            Stage(24, 1),
            Stage(40, 2),
            Stage(80, 2),
            Stage(96, 1),
            Stage(192, 2),
            Stage(320, 1, (1,)),
        ),
    ),
    "tiny": fit_to_digits(
        Config(
            resolutions=(5, 6, 8),
            kernels=(3, 5),
            expands=(1, 2, 4),
            width_multiplier=1.0,
            stem_width=16,
            stem_stride=1,
            stages=(Stage(16, 1, (1, 2)), Stage(24, 2, (1, 2)), Stage(32, 2, (1,))),
            feature_width=96,
        )
    ),
}

configure = partial(fit_resolutions, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


class ProxylessNAS(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        stem, inputs = config.scale(config.stem_width), config.scale(config.first_width)
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = conv_block(config.channels, stem, 3, config.stem_stride, "relu6", eps=EPS)
        self.first = InvertedResidual(stem, inputs, stem, 3, 1, "relu6", eps=EPS, shortcut=False)
        self.stages = nn.ModuleList()
        kernel = max(config.kernels)
        for stage in config.stages:
            blocks = nn.Sequential()
            width = config.scale(stage.width)
            for index in range(max(stage.depths)):
                hidden = make_divisible(round(inputs * max(config.expands)))
                stride = stage.stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(inputs, width, hidden, kernel, stride, "relu6", eps=EPS)
                )
                inputs = width
            self.stages.append(blocks)
        features = config.scale(config.feature_width)
        self.head = MixHead(inputs, features, config.classes, config.dropout, "relu6", EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.first(self.stem(self.normalize(pixels)))
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: resolution, then depth and blocks of each stage in network order."""
    choices = [Choice("resolution", config.resolutions, "resolution")]
    for s, stage in enumerate(config.stages, start=1):
        choices += make_stage_choices(s, stage.depths, config.kernels, config.expands)
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, ProxylessNAS, initialise)
    return assemble(config, model, make_space(config))
