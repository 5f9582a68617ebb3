"""One architecture as a network of its own: the same function, trained by the same loop."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet import checkpoints
from supernet.data import open_data
from supernet.errors import InputError
from supernet.families import matlm, ofa_mobilenetv3
from supernet.precision.elastic import make_precision_elastic
from supernet.quality.evaluate import evaluate
from supernet.quantization.formats import parse_policy
from supernet.quantization.weights import quantize_weight
from supernet.supernet import Supernet
from supernet.testing.exactness import assert_same_outputs, relative_difference
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Recipe, train
from supernet.training.standalone import (
    ALONE,
    LABEL_SHARE,
    RATE_SHARE,
    WARMUP_SHARE,
    make_finetuning_recipe,
    make_standalone,
    make_standalone_recipe,
)
from tests.toys.networks import shake_statistics

RECIPE = Recipe(
    steps=12, batch_size=16, warmup_steps=3, checkpoint_every=4, log_every=4, augment="none", seed=3
)


def alone_recipe(**changes: object) -> Recipe:
    return make_standalone_recipe(RECIPE, changes, epoch=60)


def weights(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


@pytest.mark.parametrize("family", [ofa_mobilenetv3, matlm])
def test_it_computes_what_the_subnetwork_computes(family: object) -> None:
    supernet = family.build(family.PRESETS[family.DEFAULT_PRESET]).eval()  # type: ignore[attr-defined]
    chosen = supernet.space.sample_one(np.random.default_rng(1))
    alone = make_standalone(supernet, chosen).eval()
    only = alone.space.smallest
    assert alone.space.size == 1
    assert only == alone.space.largest
    assert alone.input_shape(only) == supernet.input_shape(chosen)
    inputs = supernet.example(chosen, 2)
    if inputs.dtype == torch.float32:
        inputs = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(alone(inputs, only), supernet(inputs, chosen))
    count = sum(p.numel() for p in alone.parameters())
    assert count == supernet.parameter_count(chosen)
    assert alone.no_decay <= {name for name, _ in alone.named_parameters()}


def test_exemption_from_weight_decay_follows_the_parameter() -> None:
    supernet = build_toy_supernet()
    assert supernet.no_decay == {"model.conv.weight"}
    assert make_standalone(supernet, supernet.space.smallest).no_decay == {"model.conv.weight"}


def test_images_are_brought_to_the_size_of_the_subnetwork() -> None:
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"])
    small = supernet.space.smallest
    alone = make_standalone(supernet, small)
    pixels = torch.rand((2, *supernet.inputs.shape), generator=torch.Generator().manual_seed(0))
    assert supernet.input_shape(small) != supernet.inputs.shape
    expected = supernet.prepare(pixels, small)
    assert torch.equal(alone.prepare(pixels, alone.space.smallest), expected)


def test_training_it_leaves_the_supernet_alone(tmp_path: Path) -> None:
    supernet = build_toy_supernet()
    before = weights(supernet)
    alone = make_standalone(supernet, supernet.space.smallest)
    train(alone, make_toy_data(), alone_recipe(), tmp_path)
    after = weights(supernet)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(alone.model.conv.weight, supernet.model.conv.weight[:2])


@pytest.mark.exactness
def test_a_stopped_training_continues_bit_by_bit(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(progress: object) -> None:
        if progress.step == 8:  # type: ignore[attr-defined]
            raise StopError

    data = make_toy_data()

    def fresh() -> Supernet:
        supernet = build_toy_supernet(seed=5)
        return make_standalone(supernet, supernet.space.architecture({"width": 4}))

    whole = fresh()
    train(whole, data, alone_recipe(), tmp_path / "whole")
    with pytest.raises(StopError):
        train(fresh(), data, alone_recipe(), tmp_path / "stopped", progress=stop)
    assert checkpoints.require(tmp_path / "stopped" / "checkpoints").checkpoint.step == 4
    continued = fresh()
    result = train(continued, data, alone_recipe(), tmp_path / "stopped")
    assert result.resumed_from == 4
    ours, theirs = weights(continued), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    only = whole.space.smallest
    assert evaluate(whole, only, data).value == evaluate(continued, only, data).value


def test_weights_of_few_bits_stay_so() -> None:
    data = open_data("digits")
    plain = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape))
    supernet = make_precision_elastic(shake_statistics(plain, 0.2), parse_policy("fp32,w4a32"))
    alone = make_standalone(supernet, supernet.space.smallest)
    only = alone.space.smallest
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.3)
    inputs, targets = data.train.batch(slice(0, 32), torch.device("cpu"))
    pixels = alone.prepare(inputs, only)
    torch.nn.functional.cross_entropy(alone(pixels, only), targets).backward()
    optimizer.step()
    alone.double().eval()
    pixels = pixels.double()
    rounded, moved = copy.deepcopy(alone.model), 0
    for layer in rounded.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            weight = layer.weight.detach()
            layer.weight.data = quantize_weight(weight, 4)
            moved += not torch.equal(weight, layer.weight)
    assert moved > 10, "the weights that learn leave the grid"
    with torch.no_grad():
        assert_same_outputs(alone(pixels, only), rounded(pixels))
        assert relative_difference(alone.model(pixels), rounded(pixels)) > 1e-4


def test_the_recipe_keeps_the_optimisation_and_drops_the_strategy() -> None:
    ours = Recipe(learning_rate=0.3, weight_decay=1e-3, warmup_steps=500, steps=400)
    alone = make_standalone_recipe(ours, {"seed": 9}, epoch=100)
    assert (alone.learning_rate, alone.weight_decay, alone.steps) == (0.3, 1e-3, 400)
    assert {name: getattr(alone, name) for name in ALONE} == dict(ALONE)
    assert (alone.seed, alone.warmup_steps) == (9, 100)
    assert make_standalone_recipe(ours, {"epochs": 2, "batch_size": 10}, 100).total_steps(100) == 20
    with pytest.raises(ValueError, match=r"distill cannot be changed.*always has distill = 'none'"):
        make_standalone_recipe(ours, {"distill": "inplace"}, 100)
    with pytest.raises(ValueError, match=r"no field 'learning_rat'.*did you mean 'learning_rate'"):
        make_standalone_recipe(ours, {"learning_rat": 1}, 100)


def test_a_recipe_with_phases_still_trains_one_network(tmp_path: Path) -> None:
    ours = RECIPE.replace({"sampler": "sandwich", "phases": "progressive"})
    supernet = build_toy_supernet()
    alone = make_standalone(supernet, supernet.space.largest)
    result = train(alone, make_toy_data(), make_standalone_recipe(ours, {}, 60), tmp_path)
    assert result.steps == 12


def test_fine_tuning_differs_from_a_network_alone_in_rate_warm_up_and_teacher() -> None:
    supernets = RECIPE.replace({"steps": 200, "warmup_steps": 100, "learning_rate": 0.3})
    changes = {"momentum": 0.8, "seed": 5}
    alone = make_standalone_recipe(supernets, changes, epoch=60)
    warmup = int(WARMUP_SHARE * 200)
    slower = {"learning_rate": RATE_SHARE * 0.3, "warmup_steps": warmup}
    tuned = make_finetuning_recipe(supernets, changes, 60, taught=False)
    assert tuned == alone.replace(slower)
    taught = make_finetuning_recipe(supernets, changes, 60, taught=True)
    assert taught == tuned.replace({"distill": "teacher", "label_share": LABEL_SHARE})
    short = make_finetuning_recipe(supernets, {"epochs": 1}, 60, taught=True)
    assert short.warmup_steps <= WARMUP_SHARE * short.total_steps(60)


def test_what_fine_tuning_is_asked_for_holds() -> None:
    asked = {"learning_rate": 0.7, "warmup_steps": 4, "divergence": "alpha", "label_share": 0.5}
    taught = make_finetuning_recipe(RECIPE, asked, 60, taught=True)
    assert {name: getattr(taught, name) for name in asked} == asked
    with pytest.raises(InputError, match="divergence cannot be changed"):
        make_finetuning_recipe(RECIPE, asked, 60, taught=False)
    with pytest.raises(InputError, match="sampler cannot be changed"):
        make_finetuning_recipe(RECIPE, {"sampler": "sandwich"}, 60, taught=True)
