"""Checks of the contract of a supernet family, for this project's families and for your own.

In a test of your package::

    import pytest
    from supernet.testing.family_contract import CHECKS, list_contract_presets
    from my_package import my_family

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest.mark.parametrize("preset", list_contract_presets(my_family))
    def test_my_family(check, preset):
        check(my_family, preset)

Every check takes the family's module and the name of one of its presets, and raises
``AssertionError`` where the contract is broken. In a ``conftest.py``,
``pytest.register_assert_rewrite("supernet.testing")`` makes it show the values. A preset of a few
thousand weights is enough: name it in the module's ``CONTRACT_PRESETS``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch

from supernet.elastic.edits import Cut, Derive
from supernet.errors import InputError
from supernet.family_config import decode_config, encode_config
from supernet.supernet import Supernet
from supernet.testing.exactness import (
    TOLERANCE,
    assert_extraction_is_exact,
    assert_same_outputs,
    doubled,
    in_double,
    logits,
    relative_difference,
)
from supernet.testing.family_networks import (
    build_double,
    build_randomised,
    build_shared,
    count_macs,
    extract_shifted,
    find_places,
    make_batch,
    name_as_inside,
    sample_architectures,
)

ARCHITECTURES = 100
# Rows of the table that are shifted, at most about so many per family.
MUTATIONS = 16


def list_contract_presets(family: ModuleType) -> tuple[str, ...]:
    """List the presets that a family wants to be checked with, by default its default one."""
    return tuple(getattr(family, "CONTRACT_PRESETS", (family.DEFAULT_PRESET,)))


def check_extraction_is_exact(family: ModuleType, preset: str) -> None:
    """A subnetwork is one function inside and extracted, at a hundred random architectures."""
    net = build_double(family, preset)
    for architecture in sample_architectures(net, ARCHITECTURES):
        assert_extraction_is_exact(net, architecture, make_batch(net, architecture))


def check_one_wrong_index_shows(family: ModuleType, preset: str) -> None:
    """What the tolerance of exactness is worth: a single shifted row is far outside it."""
    net = build_double(family, preset)
    architecture = net.space.smallest
    x = doubled(make_batch(net, architecture))
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


def check_largest_equals_the_plain_network(family: ModuleType, preset: str) -> None:
    """The largest architecture is the network that the family wrote down.

    Where several experts make up a weight, that stands in the place of the first one.
    """
    net = build_double(family, preset)
    plain = net.model
    if any(isinstance(row, Derive) and row.alike for row in net.edits):
        plain = copy.deepcopy(net.model)
        plain.load_state_dict(net.extract(net.space.largest).state_dict())
    x = doubled(make_batch(net, net.space.largest))
    with torch.no_grad():
        assert_same_outputs(logits(net(x, net.space.largest)), logits(plain(x)))


def check_extraction_shares_nothing(family: ModuleType, preset: str) -> None:
    """An extracted network is of plain modules, and what happens to it stays there."""
    net = build_randomised(family, preset)
    architecture = sample_architectures(net, 1, seed=3)[-1]
    alone = net.extract(architecture)
    ours = {p.untyped_storage().data_ptr() for p in (*net.parameters(), *net.buffers())}
    theirs = {t.untyped_storage().data_ptr() for t in (*alone.parameters(), *alone.buffers())}
    assert not ours & theirs
    classes = {type(module) for module in alone.modules()}
    assert Supernet not in classes
    assert classes <= {type(module) for module in net.model.modules()}
    before = {name: value.clone() for name, value in net.state_dict().items()}
    alone.train()
    logits(alone(make_batch(net, architecture))).square().sum().backward()
    with torch.no_grad():
        for parameter in alone.parameters():
            parameter.add_(1.0)
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())


def check_counts_equal_the_extracted_network(family: ModuleType, preset: str) -> None:
    """Analytic parameters and MACs are those that torch counts on the extracted network."""
    net = build_shared(family, preset)
    model = net.cost_model()
    chosen = sample_architectures(net, 12, seed=4)
    positions = net.space.encode(chosen)
    parameters, macs = model.parameters(positions), model.macs(positions)
    for row, architecture in enumerate(chosen):
        alone = net.extract(architecture)
        assert parameters[row] == sum(p.numel() for p in alone.parameters())
        assert macs[row] == count_macs(alone, make_batch(net, architecture, 1))


def check_sizes_grow_with_options(family: ModuleType, preset: str) -> None:
    """Sizes grow with the options, so that a smaller one keeps a prefix of a larger one."""
    net = build_shared(family, preset)
    for edit in net.edits:
        if isinstance(edit, Cut) and len(edit.size.choices) == 1:
            choice = net.space.choice(edit.size.choices[0])
            sizes = [edit.size.values[(value,)] for value in choice.values]
            assert sizes == sorted(sizes)


def check_gradients_reach_only_what_is_kept(family: ModuleType, preset: str) -> None:
    """Gradients are zero at every place that the smallest subnetwork does not keep."""
    net = build_randomised(family, preset)
    net.train()
    smallest = net.space.smallest
    x = make_batch(net, smallest)
    logits(net(x, smallest)).square().sum().backward()
    derived = {row.tensor for row in net.edits if isinstance(row, Derive)}
    places, touched = find_places(net, smallest), 0
    for name, parameter in net.model.named_parameters():
        if parameter.grad is None or name in derived:
            continue
        touched += 1
        outside = torch.ones(parameter.numel(), dtype=torch.bool)
        outside[places.get(name, torch.empty(0, dtype=torch.int64)).flatten()] = False
        reached = parameter.grad.flatten()[outside].count_nonzero()
        assert reached == 0, f"{name}: {reached} gradients are at places that are not kept"
    assert touched > 0, "no parameter got a gradient"


def check_gradients_equal_those_of_the_extracted_network(family: ModuleType, preset: str) -> None:
    """Gradients inside are those of the extracted network, each at the place it came from."""
    net = build_randomised(family, preset).double()
    derived = {row.tensor for row in net.edits if isinstance(row, Derive)}
    for architecture in sample_architectures(net, 4, seed=6):
        net.zero_grad()
        x = doubled(make_batch(net, architecture))
        alone = net.extract(architecture).eval()
        logits(net(x, architecture)).square().sum().backward()
        logits(alone(x)).square().sum().backward()
        places, compared = find_places(net, architecture), 0
        for name, parameter in name_as_inside(net, architecture, alone).items():
            if name in derived or parameter.grad is None:
                continue
            whole = net.model.get_parameter(name).grad
            assert whole is not None, f"{name} has a gradient outside and none inside"
            expected = torch.zeros_like(whole).flatten()
            expected[places[name].flatten()] = parameter.grad.flatten()
            torch.testing.assert_close(whole.flatten(), expected, rtol=1e-9, atol=1e-9)
            compared += 1
        assert compared > 0, "no gradient was compared"


def check_several_architectures_may_be_in_flight(family: ModuleType, preset: str) -> None:
    """All forwards first, one backward of the sum: the same gradients as one after another."""
    chosen = sample_architectures(build_shared(family, preset), 2, seed=8)
    gradients = []
    for together in (True, False):
        net = build_randomised(family, preset).double()
        losses = []
        for architecture in chosen:
            x = doubled(make_batch(net, architecture))
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


def check_dropped_gradients(family: ModuleType, preset: str) -> None:
    """``forward, zero_grad, backward`` is as good an order as any."""
    for set_to_none in (True, False):
        net = build_randomised(family, preset)
        architecture = sample_architectures(net, 1, seed=10)[-1]
        x = make_batch(net, architecture)
        logits(net(x, architecture)).square().mean().backward()
        expected = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
        assert expected, "no parameter got a gradient"
        loss = logits(net(x, architecture)).square().mean()
        net.zero_grad(set_to_none=set_to_none)
        loss.backward()
        for name, gradient in expected.items():
            found = net.get_parameter(name).grad
            torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-7)


def check_hooks_on_one_subnetwork_stay_there(family: ModuleType, preset: str) -> None:
    """A hook on one subnetwork is not called for another."""
    net = build_randomised(family, preset)
    calls = []
    shell = net.shell(net.space.smallest)
    shell.network.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        net(make_batch(net, net.space.smallest), net.space.smallest)
        assert len(calls) == 1
        net(make_batch(net, net.space.largest), net.space.largest)
        net.model(make_batch(net, net.space.largest))
    assert len(calls) == 1


def check_frozen_parameters_get_no_gradient(family: ModuleType, preset: str) -> None:
    """A parameter that is frozen gets no gradient, while others do."""
    net = build_randomised(family, preset)
    architecture = net.space.smallest
    x = make_batch(net, architecture)
    logits(net(x, architecture)).square().mean().backward()
    name = next(n for n, p in net.model.named_parameters() if p.grad is not None and p.dim() > 1)
    net.zero_grad()
    net.model.get_parameter(name).requires_grad_(False)
    logits(net(x, architecture)).square().mean().backward()
    assert net.model.get_parameter(name).grad is None
    assert any(p.grad is not None for p in net.parameters())


def check_results_do_not_depend_on_what_ran_before(family: ModuleType, preset: str) -> None:
    """Outputs are the same bits whatever ran in between."""
    net = build_shared(family, preset)
    first, *others = sample_architectures(net, 20, seed=9)
    x = make_batch(net, first)
    with torch.no_grad():
        before = logits(net(x, first)).clone()
        for architecture in others:
            net(make_batch(net, architecture), architecture)
        assert torch.equal(logits(net(x, first)), before)


def check_shells_follow_updates_modes_and_moves(family: ModuleType, preset: str) -> None:
    """Subnetworks follow updates, replaced tensors, copies and changes of precision."""
    net = build_randomised(family, preset)
    architecture = sample_architectures(net, 1, seed=2)[-1]
    x = make_batch(net, architecture)
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


def check_training_after_inference_mode(family: ModuleType, preset: str) -> None:
    """Subnetworks that were first run under inference mode can be trained."""
    net = build_randomised(family, preset)
    architecture = net.space.smallest
    x = make_batch(net, architecture)
    with torch.inference_mode():
        net(x, architecture)
        alone = net.extract(architecture)
    logits(net(x, architecture)).square().sum().backward()
    logits(alone(x)).square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in alone.parameters())


def check_configuration_survives_json(family: ModuleType, preset: str) -> None:
    """A configuration comes back from JSON, and an unknown field is named."""
    config = family.PRESETS[preset]
    assert decode_config(family, json.loads(json.dumps(encode_config(family, config)))) == config
    message = ""
    try:
        decode_config(family, {"sises": 3})
    except InputError as error:
        message = str(error)
    assert "unknown field 'sises'" in message, f"an unknown field is not named: {message!r}"


def check_building_is_a_function_of_the_configuration(family: ModuleType, preset: str) -> None:
    """Building twice gives the same weights and moves no global generator."""
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    first = family.build(family.PRESETS[preset]).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    second = family.build(family.PRESETS[preset]).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


# Those that must hold to rounding on every processor.
EXACTNESS_CHECKS: tuple[Callable[[ModuleType, str], None], ...] = (
    check_extraction_is_exact,
    check_one_wrong_index_shows,
    check_largest_equals_the_plain_network,
    check_gradients_equal_those_of_the_extracted_network,
    check_several_architectures_may_be_in_flight,
)
CHECKS = (
    *EXACTNESS_CHECKS,
    check_extraction_shares_nothing,
    check_counts_equal_the_extracted_network,
    check_sizes_grow_with_options,
    check_gradients_reach_only_what_is_kept,
    check_dropped_gradients,
    check_hooks_on_one_subnetwork_stay_there,
    check_frozen_parameters_get_no_gradient,
    check_results_do_not_depend_on_what_ran_before,
    check_shells_follow_updates_modes_and_moves,
    check_training_after_inference_mode,
    check_configuration_survives_json,
    check_building_is_a_function_of_the_configuration,
)
