"""Size of the loss gradient at each layer's weights, added up over layers."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._probe import compute_gradients, sum_layers

SUMMARY = "sum of the L2 norms of the weight gradients of one batch"


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Compute the L2 norm of each layer's weight gradient (Abdelfattah et al. 2021).

    Returns:
        Norms of convolutions and linear layers, by module path.
    """
    found = compute_gradients(model, inputs, targets)
    return {name: float(gradient.norm()) for name, _, gradient in found}


score = sum_layers(by_layer)
