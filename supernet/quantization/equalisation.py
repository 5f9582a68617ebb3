"""Data-free corrections of folded layers: ranges made equal, biases absorbed and corrected.

Nagel et al., "Data-free quantization through weight equalization and bias correction" (2019). Batch
norms must be folded already. What is scaled between two layers passes through their activation
unchanged only if that is positively homogeneous (ReLU, none; not ReLU6, HardSwish or GELU) and
nobody else reads the tensor: which pairs are legal is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.errors import InputError

ROUNDS, TOLERANCE = 100, 1e-3

# Of a range beside the largest of its layer: channels below it are as good as dead.
DEAD = 1e-12


@dataclass(frozen=True)
class FoldedLayer:
    """A convolution or linear layer with its batch norm folded in.

    Attributes:
        weight: ``(out, in / groups, ...)``; the groups follow from the channels it is given.
        bias: ``(out,)``, or none.
    """

    weight: Tensor
    bias: Tensor | None = None


def equalise(
    pairs: Sequence[tuple[FoldedLayer, FoldedLayer]],
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
) -> int:
    """Equalise pairs in turn until no range moves any more, in place.

    Args:
        pairs: Layers that follow one another; one layer may end a pair and begin the next (expand,
            depthwise, project).
        rounds: Most passes over the pairs.
        tolerance: Largest relative change of a channel's scale that counts as none.

    Returns:
        Passes done, the last of which moved nothing unless it is ``rounds``.

    Raises:
        InputError: If the channels of a pair do not fit.
    """
    for done in range(1, rounds + 1):
        moved = max((_moved(equalise_pair(*pair)) for pair in pairs), default=0.0)
        if moved <= tolerance:
            return done
    return rounds


@torch.no_grad()
def equalise_pair(first: FoldedLayer, second: FoldedLayer) -> Tensor:
    """Scale the channels between two layers so that both weights' ranges agree, in place.

    With ``r1`` and ``r2`` the largest magnitudes of a channel in either weight, the first layer is
    multiplied by ``sqrt(r2 / r1)`` and the second divided by it, after which both reach to
    ``sqrt(r1 r2)`` (equations 9 to 11). Channels that are zero on either side stay as they are.

    Args:
        first: Its outputs are scaled, the bias with them.
        second: Its inputs are scaled; grouped and depthwise convolutions too.

    Returns:
        The factors of the first layer's outputs, ``(channels,)``.

    Raises:
        InputError: If the channels do not fit.
    """
    channels = first.weight.shape[0]
    inputs = _by_input(second.weight, channels)
    of_first = first.weight.abs().flatten(1).amax(1)
    of_second = inputs.abs().amax(dim=(1, 3)).flatten()
    alive = (of_first > DEAD * of_first.amax()) & (of_second > DEAD * of_second.amax())
    factors = torch.where(alive, (of_second / of_first).sqrt(), torch.ones_like(of_first))
    first.weight.mul_(_along_outputs(factors, first.weight))
    if first.bias is not None:
        first.bias.mul_(factors)
    scaled = inputs / factors.reshape(inputs.shape[0], 1, -1, 1)
    second.weight.copy_(scaled.reshape(second.weight.shape))
    return factors


@torch.no_grad()
def absorb_bias(
    first: FoldedLayer, second: FoldedLayer, mean: Tensor, std: Tensor, deviations: float = 3.0
) -> Tensor:
    """Move what nearly every activation of a channel has in common into the next bias, in place.

    ``c = max(0, mean - 3 std)`` is taken from the first bias and ``W2 c`` added to the second,
    which leaves the function as it is wherever the ReLU between them passes ``c`` (section 4.1.3).
    The range of the activation shrinks by ``c``. Where the second layer pads with zeros, its
    border changes.

    Args:
        first: Layer with a bias.
        second: Layer with a bias.
        mean: Means of the first layer's outputs, ``(channels,)``: a folded batch norm's bias.
        std: Their standard deviations: the magnitude of its weight.
        deviations: How many of them stay above 0.

    Returns:
        What was absorbed, ``(channels,)``.

    Raises:
        InputError: If a layer has no bias, or the channels do not fit.
    """
    if first.bias is None or second.bias is None:
        raise InputError("absorbing a bias needs one in both layers; fold the batch norms first")
    absorbed = (mean - deviations * std).clamp(min=0).to(first.bias)
    first.bias.sub_(absorbed)
    second.bias.add_(mean_output(second.weight, absorbed))
    return absorbed


@torch.no_grad()
def correct_bias(weight: Tensor, quantized: Tensor, mean_input: Tensor) -> Tensor:
    """Compute what to add to a bias so that quantizing the weight moves no output's mean.

    ``(W - W_quantized) E[x]`` (section 4.2), with the mean of an input channel for all positions
    under the kernel: padding of convolutions counts as if it had the mean too.

    Args:
        weight: ``(out, in / groups, ...)``.
        quantized: The weight that takes its place.
        mean_input: Means of the input's channels, ``(in,)``: measured, or :func:`relu_mean`.

    Returns:
        ``(out,)``.

    Raises:
        InputError: If the channels do not fit.
    """
    return mean_output(weight - quantized, mean_input)


def mean_output(weight: Tensor, mean_input: Tensor) -> Tensor:
    """Apply a layer without bias to an input that is constant within every channel.

    Args:
        weight: ``(out, in / groups, ...)``.
        mean_input: ``(in,)``.

    Returns:
        ``(out,)``.

    Raises:
        InputError: If the channels do not fit.
    """
    inputs = _by_input(weight, len(mean_input)).sum(-1)
    means = mean_input.to(inputs).reshape(inputs.shape[0], -1, 1)
    return torch.matmul(inputs, means).flatten()


def relu_mean(mean: Tensor, std: Tensor) -> Tensor:
    """Compute the mean of normal variables after a ReLU (appendix C).

    Args:
        mean: Means before it, ``(channels,)``: the biases of a batch norm.
        std: Standard deviations before it, not negative: the magnitudes of its weights.

    Returns:
        ``(channels,)``.
    """
    standard = mean / std.clamp(min=torch.finfo(std.dtype).tiny)
    density = torch.exp(-standard.square() / 2) / (2 * torch.pi) ** 0.5
    return std * density + mean * torch.special.ndtr(standard)


def _by_input(weight: Tensor, channels: int) -> Tensor:
    """View a weight as ``(groups, out / group, in / group, kernel)``."""
    outputs, per_group = weight.shape[:2]
    groups, rest = divmod(channels, per_group)
    if rest or not groups or outputs % groups:
        raise InputError(
            f"a weight of shape {tuple(weight.shape)} does not read {channels} channels: "
            "name layers that follow one another"
        )
    return weight.reshape(groups, outputs // groups, per_group, -1)


def _along_outputs(factors: Tensor, weight: Tensor) -> Tensor:
    return factors.reshape(-1, *[1] * (weight.dim() - 1))


def _moved(factors: Tensor) -> float:
    return float((factors - 1).abs().amax())
