"""Calibration of extracted networks: statistics, ranges, and data that cannot give them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.data import lay_channels_last, open_data
from supernet.errors import InputError
from supernet.families import resnet, spos
from supernet.precision.elastic import list_precision_choices, make_precision_elastic
from supernet.quality.evaluate import evaluate, recalibrate_extracted, score_samples
from supernet.quantization import execution as execution_module
from supernet.quantization.calibration import ESTIMATORS, calibrate_ranges, fit_weight_steps
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.folding import fold_normalization
from supernet.quantization.formats import parse_policy
from supernet.quantization.step_fitting import fit_step
from supernet.quantization.tracking import find_layer
from supernet.quantization.weights import quantize_weight
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.precision_networks import build_elastic


def build(precision: str = "int8") -> Supernet:
    plain: Supernet = resnet.build(resnet.PRESETS["tiny"])
    return make_precision_elastic(plain.eval(), parse_policy(f"{precision},fp32"))


def set_all(net: Supernet, precision: str) -> Architecture:
    kinds = {choice.name for choice in list_precision_choices(net.space)}
    values = net.space.sample_one(np.random.default_rng(0)).to_dict()
    return net.space.architecture({n: precision if n in kinds else v for n, v in values.items()})


def extract_folded(precision: str = "int8") -> tuple[nn.Module, Execution, Tensor]:
    net = build(precision)
    network = net.extract(set_all(net, precision)).eval()
    execution = find_execution(network)
    assert execution is not None
    inputs = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fold_normalization(network, execution, inputs[:1])
    return network, execution, inputs


# -- data that cannot be calibrated on -------------------------------------------------------------


def test_no_data_are_refused() -> None:
    network, execution, inputs = extract_folded()
    with pytest.raises(InputError, match="calibration data are empty"):
        calibrate_ranges(network, execution, [])
    with pytest.raises(InputError, match="calibration data are empty"):
        calibrate_ranges(network, execution, [inputs[:0]])
    assert execution.watching is None


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "NaN|infinity")])
def test_data_that_are_no_numbers_are_refused(value: float, word: str) -> None:
    network, execution, inputs = extract_folded()
    inputs[3, 0, 2, 2] = value
    with pytest.raises(InputError, match=f"holds ({word}) on the calibration data"):
        calibrate_ranges(network, execution, [inputs])


def test_data_of_another_shape_are_refused() -> None:
    network, execution, inputs = extract_folded()
    with pytest.raises(InputError, match=r"calibration inputs of shape \(8, 3, 8, 8\) do not fit"):
        calibrate_ranges(network, execution, [inputs.expand(8, 3, 8, 8)])


def test_unknown_estimators_are_refused() -> None:
    network, execution, inputs = extract_folded()
    with pytest.raises(InputError, match="no range estimator 'median'; there are minmax, perc"):
        calibrate_ranges(network, execution, [inputs], "median")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_data_give_ranges_all_the_same(estimator: str, value: float) -> None:
    network, execution, inputs = extract_folded()
    constant = torch.full_like(inputs, value)
    calibrate_ranges(network, execution, [constant], estimator)
    for affine in execution.calibrated.values():
        assert affine.scale is not None
        assert affine.scale > 0
    with torch.no_grad():
        assert network(constant).isfinite().all()


# -- weights that are hardly there -----------------------------------------------------------------


@pytest.mark.parametrize("precision", ["int8", "w2a8", "w4a8-tensor"])
def test_dead_channels_and_layers_break_nothing(precision: str) -> None:
    network, execution, inputs = extract_folded(precision)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        layers[1].weight[0] = 0
        layers[1].weight[1] *= 1e-12
        layers[2].weight.zero_()
        for layer in layers:
            assert layer.bias is not None
            layer.bias.add_(3)
    calibrate_ranges(network, execution, [inputs])
    with torch.no_grad():
        assert network(inputs).isfinite().all()
    for name, layer in execution.layers.items():
        inputs_of = execution.calibrated[layer.inputs]
        step = execution_module.find_channel_step(
            layer.weight,
            execution_module.WeightAffine(
                name, layer.affine.format, execution.find_step(name, layer.affine.format)
            ),
        )
        assert layer.bias is not None
        assert inputs_of.scale is not None
        assert (layer.bias / (inputs_of.scale * step)).abs().max() < 2**31


# -- what statistics are estimated under -----------------------------------------------------------


def test_statistics_see_rounded_weights_and_float_activations() -> None:
    net = build("w2a8")
    architecture = set_all(net, "w2a8")
    data = open_data("digits")
    network = net.extract(architecture)
    execution = find_execution(network)
    assert execution is not None
    seen: list[tuple[Tensor, Tensor]] = []
    stem = network.get_submodule("stem.conv")
    assert isinstance(stem, nn.Conv2d)
    weight = stem.weight.detach().clone()

    def look(layer: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if not seen:
            seen.append((args[0].detach().clone(), output.detach().clone()))

    handle = stem.register_forward_hook(look)
    recalibrate_extracted(network, net, architecture, data, samples=64)
    handle.remove()
    inputs, output = seen[0]
    # More values than eight bits have.
    assert len(network.get_submodule("normalize")(torch.rand(999)).unique()) > 256
    step = fit_step(weight, 2, p=2.0, steps=40, granularity="channel")
    rounded = quantize_weight(weight, 2, step=step)
    assert (rounded - weight).square().sum() < (quantize_weight(weight, 2) - weight).square().sum()
    expected = nn.functional.conv2d(inputs, rounded, None, 1, stem.padding)
    assert torch.allclose(output, expected, atol=1e-5)


def test_fitted_steps_are_folded_with_their_channels() -> None:
    net = build("w2a8")
    network = net.extract(set_all(net, "w2a8")).eval()
    execution = find_execution(network)
    assert execution is not None
    layers = fit_weight_steps(network, execution)
    assert layers == sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules())
    norm = network.get_submodule("stem.bn")
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-2, 2, norm.num_features))
    inputs = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), execution.rounding_for_statistics():
        before = network(inputs)
        fold_normalization(network, execution, inputs[:1])
        after = network(inputs)
    assert torch.allclose(after, before, atol=1e-4 * float(before.abs().max()))


def test_steps_of_more_bits_or_from_training_are_not_fitted() -> None:
    for precision, steps in (("int8", {}), ("w4a8", {}), ("w2a8", {"stem.conv@2": torch.ones(16)})):
        network, execution, _ = extract_folded(precision)
        execution.steps = steps
        assert fit_weight_steps(network, execution) == 0


def test_one_scale_for_all_channels_is_left_to_corrections() -> None:
    _, execution, _ = extract_folded("w4a8-tensor")
    formats = dict(execution.formats)
    with execution.rounding_for_statistics():
        assert not execution.formats
    assert execution.formats == formats
    execution.steps = {"stem.conv@4": torch.ones(16)}
    with execution.rounding_for_statistics():
        assert execution.formats == formats


def test_weights_are_rounded_once_where_they_do_not_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, execution, inputs = extract_folded()
    calibrate_ranges(network, execution, [inputs])
    calls: list[str] = []
    plain = execution_module.quantize_weights

    def count(weight: Tensor, affine: execution_module.WeightAffine) -> Tensor:
        calls.append(affine.layer)
        return plain(weight, affine)

    monkeypatch.setattr(execution_module, "quantize_weights", count)
    with torch.no_grad():
        expected = network(inputs)
        assert not calls
        with execution.unchanged_weights():
            for _ in range(3):
                assert torch.equal(network(inputs), expected)
        assert len(calls) == len(set(calls)) == len(execution.layers)
        # Nothing is remembered: new weights count.
        parameter = next(p for n, p in network.named_parameters() if n.endswith("conv.weight"))
        parameter.mul_(-1)
        assert not torch.equal(network(inputs), expected)


def test_layouts_stay_while_activations_are_float() -> None:
    network, execution, inputs = extract_folded()
    outputs: list[Tensor] = []
    layer = network.get_submodule("stem.conv")
    layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad(), execution.rounding_for_statistics():
        network(lay_channels_last(inputs))
    assert outputs[0].is_contiguous(memory_format=torch.channels_last)


def test_evaluations_in_integers_repeat_to_the_last_bit() -> None:
    net = build("w4a8-tensor")
    architecture = set_all(net, "w4a8-tensor")
    data = open_data("digits")
    values = {evaluate(net, architecture, data, calibration_samples=64).value for _ in range(2)}
    assert len(values) == 1


def test_fitted_steps_reach_the_layers_of_candidates() -> None:
    net = build_elastic(spos, "fp32,w2a8")
    network = net.extract(net.space.smallest).eval()
    execution = find_execution(network)
    assert execution is not None
    assert fit_weight_steps(network, execution)
    for path, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            form = execution.find_format(path)
            found = execution.find_step(find_layer(layer.weight), form)
            assert (found is not None) == (form.weight_bits == 2)


@pytest.mark.parametrize("precision", ["fp32,int8", "fp32,w2a8", "fp32,w4a8-tensor"])
def test_weights_rounded_for_ranges_are_those_that_are_scored(precision: str) -> None:
    net, data = build_elastic(resnet, precision), open_data("digits")
    values = net.space.largest.to_dict()
    for choice in list_precision_choices(net.space):
        values[choice.name] = choice.values[0]
    architecture = net.space.architecture(values)
    with torch.inference_mode():
        network = net.extract(architecture)
        recalibrate_extracted(network, net, architecture, data)
        # Outside of what evaluate keeps in common, every step rounds weights anew.
        scores = score_samples(network, net, architecture, data, "val")
    assert evaluate(net, architecture, data).value == scores.mean()


@pytest.mark.parametrize("bits", [2, 3])
def test_steps_fitted_together_are_those_fitted_one_by_one(bits: int) -> None:
    weight = torch.randn(24, 200, generator=torch.Generator().manual_seed(bits))
    largest, high = weight.abs().amax(1), 2 ** (bits - 1) - 1
    best, wanted = torch.full((24,), torch.inf), torch.zeros(24)
    for kept in range(40, 0, -1):
        step = largest * (kept / 40) / high
        levels = (weight / step[:, None]).round().clamp(-high, high)
        errors = (levels * step[:, None] - weight).square().sum(1)
        wanted = torch.where(errors < best, step, wanted)
        best = torch.minimum(errors, best)
    found = fit_step(weight, bits, p=2.0, steps=40, granularity="channel")
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
