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

from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import (
    PRESETS,
    STRATEGIES,
    InPlace,
    Labels,
    Recipe,
    Sandwich,
    Strategy,
    Teacher,
    Uniform,
    compose,
    cross_entropy,
    kl_divergence,
    preset,
)
from supernet.training.batches import shuffled_rows, training_batch
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


# -- the sandwich ------------------------------------------------------------------------------


class Always:
    """A sampler of fixed architectures."""

    def __init__(self, *architectures: Architecture) -> None:
        self.architectures = architectures

    def draw(self, step: int, score: Any) -> tuple[Architecture, ...]:
        return self.architectures


def backward(
    supernet: Supernet,
    architectures: tuple[Architecture, ...],
    guide: Any,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    **options: Any,
) -> list[torch.Tensor]:
    """One step of some architectures; their losses on the labels."""
    strategy = Strategy(supernet, Always(*architectures), guide, **options)
    return [*strategy.backward(0, inputs, targets).values()]


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
    losses = backward(supernet, ends, InPlace(smoothing=0.1), inputs, targets)
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

    def gradients(labels: torch.Tensor, guide: Any) -> tuple[torch.Tensor, torch.Tensor]:
        supernet = toy_supernet()
        # Freezing what only the largest has separates its gradient from the smallest's.
        ends = (supernet.space.largest, supernet.space.smallest)
        backward(supernet, ends, guide, inputs, labels)
        whole = supernet.model.conv.weight.grad
        alone = toy_supernet()
        backward(alone, ends[:1], guide, inputs, labels)
        largest = alone.model.conv.weight.grad / 2
        return largest, whole - largest

    largest, smallest = gradients(targets, InPlace())
    largest_wrong, smallest_wrong = gradients(wrong, InPlace())
    assert (largest - largest_wrong).abs().max() > 1e-3
    torch.testing.assert_close(smallest, smallest_wrong, rtol=1e-3, atol=1e-6)
    assert smallest[:2].abs().max() > 1e-4
    assert smallest[2:].abs().max() < 1e-7
    _, labelled = gradients(targets, Labels())
    _, labelled_wrong = gradients(wrong, Labels())
    assert (labelled - labelled_wrong).abs().max() > 1e-3


# -- samplers ----------------------------------------------------------------------------------


def no_score(architectures: Any) -> list[float]:
    raise AssertionError("this sampler compares nothing")


def test_sandwich_has_both_ends_first_and_no_repeats() -> None:
    space = toy_supernet().space
    for seed in range(20):
        drawn = Sandwich(space, seed).draw(0, no_score)
        assert drawn[:2] == (space.largest, space.smallest)
        assert len(set(drawn)) == len(drawn) <= 3


def test_uniform_reaches_every_architecture_equally_often() -> None:
    space = toy_supernet().space
    sampler = Uniform(space)
    counts = Counter(sampler.draw(step, no_score)[0]["width"] for step in range(900))
    assert set(counts) == {2, 4, 8}
    assert all(240 < count < 360 for count in counts.values())


def test_sampling_is_a_function_of_seed_and_step() -> None:
    space = toy_supernet().space

    def draws(seed: int) -> list[tuple[Architecture, ...]]:
        return [Uniform(space, seed).draw(step, no_score) for step in range(50)]

    assert draws(0) == draws(0)
    assert draws(0) != draws(1)


# -- batches -----------------------------------------------------------------------------------


def test_every_sample_comes_once_per_epoch_across_batch_borders() -> None:
    rows = np.concatenate([shuffled_rows(10, 4, step, seed=3) for step in range(10)])
    for epoch in range(4):
        assert sorted(rows[10 * epoch : 10 * (epoch + 1)]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:20])
    # A batch larger than the data goes round several times.
    assert Counter(shuffled_rows(3, 7, 0, seed=0)).most_common()[-1][1] == 2


def test_batches_are_a_function_of_seed_and_step() -> None:
    data, device = toy_data(), torch.device("cpu")
    recipe = Recipe(batch_size=8, augment="affine")
    rows = shuffled_rows(len(data.train), 8, 3, seed=0)
    inputs, targets = training_batch(data, recipe, 3, rows, device)
    again, _ = training_batch(data, recipe, 3, rows, device)
    other, _ = training_batch(data, replace(recipe, seed=1), 3, rows, device)
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


def test_learning_rate_ends_constant_at_its_floor() -> None:
    recipe = Recipe(learning_rate=2.0, warmup_steps=4, rate_floor=0.05)
    rates = [learning_rate(recipe, step, 104) for step in range(105)]
    assert rates[0] == pytest.approx(0.4)
    assert min(rates[4:]) == rates[104] == pytest.approx(0.1)
    assert rates[95:] == pytest.approx([0.1] * 10)


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
        ({"sampler": "sandwhich"}, "sampler = 'sandwhich' .* did you mean 'sandwich'"),
        ({"split": True}, "split = True cannot go with distill = 'inplace'"),
        ({"split": 1}, "split = 1 is impossible; it must be true or false"),
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


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_combine_with_a_base(name: str) -> None:
    recipe = preset(f"digits+{name}")
    changed = preset("digits").differences(recipe)
    assert set(changed) <= set(STRATEGIES[name])
    assert preset(name, base="digits") == recipe


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits+alphanot", "unknown recipe 'alphanot'; did you mean 'alphanet'"),
        ("alphanet+digits", "'digits' is a base; it must be the first part"),
        ("spos+inplace", "spos has sampler = 'uniform' and inplace has sampler = 'sandwich'"),
    ],
)
def test_impossible_combinations_are_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(name)


def test_a_guide_and_a_sampler_must_fit() -> None:
    recipe = Recipe(sampler="uniform", distill="inplace")
    with pytest.raises(ValueError, match="needs the largest network in every step"):
        compose(toy_supernet(), toy_data(), recipe, 10)
    with pytest.raises(ValueError, match="needs a teacher"):
        compose(toy_supernet(), toy_data(), Recipe(distill="teacher"), 10)
    with pytest.raises(ValueError, match=r"no module 'my\.sampler' for the sampler"):
        compose(toy_supernet(), toy_data(), Recipe(sampler="my.sampler"), 10)


# -- the step ----------------------------------------------------------------------------------


def test_a_score_is_the_loss_of_a_batch_and_leaves_no_trace() -> None:
    supernet, (inputs, targets) = toy_supernet().train(), batch()
    strategy = Strategy(supernet, Always(supernet.space.largest))
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    score = strategy.score([supernet.space.smallest, supernet.space.largest], inputs, targets)
    assert all(torch.equal(before[name], v) for name, v in supernet.state_dict().items())
    assert all(p.grad is None for p in supernet.parameters())
    ends = (supernet.space.smallest, supernet.space.largest)
    losses = backward(supernet, ends, Labels(), inputs, targets)
    assert score == pytest.approx([float(loss) for loss in losses], rel=1e-5)
    assert not torch.equal(before["model.bn.running_mean"], supernet.model.bn.running_mean)


def test_parts_of_a_batch_train_different_architectures() -> None:
    supernet, (inputs, targets) = toy_supernet(), batch()
    ends = (supernet.space.largest, supernet.space.smallest)
    losses = backward(supernet, ends, Labels(), inputs, targets, split=True)
    expected = toy_supernet()
    for index, architecture in enumerate(ends):
        part = slice(6 * index, 6 * index + 6)
        loss = cross_entropy(expected(inputs[part], architecture), targets[part])
        assert float(losses[index]) == pytest.approx(loss.item(), rel=1e-6)
        (loss / 2).backward()
    for ours, theirs in zip(supernet.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    with pytest.raises(ValueError, match="11 samples cannot be cut into 2 equal architectures"):
        backward(supernet, ends, Labels(), inputs[:11], targets[:11], split=True)


def test_micro_batches_add_up_to_the_mean_of_their_losses() -> None:
    supernet, (inputs, targets) = toy_supernet(), batch()
    ends = (supernet.space.largest, supernet.space.smallest)
    losses = backward(supernet, ends, Labels(), inputs, targets, micro_batches=3)
    expected = toy_supernet()
    totals = [0.0, 0.0]
    for start in range(0, 12, 4):
        for index, architecture in enumerate(ends):
            part = slice(start, start + 4)
            loss = cross_entropy(expected(inputs[part], architecture), targets[part])
            totals[index] += loss.item() / 3
            (loss / 6).backward()
    assert [float(loss) for loss in losses] == pytest.approx(totals, rel=1e-6)
    for ours, theirs in zip(supernet.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_an_external_teacher_replaces_the_largest() -> None:
    inputs, targets = batch()
    teacher = toy_supernet().model

    def gradients(labels: torch.Tensor, share: float) -> torch.Tensor:
        supernet = toy_supernet()
        guide = Teacher(teacher, label_share=share, batch_statistics=True)
        backward(supernet, (supernet.space.smallest,), guide, inputs, labels)
        gradient = supernet.model.classifier.weight.grad
        assert gradient is not None
        return gradient

    wrong = (targets + 1) % 3
    assert torch.equal(gradients(targets, 0.0), gradients(wrong, 0.0))
    assert not torch.equal(gradients(targets, 1.0), gradients(wrong, 1.0))
    assert gradients(targets, 0.0).abs().max() > 1e-4
    assert all(p.grad is None for p in teacher.parameters())


def test_each_may_learn_from_the_one_before_it() -> None:
    guide = InPlace(previous=True)
    space = toy_supernet().space
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    earlier = {space.largest: first, space.smallest: second}
    logits, targets = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    loss = guide.loss(space.smallest, logits, targets, earlier)
    assert loss == kl_divergence(logits, second)
    assert InPlace().loss(space.smallest, logits, targets, earlier) == kl_divergence(logits, first)


def test_dropout_can_act_in_the_largest_alone() -> None:
    def losses(regularise: str, seed: int) -> list[float]:
        supernet, (inputs, targets) = toy_supernet().train(), batch()
        dropout = nn.Dropout(0.5)
        supernet.model.classifier = nn.Sequential(dropout, supernet.model.classifier)
        plain = Supernet(
            supernet.model.train(), supernet.space, [], units=["conv"], inputs=supernet.inputs
        )
        ends = (plain.space.largest, plain.space.smallest)
        options = {"regularise": regularise, "dropout_seed": seed}
        found = backward(plain, ends, Labels(), inputs, targets, **options)
        assert dropout.training
        return [float(loss) for loss in found]

    everyone, largest = [losses("all", s) for s in (0, 1)], [losses("largest", s) for s in (0, 1)]
    assert everyone[0][1] != everyone[1][1]
    assert largest[0][0] != largest[1][0]
    assert largest[0][1] == largest[1][1]


def test_epochs_become_steps() -> None:
    assert Recipe(epochs=3, batch_size=16).total_steps(100) == 19
    assert Recipe(steps=7).total_steps(100) == 7
