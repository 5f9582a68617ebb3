"""NAS-Bench-Macro: one of three operations per layer, all 6,561 trained alone by others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from supernet.dataclass_json import INLINE
from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Edit, Pick, follow
from supernet.errors import InputError
from supernet.families._configuration import describe_images, fit_size, fit_to_digits, make_network
from supernet.families._mobile import InvertedResidual, Normalize, conv_block, initialise_layers
from supernet.families._pixels import CIFAR10, PixelStatistics
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "Choice blocks: identity, MBConv e3 k3 or MBConv e6 k5 per layer (NAS-Bench-Macro)"
DEFAULT_PRESET = "tiny"

# Cheapest first, as in the published tables: the largest architecture has the last one everywhere.
EXPAND_AND_KERNEL = {"mb_e3_k3": (3, 3), "mb_e6_k5": (6, 5)}
OPERATIONS = ("identity", *EXPAND_AND_KERNEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one supernet of choice blocks.

    The first layer of each stage halves the image and doubles the width. The defaults are the
    published space (Su et al. 2021, "Prioritized Architecture Sampling with Monto-Carlo Tree
    Search", section 4).

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        stem_width: Channels after the stem.
        layers: Layers of each stage.
        feature_width: Channels before the classifier.
        pixels: Statistics of pixels that images are normalised by.
        seed: Seed of the initial weights.
    """

    classes: int = 10
    channels: int = 3
    size: int = 32
    stem_width: int = 32
    layers: tuple[int, ...] = (2, 3, 3)
    feature_width: int = 1280
    pixels: PixelStatistics = field(default=CIFAR10, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.layers or min(self.layers) < 1:
            raise InputError(f"layers = {list(self.layers)} must give every stage at least one")
        if self.size < 2 ** len(self.layers):
            raise InputError(
                f"size {self.size} is below the total stride {2 ** len(self.layers)}; nothing "
                "would be left of the image"
            )


PRESETS: dict[str, Config] = {
    "cifar": Config(),
    "tiny": fit_to_digits(Config(size=8, stem_width=12, layers=(1, 2, 2), feature_width=128)),
}

configure = partial(fit_size, PRESETS)


# -- the plain network ---------------------------------------------------------------------------


class Head(nn.Module):
    """Mix features, pool, classify."""

    def __init__(self, inputs: int, features: int, classes: int) -> None:
        super().__init__()
        self.mix = conv_block(inputs, features, 1, 1, "relu")
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.mix(x).mean((2, 3)))
        return logits


class MacroNet(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.normalize = Normalize(config.pixels.mean, config.pixels.std)
        self.stem = conv_block(config.channels, config.stem_width, 3, 1, "relu")
        self.layers = nn.Sequential()
        width = config.stem_width
        for count in config.layers:
            self.layers.append(_make_choice_block(width, 2 * width, 2))
            width *= 2
            for _ in range(count - 1):
                self.layers.append(_make_choice_block(width, width, 1))
        self.head = Head(width, config.feature_width, config.classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.stem(self.normalize(pixels))))
        return logits


def _make_choice_block(inputs: int, outputs: int, stride: int) -> Alternatives:
    same = stride == 1 and inputs == outputs
    # Where shapes change, the published "identity" is a bare projection.
    identity = nn.Identity() if same else conv_block(inputs, outputs, 1, stride, None)
    bottlenecks = {
        name: InvertedResidual(inputs, outputs, expand * inputs, kernel, stride, "relu")
        for name, (expand, kernel) in EXPAND_AND_KERNEL.items()
    }
    return Alternatives(OPERATIONS[-1], identity=identity, **bottlenecks)


# -- the table -----------------------------------------------------------------------------------


def make_space(config: Config) -> SearchSpace:
    """Make the space: one choice per layer, ``stage1.layer1.operation`` and so on."""
    names = (
        f"stage{stage}.layer{layer}.operation"
        for stage, count in enumerate(config.layers, start=1)
        for layer in range(1, count + 1)
    )
    return SearchSpace(tuple(Choice(name, OPERATIONS, "operation") for name in names))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``.

    Operations share no weights: each layer has all three, and an architecture picks one.
    """
    model = make_network(config, MacroNet, initialise_layers)
    space = make_space(config)
    same: Callable[[str], str] = str
    edits: list[Edit] = [
        Pick(f"layers.{index}", follow(choice, same)) for index, choice in enumerate(space.choices)
    ]
    layers = [f"layers.{index}" for index in range(len(space))]
    return Supernet(
        model,
        space,
        edits,
        units=["normalize", "stem", *layers, "head"],
        inputs=describe_images(config.channels, config.size),
    )
