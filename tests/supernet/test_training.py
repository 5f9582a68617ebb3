"""Losses against hand-made numbers, gradients of the sandwich, samplers and recipes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from supernet.training import (
    PRESETS,
    Recipe,
    accumulate,
    cross_entropy,
    distillation,
    preset,
    sample,
    sandwich,
    soft_targets,
    uniform,
)
from supernet.training.batches import _rows, training_batch
from supernet.training.optimizer import Average, build_optimizer, learning_rate
from tests.supernet.toys import toy_data, toy_supernet

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
    teacher = soft_targets(torch.tensor([[0.0, math.log(3.0)]], requires_grad=True))
    assert not teacher.requires_grad
    student = torch.tensor([[0.0, 0.0]], dtype=torch.bfloat16)
    loss = distillation(student, teacher)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2.0))
    student = torch.tensor([[0.0, math.log(3.0)]], requires_grad=True)
    distillation(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-7  # nothing left to learn from an equal


# -- the sandwich ------------------------------------------------------------------------------


def manual_gradients(smoothing: float) -> dict[str, torch.Tensor]:
    """The sandwich written out with autograd over explicitly sliced weights."""
    supernet, (inputs, targets) = toy_supernet(), batch()
    model = supernet.model
    parameters = dict(model.named_parameters())

    def run(width: int) -> torch.Tensor:
        p = parameters
        kernel, bias = p["conv.weight"][:width], p["conv.bias"][:width]
        x = nn.functional.conv2d(inputs, kernel, bias, padding=1)
        x = nn.functional.batch_norm(
            x, None, None, p["bn.weight"][:width], p["bn.bias"][:width], training=True
        )
        x = nn.functional.adaptive_avg_pool2d(torch.relu(x), 2).flatten(1)
        weight = p["classifier.weight"][:, : 4 * width]
        return nn.functional.linear(x, weight, p["classifier.bias"])

    large, small = run(8), run(2)
    teacher = large.detach().softmax(-1)
    first = nn.functional.cross_entropy(large, targets, label_smoothing=smoothing)
    second = -(teacher * small.log_softmax(-1)).sum(-1).mean()
    ((first + second) / 2).backward()
    return {name: p.grad for name, p in parameters.items() if p.grad is not None}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return toy_data().train.batch(slice(0, 12), torch.device("cpu"))


def test_gradients_of_the_sandwich_equal_the_written_out_ones() -> None:
    supernet, (inputs, targets) = toy_supernet(), batch()
    ends = (supernet.space.largest, supernet.space.smallest)
    recipe = Recipe(label_smoothing=0.1)
    losses = accumulate(supernet, ends, inputs, targets, recipe)
    expected = manual_gradients(0.1)
    for name, parameter in supernet.model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        logits = supernet(inputs, ends[1])
    assert float(losses[1]) == pytest.approx(float(cross_entropy(logits, targets)), rel=1e-5)


def test_only_others_learn_from_the_largest_and_it_alone_from_labels() -> None:
    inputs, targets = batch()
    wrong = (targets + 1) % 3

    def gradients(labels: torch.Tensor, distill: str) -> tuple[torch.Tensor, torch.Tensor]:
        supernet = toy_supernet()
        # Freezing what only the largest has separates its gradient from the smallest's.
        ends = (supernet.space.largest, supernet.space.smallest)
        accumulate(supernet, ends, inputs, labels, Recipe(distill=distill))
        whole = supernet.model.conv.weight.grad
        alone = toy_supernet()
        accumulate(alone, ends[:1], inputs, labels, Recipe(distill=distill))
        largest = alone.model.conv.weight.grad / 2
        return largest, whole - largest

    largest, smallest = gradients(targets, "inplace")
    largest_wrong, smallest_wrong = gradients(wrong, "inplace")
    assert (largest - largest_wrong).abs().max() > 1e-3
    torch.testing.assert_close(smallest, smallest_wrong, rtol=1e-3, atol=1e-6)
    assert smallest[:2].abs().max() > 1e-4
    assert smallest[2:].abs().max() < 1e-7
    _, labelled = gradients(targets, "none")
    _, labelled_wrong = gradients(wrong, "none")
    assert (labelled - labelled_wrong).abs().max() > 1e-3


# -- samplers ----------------------------------------------------------------------------------


def test_sandwich_has_both_ends_first_and_no_repeats() -> None:
    space = toy_supernet().space
    for seed in range(20):
        drawn = sandwich(space, np.random.default_rng(seed), 2)
        assert drawn[:2] == (space.largest, space.smallest)
        assert len(set(drawn)) == len(drawn) <= 3


def test_uniform_reaches_every_architecture_equally_often() -> None:
    space = toy_supernet().space
    counts = Counter(
        uniform(space, np.random.default_rng(seed), 1)[0]["width"] for seed in range(900)
    )
    assert set(counts) == {2, 4, 8}
    assert all(240 < count < 360 for count in counts.values())


def test_sampling_is_a_function_of_seed_and_step() -> None:
    space = toy_supernet().space
    recipe = Recipe(sampler="uniform", distill="none", random_architectures=1)
    drawn = [sample(space, recipe, step) for step in range(50)]
    assert drawn == [sample(space, recipe, step) for step in range(50)]
    assert drawn != [sample(space, replace(recipe, seed=1), step) for step in range(50)]


# -- batches -----------------------------------------------------------------------------------


def test_every_sample_comes_once_per_epoch_across_batch_borders() -> None:
    rows = np.concatenate([_rows(10, 4, step, seed=3) for step in range(10)])
    for epoch in range(4):
        assert sorted(rows[10 * epoch : 10 * (epoch + 1)]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:20])
    # A batch larger than the data goes round several times.
    assert Counter(_rows(3, 7, 0, seed=0)).most_common()[-1][1] == 2


def test_batches_are_a_function_of_seed_and_step() -> None:
    data, device = toy_data(), torch.device("cpu")
    recipe = Recipe(batch_size=8, augment="affine")
    inputs, targets = training_batch(data, recipe, 3, device)
    again, _ = training_batch(data, recipe, 3, device)
    other, _ = training_batch(data, replace(recipe, seed=1), 3, device)
    assert torch.equal(inputs, again)
    assert not torch.equal(inputs, other)
    assert inputs.shape == (8, 1, 6, 6)
    assert targets.dtype == torch.int64


# -- optimiser ---------------------------------------------------------------------------------


def test_weight_decay_spares_vectors_and_what_the_family_names() -> None:
    supernet = toy_supernet()
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
    rates = [learning_rate(recipe, step, 104) for step in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[54] == pytest.approx(0.5)
    assert rates[104] == pytest.approx(0.0)
    assert max(rates) == 1.0


def test_average_follows_by_its_decay_and_not_at_all_without() -> None:
    supernet = toy_supernet()
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
    recipe = preset(name)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.to_json() == asdict(recipe)


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
        ({"optimizer": "sdg"}, r"optimizer = 'sdg' .* one of sgd, adamw; did you mean 'sgd'"),
        ({"precision": "fp16"}, "precision = 'fp16' is impossible; it must be one of fp32, bf16"),
        ({"augment": "spin"}, "augment = 'spin' is impossible; it must be one of auto, none"),
        ({"sampler": "uniform"}, "distill = 'inplace' needs the largest network in every step"),
        ({"lerning_rate": 1.0}, "no field 'lerning_rate'; did you mean 'learning_rate'"),
        ({"epochs": 0}, "epochs = 0 is impossible"),
    ],
)
def test_impossible_recipes_are_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.from_json(changes)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'digit'; did you mean 'digits'"):
        preset("digit")


def test_epochs_become_steps() -> None:
    assert Recipe(epochs=3, batch_size=16).total_steps(100) == 19
    assert Recipe(steps=7).total_steps(100) == 7
