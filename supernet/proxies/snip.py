"""How much the loss depends on each weight being there, added up."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._probe import compute_gradients

SUMMARY = "sum of |weight x gradient| of one batch (connection sensitivity)"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Sum ``|w dL/dw|``: the gradient at a mask of ones on the weights (Lee et al. 2019).

    Args:
        model: An extracted network, which is left alone.
        inputs: A batch as the network takes it.
        targets: Class indices ``(N,)``, or token ids ``(N, T)``.
    """
    return float(sum(by_layer(model, inputs, targets).values()))


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Sum over each convolution and linear layer, by module path."""
    found = compute_gradients(model, inputs, targets)
    return {name: float((weight * gradient).abs().sum()) for name, weight, gradient in found}
