"""How much the loss depends on each weight being there, added up."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._probe import compute_gradients, sum_layers

SUMMARY = "sum of |weight x gradient| of one batch (connection sensitivity)"


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Sum ``|w dL/dw|`` of each layer: the gradient at a mask of ones (Lee et al. 2019).

    Returns:
        Sums of convolutions and linear layers, by module path.
    """
    found = compute_gradients(model, inputs, targets)
    return {name: float((weight * gradient).abs().sum()) for name, weight, gradient in found}


score = sum_layers(by_layer)
