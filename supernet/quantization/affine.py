"""How tensors become integers: values that say it for activations and for weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.quantization.formats import Format


@dataclass(frozen=True)
class Affine:
    """How one activation is quantized: ``round(x / scale) + zero_point`` within its levels.

    Args:
        key: Name of the tensor: the layer that makes it and what follows in one piece with it.
        scale: Size of a step, shape ``()``; ``None`` before calibration, where only the structure
            of a network matters.
        zero_point: The integer that stands for 0, shape ``()``, in a floating dtype.
        bits: Levels are ``0 ... 2**bits - 1``.
        fixed: The runtime prescribes scale and zero point: they are part of the structure.
        learned: ``scale`` and ``zero_point`` are trained.
        anchored: Level 0 stands for -3, below which hard swish is 0; see
            :func:`supernet.quantization.quantizers.anchored_step`.
    """

    key: str
    scale: Tensor | None
    zero_point: Tensor | None
    bits: int = 8
    fixed: bool = False
    learned: bool = False
    anchored: bool = False

    @property
    def highest(self) -> int:
        """The largest level."""
        return int(2**self.bits - 1)


_ZERO = torch.zeros(())
SHARE = Affine("share", torch.tensor(1 / 255), _ZERO, fixed=True)
"""Of values in 0...1 that reach 1: hard sigmoids and attention."""
BELOW_ONE = Affine("below one", torch.tensor(1 / 256), _ZERO, fixed=True)
"""Of values in 0...1 that do not reach 1: sigmoids."""


@dataclass(frozen=True)
class WeightAffine:
    """How one weight is quantized.

    Args:
        layer: Name of the layer.
        format: Bits, granularity and symmetry.
        step: Trained steps, one per scale; ``None`` takes them from the largest weights.
        rounded: The rounded weight, where it is known already.
        channel_step: The step of each output channel, ``(out,)``, likewise.
    """

    layer: str
    format: Format
    step: Tensor | None = None
    rounded: Tensor | None = None
    channel_step: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that multiplies integers.

    Args:
        weight: In float, ``(out, ...)``.
        bias: In float, ``(out,)``.
        inputs: Name of what it reads.
        affine: How its weight is quantized.
    """

    weight: Tensor
    bias: Tensor | None
    inputs: str
    affine: WeightAffine
