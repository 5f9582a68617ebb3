"""MatViT: a vision transformer with nested FFNs per layer and elastic depth (Devvrit 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from supernet.dataclass_json import INLINE
from supernet.elastic.edits import Drop, Edit, follow
from supernet.families._checks import check_dropout, check_heads, check_options, check_positive
from supernet.families._configuration import describe_images, make_network
from supernet.families._experts import check_experts, mix_stack
from supernet.families._pixels import CIFAR10, DIGITS, IMAGENET, PixelStatistics
from supernet.families._transformer_rows import (
    find_need,
    input_rows,
    output_rows,
)
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
SUMMARY = "Vision transformer with nested FFN sizes per layer and elastic depth (MatFormer)"
DEFAULT_PRESET = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that defines one MatViT supernet.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        patch: Side of a patch in pixels.
        width: Width of the residual stream.
        heads: Attention heads in every layer; their size is ``width / heads``.
        ffn: Hidden sizes a layer may have, rising; each is a prefix of the next.
        depths: Numbers of layers the model may have, rising; the first layers stay.
        dropout: Dropout of the embedding and of what every block adds to the residual stream.
        pixels: Statistics of pixels that images are normalised by.
        experts: Weights of every projection of a layer, which a router mixes for each architecture
            (Mixture-of-Supernets, Jawahar et al. 2023); 1 for plain ones.
        routing: With experts, ``"layer"`` mixes whole weights, ``"neuron"`` every row by itself.
        seed: Seed of the initial weights.

    Raises:
        InputError: A field makes no network; the message names it.
    """

    classes: int = 10
    channels: int = 1
    size: int = 8
    patch: int = 2
    width: int = 64
    heads: int = 4
    ffn: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (2, 3, 4)
    dropout: float = 0.0
    pixels: PixelStatistics = field(default=DIGITS, metadata=INLINE)
    experts: int = 1
    routing: str = "layer"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, "ffn", "depths")
        check_positive(
            classes=self.classes,
            channels=self.channels,
            size=self.size,
            patch=self.patch,
            width=self.width,
            heads=self.heads,
            ffn=self.ffn[0],
            depths=self.depths[0],
        )
        check_heads(self.width, self.heads)
        check_patches(self.size, self.patch)
        check_dropout(self.dropout)
        check_experts(self.experts, self.routing)


PRESETS: dict[str, Config] = {
    "tiny": Config(),
    "experts": Config(experts=2, routing="layer"),
    "small": Config(
        channels=3,
        size=32,
        patch=4,
        width=256,
        heads=4,
        ffn=(128, 256, 512, 1024),
        depths=(4, 5, 6),
        dropout=0.1,
        pixels=CIFAR10,
    ),
    "b16": Config(
        classes=1000,
        channels=3,
        size=224,
        patch=16,
        width=768,
        heads=12,
        ffn=(384, 768, 1536, 3072),
        depths=(12,),
        dropout=0.1,
        pixels=IMAGENET,
    ),
}

configure = partial(fit_patches, PRESETS)


def make_space(config: Config) -> SearchSpace:
    """Make the space: ``depth``, then ``layer1.ffn``, ``layer2.ffn``, ... of the layers there."""
    choices = [Choice("depth", config.depths, "depth")]
    for i in range(1, config.depths[-1] + 1):
        choices.append(Choice(f"layer{i}.ffn", config.ffn, "ffn", find_need(config.depths, i)))
    return SearchSpace(tuple(choices))


def build(config: Config) -> Supernet:
    """Build the supernet with freshly initialised weights, a function of ``config.seed``."""
    model = make_network(config, _make_plain, initialise)
    space = make_space(config)
    edits: list[Edit] = [Drop("layers", follow(space.choice("depth"), int))]
    for i in range(len(model.layers)):
        hidden = follow(space.choice(f"layer{i + 1}.ffn"), int)
        edits += output_rows(f"layers.{i}.ffn.up", hidden)
        edits += input_rows(f"layers.{i}.ffn.down", hidden)
    mixed = mix_stack(model, model.layers, space, config)
    return Supernet(
        model,
        space,
        [*edits, *mixed.rows],
        units=list_units(model),
        inputs=describe_images(config.channels, config.size),
        shared=mixed.shared,
        no_decay=[*list_undecayed(model), *mixed.no_decay],
    )


def _make_plain(config: Config) -> VisionTransformer:
    return VisionTransformer(
        Dimensions(
            classes=config.classes,
            channels=config.channels,
            size=config.size,
            patch=config.patch,
            width=config.width,
            heads=config.heads,
            head_size=config.width // config.heads,
            hidden=config.ffn[-1],
            layers=config.depths[-1],
            dropout=config.dropout,
            relative=False,
            pixels=config.pixels,
        )
    )
