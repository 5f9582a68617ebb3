"""Choice blocks: one candidate stands where all of them are in the full network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from supernet.elastic.alternatives import Alternatives
from supernet.elastic.edits import Pick, Resize, follow, follow_all
from supernet.space import Choice, SearchSpace
from supernet.supernet import InputSpec, Supernet
from supernet.testing.exactness import assert_extraction_is_exact, assert_same_outputs
from supernet.testing.toy_supernets import narrow_between

OPERATION = Choice("block.operation", ("identity", "linear", "deep"), "operation")
WIDTH = Choice("block.width", (2, 4), "width")


def toy() -> Supernet:
    torch.manual_seed(0)
    slot = Alternatives(
        "deep",
        identity=nn.Identity(),
        linear=nn.Linear(6, 6),
        deep=nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6)),
    )
    kept = follow(WIDTH, int)
    rows = [
        Pick("1", follow(OPERATION, str)),
        *narrow_between("1.deep.0", "out_features", "1.deep.2", kept),
    ]
    model = nn.Sequential(nn.Linear(3, 6), slot, nn.Linear(6, 2))
    return Supernet(
        model,
        SearchSpace((OPERATION, WIDTH)),
        rows,
        units=["0", "1", "2"],
        inputs=InputSpec((3,), torch.float32),
    )


@pytest.mark.parametrize("operation", OPERATION.values)
@pytest.mark.parametrize("width", WIDTH.values)
def test_the_candidate_stands_in_the_slot(operation: str, width: int) -> None:
    net, x = toy().double(), torch.randn(5, 3, dtype=torch.float64)
    architecture = net.space.architecture({"block.operation": operation, "block.width": width})
    alone = net.extract(architecture)
    deep = net.model[1].deep
    middle = {
        "identity": lambda h: h,
        "linear": net.model[1].linear,
        "deep": lambda h: (
            torch.tanh(h @ deep[0].weight[:width].T + deep[0].bias[:width])
            @ deep[2].weight[:, :width].T
            + deep[2].bias
        ),
    }[operation]
    with torch.no_grad():
        expected = net.model[2](middle(net.model[0](x)))
        assert_same_outputs(net(x, architecture), expected)
    assert_extraction_is_exact(net, architecture, x)
    assert not any(isinstance(module, Alternatives) for module in alone.modules())


def test_only_the_candidate_that_ran_has_a_gradient() -> None:
    net = toy()
    architecture = net.space.architecture({"block.operation": "linear", "block.width": 2})
    net(torch.randn(5, 3), architecture).square().sum().backward()
    slot = net.model[1]
    assert slot.linear.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in slot.deep.parameters())


def test_units_know_every_candidate() -> None:
    net = toy()
    model = net.cost_model()
    unit = model.units[1]
    assert set(unit.choices) == {"block.operation", "block.width"}
    for architecture in net.space.decode(net.space.sample(np.random.default_rng(0), 20)):
        alone = net.extract(architecture)
        positions = net.space.encode([architecture])
        assert model.parameters(positions)[0] == sum(p.numel() for p in alone.parameters())


def test_a_pick_must_name_candidates_and_agree_with_the_default() -> None:
    slot = Alternatives("b", a=nn.Identity(), b=nn.Linear(2, 2))
    choice = Choice("operation", ("a", "c"), "operation")
    spec = InputSpec((2,), torch.float32)
    with pytest.raises(ValueError, match="picks 'c' for 0; candidates are a, b"):
        Supernet(nn.Sequential(slot), SearchSpace((choice,)), [Pick("0", follow(choice, str))],
                 units=["0"], inputs=spec)  # fmt: skip
    other = Choice("operation", ("b", "a"), "operation")
    with pytest.raises(ValueError, match="the model must be the largest network"):
        Supernet(nn.Sequential(slot), SearchSpace((other,)), [Pick("0", follow(other, str))],
                 units=["0"], inputs=spec)  # fmt: skip
    with pytest.raises(ValueError, match="'z' is not a candidate"):
        Alternatives("z", a=nn.Identity())


class Shrink(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, size=(self.size, self.size))


def test_resolution_inside_the_network_leaves_inputs_alone() -> None:
    choice = Choice("resolution", (4, 8), "resolution")
    net = Supernet(
        nn.Sequential(Shrink(8), nn.Flatten(2)),
        SearchSpace((choice,)),
        [Resize("resolution", inside="0")],
        units=["0", "1"],
        inputs=InputSpec((1, 8, 8), torch.float32),
    )
    small = net.space.architecture({"resolution": 4})
    x = torch.rand(2, 1, 8, 8)
    assert net.input_shape(small) == (1, 8, 8)
    assert net(net.prepare(x, small), small).shape == (2, 1, 16)
    assert net.prepare(torch.rand(2, 1, 12, 12), small).shape == (2, 1, 8, 8)


def test_a_rule_over_several_choices() -> None:
    rule = follow_all((OPERATION, WIDTH), lambda operation, width: f"{operation}{width}")
    assert rule.choices == ("block.operation", "block.width")
    assert rule.values["deep", 4] == "deep4"
    assert len(rule.values) == 6
