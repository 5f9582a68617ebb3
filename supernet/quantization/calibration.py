"""Ranges of activations of an extracted network, from calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import _pop_mode_temporarily

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
from supernet.quantization.step_fitting import fit_step
from supernet.quantization.tracking import find_layer, find_state, mark

ESTIMATORS: dict[str, Callable[[str], RangeEstimator]] = {
    "minmax": MinMax,
    "percentile": Percentile,
    "mse": MeanSquaredError,
    "entropy": Entropy,
}
DEFAULT_ESTIMATOR = "mse"
_MOST = 2.0**30
FEW_BITS, FIT_STEPS = 3, 40


def fit_weight_steps(network: nn.Module, execution: Execution) -> int:
    """Fit the steps of weights of few bits to all of a channel's weights, not its largest alone.

    With two or three bits the largest weight is a bad measure: the step of the least squared error
    is far smaller. From four bits on, networks do not gain by it.

    Args:
        network: In eval mode, before its normalisation is estimated.
        execution: Its number formats; it has the steps afterwards. Trained ones are left alone.

    Returns:
        How many layers have fitted steps.
    """
    execution.fitted = {}
    execution.forget_rounded()
    if execution.trained:
        return 0
    for path, layer in network.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        form = execution.find_format(path)
        if form.weight_bits <= FEW_BITS and form.granularity == "channel" and form.symmetric:
            step = fit_step(
                layer.weight, form.weight_bits, p=2.0, steps=FIT_STEPS, granularity="channel"
            )
            # A layer keeps the name it has in the supernet, of which a candidate's is a part.
            execution.fitted[f"{find_layer(layer.weight)}@{form.weight_bits}"] = step
    return len(execution.fitted)


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
        InputError: There is no such estimator, no sample, samples do not fit the network, or an
            activation is not finite.
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
        with torch.no_grad(), execution.unchanged_weights():
            for inputs in batches:
                if not len(inputs):
                    continue
                _run(network, inputs)
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


def _run(network: nn.Module, inputs: Tensor) -> None:
    """Run a network for what is watched in it.

    Raises:
        InputError: The inputs do not fit the network.
    """
    try:
        network(inputs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            f"calibration inputs of shape {tuple(inputs.shape)} do not fit the network: "
            f"{str(error).splitlines()[0]}"
        ) from error


def correct_biases(network: nn.Module, execution: Execution, batches: Sequence[Tensor]) -> int:
    """Move biases so that rounding shifts no channel's mean, layer after layer, in place.

    What a layer gives on average in integers, with the corrections before it, is brought to what it
    gave when normalisation was estimated (Nagel et al. 2019, section 4.2 and appendix D: empirical
    bias correction). Only layers with one scale for all channels need it: in all others
    normalisation was estimated with rounded weights and has made up for them already.

    Args:
        network: In eval mode, its normalisation folded and its ranges calibrated.
        execution: Its number formats.
        batches: Calibration inputs, as the network takes them.

    Returns:
        How many layers were corrected: those with a bias and one scale that multiply integers.
    """
    modules: dict[str, nn.Module] = {
        find_layer(module.weight): module
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    layers = {
        name: modules[name]
        for name, layer in execution.layers.items()
        if layer.bias is not None
        and layer.affine.format.granularity == "tensor"
        and name in modules
    }
    if not layers:
        return 0
    # Every layer is corrected once, by what it does to all samples.
    inputs = torch.cat(list(batches))
    means: dict[str, Tensor] = {}

    def note(path: str, layer: nn.Module, output: Tensor) -> None:
        means[path] = _mean_of_channels(layer, output)

    def correct(path: str, layer: nn.Module, output: Tensor) -> Tensor:
        shift = means[path] - _mean_of_channels(layer, output)
        assert isinstance(layer.bias, Tensor)
        layer.bias.data.add_(shift)
        moved = output + (shift.reshape(-1, 1, 1) if isinstance(layer, nn.Conv2d) else shift)
        state = find_state(output)
        return moved if state is None else mark(moved, state)

    with torch.no_grad():
        with execution.rounding_for_statistics(), _hooks(layers, note):
            network(inputs)
        with execution.unchanged_weights(), _hooks(layers, correct):
            network(inputs)
    return len(layers)


@contextmanager
def _hooks(
    layers: dict[str, nn.Module], look: Callable[[str, nn.Module, Tensor], Tensor | None]
) -> Iterator[None]:
    """Show the outputs of layers inside, or replace them, outside of the network's own rules."""

    def make(path: str) -> Callable[..., Tensor | None]:
        def hook(layer: nn.Module, args: object, output: Tensor) -> Tensor | None:
            with _pop_mode_temporarily():
                return look(path, layer, output)

        return hook

    handles = [layer.register_forward_hook(make(path)) for path, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mean_of_channels(layer: nn.Module, output: Tensor) -> Tensor:
    return output.mean((0, 2, 3)) if isinstance(layer, nn.Conv2d) else output.flatten(0, -2).mean(0)


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
            execution.fitted[f"{name}@{form.weight_bits}"] = torch.maximum(step, least)
            execution.forget_rounded()
