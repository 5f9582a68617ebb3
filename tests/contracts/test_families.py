"""The invariants every supernet family must keep; run over every family in the folder."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import pkgutil
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import supernet.families
from supernet.elastic import plan, slicing
from supernet.elastic.edits import Cut, Derive
from supernet.elastic.plan import Values, source_path
from supernet.space import Architecture
from supernet.supernet import Supernet
from tests.exactness import (
    TOLERANCE,
    assert_extraction_is_exact,
    assert_same_outputs,
    doubled,
    in_double,
    logits,
    relative_difference,
)

ARCHITECTURES = 100
# Rows of the table that are shifted, at most about so many per family.
MUTATIONS = 16


def cases() -> list[tuple[str, str]]:
    """``(family, preset)`` of everything in the folder whose extras are installed."""
    found = []
    for info in pkgutil.iter_modules(supernet.families.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"supernet.families.{info.name}")
        requires = getattr(module, "REQUIRES", None)
        if requires is not None and importlib.util.find_spec(requires) is None:
            continue
        presets = getattr(module, "CONTRACT_PRESETS", (module.DEFAULT_PRESET,))
        found += [(info.name, preset) for preset in presets]
    return found


CASES = cases()
every_family = pytest.mark.parametrize(
    ("family", "preset"), CASES, ids=["-".join(c) for c in CASES]
)


def load(family: str) -> ModuleType:
    return importlib.import_module(f"supernet.families.{family}")


def randomised(family: str, preset: str) -> Supernet:
    """A supernet in which every weight and statistic matters."""
    module = load(family)
    net = module.build(module.PRESETS[preset])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 1 / max(1, parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.3
            parameter.add_(noise * scale)
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("running_mean"):
                buffer.normal_(0, 0.2, generator=generator)
    return net.eval()


@cache
def shared_net(family: str, preset: str) -> Supernet:
    return randomised(family, preset)


@cache
def shared_double(family: str, preset: str) -> Supernet:
    return in_double(shared_net(family, preset))


def batch(net: Supernet, architecture: Architecture, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (count, *net.input_shape(architecture))
    if net.inputs.dtype.is_floating_point:
        return torch.rand(shape, generator=generator)
    return torch.randint(0, 20, shape, generator=generator)


def samples(net: Supernet, count: int, seed: int = 0) -> list[Architecture]:
    drawn = net.space.decode(net.space.sample(np.random.default_rng(seed), count))
    return [net.space.smallest, net.space.largest, *drawn]


@pytest.mark.exactness
@every_family
def test_extracted_equals_supernet_exactly(family: str, preset: str) -> None:
    net = shared_double(family, preset)
    for architecture in samples(net, ARCHITECTURES):
        assert_extraction_is_exact(net, architecture, batch(net, architecture))


def extract_shifted(net: Supernet, architecture: Architecture, row: Cut) -> nn.Module | None:
    """An extraction in which one row of the table keeps the wrong entries: each one further on.

    None when the row says nothing of this architecture (it concerns what is dropped).
    """
    met = []

    def cut_view(tensor: torch.Tensor, cuts: Sequence[Cut], values: Values) -> torch.Tensor:
        if any(cut is row for cut in cuts):
            met.append(row)
            tensor = tensor.roll(-1, row.dim)
        return plan.cut_view(tensor, cuts, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slicing, "cut_view", cut_view)
        wrong = net.extract(architecture)
    return wrong if met else None


@pytest.mark.exactness
@every_family
def test_one_wrong_index_is_no_rounding_error(family: str, preset: str) -> None:
    """What the tolerance of exactness is worth: a single shifted row is far outside it."""
    net = shared_double(family, preset)
    architecture = net.space.smallest
    x = doubled(batch(net, architecture))
    rows = [edit for edit in net.edits if isinstance(edit, Cut)]
    # The same number added to every score of a softmax: a key's bias has no effect at all.
    rows = [row for row in rows if not row.tensor.endswith("key.bias")]
    least, met = np.inf, 0
    with torch.no_grad():
        expected = logits(net(x, architecture))
        for row in rows[:: max(1, len(rows) // MUTATIONS)]:
            wrong = extract_shifted(net, architecture, row)
            if wrong is not None:
                least = min(least, relative_difference(logits(wrong(x)), expected))
                met += 1
    assert met > 0 or not rows
    assert least > 1e8 * TOLERANCE


@pytest.mark.exactness
@every_family
def test_largest_equals_the_plain_network(family: str, preset: str) -> None:
    net = shared_double(family, preset)
    x = doubled(batch(net, net.space.largest))
    with torch.no_grad():
        assert_same_outputs(logits(net(x, net.space.largest)), logits(net.model(x)))


@every_family
def test_extraction_leaves_no_trace_and_shares_nothing(family: str, preset: str) -> None:
    net = randomised(family, preset)
    architecture = samples(net, 1, seed=3)[-1]
    alone = net.extract(architecture)
    ours = {p.untyped_storage().data_ptr() for p in (*net.parameters(), *net.buffers())}
    theirs = {t.untyped_storage().data_ptr() for t in (*alone.parameters(), *alone.buffers())}
    assert not ours & theirs
    classes = {type(module) for module in alone.modules()}
    assert Supernet not in classes
    assert classes <= {type(module) for module in net.model.modules()}
    before = {name: value.clone() for name, value in net.state_dict().items()}
    alone.train()
    logits(alone(batch(net, architecture))).square().sum().backward()
    with torch.no_grad():
        for parameter in alone.parameters():
            parameter.add_(1.0)
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())


@every_family
def test_counts_equal_the_extracted_network(family: str, preset: str) -> None:
    net = shared_net(family, preset)
    model = net.cost_model()
    chosen = samples(net, 12, seed=4)
    positions = net.space.encode(chosen)
    parameters, macs = model.parameters(positions), model.macs(positions)
    for row, architecture in enumerate(chosen):
        alone = net.extract(architecture)
        assert parameters[row] == sum(p.numel() for p in alone.parameters())
        assert macs[row] == hooked_macs(alone, batch(net, architecture, 1))


def hooked_macs(network: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates counted by torch itself while the network runs."""
    # Fused attention on a CPU escapes torch's counter; the plain one is made of counted products.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.eval()(x)
    return counter.get_total_flops() // 2


@every_family
def test_smaller_options_keep_a_part_of_what_larger_ones_keep(family: str, preset: str) -> None:
    net = shared_net(family, preset)
    for edit in net.edits:
        if isinstance(edit, Cut) and len(edit.size.choices) == 1:
            choice = net.space.choice(edit.size.choices[0])
            sizes = [edit.size.values[(value,)] for value in choice.values]
            assert sizes == sorted(sizes)


def named_as_inside(
    net: Supernet, architecture: Architecture, alone: nn.Module
) -> dict[str, nn.Parameter]:
    """Parameters of an extracted network under their names in the full model."""
    values = Values(architecture)
    named = alone.named_parameters()
    return {source_path(net.plan, values, name): parameter for name, parameter in named}


@every_family
def test_gradients_reach_only_what_is_kept(family: str, preset: str) -> None:
    net = randomised(family, preset)
    net.train()
    smallest = net.space.smallest
    x = batch(net, smallest)
    logits(net(x, smallest)).square().sum().backward()
    derived = {row.tensor for row in net.edits if isinstance(row, Derive)}
    alone = named_as_inside(net, smallest, net.extract(smallest))
    touched = 0
    for name, parameter in net.model.named_parameters():
        if parameter.grad is None:
            continue
        touched += 1
        if name not in alone:
            assert parameter.grad.abs().sum() == 0
        elif name not in derived:
            kept = alone[name].numel()
            assert int((parameter.grad != 0).sum()) <= kept
    assert touched > 0


@pytest.mark.exactness
@every_family
def test_gradients_equal_those_of_the_extracted_network(family: str, preset: str) -> None:
    net = randomised(family, preset).double()
    for architecture in samples(net, 4, seed=6):
        net.zero_grad()
        x = doubled(batch(net, architecture))
        alone = net.extract(architecture).eval()
        logits(net(x, architecture)).square().sum().backward()
        logits(alone(x)).square().sum().backward()
        ours = dict(net.model.named_parameters())
        derived = {row.tensor for row in net.edits if isinstance(row, Derive)}
        for name, parameter in named_as_inside(net, architecture, alone).items():
            if name in derived or parameter.grad is None:
                continue
            whole = ours[name].grad
            assert whole is not None
            kept = whole[tuple(slice(0, n) for n in parameter.shape)]
            if kept.shape == parameter.shape and whole.numel() == kept.numel():
                torch.testing.assert_close(kept, parameter.grad, rtol=1e-9, atol=1e-9)
            # The gradient as a whole carries nothing besides the kept entries.
            torch.testing.assert_close(
                whole.square().sum(), parameter.grad.square().sum(), rtol=1e-9, atol=1e-12
            )


@every_family
def test_several_architectures_may_be_in_flight(family: str, preset: str) -> None:
    """All forwards first, one backward of the sum: the same gradients as one after another."""
    chosen = samples(shared_net(family, preset), 2, seed=8)
    gradients = []
    for together in (True, False):
        net = randomised(family, preset).double()
        losses = []
        for architecture in chosen:
            x = doubled(batch(net, architecture))
            loss = logits(net(x, architecture)).square().mean()
            if together:
                losses.append(loss)
            else:
                loss.backward()
        if together:
            torch.stack(losses).sum().backward()
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-9, atol=1e-9)


@every_family
@pytest.mark.parametrize("set_to_none", [True, False])
def test_dropping_gradients_before_the_backward_pass(
    family: str, preset: str, set_to_none: bool
) -> None:
    """``forward, zero_grad, backward`` is as good an order as any."""
    net = randomised(family, preset)
    architecture = samples(net, 1, seed=10)[-1]
    x = batch(net, architecture)
    logits(net(x, architecture)).square().mean().backward()
    expected = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    loss = logits(net(x, architecture)).square().mean()
    net.zero_grad(set_to_none=set_to_none)
    loss.backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(net.get_parameter(name).grad, gradient, rtol=1e-5, atol=1e-7)


@every_family
def test_hooks_on_one_subnetwork_stay_there(family: str, preset: str) -> None:
    net = randomised(family, preset)
    calls = []
    shell = net.shell(net.space.smallest)
    shell.network.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        net(batch(net, net.space.smallest), net.space.smallest)
        assert len(calls) == 1
        net(batch(net, net.space.largest), net.space.largest)
        net.model(batch(net, net.space.largest))
    assert len(calls) == 1


@every_family
def test_frozen_parameters_get_no_gradient(family: str, preset: str) -> None:
    net = randomised(family, preset)
    architecture = net.space.smallest
    x = batch(net, architecture)
    logits(net(x, architecture)).square().mean().backward()
    name = next(n for n, p in net.model.named_parameters() if p.grad is not None and p.dim() > 1)
    net.zero_grad()
    net.model.get_parameter(name).requires_grad_(False)
    logits(net(x, architecture)).square().mean().backward()
    assert net.model.get_parameter(name).grad is None
    assert any(p.grad is not None for p in net.parameters())


@pytest.mark.exactness
@every_family
def test_results_do_not_depend_on_what_ran_before(family: str, preset: str) -> None:
    net = shared_net(family, preset)
    first, *others = samples(net, 20, seed=9)
    x = batch(net, first)
    with torch.no_grad():
        before = logits(net(x, first)).clone()
        for architecture in others:
            net(batch(net, architecture), architecture)
        assert torch.equal(logits(net(x, first)), before)


@pytest.mark.exactness
@every_family
def test_shells_follow_updates_modes_and_moves(family: str, preset: str) -> None:
    net = randomised(family, preset)
    architecture = samples(net, 1, seed=2)[-1]
    x = batch(net, architecture)
    with torch.no_grad():
        stale = logits(net(x, architecture)).clone()
        for parameter in net.parameters():
            parameter.mul_(1.05)
        assert not torch.equal(logits(net(x, architecture)), stale)
        twin = copy.deepcopy(net)
        assert torch.equal(logits(twin(x, architecture)), logits(net(x, architecture)))
        for parameter in net.parameters():
            parameter.data = parameter.data * 1.05
        assert not torch.equal(logits(net(x, architecture)), logits(twin(x, architecture)))
    net.double()
    moved = assert_extraction_is_exact(net, architecture, x)
    with torch.no_grad():
        before = logits(in_double(twin)(doubled(x), architecture))
    assert relative_difference(moved, before) > 1e-4


@every_family
def test_what_was_made_under_inference_mode_can_be_trained(family: str, preset: str) -> None:
    net = randomised(family, preset)
    architecture = net.space.smallest
    x = batch(net, architecture)
    with torch.inference_mode():
        net(x, architecture)
        alone = net.extract(architecture)
    logits(net(x, architecture)).square().sum().backward()
    logits(alone(x)).square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in alone.parameters())


@every_family
def test_configuration_survives_json(family: str, preset: str) -> None:
    module = load(family)
    config = module.PRESETS[preset]
    assert module.from_json(json.loads(json.dumps(module.to_json(config)))) == config
    with pytest.raises(ValueError, match="unknown field 'sises'"):
        module.from_json({"sises": 3})


@every_family
def test_building_is_a_function_of_the_configuration(family: str, preset: str) -> None:
    module = load(family)
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    first = module.build(module.PRESETS[preset]).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    second = module.build(module.PRESETS[preset]).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
