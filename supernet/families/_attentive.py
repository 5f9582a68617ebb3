"""Blocks of networks whose stages have elastic width, and the rows that make them elastic."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Cut, Edit, Pick, Rule, Set
from supernet.families._mobile import InvertedResidual, conv_block, make_divisible
from supernet.families._mobile_rows import hidden_rows, input_rows, output_rows
from supernet.space import Choice

ACTIVATION = "swish"


@dataclass(frozen=True, slots=True)
class Stage:
    """Options of one stage, which all its blocks share; the first block has the stride."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    stride: int
    squeeze: bool


# -- modules -------------------------------------------------------------------------------------


class Resample(nn.Module):
    """Brings square images to ``size`` pixels, bicubic; those of that size pass unchanged."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-1] == self.size:
            return pixels
        size = (self.size, self.size)
        return F.interpolate(pixels, size=size, mode="bicubic", align_corners=False)


class Shrink(nn.Module):
    """Average of every ``stride x stride`` pixels; odd images are padded with zeros."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride, padding=x.shape[-1] % 2)


class Block(nn.Module):
    """Inverted residual whose shortcut is a module: it is never absent in this space."""

    def __init__(self, body: InvertedResidual, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


class Head(nn.Module):
    """Expand, pool, mix features, classify; or without the expansion, mix before pooling."""

    def __init__(self, inputs: int, expand: int, last: int, classes: int, dropout: float) -> None:
        super().__init__()
        pooled = expand * inputs or last
        self.expand = conv_block(inputs, pooled, 1, 1, ACTIVATION)
        self.mix = nn.Conv2d(pooled, last, 1, bias=False) if expand else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x).mean((2, 3), keepdim=True)
        if self.mix is not None:
            x = F.silu(self.mix(x))
        logits: Tensor = self.classifier(self.dropout(x.flatten(1)))
        return logits


def make_block(stage: Stage, inputs: Sequence[int], stride: int, follows: bool) -> Block:
    """Make one block of a stage at its largest.

    Args:
        stage: The stage the block belongs to.
        inputs: Widths that may come in, rising.
        stride: Stride of the block.
        follows: Whether a block of the same stage comes before it, so that what comes in has the
            width of what goes out.
    """
    first, last = inputs[-1], stage.widths[-1]
    hidden = compute_hidden_width(first, stage.expands[-1])
    body = InvertedResidual(
        first,
        last,
        hidden,
        stage.kernels[-1],
        stride,
        ACTIVATION,
        squeeze=stage.squeeze,
        shortcut=False,
    )
    if follows:
        return Block(body, nn.Identity())
    kinds = {choose_shortcut(stride, i, o) for i, o in product(inputs, stage.widths)}
    convolution = nn.Conv2d(first, last, 1, bias=False)
    shrink: dict[str, nn.Module] = {"pool": Shrink(stride)} if stride > 1 else {}
    candidates = {
        "identity": nn.Identity(),
        "pool": Shrink(stride),
        "project": nn.Sequential(OrderedDict(shrink, conv=convolution)),
    }
    found = {kind: module for kind, module in candidates.items() if kind in kinds}
    if len(found) == 1:
        return Block(body, *found.values())
    return Block(body, Alternatives(choose_shortcut(stride, first, last), **found))


def compute_hidden_width(inputs: int, expand: int) -> int:
    """Compute the channels of the depthwise convolution for an active width that comes in."""
    return inputs if expand == 1 else make_divisible(inputs * expand)


def choose_shortcut(stride: int, inputs: int, outputs: int) -> str:
    """Choose the shortcut from one active width to another, as the released code does."""
    if inputs != outputs:
        return "project"
    return "identity" if stride == 1 else "pool"


# -- rows of a table -----------------------------------------------------------------------------


def tabulate(choices: Sequence[Choice], quantity: Callable[..., Any]) -> Rule:
    """Tabulate ``quantity(*values)``; choices of one value are constants, not part of a space."""
    elastic = [len(choice.values) > 1 for choice in choices]
    table = {
        tuple(v for v, counts in zip(values, elastic, strict=True) if counts): quantity(*values)
        for values in product(*(choice.values for choice in choices))
    }
    names = tuple(c.name for c, counts in zip(choices, elastic, strict=True) if counts)
    return Rule(names, table)


def body_rows(
    path: str, body: InvertedResidual, inputs: Rule, outputs: Rule, before: Choice, expand: Choice
) -> list[Edit]:
    """Make the rows of the widths of the body of a :class:`Block`.

    Args:
        path: Path of the body in the model.
        body: The body at its largest.
        inputs: Channels that come in: the rule shared by all that carry them.
        outputs: Channels that go out: the rule shared by all that carry them.
        before: Width that ``inputs`` follows.
        expand: Hidden channels per channel that comes in.
    """
    rows = output_rows(f"{path}.project", outputs)
    if body.expand is None:
        # The depthwise convolution works on the channels that come in.
        return rows + hidden_rows(path, body, inputs)
    rows += input_rows(f"{path}.expand", inputs)
    return rows + hidden_rows(path, body, tabulate([before, expand], compute_hidden_width))


def shortcut_rows(
    path: str, shortcut: nn.Module, inputs: Rule, outputs: Rule, kind: Rule
) -> list[Edit]:
    """Make the rows of the shortcut of a :class:`Block`: which one it is, and its widths.

    Args:
        path: Path of the shortcut in the model.
        shortcut: The shortcut at its largest.
        inputs: Channels that come in: the rule shared by all that carry them.
        outputs: Channels that go out: the rule shared by all that carry them.
        kind: What :func:`choose_shortcut` says of the active widths.
    """
    rows: list[Edit] = []
    project: nn.Module | None = shortcut
    if isinstance(shortcut, Alternatives):
        rows.append(Pick(path, kind))
        project, path = shortcut._modules.get("project"), f"{path}.project"
    if not isinstance(project, nn.Sequential):
        return rows
    return [
        *rows,
        Cut(f"{path}.conv.weight", 0, outputs),
        Set(f"{path}.conv", "out_channels", outputs),
        *input_rows(path, inputs),
    ]
