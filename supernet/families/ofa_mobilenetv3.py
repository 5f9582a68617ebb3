"""OFA-MobileNetV3: elastic kernel, depth, expansion and resolution (Cai et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from supernet.dataclass_json import INLINE, decode_dataclass
from supernet.errors import InputError, OutdatedError
from supernet.families._checks import (
    check_filled,
    check_kernels,
    check_options,
    check_resolutions,
)
from supernet.families._configuration import fit_resolutions, fit_to_digits, make_network
from supernet.families._mobile import (
    Head,
    InvertedResidual,
    Normalize,
    conv_block,
    initialise,
    make_divisible,
)
from supernet.families._ofa import assemble, make_stage_choices
from supernet.families._ofa import from_ofa as from_ofa
from supernet.families._ofa import to_ofa as to_ofa
from supernet.families._pixels import CLUTTER, IMAGENET, PixelStatistics
from supernet.family_config import WHERE
from supernet.quantization.formats import FLOAT_BITS, FP32
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "MobileNetV3 with elastic kernel, depth, expand ratio and resolution (Once-for-All)"
DEFAULT_PRESET = "tiny"
CONTRACT_PRESETS = ("tiny", "clutter")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: output width before the multiplier, stride, squeeze-excite and activation."""

    width: int
    stride: int
    squeeze: bool
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one OFA-MobileNetV3 supernet.

    The stem and a first, fixed block come before the elastic stages. Widths are those before
    ``width_multiplier``. The defaults are the published network.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        resolutions: Sides of the image in pixels, rising.
        kernels: Sides of depthwise filters, rising.
        expands: Hidden channels of a block per channel that comes in, rising.
        depths: Numbers of blocks that every stage may have, rising.
        width_multiplier: Factor of all widths.
        stem_width: Channels after the stem.
        stem_stride: Stride of the stem.
        first_width: Channels after the first block.
        stages: The elastic stages.
        final_width: Channels that are pooled.
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
    depths: tuple[int, ...] = (2, 3, 4)
    width_multiplier: float = 1.0
    stem_width: int = 16
    stem_stride: int = 2
    first_width: int = 16
    stages: tuple[Stage, ...] = (
        Stage(24, 2, False, "relu"),
        Stage(40, 2, True, "relu"),
        Stage(80, 2, False, "hswish"),
        Stage(112, 1, True, "hswish"),
        Stage(160, 2, True, "hswish"),
    )
    final_width: int = 960
    feature_width: int = 1280
    dropout: float = 0.1
    pixels: PixelStatistics = field(default=IMAGENET, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_filled(stages=self.stages)
        check_options(self, "resolutions", "kernels", "expands", "depths")
        if min(self.depths) < 1:
            raise InputError(f"depths = {list(self.depths)} gives a stage without blocks")
        check_kernels(self.kernels)
        check_resolutions(self.resolutions, self.stem_stride, stages=self.stages)

    @property
    def stage_depths(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of blocks each stage may have."""
        return (self.depths,) * len(self.stages)


_SMALL_IMAGE = Config(
    classes=10,
    resolutions=(24, 28, 32),
    stem_stride=1,
    stages=(
        Stage(24, 1, False, "relu"),
        Stage(40, 2, True, "relu"),
        Stage(80, 2, False, "hswish"),
        Stage(112, 1, True, "hswish"),
        Stage(160, 2, True, "hswish"),
    ),
)
_TINY = fit_to_digits(
    Config(
        resolutions=(5, 6, 8),
        kernels=(3, 5),
        expands=(1, 2, 4),
        depths=(1, 2),
        stem_stride=1,
        stages=(
            Stage(16, 1, False, "relu"),
            Stage(24, 2, True, "hswish"),
            Stage(32, 2, True, "hswish"),
        ),
        final_width=96,
        feature_width=128,
    )
)
# The stem halves the image, so that images of 20 pixels cost little more than those of the digits.
_CLUTTER = replace(
    _TINY,
    resolutions=(10, 15, 20),
    stem_width=8,
    stem_stride=2,
    first_width=8,
    stages=(
        Stage(16, 1, False, "relu"),
        Stage(24, 2, False, "hswish"),
        Stage(32, 2, True, "hswish"),
    ),
    pixels=CLUTTER,
)
PRESETS: dict[str, Config] = {
    "imagenet": Config(),
    "imagenet-w1.2": Config(width_multiplier=1.2),
    "small-image": _SMALL_IMAGE,
    "tiny": _TINY,
    "clutter": _CLUTTER,
}

configure = partial(fit_resolutions, PRESETS)


def from_json(payload: Mapping[str, Any]) -> Config:
    """Read a configuration, one of an earlier release included.

    Args:
        payload: Its fields by name. Earlier releases also wrote ``weight_bits``, the bits that
            weights could be stored at, which is empty where they are in float.

    Raises:
        OutdatedError: It has such bits; number formats have taken their place.
        InputError: A field is unknown, of another type or makes no network.
    """
    if not isinstance(payload, Mapping) or "weight_bits" not in payload:
        return decode_dataclass(Config, payload, WHERE)
    settings = dict(payload)
    bits = settings.pop("weight_bits")
    if bits:
        offered = bits if isinstance(bits, list) else [bits]
        formats = (FP32.name if b == FLOAT_BITS else f"w{b}a{FLOAT_BITS}" for b in offered)
        raise OutdatedError(
            f"bits of weights are number formats now (weight_bits = {bits!r} was a setting of the "
            f"network); train it again with --preset {DEFAULT_PRESET} --precision "
            f"{','.join(formats)}"
        )
    return decode_dataclass(Config, settings, WHERE)


# -- the plain network ---------------------------------------------------------------------------


class MobileNetV3(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        stem, first, widths, final, features = _scale_widths(config)
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = conv_block(config.channels, stem, 3, config.stem_stride, "hswish")
        self.first = InvertedResidual(stem, first, stem, 3, 1, "relu")
        self.stages = nn.ModuleList()
        inputs = first
        for stage, width in zip(config.stages, widths, strict=True):
            blocks = nn.Sequential()
            for index in range(max(config.depths)):
                hidden = make_divisible(round(inputs * max(config.expands)))
                stride = stage.stride if index == 0 else 1
                block = InvertedResidual(
                    inputs,
                    width,
                    hidden,
                    max(config.kernels),
                    stride,
                    stage.activation,
                    squeeze=stage.squeeze,
                )
                blocks.append(block)
                inputs = width
            self.stages.append(blocks)
        self.head = Head(inputs, final, features, config.classes, config.dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.first(self.stem(self.normalize(pixels)))
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def _scale_widths(config: Config) -> tuple[int, int, list[int], int, int]:
    def scaled(width: int) -> int:
        return make_divisible(width * config.width_multiplier)

    return (
        scaled(config.stem_width),
        scaled(config.first_width),
        [scaled(stage.width) for stage in config.stages],
        scaled(config.final_width),
        scaled(config.feature_width),
    )


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: resolution, then depth and blocks of each stage in network order."""
    choices = [Choice("resolution", config.resolutions, "resolution")]
    for s in range(1, len(config.stages) + 1):
        choices += make_stage_choices(s, config.depths, config.kernels, config.expands)
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, MobileNetV3, initialise)
    return assemble(config, model, make_space(config))
