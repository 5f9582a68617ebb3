"""Training in several precisions at once: steps, their gradients, sampler, guide and penalty."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet import checkpoints
from supernet.data import open_data
from supernet.elastic.precision import RANGES, WEIGHTS, is_step, name_step
from supernet.errors import InputError
from supernet.families import matlm, resnet
from supernet.losses import cross_entropy, kl_divergence
from supernet.precision.elastic import list_precision_choices, make_precision_elastic
from supernet.precision.steps import (
    add_learned_steps,
    calibrate_steps,
    list_covering_architectures,
    make_step_parameters,
)
from supernet.quantization.distribution import distribution_penalty, kurtosis
from supernet.quantization.execution import find_execution
from supernet.quantization.formats import parse_policy
from supernet.quantization.quantizers import limited_step
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import build_choice_supernet, build_toy_supernet, make_toy_data
from supernet.training import Progress, Recipe, compose, train
from supernet.training.guides import Guidance
from supernet.training.loop import take_step
from supernet.training.method import TrainingMethod
from supernet.training.optimizer import build_optimizer, set_learning_rate
from supernet.training.samplers.precision_sandwich import PrecisionSandwich
from supernet.training.standalone import make_standalone, make_standalone_recipe
from supernet.training.state import TrainingState
from supernet.training.weight_distribution import WeightDistribution, list_quantized_weights

POLICY = "w2a4,w4a8,int8,fp32"
RECIPE = Recipe(
    steps=8,
    batch_size=16,
    warmup_steps=2,
    ema_decay=0.9,
    augment="none",
    sampler="precision_sandwich",
    random_architectures=1,
    distill="guidance",
    weight_distribution=1.0,
    checkpoint_every=4,
    log_every=1,
)


def learn(supernet: Supernet, policy: str = POLICY) -> Supernet:
    return add_learned_steps(
        make_precision_elastic(supernet, parse_policy(policy)), make_toy_data()
    )


def at(supernet: Supernet, precision: str) -> Architecture:
    """The largest architecture with all units at one precision."""
    values = supernet.space.largest.to_dict()
    values |= {c.name: precision for c in list_precision_choices(supernet.space)}
    return supernet.space.architecture(values)


def draw(supernet: Supernet, count: int) -> list[Architecture]:
    space = supernet.space
    return list(space.decode(space.sample(np.random.default_rng(1), count)))


# -- which steps there are, and where they start ---------------------------------------------------


@pytest.mark.parametrize("policy", [POLICY, "layer:fp32,int8", "research"])
def test_every_architecture_finds_its_steps(policy: str) -> None:
    supernet = make_precision_elastic(build_choice_supernet(), parse_policy(policy))
    learned = make_step_parameters(supernet)
    inputs = torch.rand(2, 1, 6, 6)
    for architecture in draw(learned, 40):
        network = learned.extract(architecture).eval()
        execution = find_execution(network)
        if execution is None:
            continue
        network(inputs)
        missing = [
            f"{key}@{state.bits}"
            for key, state in execution.limits.items()
            if f"{key}@{state.bits}" not in execution.ranges
        ]
        assert missing == []
        for unit, form in execution.formats.items():
            for path, module in network.get_submodule(unit).named_modules(prefix=unit):
                if form.learns_steps and isinstance(module, (nn.Conv2d, nn.Linear)):
                    layer = module.weight.__dict__["_layer"]
                    assert f"{layer}@{form.weight_bits}" in execution.steps, path


def test_covering_architectures_are_few_and_reach_layers_of_every_candidate() -> None:
    supernet = make_precision_elastic(build_choice_supernet(), parse_policy("layer:fp32,int8"))
    layers = {
        name.removeprefix(WEIGHTS).partition("@")[0]
        for name in make_step_parameters(supernet).shared
        if name.startswith(WEIGHTS)
    }
    assert {"first:conv:0", "first:point:0", "second:conv:0", "widen", "classifier"} <= layers
    few = make_precision_elastic(build_choice_supernet(), parse_policy(POLICY))
    assert len(list_covering_architectures(few)) < 80


def test_steps_without_data_have_the_names_and_shapes_of_calibrated_ones() -> None:
    supernet = make_precision_elastic(build_choice_supernet(), parse_policy(POLICY))
    bare, learned = make_step_parameters(supernet), learn(build_choice_supernet())
    assert {n: p.shape for n, p in bare.shared.items()} == {
        n: p.shape for n, p in learned.shared.items()
    }
    assert bare.model is supernet.model
    assert bare.space == supernet.space
    bare.load_state_dict(learned.state_dict())
    architecture, inputs = at(bare, "w2a4"), torch.rand(3, 1, 6, 6)
    assert torch.equal(bare.eval()(inputs, architecture), learned.eval()(inputs, architecture))


def test_steps_start_where_weights_and_activations_are_rounded_best() -> None:
    learned = learn(build_toy_supernet())
    weight = learned.model.conv.weight.detach()
    for bits in (2, 4, 8):
        steps = learned.shared[name_step(WEIGHTS, "conv", bits)]
        assert steps.shape == (8,)
        high = 2 ** (bits - 1) - 1

        def error(factor: float, steps: Tensor = steps, high: int = high) -> Tensor:
            step = (factor * steps).detach().reshape(-1, 1, 1, 1)
            rounded = (weight / step).round().clamp(-high, high) * step
            return (rounded - weight).abs().pow(2.4).flatten(1).sum(1)

        assert (error(1.0) <= torch.minimum(error(0.7), error(1.4))).all()
    step, offset = learned.shared[name_step(RANGES, "conv/input", 8)].tolist()
    assert offset == 0  # pixels begin at 0 and end at 1
    assert 0.9 < 255 * step <= 1.0


def test_calibration_is_a_function_of_the_seed_and_leaves_the_network_alone() -> None:
    supernet = make_precision_elastic(build_toy_supernet(), parse_policy(POLICY))
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    data = make_toy_data(count=600)
    first, second = (add_learned_steps(supernet, data, seed=4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in first.shared.items():
        assert torch.equal(tensor, second.shared[name])
    other = add_learned_steps(supernet, data, seed=5)
    assert any(not torch.equal(t, other.shared[n]) for n, t in first.shared.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_what_has_no_steps_to_train_says_so() -> None:
    with pytest.raises(InputError, match="is not elastic in precision; make_precision_elastic"):
        make_step_parameters(build_toy_supernet())
    learned = learn(build_toy_supernet())
    with pytest.raises(InputError, match="has trained steps already"):
        make_step_parameters(learned)
    data = make_toy_data()
    broken = replace(data, train=replace(data.train, inputs=data.train.inputs * torch.nan))
    with pytest.raises(InputError, match=r"activation .* is not finite on the training"):
        calibrate_steps(learned, broken)
    empty = replace(data, train=type(data.train)(data.train.inputs[:0], data.train.targets[:0]))
    with pytest.raises(InputError, match="the training split of toy is empty"):
        calibrate_steps(learned, empty)


# -- gradients -------------------------------------------------------------------------------------


def round_by_hand(
    x: Tensor, step: Tensor, zero_point: Tensor, low: int, high: int, factor: float
) -> Tensor:
    """A learned quantizer out of elementary functions and detached differences."""
    step = step * factor + (step - step * factor).detach()
    zero_point = zero_point * factor + (zero_point - zero_point * factor).detach()
    levels = (x / step + zero_point).clamp(low, high)
    levels = levels + (levels.round() - levels).detach()
    return (levels - zero_point) * step


def run_by_hand(supernet: Supernet, pixels: Tensor, bits: int) -> Tensor:
    """What the toy network computes in integers: convolution, norm, ReLU, pooling, product."""
    model, shared = supernet.model, supernet.shared
    high = 2 ** (bits - 1) - 1

    def round_weight(layer: str) -> Tensor:
        weight = model.get_parameter(f"{layer}.weight")
        step = shared[name_step(WEIGHTS, layer, bits)].reshape(-1, *[1] * (weight.dim() - 1))
        factor = (weight[0].numel() * high) ** -0.5
        return round_by_hand(weight, step, torch.zeros(()), -high, high, factor)

    def round_activation(x: Tensor, key: str, signed: bool) -> tuple[Tensor, Tensor]:
        step, offset = shared[name_step(RANGES, key, 8)]
        zero_point = torch.zeros(())
        if signed:
            zero_point = -offset / step
            zero_point = zero_point + (zero_point.round() - zero_point).detach()
        factor = (x[0].numel() * 255) ** -0.5
        return round_by_hand(x, step, zero_point, 0, 255, factor), step

    def round_bias(layer: str, inputs: Tensor) -> Tensor:
        bias = model.get_parameter(f"{layer}.bias")
        step = (inputs * shared[name_step(WEIGHTS, layer, bits)]).detach()
        return bias + ((bias / step).round() * step - bias).detach()

    x, step = round_activation(pixels, "conv/input", signed=True)
    x = F.conv2d(x, round_weight("conv"), round_bias("conv", step), padding=1)
    x = (x - x.mean((0, 2, 3), keepdim=True)) / (
        x.var((0, 2, 3), unbiased=False, keepdim=True) + model.bn.eps
    ).sqrt()
    x = x * model.bn.weight.reshape(1, -1, 1, 1) + model.bn.bias.reshape(1, -1, 1, 1)
    x, _ = round_activation(torch.relu(x), "conv/clip", signed=False)
    x, step = round_activation(F.adaptive_avg_pool2d(x, 2), "conv/clip/pool", signed=False)
    return F.linear(x.flatten(1), round_weight("classifier"), round_bias("classifier", step))


@pytest.mark.parametrize("bits", [2, 4])
def test_gradients_are_those_of_a_network_written_by_hand(bits: int) -> None:
    whole = nn.Sequential(build_toy_supernet().model)
    supernet = make_precision_elastic(one_unit(build_toy_supernet()), parse_policy(f"w{bits}a8"))
    learned = add_learned_steps(supernet, make_toy_data()).double()
    assert len(list(whole.parameters())) == len(list(learned.model.parameters()))
    # Offsets that matter, and values beyond the levels on both sides.
    with torch.no_grad():
        learned.shared[name_step(RANGES, "conv/input", 8)].copy_(torch.tensor([0.003, -0.2]))
        learned.shared[name_step(WEIGHTS, "conv", bits)] *= 0.7
    inputs, targets = make_toy_data().train.batch(slice(0, 16), torch.device("cpu"))
    inputs = 1.4 * inputs.double() - 0.4
    architecture = at(learned, f"w{bits}a8")
    learned.train()
    expected = run_by_hand(learned, inputs, bits)
    names = [n for n, _ in learned.named_parameters() if f"@{bits}" in n or "@8" in n]
    names += [n for n, _ in learned.named_parameters() if n.startswith("model.")]
    parameters = dict(learned.named_parameters())
    gradients = torch.autograd.grad(
        cross_entropy(expected, targets), [parameters[name] for name in names]
    )
    logits = learned(inputs, architecture)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    cross_entropy(logits, targets).backward()
    for name, gradient in zip(names, gradients, strict=True):
        found = parameters[name].grad
        assert found is not None, name
        assert gradient.abs().max() > 0 or name.endswith("conv.bias"), name
        torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-9, msg=name)


def one_unit(supernet: Supernet) -> Supernet:
    """The same network as a single unit."""
    return Supernet(
        supernet.model, supernet.space, supernet.edits, units=[""], inputs=supernet.inputs
    )


def test_a_step_beyond_its_limit_finds_the_way_back() -> None:
    step = torch.tensor([0.5, 1.0, 2.0, 3.0], requires_grad=True)
    (limited_step(step, 1.0) * torch.tensor([-1.0, -1.0, -1.0, 1.0])).sum().backward()
    assert limited_step(step, 1.0).tolist() == [0.5, 1.0, 1.0, 1.0]
    assert step.grad is not None
    assert step.grad.tolist() == [-1.0, -1.0, 0.0, 1.0]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_that_a_training_step_does_not_use_do_not_move(optimizer: str) -> None:
    learned = learn(build_toy_supernet()).train()
    recipe = replace(RECIPE, optimizer=optimizer, weight_decay=0.1, learning_rate=0.01)
    chosen = build_optimizer(learned, recipe)
    inputs, targets = make_toy_data().train.batch(slice(0, 16), torch.device("cpu"))

    def step(precision: str) -> dict[str, Tensor]:
        before = {name: p.detach().clone() for name, p in learned.shared.items()}
        chosen.zero_grad(set_to_none=True)
        cross_entropy(learned(inputs, at(learned, precision)), targets).backward()
        chosen.step()
        return {n: p.detach() - before[n] for n, p in learned.shared.items()}

    for _ in range(2):  # momentum is there when others train
        moved = {name: bool(delta.any()) for name, delta in step("w2a4").items()}
    assert any(moved.values())
    assert {name[-2:] for name, did in moved.items() if did} == {"@2", "@4"}
    moved = {name: bool(delta.any()) for name, delta in step("int8").items()}
    assert {name[-2:] for name, did in moved.items() if did} == {"@8"}
    assert not any(delta.any() for delta in step("fp32").values())


def test_steps_have_no_decay_and_a_rate_of_their_own() -> None:
    learned = learn(build_toy_supernet())
    optimizer = build_optimizer(learned, replace(RECIPE, weight_decay=0.1, step_rate=0.25))
    set_learning_rate(optimizer, 2.0)
    steps = {id(parameter) for parameter in learned.shared.values()}
    for group in optimizer.param_groups:
        inside = {id(p) in steps for p in group["params"]}
        assert len(inside) == 1
        assert group["lr"] == (0.5 if inside == {True} else 2.0)
        assert group["weight_decay"] == 0 or inside == {False}
    assert all(f"shared.{name}" in learned.no_decay for name in learned.shared)
    assert all(map(is_step, learned.shared))


def test_dorefa_bounds_weights_and_keeps_their_steps() -> None:
    supernet = make_precision_elastic(build_choice_supernet(), parse_policy(POLICY))
    learned = add_learned_steps(supernet, make_toy_data(), quantizer="dorefa").train()
    weight = supernet.model.widen.weight.detach()
    bounded = torch.tanh(weight) / torch.tanh(weight).abs().max()
    plain = learned.extract(at(learned, "fp32")).widen.weight
    assert torch.equal(plain, weight)
    for precision, bits in (("w2a4", 2), ("w4a8", 4)):
        extracted = learned.extract(at(learned, precision))
        torch.testing.assert_close(extracted.widen.weight, bounded)
        high = 2 ** (bits - 1) - 1
        execution = find_execution(extracted)
        assert execution is not None
        assert execution.steps[f"widen@{bits}"].tolist() == pytest.approx([1 / high] * 6)
    inputs, targets = make_toy_data().train.batch(slice(0, 16), torch.device("cpu"))
    cross_entropy(learned(inputs, at(learned, "w2a4")), targets).backward()
    assert learned.model.widen.weight.grad.abs().max() > 0
    assert learned.shared[name_step(WEIGHTS, "widen", 2)].grad is None
    assert learned.shared[name_step(WEIGHTS, "classifier", 2)].grad is not None
    learned.eval()
    for architecture in draw(learned, 6):
        with torch.no_grad():
            live, extracted = learned(inputs, architecture), learned.extract(architecture).eval()
            assert torch.equal(live, extracted(inputs))
    assert make_step_parameters(supernet, "minmax") is supernet
    with pytest.raises(InputError, match="there is no quantizer 'dorfa'; there are lsq"):
        make_step_parameters(supernet, "dorfa")


# -- exactness -------------------------------------------------------------------------------------


@pytest.mark.exactness
@pytest.mark.parametrize("family", ["choice", "resnet"])
def test_a_live_forward_is_that_of_the_extracted_network_bit_for_bit(family: str) -> None:
    if family == "choice":
        learned = learn(build_choice_supernet())
        inputs = torch.rand(4, 1, 6, 6)
    else:
        data = open_data("digits")
        supernet = resnet.build(
            replace(
                resnet.configure("tiny", data.shape),
                widths=((4, 8), (8, 16)),
                depths=((1, 2), (1, 2)),
            )
        )
        policy = parse_policy("w2a4,w4a8,int8,fp32")
        learned = add_learned_steps(make_precision_elastic(supernet, policy), data)
        inputs = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        for name, parameter in learned.shared.items():
            # Trained steps are not those that calibration found.
            parameter *= 1 + 0.2 * torch.rand(parameter.shape)
            if name.startswith(RANGES):
                parameter[1] -= 0.1
    learned.eval()
    for architecture in draw(learned, 12):
        with torch.no_grad():
            live = learned(inputs, architecture)
            extracted = learned.extract(architecture).eval()(inputs)
        assert torch.equal(live, extracted)


def fit_toy(folder: Path, seed: int = 0, stop: int | None = None) -> dict[str, Tensor]:
    def callback(progress: Progress) -> None:
        if stop is not None and progress.step >= stop:
            raise KeyboardInterrupt

    supernet = make_precision_elastic(build_choice_supernet(seed), parse_policy(POLICY))
    # Values come from the checkpoint where there is one.
    supernet = make_step_parameters(supernet)
    if not folder.exists():
        calibrate_steps(supernet, make_toy_data(), RECIPE.seed)
    train(supernet, make_toy_data(), RECIPE, folder, progress=callback)
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


@pytest.mark.exactness
def test_a_training_in_two_parts_is_that_in_one(tmp_path: Path) -> None:
    whole = fit_toy(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit_toy(tmp_path / "parts", stop=5)
    parts = fit_toy(tmp_path / "parts", seed=1)
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


# Each process runs this with torchrun's environment.
WORKER = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from test_precision_training import fit_text
from supernet.training import distributed
torch.set_num_threads(1)
with distributed.join_ranks():
    fit_text(Path(sys.argv[1]))
"""


def fit_text(folder: Path) -> dict[str, Tensor]:
    """Weights and steps after a few steps in double precision, where rounding does not flip."""
    path = folder.parent / "text.txt"
    data = open_data(f"text:{path}", context=16)
    supernet = matlm.build(matlm.configure("tiny", data.shape)).double()
    supernet = make_precision_elastic(supernet, parse_policy("w4a8,fp32"))
    recipe = replace(RECIPE, steps=3, checkpoint_every=3)
    supernet = add_learned_steps(supernet, data, recipe.seed)
    result = train(supernet, data, recipe, folder)
    tensors = checkpoints.read_tensors(result.checkpoint, checkpoints.WEIGHTS)
    names = {name for name, _ in supernet.named_parameters()}
    return {name: tensor for name, tensor in tensors.items() if name in names}


@pytest.mark.exactness
@pytest.mark.slow
def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog; " * 60)
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", str(worker), str(tmp_path / "two")]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr
    found = checkpoints.require(tmp_path / "two/checkpoints").checkpoint
    assert found is not None
    ranks = checkpoints.read_tensors(found, checkpoints.WEIGHTS)
    alone = fit_text(tmp_path / "one")
    assert any(is_step(name.removeprefix("shared.")) for name in alone)
    for name, tensor in alone.items():
        torch.testing.assert_close(ranks[name], tensor, rtol=1e-9, atol=1e-12, msg=name)


# -- sampler, guide and penalty --------------------------------------------------------------------


def test_the_sandwich_goes_from_many_bits_to_few() -> None:
    supernet = make_precision_elastic(build_choice_supernet(), parse_policy(POLICY))
    space = supernet.space
    sampler = PrecisionSandwich(space, seed=2, random=3)
    columns = [space.index(choice.name) for choice in list_precision_choices(space)]
    alike = 0
    for step in range(40):
        drawn = sampler.draw(step, lambda some: [0.0] * len(some))
        assert drawn[0] == space.largest
        assert drawn[-1] == space.smallest
        positions = space.encode(drawn)
        active = space.active(positions)[:, columns]
        bits = (positions[:, columns] * active).sum(1) / active.sum(1)
        assert (np.diff(bits[1:]) <= 0).all()
        for row, kept in zip(positions[1:-1, columns], active[1:-1], strict=True):
            alike += len(set(row[kept].tolist())) == 1
    assert 40 < alike < 100  # about half of 120


def test_guidance_is_half_the_one_before_and_half_the_labels() -> None:
    supernet = make_precision_elastic(build_toy_supernet(), parse_policy(POLICY))
    first, second, third = draw(supernet, 3)
    logits = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.arange(6) % 3
    guide = Guidance(smoothing=0.1)
    assert torch.equal(
        guide.loss(first, logits[0], targets, {}), cross_entropy(logits[0], targets, 0.1)
    )
    earlier = {first: logits[0].detach(), second: logits[1].detach()}
    found = guide.loss(third, logits[2], targets, earlier)
    expected = 0.5 * kl_divergence(logits[2], logits[1].detach())
    expected = expected + 0.5 * cross_entropy(logits[2], targets, 0.1)
    torch.testing.assert_close(found, expected)


def backward(supernet: Supernet, count: int, penalty: WeightDistribution | None) -> dict[str, Any]:
    supernet.zero_grad(set_to_none=True)
    sampler = PrecisionSandwich(supernet.space, random=count)
    inputs, targets = make_toy_data().train.batch(slice(0, 16), torch.device("cpu"))
    method = TrainingMethod(supernet.train(), sampler, penalty=penalty)
    method.backward(3, inputs, targets)
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in supernet.named_parameters()
    }


@pytest.mark.parametrize("count", [0, 3])
def test_the_penalty_counts_once_however_many_architectures_there_are(count: int) -> None:
    learned = learn(build_choice_supernet())
    plain = backward(learned, count, None)
    with_penalty = backward(learned, count, WeightDistribution(learned, factor=2.0))
    first, *weights = list_quantized_weights(learned)
    assert first is learned.model.stem[0].weight
    trained = [weight for weight in weights if weight.grad is not None]
    expected = dict(
        zip(map(id, trained), torch.autograd.grad(2 * distribution_penalty(trained), trained),
            strict=True)
    )  # fmt: skip
    for name, parameter in learned.named_parameters():
        before, after = plain[name], with_penalty[name]
        if before is None:
            assert after is None
        elif id(parameter) in expected:
            torch.testing.assert_close(
                after - before, expected[id(parameter)], atol=1e-6, rtol=1e-4
            )
        else:
            assert torch.equal(before, after)


def test_weights_even_out() -> None:
    learned = learn(build_choice_supernet())
    penalty = WeightDistribution(learned)
    optimizer = torch.optim.SGD(penalty.weights, lr=0.05, momentum=0.9)
    before = [float(kurtosis(weight.detach())) for weight in penalty.weights]
    for _ in range(150):
        for weight in penalty.weights:
            weight.grad = torch.zeros_like(weight)
        penalty.add_gradients()
        optimizer.step()
    after = [float(kurtosis(weight.detach())) for weight in penalty.weights]
    assert np.abs(np.array(after) - 1.8).mean() < 0.5 * np.abs(np.array(before) - 1.8).mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "quantizer = 'lsq' needs steps; add_learned_steps makes"),
        ({"quantizer": "minmax", "steps": 8, "batch_size": 16}, ""),
    ],
)
def test_recipe_and_supernet_must_agree_about_steps(changes: dict[str, Any], message: str) -> None:
    supernet = make_precision_elastic(build_toy_supernet(), parse_policy(POLICY))
    recipe = RECIPE.replace(changes)
    if message:
        with pytest.raises(InputError, match=message):
            compose(supernet, make_toy_data(), recipe, 8)
        return
    method = compose(supernet, make_toy_data(), recipe, 8)
    assert isinstance(method.penalty, WeightDistribution)
    with pytest.raises(InputError, match="has trained steps, and quantizer = 'minmax' trains none"):
        compose(learn(build_toy_supernet()), make_toy_data(), recipe, 8)
    with pytest.raises(InputError, match="is not elastic in precision; use weight_distribution"):
        compose(build_toy_supernet(), make_toy_data(), recipe, 8)


@pytest.mark.parametrize("policy", [POLICY, "layer:w4a8,int8"])
def test_a_network_trained_alone_keeps_its_precision_and_steps(policy: str) -> None:
    learned = learn(build_choice_supernet(), policy).eval()
    inputs = torch.rand(4, 1, 6, 6)
    for architecture in draw(learned, 4):
        alone = make_standalone(learned, architecture).eval()
        with torch.no_grad():
            expected = learned.extract(architecture).eval()(inputs)
            assert torch.equal(alone(inputs, alone.space.largest), expected)
    chosen = at(learned, "w4a8") if policy == POLICY else learned.space.smallest
    alone = make_standalone(learned, chosen)
    recipe = make_standalone_recipe(RECIPE, {}, 60)
    method = compose(alone, make_toy_data(), recipe, 8)
    before = {name: p.detach().clone() for name, p in alone.shared.items()}
    assert {name[-2:] for name in before} == {"@4", "@8"}
    state = TrainingState.begin(method, make_toy_data(), recipe, Path("unused"))
    take_step(state, make_toy_data(), recipe, 0, 8, torch.device("cpu"))
    moved = {name for name, p in alone.shared.items() if not torch.equal(p, before[name])}
    assert {name for name in before if name.startswith(WEIGHTS)} < moved
