"""Rows that make the building blocks of mobile image networks elastic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.elastic.edits import Cut, Derive, Edit, Rule, Set, follow
from supernet.families._mobile import InvertedResidual, make_divisible
from supernet.space import Choice, Value

# -- elastic kernels -----------------------------------------------------------------------------


def crop_kernel(weight: Tensor, values: tuple[Value, ...]) -> Tensor:
    """Crop every filter to its middle.

    Args:
        weight: ``(outputs, inputs, K, K)`` at the largest kernel.
        values: ``(kernel,)``.

    Returns:
        ``(outputs, inputs, kernel, kernel)``.
    """
    kernel = int(values[0])
    margin = (weight.shape[-1] - kernel) // 2
    return weight[..., margin : margin + kernel, margin : margin + kernel]


def transform_kernel(weight: Tensor, values: tuple[Value, ...], *matrices: Tensor) -> Tensor:
    """Shrink depthwise filters step by step: crop the centre, then mix its entries.

    Each step has one learned matrix that all channels of a layer share (OFA, section 3.2,
    "elastic kernel size"); at identity the result is the plain crop.

    Args:
        weight: ``(channels, 1, K, K)`` at the largest kernel.
        values: ``(kernel,)``.
        matrices: One ``(k*k, k*k)`` per smaller kernel, from the largest ``k`` down.

    Returns:
        ``(channels, 1, kernel, kernel)``.
    """
    kernel = int(values[0])
    if weight.shape[-1] == kernel:
        return weight
    # The chain of steps is linear, so it is one matrix: only the rows that the next, smaller
    # crop looks at are carried along.
    mixing = matrices[0]
    first = size = isqrt(mixing.shape[0])
    for matrix in matrices[1:]:
        if size == kernel:
            break
        smaller = isqrt(matrix.shape[0])
        mixing = matrix.mm(mixing.index_select(0, _centre(size, smaller, matrix.device)))
        size = smaller
    crop = weight.flatten(1).index_select(1, _centre(weight.shape[-1], first, weight.device))
    return F.linear(crop, mixing).view(-1, 1, size, size)


@cache
def _centre(size: int, smaller: int, device: torch.device) -> Tensor:
    """Flat indices of the middle ``smaller x smaller`` of a ``size x size`` square."""
    margin = (size - smaller) // 2
    # Kept across calls, so it must not be born as an inference tensor.
    with torch.inference_mode(False):
        square = torch.arange(size * size, device=device).view(size, size)
        return square[margin : margin + smaller, margin : margin + smaller].flatten()


# -- rows of a table -----------------------------------------------------------------------------


def norm_rows(path: str, width: Rule) -> list[Edit]:
    """Make the rows of the channels of a batch normalisation at ``path``."""
    names = ("weight", "bias", "running_mean", "running_var")
    cuts = [Cut(f"{path}.{name}", 0, width) for name in names]
    return [*cuts, Set(path, "num_features", width)]


def output_rows(path: str, width: Rule) -> list[Edit]:
    """Make the rows of the outputs of a :func:`conv_block` at ``path``."""
    return [
        Cut(f"{path}.conv.weight", 0, width),
        Set(f"{path}.conv", "out_channels", width),
        *norm_rows(f"{path}.bn", width),
    ]


def input_rows(path: str, width: Rule) -> list[Edit]:
    """Make the rows of the inputs of a :func:`conv_block` with one group at ``path``."""
    return [
        Cut(f"{path}.conv.weight", 1, width),
        Set(f"{path}.conv", "in_channels", width),
    ]


def depthwise_rows(path: str, width: Rule) -> list[Edit]:
    """Make the rows of the channels of a depthwise :func:`conv_block` at ``path``."""
    return [
        *output_rows(path, width),
        Set(f"{path}.conv", "in_channels", width),
        Set(f"{path}.conv", "groups", width),
    ]


def kernel_rows(path: str, kernel: Choice, matrices: Sequence[str] = ()) -> list[Edit]:
    """Make the rows of the kernel of a :func:`conv_block` at ``path``.

    Args:
        path: Path of the block in the model.
        kernel: Side of the filters.
        matrices: Names of the shared matrices of :func:`transform_kernel`, largest kernel first;
            none means the bare :func:`crop_kernel`.
    """
    function = transform_kernel if matrices else crop_kernel
    return [
        Derive(f"{path}.conv.weight", (kernel.name,), function, tuple(matrices)),
        Set(f"{path}.conv", "kernel_size", follow(kernel, lambda k: (k, k))),
        Set(f"{path}.conv", "padding", follow(kernel, lambda k: (k // 2, k // 2))),
    ]


def squeeze_rows(path: str, width: Rule) -> list[Edit]:
    """Make the rows of a :class:`SqueezeExcite` at ``path``; channels inside follow the width."""
    inner = Rule(
        width.choices, {key: make_divisible(size // 4) for key, size in width.values.items()}
    )
    return [
        Cut(f"{path}.reduce.weight", 0, inner),
        Cut(f"{path}.reduce.weight", 1, width),
        Cut(f"{path}.reduce.bias", 0, inner),
        Set(f"{path}.reduce", "in_channels", width),
        Set(f"{path}.reduce", "out_channels", inner),
        Cut(f"{path}.expand.weight", 0, width),
        Cut(f"{path}.expand.weight", 1, inner),
        Cut(f"{path}.expand.bias", 0, width),
        Set(f"{path}.expand", "in_channels", inner),
        Set(f"{path}.expand", "out_channels", width),
    ]


def hidden_rows(path: str, block: InvertedResidual, hidden: Rule) -> list[Edit]:
    """Make the rows of the channels within an :class:`InvertedResidual`, which are one set."""
    expand = [] if block.expand is None else output_rows(f"{path}.expand", hidden)
    squeeze = [] if block.squeeze is None else squeeze_rows(f"{path}.squeeze", hidden)
    return [
        *expand,
        *depthwise_rows(f"{path}.depthwise", hidden),
        *input_rows(f"{path}.project", hidden),
        *squeeze,
    ]
