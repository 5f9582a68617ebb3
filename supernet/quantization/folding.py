"""Batch normalisation folded into the convolutions before it, integer weights unchanged."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.errors import InputError
from supernet.quantization.execution import Execution
from supernet.quantization.tracking import find_layer, name_layer


def fold_normalization(network: nn.Module, execution: Execution, example: Any) -> int:
    """Fold normalisation into the convolutions of integer units that it follows.

    Convolution and normalisation are one piece for a runtime, whose integers are those of the
    convolution: a channel's factor goes into its step and a negative one turns the signs of its
    symmetric integers, so that trained steps keep their meaning.

    Args:
        network: An extracted network in eval mode with its own statistics; changed in place.
        execution: Its number formats.
        example: A batch it runs on; only which layer follows which is read from it.

    Returns:
        How many were folded.
    """
    found = find_folds(network, execution, example)
    for layer, path, norm in found:
        _fold(layer, norm, execution)
        parent, _, name = path.rpartition(".")
        network.get_submodule(parent)._modules[name] = nn.Identity()
    execution.forget_rounded()
    return len(found)


def find_folds(
    network: nn.Module, execution: Execution, *inputs: Any
) -> list[tuple[nn.Conv2d, str, _BatchNorm]]:
    """Find which normalisation follows which convolution of an integer unit, each once.

    It does where the convolution has no other reader and the normalisation reads nothing else.

    Args:
        network: A network in eval mode.
        execution: Its number formats.
        inputs: What it is called with.

    Returns:
        Convolutions, paths of their normalisations, and these.
    """
    execution.folds = []
    try:
        with torch.no_grad():
            network(*inputs)
        pairs = execution.folds
    finally:
        execution.folds = None
    norms_of: dict[int, set[int]] = defaultdict(set)
    layers_of: dict[int, set[int]] = defaultdict(set)
    for weight, mean in pairs:
        norms_of[id(weight)].add(id(mean))
        layers_of[id(mean)].add(id(weight))
    layers = {id(m.weight): m for m in network.modules() if isinstance(m, nn.Conv2d)}
    norms = {
        id(m.running_mean): (path, m)
        for path, m in network.named_modules()
        if isinstance(m, _BatchNorm) and m.running_mean is not None
    }
    found = []
    for weight, mean in pairs:
        # Whoever else reads the convolution, or is normalised so, needs it as it is.
        if len(norms_of[id(weight)]) > 1 or len(layers_of[id(mean)]) > 1:
            continue
        norm = norms.pop(id(mean), None)
        layer = layers.pop(id(weight), None)
        if norm is not None and layer is not None:
            found.append((layer, *norm))
    return found


def _fold(layer: nn.Conv2d, norm: _BatchNorm, execution: Execution) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    with torch.inference_mode(False), torch.no_grad():
        factor = torch.rsqrt(variance + norm.eps)
        if norm.weight is not None:
            factor = factor * norm.weight
        bias = torch.zeros_like(mean) if layer.bias is None else layer.bias
        shift = (bias - mean) * factor
        if norm.bias is not None:
            shift = shift + norm.bias
        name = find_layer(layer.weight)
        weight = layer.weight * factor.reshape(-1, 1, 1, 1)
        layer.weight, layer.bias = _name(weight, name), _name(shift, name)
        for key, step in execution.fitted.items():
            if key.rpartition("@")[0] == name:
                execution.fitted[key] = step * factor.abs()
        steps = dict(execution.steps)
        for key, step in steps.items():
            if key.rpartition("@")[0] == name:
                if step.dim() == 0:
                    raise InputError(
                        f"layer {name} has one trained step for all channels, which normalisation "
                        "after it tears apart; use a format with a scale per channel"
                    )
                steps[key] = step.reshape(-1) * factor.abs()
        execution.steps = steps


def _name(tensor: Tensor, layer: str) -> nn.Parameter:
    parameter = nn.Parameter(tensor.clone())
    name_layer(parameter, layer)
    return parameter
