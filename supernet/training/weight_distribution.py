"""Weights kept evenly distributed while they are trained, for the sake of every bit-width."""

from __future__ import annotations

import torch
from torch import nn

from supernet.elastic.edits import Quantize
from supernet.errors import InputError
from supernet.quantization.distribution import distribution_penalty
from supernet.supernet import Supernet


class WeightDistribution:
    """The penalty on kurtosis and skew of a supernet's weights, once per step.

    It looks at the shared weights as a whole, not at what an architecture cuts from them: its cost
    does not grow with the architectures of a step (Xu et al. 2023, "EQ-Net", section 3.4).

    Args:
        supernet: Elastic in precision; all its quantized layers but the first count.
        factor: Multiplies the published weights of the penalty.

    Raises:
        InputError: The supernet is not elastic in precision.
    """

    def __init__(self, supernet: Supernet, factor: float = 1.0) -> None:
        self.factor = factor
        self.weights = list_quantized_weights(supernet)[1:]
        if not self.weights:
            raise InputError(
                "weight_distribution evens out the weights that several bit-widths share, and this "
                "supernet is not elastic in precision; use weight_distribution = 0"
            )

    def add_gradients(self) -> None:
        """Add the penalty's gradient to that of the weights that are trained in this step."""
        trained = [weight for weight in self.weights if weight.grad is not None]
        if not trained:
            return
        with torch.enable_grad():
            penalty = self.factor * distribution_penalty(trained)
        if not penalty.requires_grad:
            return
        gradients = torch.autograd.grad(penalty, trained, materialize_grads=True)
        for weight, gradient in zip(trained, gradients, strict=True):
            assert weight.grad is not None
            weight.grad += gradient


def list_quantized_weights(supernet: Supernet) -> list[nn.Parameter]:
    """List the weights that some precision rounds, in the order of the network."""
    places = [edit.module for edit in supernet.edits if isinstance(edit, Quantize)]
    found: dict[int, nn.Parameter] = {}
    for path, module in supernet.model.named_modules():
        inside = any(path == place or path.startswith(f"{place}.") for place in places)
        if inside and isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = module.weight
            assert isinstance(weight, nn.Parameter)
            found.setdefault(id(weight), weight)
    return list(found.values())
