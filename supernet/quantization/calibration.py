"""Ranges of activations of an extracted network, from calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.quantization.execution import Execution, make_affine
from supernet.quantization.functions import find_channel_step
from supernet.quantization.ranges import (
    Entropy,
    MeanSquaredError,
    MinMax,
    Percentile,
    RangeEstimator,
)

ESTIMATORS: dict[str, Callable[[str], RangeEstimator]] = {
    "minmax": MinMax,
    "percentile": Percentile,
    "mse": MeanSquaredError,
    "entropy": Entropy,
}
DEFAULT_ESTIMATOR = "mse"
_MOST = 2.0**30


def calibrate_ranges(
    network: nn.Module,
    execution: Execution,
    batches: Iterable[Tensor],
    estimator: str = DEFAULT_ESTIMATOR,
) -> int:
    """Find the range of every activation that is rounded and has no trained one.

    Weights are rounded meanwhile, activations are not (Krishnamoorthi 2018, section 3.1; SimQ-NAS
    calibrates so with 100 samples).

    Args:
        network: In eval mode, its normalisation folded.
        execution: Its number formats; it has the quantizers afterwards.
        batches: Calibration inputs, as the network takes them.
        estimator: One of :data:`ESTIMATORS`.

    Returns:
        How many samples were seen.

    Raises:
        InputError: There is no such estimator, no sample, or an activation is not finite.
    """
    if estimator not in ESTIMATORS:
        raise InputError(
            f"there is no range estimator {estimator!r}; there are {', '.join(ESTIMATORS)}"
        )
    found: dict[str, RangeEstimator] = {}

    def watch(key: str) -> RangeEstimator:
        if key not in found:
            found[key] = ESTIMATORS[estimator](key)
        return found[key]

    execution.calibrated = {}
    execution.watching = watch
    seen = 0
    try:
        with torch.no_grad():
            for inputs in batches:
                network(inputs)
                seen += len(inputs)
                like = inputs
    finally:
        execution.watching = None
    if not seen:
        raise InputError("calibration data are empty; ranges of activations need samples")
    like = like if like.is_floating_point() else next(network.parameters())
    for key, watched in found.items():
        state = execution.limits[key]
        low, high = watched.finish(2**state.bits - 1)
        execution.calibrated[key] = make_affine(state, low, high, like)
    _widen_steps(execution)
    return seen


def _widen_steps(execution: Execution) -> None:
    """Widen steps of weights so that no bias leaves the 32 bits it is added in.

    A channel with hardly any weights has a tiny step, in which its bias is a huge number; the
    runtime's sums would wrap around.
    """
    for name, layer in execution.layers.items():
        inputs = execution.calibrated.get(layer.inputs)
        if layer.bias is None or inputs is None or inputs.scale is None:
            continue
        # Half of the range is for the bias, the other for the products.
        least = layer.bias.detach().abs() / inputs.scale.to(layer.bias.dtype) / _MOST
        step = find_channel_step(layer.weight.detach(), layer.affine)
        if bool((step < least).any()):
            form = layer.affine.format
            known = {**execution.steps, f"{name}@{form.weight_bits}": torch.maximum(step, least)}
            execution.steps = known
