"""BigNAS's extras: randomness in the largest network alone, and a rate that ends above zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet import files
from supernet.families import ofa_mobilenetv3
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.family_networks import build_randomised, make_batch
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Labels, TrainingMethod, find_recipe, train
from supernet.training.samplers.uniform import Uniform
from tests.contracts.test_families import every_family


class DropPath(nn.Module):
    """Randomness that is not a dropout layer: it looks at its own mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1) > 0.5) if self.training else x


def quiet_strategy(net: Supernet) -> TrainingMethod:
    return TrainingMethod(net.train(), Uniform(net.space), Labels(), regularise="largest")


def logits(method: TrainingMethod, architecture: Architecture, seed: int) -> Tensor:
    torch.manual_seed(seed)
    x = make_batch(method.supernet, architecture)
    with torch.no_grad():
        return method._forward(architecture, x)


@every_family
def test_only_the_largest_network_is_random(family: ModuleType, preset: str) -> None:
    net = build_randomised(family, preset)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = max(module.p, 0.1)
    method = quiet_strategy(net)
    smallest, largest = net.space.smallest, net.space.largest
    assert torch.equal(logits(method, smallest, 0), logits(method, smallest, 1))
    if any(isinstance(m, nn.Dropout) for m in net.modules()):
        assert not torch.equal(logits(method, largest, 0), logits(method, largest, 1))
    assert all(m.training for m in net.modules())


def test_small_networks_skip_other_randomness_and_keep_batch_statistics() -> None:
    net = build_toy_supernet()
    net.model.dropout = DropPath()  # type: ignore[assignment]
    method = quiet_strategy(net)
    smallest = net.space.smallest
    norm = next(m for m in net.modules() if isinstance(m, _BatchNorm))
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    assert torch.equal(logits(method, smallest, 0), logits(method, smallest, 1))
    assert not torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    largest = net.space.largest
    assert not torch.equal(logits(method, largest, 0), logits(method, largest, 1))


def test_the_rate_of_a_training_never_falls_below_its_floor(tmp_path: Path) -> None:
    recipe = replace(
        find_recipe("digits+bignas"), steps=40, warmup_steps=4, batch_size=20, log_every=1
    )
    assert recipe.rate_floor == pytest.approx(0.05)
    train(build_toy_supernet(dropout=0.2), make_toy_data(), recipe, tmp_path)
    rates = [line["learning_rate"] for line in files.read_records(tmp_path / "metrics.jsonl")]
    assert len(rates) == 40
    floor = 0.05 * recipe.learning_rate
    assert min(rates[4:]) == pytest.approx(floor)
    assert rates[-1] == rates[-3] == pytest.approx(floor)
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=0.01)


def test_blocks_that_start_at_zero_let_every_depth_begin_as_one_function() -> None:
    net = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"]).eval()
    deep = net.space.largest
    shallow = {n: 1 if n.endswith("depth") else v for n, v in deep.to_dict().items()}
    x = make_batch(net, deep)
    with torch.no_grad():
        assert torch.allclose(net(x, deep), net(x, net.space.architecture(shallow)), atol=1e-6)
