"""The plain vision transformer that families share, and rows of tables for its layers.

A head has one size everywhere, and the number of heads is the width of queries, keys and values:
no layer has to know how many there are, and the width of the residual stream may differ from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.data import DataShape
from supernet.errors import InputError
from supernet.families._configuration import find_preset, fit_size
from supernet.families._mobile import Normalize
from supernet.families._pixels import PixelStatistics

Config = TypeVar("Config")

# Patches further apart than this share an entry (AutoFormer's released code).
REACH = 14
_STD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """Sizes of one plain vision transformer.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Side of an image in pixels.
        patch: Side of a patch in pixels.
        width: Width of the residual stream.
        heads: Attention heads in every layer.
        head_size: Size of one head.
        hidden: Hidden units of every feed-forward.
        layers: Number of layers.
        dropout: Dropout of the embedding and of what every block adds to the residual stream.
        relative: Whether attention also knows how far apart patches are.
        pixels: Statistics of pixels that images are normalised by.
    """

    classes: int
    channels: int
    size: int
    patch: int
    width: int
    heads: int
    head_size: int
    hidden: int
    layers: int
    dropout: float
    relative: bool
    pixels: PixelStatistics


def check_patches(size: int, patch: int) -> None:
    """InputError unless patches cover an image without a rest."""
    if size % patch:
        raise InputError(
            f"size = {size} is not a multiple of patch = {patch}; "
            "patches must cover the image without a rest"
        )


def fit_patches(presets: Mapping[str, Config], preset: str, shape: DataShape) -> Config:
    """Fit a preset to the classes, channels, size and statistics of images.

    An image of another size has as many patches a side as the preset, so that a network costs what
    it did; where they do not divide it, it has patches of the preset's size.

    Args:
        presets: Configurations with the fields ``classes``, ``channels``, ``size``, ``patch`` and
            ``pixels``.
        preset: The name of one of them.
        shape: What the images look like.

    Raises:
        InputError: Unknown preset, or images that are not square or that patches do not cover.
    """
    base: Any = find_preset(presets, preset)
    side, along = shape.input[-1], base.size // base.patch
    if side % along == 0:
        base = replace(base, size=side, patch=side // along)
    fitted: Config = fit_size({preset: base}, preset, shape)
    return fitted


# -- the plain network ---------------------------------------------------------------------------


class Embedding(nn.Module):
    """Patches as tokens behind a class token, each with a learned position.

    Args:
        channels: Channels of an image.
        size: Side of an image in pixels.
        patch: Side of a patch in pixels.
        width: Width of the residual stream.
        dropout: Share of entries that training drops.

    ``(N, C, H, W)`` images to ``(N, 1 + patches, width)``, patches row by row.
    """

    def __init__(self, channels: int, size: int, patch: int, width: int, dropout: float) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(1 + (size // patch) ** 2, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        token = self.token.expand(len(images), 1, -1)
        return self.dropout(torch.cat((token, patches), 1) + self.positions)


def index_distances(side: int, reach: int = REACH) -> Tensor:
    """Number the vertical and the horizontal distances between tokens.

    Args:
        side: Patches along a side of the image.
        reach: Patches further apart count as this far apart.

    Returns:
        ``(2, tokens, tokens)`` of int64, entry ``[0, i, j]`` for how many rows token *j* is below
        token *i* and ``[1, i, j]`` for columns: 0 where one of them is the class token, else the
        distance plus ``reach + 1``.
    """
    places = torch.arange(side)
    rows, columns = places.repeat_interleave(side), places.repeat(side)
    along = torch.stack((rows, columns))
    distances = along[:, None, :] - along[:, :, None]
    return F.pad(distances.clamp(-reach, reach) + reach + 1, (1, 0, 1, 0))


class RelativeAttention(nn.Module):
    """Attention in which keys and values depend on how far apart two patches are.

    AutoFormer (Chen et al. 2021) after Shaw et al. 2018, "Self-Attention with Relative Position
    Representations", in two dimensions: a query also meets a vector for the distance in rows plus
    one for that in columns, and such vectors of other tables are added to the values. The tables
    are shared by all heads.

    Args:
        side: Patches along a side of the image.
        head_size: Size of one head.
        reach: Patches further apart count as this far apart.

    Queries, keys and values of ``(N, heads, tokens, head_size)`` to one such tensor.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, side: int, head_size: int, reach: int = REACH) -> None:
        super().__init__()
        entries = 2 * reach + 2
        self.key_rows = nn.Parameter(torch.empty(entries, head_size))
        self.key_columns = nn.Parameter(torch.empty(entries, head_size))
        self.value_rows = nn.Parameter(torch.empty(entries, head_size))
        self.value_columns = nn.Parameter(torch.empty(entries, head_size))
        # A function of the configuration: files of weights need not hold it.
        rows, columns = index_distances(side, reach)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys = F.embedding(self.rows, self.key_rows) + F.embedding(self.columns, self.key_columns)
        values = F.embedding(self.rows, self.value_rows)
        values = values + F.embedding(self.columns, self.value_columns)
        scores = query @ key.transpose(2, 3) + _multiply_by_token(query, keys.transpose(1, 2))
        shares = (scores * query.shape[-1] ** -0.5).softmax(-1)
        return shares @ value + _multiply_by_token(shares, values)


def _multiply_by_token(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiply every token's vector by a matrix of that token.

    Args:
        x: ``(N, heads, tokens, inputs)``.
        matrices: ``(tokens, inputs, outputs)``.

    Returns:
        ``(N, heads, tokens, outputs)``.
    """
    by_token = x.permute(2, 0, 1, 3).flatten(1, 2)
    return (by_token @ matrices).unflatten(1, (-1, x.shape[1])).permute(1, 2, 0, 3)


class Attention(nn.Module):
    """Self-attention of all tokens; ``(N, tokens, width)`` to the same.

    Args:
        width: Width of the residual stream.
        heads: Number of heads.
        head_size: Size of one head.
        side: Patches along a side of the image where distances between them count, else ``None``.
    """

    def __init__(self, width: int, heads: int, head_size: int, side: int | None) -> None:
        super().__init__()
        self.head_size = head_size
        self.query = nn.Linear(width, heads * head_size)
        self.key = nn.Linear(width, heads * head_size)
        self.value = nn.Linear(width, heads * head_size)
        self.relative = None if side is None else RelativeAttention(side, head_size)
        self.out = nn.Linear(heads * head_size, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        if self.relative is None:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = self.relative(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """``down(gelu(up(x)))`` of every token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Layer(nn.Module):
    """Pre-normalised attention and feed-forward, each added to the residual stream."""

    def __init__(self, sizes: Dimensions) -> None:
        super().__init__()
        side = sizes.size // sizes.patch if sizes.relative else None
        self.norm1 = nn.LayerNorm(sizes.width)
        self.attention = Attention(sizes.width, sizes.heads, sizes.head_size, side)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.ffn = FeedForward(sizes.width, sizes.hidden)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.ffn(self.norm2(x)))


class Head(nn.Module):
    """Normalise and classify the class token; ``(N, tokens, width)`` to ``(N, classes)``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.norm(x[:, 0]))
        return logits


class VisionTransformer(nn.Module):
    """The plain network; ``(N, C, H, W)`` pixels in 0...1 to ``(N, classes)`` logits."""

    def __init__(self, sizes: Dimensions) -> None:
        super().__init__()
        self.normalize = Normalize(sizes.pixels.mean, sizes.pixels.std)
        self.embedding = Embedding(
            sizes.channels, sizes.size, sizes.patch, sizes.width, sizes.dropout
        )
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.head = Head(sizes.width, sizes.classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embedding(self.normalize(pixels))
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x)
        return logits


def initialise(model: VisionTransformer) -> None:
    """Fill the network with weights, from torch's generator; biases become zero.

    Layers keep the variance of what they are given, and what is added to the residual stream
    shrinks with the depth.
    """
    for name, parameter in model.named_parameters():
        if "norm" in name:
            continue
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif name.endswith(".weight"):
            std = parameter[0].numel() ** -0.5
            if name.endswith(("attention.out.weight", "ffn.down.weight")):
                std /= (2 * len(model.layers)) ** 0.5
            nn.init.normal_(parameter, std=std)
        else:
            nn.init.normal_(parameter, std=_STD)


# -- rows of tables ------------------------------------------------------------------------------


def list_units(model: VisionTransformer) -> list[str]:
    """List the pieces that have a cost of their own, in the order they run."""
    layers = (f"layers.{i}" for i in range(len(model.layers)))
    return ["normalize", "embedding", *layers, "head"]


def list_undecayed(model: VisionTransformer) -> list[str]:
    """List the parameters beside normalisation and biases that weight decay leaves alone.

    They are looked up by place: class token, positions, and tables of distances.
    """
    names = (name for name, _ in model.named_parameters())
    return [f"model.{name}" for name in names if not name.endswith((".weight", ".bias"))]
