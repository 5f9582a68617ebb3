"""Size of the loss gradient at each layer's weights, added up over layers."""

from __future__ import annotations

from torch import Tensor, nn

from supernet.proxies._probe import compute_gradients

SUMMARY = "sum of the L2 norms of the weight gradients of one batch"


def score(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Sum the L2 norms of the layers' weight gradients (Abdelfattah et al. 2021).

    Args:
        model: An extracted network, which is left alone.
        inputs: A batch as the network takes it.
        targets: Class indices ``(N,)``, or token ids ``(N, T)``.
    """
    return float(sum(by_layer(model, inputs, targets).values()))


def by_layer(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Compute the norm of each convolution and linear layer, by module path."""
    found = compute_gradients(model, inputs, targets)
    return {name: float(gradient.norm()) for name, _, gradient in found}
