"""Every family in the folder keeps the family contract, and a broken one does not."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from types import ModuleType

import pytest
import torch
from torch import nn

import supernet.families
from supernet.elastic.edits import Derive
from supernet.families import resnet
from supernet.supernet import Supernet
from supernet.testing import family_contract
from supernet.testing.family_contract import CHECKS, EXACTNESS_CHECKS, list_contract_presets


def list_cases() -> list[tuple[str, str]]:
    """``(family, preset)`` of everything in the folder whose extras are installed."""
    found = []
    for info in pkgutil.iter_modules(supernet.families.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"supernet.families.{info.name}")
        requires = getattr(module, "REQUIRES", None)
        if requires is not None and importlib.util.find_spec(requires) is None:
            continue
        found += [(info.name, preset) for preset in list_contract_presets(module)]
    return found


CASES = list_cases()
MARKED = [
    pytest.param(check, marks=pytest.mark.exactness if check in EXACTNESS_CHECKS else ())
    for check in CHECKS
]


# For tests of other files that every family has to pass, too.
every_family = pytest.mark.parametrize(
    ("family", "preset"),
    [(importlib.import_module(f"supernet.families.{name}"), preset) for name, preset in CASES],
    ids=["-".join(case) for case in CASES],
)


@every_family
@pytest.mark.parametrize("check", MARKED, ids=lambda check: check.__name__)
def test_contract(check, family: ModuleType, preset: str) -> None:
    check(family, preset)


def test_there_is_something_to_test() -> None:
    names = {family for family, _ in CASES}
    assert {"ofa_mobilenetv3", "attentivenas", "spos", "matlm", "resnet"} <= names
    found = [value for name, value in vars(family_contract).items() if name.startswith("check_")]
    assert sorted(found, key=repr) == sorted(CHECKS, key=repr), "a check is in no list"


def broken_family(change) -> ModuleType:
    """The residual family with its supernets changed."""
    module = ModuleType("somewhere.resnet")
    module.__dict__.update({k: v for k, v in vars(resnet).items() if not k.startswith("__")})
    module.build = lambda config: change(resnet.build(config))
    return module


def add_noise(net: Supernet) -> Supernet:
    """Give the table a row that computes with a generator that moves on."""
    name = next(n for n, p in net.model.named_parameters() if p.dim() == 4)
    row = Derive(name, (), lambda tensor, _: tensor + 1e-6 * torch.rand(()))
    return Supernet(net.model, net.space, [*net.edits, row], units=net.units, inputs=net.inputs)


class Blind(nn.Linear):
    """A layer that gives one answer to everything."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(len(inputs), -1)


def blind(net: Supernet) -> Supernet:
    """Let the network give one answer to everything."""
    for module in net.model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Blind
    return net


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (add_noise, family_contract.check_extraction_is_exact),
        (add_noise, family_contract.check_results_do_not_depend_on_what_ran_before),
        (blind, family_contract.check_extraction_is_exact),
    ],
)
def test_a_broken_family_is_found(change, check) -> None:
    with pytest.raises(AssertionError):
        check(broken_family(change), "tiny")


def test_a_gradient_at_the_wrong_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of the right size in the wrong channels do not pass."""
    places = family_contract.find_places

    def turned(net, architecture):
        return {name: found.roll(1, 0) for name, found in places(net, architecture).items()}

    monkeypatch.setattr(family_contract, "find_places", turned)
    with pytest.raises(AssertionError):
        family_contract.check_gradients_equal_those_of_the_extracted_network(resnet, "tiny")
