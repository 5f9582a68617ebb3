"""AutoFormer: a vision transformer elastic in width, heads, FFN ratios and depth (Chen 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from supernet.dataclass_json import INLINE
from supernet.elastic.edits import Cut, Drop, Edit, Rule, Set, follow, follow_all
from supernet.errors import InputError
from supernet.families._checks import check_dropout, check_options, check_positive
from supernet.families._configuration import describe_images, make_network
from supernet.families._pixels import DIGITS, IMAGENET, PixelStatistics
from supernet.families._transformer_rows import find_need, input_rows, norm_rows, output_rows
from supernet.families._vit import (
    Dimensions,
    VisionTransformer,
    check_patches,
    fit_patches,
    initialise,
    list_undecayed,
    list_units,
)
from supernet.space import Choice, SearchSpace
from supernet.supernet import Supernet

TASK = "image-classification"
SUMMARY = "Vision transformer with elastic width, heads and FFN ratio per layer, depth (AutoFormer)"
DEFAULT_PRESET = "tiny"


def compute_hidden(width: int, ratio: float) -> int:
    """Compute the hidden units of a feed-forward: its ratio times the width, rounded down."""
    return int(round(width * ratio, 6))  # 2.3 * 100 is a little less than 230


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one AutoFormer supernet.

    Heads keep their size and the class token is classified, as in DeiT; the released code can
    average patches instead (``--gp``).

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        patch: Side of a patch in pixels.
        widths: Widths of the residual stream, of all layers at once, rising.
        heads: Numbers of attention heads a layer may have, rising; the first heads stay.
        head_size: Size of one head.
        ratios: Hidden units of a layer's feed-forward per unit of the width, rising.
        depths: Numbers of layers, rising; the first layers stay.
        relative: Whether attention also knows how far apart patches are.
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
    widths: tuple[int, ...] = (32, 48, 64)
    heads: tuple[int, ...] = (2, 3, 4)
    head_size: int = 16
    ratios: tuple[float, ...] = (2.0, 3.0, 4.0)
    depths: tuple[int, ...] = (2, 3, 4)
    relative: bool = True
    dropout: float = 0.0
    pixels: PixelStatistics = field(default=DIGITS, metadata=INLINE)
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, "widths", "heads", "ratios", "depths")
        check_positive(
            classes=self.classes,
            channels=self.channels,
            size=self.size,
            patch=self.patch,
            widths=self.widths[0],
            heads=self.heads[0],
            head_size=self.head_size,
            depths=self.depths[0],
        )
        if compute_hidden(self.widths[0], self.ratios[0]) < 1:
            raise InputError(
                f"ratios = {list(self.ratios)} leave no hidden units at width {self.widths[0]}; "
                "the smallest ratio times the smallest width must be at least 1"
            )
        check_patches(self.size, self.patch)
        check_dropout(self.dropout)


# The published supernets allocate widths of 256, 448 and 640; no network of the first and the last
# space uses the entries beyond the largest choice.
PRESETS: dict[str, Config] = {
    "tiny": Config(),
    "t": Config(
        classes=1000,
        channels=3,
        size=224,
        patch=16,
        widths=(192, 216, 240),
        heads=(3, 4),
        head_size=64,
        ratios=(3.5, 4.0),
        depths=(12, 13, 14),
        pixels=IMAGENET,
    ),
    "s": Config(
        classes=1000,
        channels=3,
        size=224,
        patch=16,
        widths=(320, 384, 448),
        heads=(5, 6, 7),
        head_size=64,
        ratios=(3.0, 3.5, 4.0),
        depths=(12, 13, 14),
        pixels=IMAGENET,
    ),
    "b": Config(
        classes=1000,
        channels=3,
        size=224,
        patch=16,
        widths=(528, 576, 624),
        heads=(9, 10),
        head_size=64,
        ratios=(3.0, 3.5, 4.0),
        depths=(14, 15, 16),
        pixels=IMAGENET,
    ),
}

configure = partial(fit_patches, PRESETS)


def make_space(config: Config) -> SearchSpace:
    """Make the space: ``width``, ``depth``, then ``layer1.heads``, ``layer1.ratio`` and so on."""
    choices = [Choice("width", config.widths, "width"), Choice("depth", config.depths, "depth")]
    for i in range(1, config.depths[-1] + 1):
        needs = find_need(config.depths, i)
        choices.append(Choice(f"layer{i}.heads", config.heads, "heads", needs))
        choices.append(Choice(f"layer{i}.ratio", config.ratios, "expand", needs))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, _make_plain, initialise)
    space = make_space(config)
    width = follow(space.choice("width"), int)
    edits: list[Edit] = [Drop("layers", follow(space.choice("depth"), int))]
    edits += _make_embedding_rows(width)
    for i in range(len(model.layers)):
        edits += _make_layer_rows(i, space, width, config.head_size)
    edits += [*norm_rows("head.norm", width), *input_rows("head.classifier", width)]
    return Supernet(
        model,
        space,
        edits,
        units=list_units(model),
        inputs=describe_images(config.channels, config.size),
        no_decay=list_undecayed(model),
    )


def _make_embedding_rows(width: Rule) -> list[Edit]:
    return [
        Cut("embedding.patches.weight", 0, width),
        Cut("embedding.patches.bias", 0, width),
        Set("embedding.patches", "out_channels", width),
        Cut("embedding.token", 0, width),
        Cut("embedding.positions", 1, width),
    ]


def _make_layer_rows(place: int, space: SearchSpace, width: Rule, head_size: int) -> list[Edit]:
    layer = f"layers.{place}"
    size = follow(space.choice(f"layer{place + 1}.heads"), lambda heads: heads * head_size)
    hidden = follow_all(
        (space.choice("width"), space.choice(f"layer{place + 1}.ratio")), compute_hidden
    )
    rows: list[Edit] = []
    for name in ("query", "key", "value"):
        path = f"{layer}.attention.{name}"
        rows += [*output_rows(path, size), *input_rows(path, width)]
    for path, inputs in ((f"{layer}.attention.out", size), (f"{layer}.ffn.down", hidden)):
        rows += [*output_rows(path, width), *input_rows(path, inputs)]
    rows += [*output_rows(f"{layer}.ffn.up", hidden), *input_rows(f"{layer}.ffn.up", width)]
    return rows + [row for n in (1, 2) for row in norm_rows(f"{layer}.norm{n}", width)]


def _make_plain(config: Config) -> VisionTransformer:
    return VisionTransformer(
        Dimensions(
            classes=config.classes,
            channels=config.channels,
            size=config.size,
            patch=config.patch,
            width=config.widths[-1],
            heads=config.heads[-1],
            head_size=config.head_size,
            hidden=compute_hidden(config.widths[-1], config.ratios[-1]),
            layers=config.depths[-1],
            dropout=config.dropout,
            relative=config.relative,
            pixels=config.pixels,
        )
    )
