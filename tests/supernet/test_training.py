"""Losses against hand-made numbers, samplers, batches, the optimiser and recipes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from supernet.space import Architecture
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import (
    METHODS,
    PRESETS,
    Recipe,
    Sandwich,
    Uniform,
    compose,
    cross_entropy,
    find_recipe,
    kl_divergence,
    train,
)
from supernet.training.batches.shuffled import draw_shuffled_rows, prepare_batch
from supernet.training.optimizer import Average, build_optimizer, compute_learning_rate
from supernet.training.recipe import LATER

# -- losses ------------------------------------------------------------------------------------


def test_cross_entropy_with_smoothing_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    target = torch.tensor([1])
    assert float(cross_entropy(logits, target)) == pytest.approx(-math.log(0.75))
    # Smoothing 0.2 over two classes: 0.9 on the right one, 0.1 on the other.
    expected = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25))
    assert float(cross_entropy(logits, target, 0.2)) == pytest.approx(expected)


def test_cross_entropy_over_tokens_is_the_mean_over_all_of_them() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 2], [3, 4, 0]])
    log = torch.log_softmax(logits, -1)
    expected = -np.mean([float(log[n, t, targets[n, t]]) for n in range(2) for t in range(3)])
    assert float(cross_entropy(logits, targets)) == pytest.approx(expected, rel=1e-6)


def test_distillation_by_hand_and_in_float32() -> None:
    teacher = torch.tensor([[0.0, math.log(3.0)]], requires_grad=True)
    student = torch.tensor([[0.0, 0.0]], dtype=torch.bfloat16)
    loss = kl_divergence(student, teacher)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2.0))
    student = torch.tensor([[0.0, math.log(3.0)]], requires_grad=True)
    kl_divergence(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-7  # nothing left to learn from an equal


# -- samplers ----------------------------------------------------------------------------------


def no_score(architectures: Any) -> list[float]:
    raise AssertionError("this sampler compares nothing")


def test_sandwich_has_both_ends_first_and_no_repeats() -> None:
    space = build_toy_supernet().space
    for seed in range(20):
        drawn = Sandwich(space, seed).draw(0, no_score)
        assert drawn[:2] == (space.largest, space.smallest)
        assert len(set(drawn)) == len(drawn) <= 3


def test_uniform_reaches_every_architecture_equally_often() -> None:
    space = build_toy_supernet().space
    sampler = Uniform(space)
    counts = Counter(sampler.draw(step, no_score)[0]["width"] for step in range(900))
    assert set(counts) == {2, 4, 8}
    assert all(240 < count < 360 for count in counts.values())


def test_sampling_is_a_function_of_seed_and_step() -> None:
    space = build_toy_supernet().space

    def draws(seed: int) -> list[tuple[Architecture, ...]]:
        return [Uniform(space, seed).draw(step, no_score) for step in range(50)]

    assert draws(0) == draws(0)
    assert draws(0) != draws(1)


# -- batches -----------------------------------------------------------------------------------


def test_every_sample_comes_once_per_epoch_across_batch_borders() -> None:
    rows = np.concatenate([draw_shuffled_rows(10, 4, step, seed=3) for step in range(10)])
    for epoch in range(4):
        assert sorted(rows[10 * epoch : 10 * (epoch + 1)]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:20])
    # A batch larger than the data goes round several times.
    assert Counter(draw_shuffled_rows(3, 7, 0, seed=0)).most_common()[-1][1] == 2


def test_batches_are_a_function_of_seed_and_step() -> None:
    data, device = make_toy_data(), torch.device("cpu")
    recipe = Recipe(batch_size=8, augment="affine")
    rows = draw_shuffled_rows(len(data.train), 8, 3, seed=0)
    inputs, targets = prepare_batch(data, recipe, 3, rows, device)
    again, _ = prepare_batch(data, recipe, 3, rows, device)
    other, _ = prepare_batch(data, replace(recipe, seed=1), 3, rows, device)
    assert torch.equal(inputs, again)
    assert not torch.equal(inputs, other)
    assert inputs.shape == (8, 1, 6, 6)
    assert targets.dtype == torch.int64


# -- optimiser ---------------------------------------------------------------------------------


def test_weight_decay_spares_vectors_and_what_the_family_names() -> None:
    supernet = build_toy_supernet()
    optimizer = build_optimizer(supernet, Recipe(weight_decay=0.5))
    names = {id(p): name for name, p in supernet.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert decays == {
        "model.classifier.weight": 0.5,
        "model.conv.weight": 0.0,  # the toy's no_decay
        "model.conv.bias": 0.0,
        "model.bn.weight": 0.0,
        "model.bn.bias": 0.0,
        "model.classifier.bias": 0.0,
    }


def test_learning_rate_rises_then_falls_to_nothing() -> None:
    recipe = Recipe(learning_rate=1.0, warmup_steps=4)
    rates = [compute_learning_rate(recipe, step, 104) for step in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[54] == pytest.approx(0.5)
    assert rates[104] == pytest.approx(0.0)
    assert max(rates) == 1.0


def test_learning_rate_ends_constant_at_its_floor() -> None:
    recipe = Recipe(learning_rate=2.0, warmup_steps=4, rate_floor=0.05)
    rates = [compute_learning_rate(recipe, step, 104) for step in range(105)]
    assert rates[0] == pytest.approx(0.4)
    assert min(rates[4:]) == rates[104] == pytest.approx(0.1)
    assert rates[95:] == pytest.approx([0.1] * 10)


def test_average_follows_by_its_decay_and_not_at_all_without() -> None:
    supernet = build_toy_supernet()
    average, exact = Average(supernet, 0.9), Average(supernet, 0.0)
    before = supernet.model.conv.bias.detach().clone()
    with torch.no_grad():
        supernet.model.conv.bias.add_(1.0)
    average.update(1000)
    exact.update(1000)
    torch.testing.assert_close(average.weights["model.conv.bias"], before + 0.1)
    torch.testing.assert_close(exact.weights["model.conv.bias"], before + 1.0)


# -- recipes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    recipe = find_recipe(name)
    assert Recipe.from_json(recipe.to_json()) == recipe
    missing = asdict(recipe).keys() - recipe.to_json().keys()
    assert missing <= set(LATER)
    assert all(getattr(recipe, name) == getattr(Recipe(), name) for name in missing)


def test_records_of_earlier_releases_and_new_ones_are_the_same() -> None:
    assert not set(LATER) & set(Recipe().to_json())
    assert Recipe(weight_distribution=1.0).to_json()["weight_distribution"] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps = 0 is impossible; it must be at least 1"),
        ({"batch_size": -3}, "batch_size = -3 is impossible; it must be at least 1"),
        ({"batch_size": 2.5}, r"batch_size = 2\.5 is impossible; it must be a whole number"),
        ({"steps": True}, "steps = True is impossible; it must be a whole number"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0 is impossible; it must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate = nan is impossible; it must be a finite"),
        ({"momentum": 1.0}, "momentum = 1.0 is impossible; it must be at least 0 and below 1"),
        ({"optimizer": "sdg"}, r"optimizer = 'sdg' .* one of sgd, adamw.*did you mean 'sgd'"),
        ({"precision": "fp16"}, "precision = 'fp16' is impossible; it must be one of fp32, bf16"),
        ({"augment": "spin"}, "augment = 'spin' is impossible; it must be one of auto, none"),
        ({"sampler": "sandwhich"}, "sampler = 'sandwhich' .*did you mean 'sandwich'"),
        ({"split": True}, "split = True cannot go with distill = 'inplace'"),
        ({"split": 1}, "split = 1 is impossible; it must be true or false"),
        ({"lerning_rate": 1.0}, "no field 'lerning_rate'.*did you mean 'learning_rate'"),
        ({"epochs": 0}, "epochs = 0 is impossible"),
    ],
)
def test_impossible_recipes_are_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.from_json(changes)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'digit'.*did you mean 'digits'"):
        find_recipe("digit")


@pytest.mark.parametrize("name", METHODS)
def test_strategies_combine_with_a_base(name: str) -> None:
    recipe = find_recipe(f"digits+{name}")
    changed = find_recipe("digits").diff(recipe)
    assert set(changed) <= {*METHODS[name], "steps", "warmup_steps"}
    assert find_recipe(name, base="digits") == recipe


def test_methods_leave_epochs_as_they_are() -> None:
    assert find_recipe("image+spos").epochs == find_recipe("image").epochs == 100


def test_warm_up_keeps_its_share_of_another_number_of_steps() -> None:
    recipe = Recipe(steps=400, warmup_steps=100)
    assert recipe.resize(100) == Recipe(steps=100, warmup_steps=25)
    in_epochs = Recipe(epochs=10, batch_size=64, warmup_steps=20)
    resized = in_epochs.resize(50, epoch=640)
    assert (resized.epochs, resized.steps, resized.warmup_steps) == (None, 50, 10)
    assert Recipe(steps=10, warmup_steps=50).resize(20).warmup_steps == 20
    with pytest.raises(ValueError, match="resize needs the samples of an epoch"):
        in_epochs.resize(50)
    with pytest.raises(ValueError, match="steps = 0 is impossible"):
        recipe.resize(0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits+alphanot", "unknown recipe 'alphanot'.*did you mean 'alphanet'"),
        ("alphanet+digits", "'digits' is a base; it must be the first part"),
        ("spos+inplace", "spos has sampler = 'uniform' and inplace has sampler = 'sandwich'"),
    ],
)
def test_impossible_combinations_are_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_recipe(name)


@pytest.mark.parametrize("name", ["spos+teacher", "teacher+spos", "digits+fairnas+teacher"])
def test_a_teacher_goes_with_strategies_that_learn_from_labels(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.distill == "teacher"
    assert recipe.label_share == 1.0
    assert recipe.sampler == ("fair" if "fair" in name else "uniform")
    with pytest.raises(ValueError, match="inplace has distill = 'inplace' and teacher has"):
        find_recipe("inplace+teacher")


def test_a_strategy_and_a_teacher_exclude_each_other(tmp_path: Path) -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    method = compose(supernet, data, Recipe(), 10)
    with pytest.raises(ValueError, match="a method brings its own guide"):
        train(supernet, data, Recipe(batch_size=8), tmp_path, teacher=nn.Identity(), method=method)
    assert not list(tmp_path.iterdir())


def test_a_guide_and_a_sampler_must_fit() -> None:
    recipe = Recipe(sampler="uniform", distill="inplace")
    with pytest.raises(ValueError, match="needs the largest network in every step"):
        compose(build_toy_supernet(), make_toy_data(), recipe, 10)
    with pytest.raises(ValueError, match="needs a teacher"):
        compose(build_toy_supernet(), make_toy_data(), Recipe(distill="teacher"), 10)
    with pytest.raises(ValueError, match=r"no module 'my\.sampler' for the sampler"):
        compose(build_toy_supernet(), make_toy_data(), Recipe(sampler="my.sampler"), 10)


def test_epochs_become_steps() -> None:
    assert Recipe(epochs=3, batch_size=16).total_steps(100) == 19
    assert Recipe(steps=7).total_steps(100) == 7
