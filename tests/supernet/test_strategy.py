"""A step of a method against one written out by hand: gradients, losses, parts, teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import build_choice_supernet, build_toy_supernet, make_toy_data
from supernet.training import (
    InPlace,
    Labels,
    Recipe,
    Teacher,
    TrainingMethod,
    Uniform,
    compose,
    cross_entropy,
    distributed,
    find_recipe,
    kl_divergence,
    train,
)
from supernet.training.samplers.fair import Fair

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
    method = TrainingMethod(supernet, Always(*architectures), guide, **options)
    return [*method.backward(0, inputs, targets).values()]


def manual_gradients(smoothing: float) -> dict[str, torch.Tensor]:
    """The sandwich written out with autograd over explicitly sliced weights."""
    supernet, (inputs, targets) = build_toy_supernet(), batch()
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
    return make_toy_data().train.batch(slice(0, 12), torch.device("cpu"))


def test_gradients_of_the_sandwich_equal_the_written_out_ones() -> None:
    supernet, (inputs, targets) = build_toy_supernet(), batch()
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
        supernet = build_toy_supernet()
        # Freezing what only the largest has separates its gradient from the smallest's.
        ends = (supernet.space.largest, supernet.space.smallest)
        backward(supernet, ends, guide, inputs, labels)
        whole = supernet.model.conv.weight.grad
        alone = build_toy_supernet()
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


# -- the step ----------------------------------------------------------------------------------


def test_a_score_is_the_loss_of_a_batch_and_leaves_no_trace() -> None:
    supernet, (inputs, targets) = build_toy_supernet().train(), batch()
    method = TrainingMethod(supernet, Always(supernet.space.largest))
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    score = method.score([supernet.space.smallest, supernet.space.largest], inputs, targets)
    assert all(torch.equal(before[name], v) for name, v in supernet.state_dict().items())
    assert all(p.grad is None for p in supernet.parameters())
    ends = (supernet.space.smallest, supernet.space.largest)
    losses = backward(supernet, ends, Labels(), inputs, targets)
    assert score == pytest.approx([float(loss) for loss in losses], rel=1e-5)
    assert not torch.equal(before["model.bn.running_mean"], supernet.model.bn.running_mean)


def test_parts_of_a_batch_train_different_architectures() -> None:
    supernet, (inputs, targets) = build_toy_supernet(), batch()
    ends = (supernet.space.largest, supernet.space.smallest)
    losses = backward(supernet, ends, Labels(), inputs, targets, split=True)
    expected = build_toy_supernet()
    for index, architecture in enumerate(ends):
        part = slice(6 * index, 6 * index + 6)
        loss = cross_entropy(expected(inputs[part], architecture), targets[part])
        assert float(losses[index]) == pytest.approx(loss.item(), rel=1e-6)
        (loss / 2).backward()
    for ours, theirs in zip(supernet.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    with pytest.raises(ValueError, match="1 samples are too few for 2 architectures"):
        backward(supernet, ends, Labels(), inputs[:1], targets[:1], split=True)


def test_parts_need_not_be_equal_because_samplers_may_draw_fewer_than_asked(tmp_path: Path) -> None:
    supernet, (inputs, targets) = build_toy_supernet(), batch()
    ends = (supernet.space.largest, supernet.space.smallest)
    backward(supernet, ends, Labels(), inputs[:11], targets[:11], split=True)
    expected = build_toy_supernet()
    for part, architecture in zip((slice(5), slice(5, 11)), ends, strict=True):
        (cross_entropy(expected(inputs[part], architecture), targets[part]) / 2).backward()
    for ours, theirs in zip(supernet.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    # Four draws out of three architectures always repeat one.
    recipe = find_recipe("digits+multi").replace({"steps": 12, "batch_size": 16, "warmup_steps": 2})
    assert train(build_toy_supernet(), make_toy_data(), recipe, tmp_path).steps == 12


def test_micro_batches_add_up_to_the_mean_of_their_losses() -> None:
    supernet, (inputs, targets) = build_toy_supernet(), batch()
    ends = (supernet.space.largest, supernet.space.smallest)
    losses = backward(supernet, ends, Labels(), inputs, targets, micro_batches=3)
    expected = build_toy_supernet()
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
    teacher = build_toy_supernet().model

    def gradients(labels: torch.Tensor, share: float) -> torch.Tensor:
        supernet = build_toy_supernet()
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
    space = build_toy_supernet().space
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    earlier = {space.largest: first, space.smallest: second}
    logits, targets = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    loss = guide.loss(space.smallest, logits, targets, earlier)
    assert loss == kl_divergence(logits, second)
    assert InPlace().loss(space.smallest, logits, targets, earlier) == kl_divergence(logits, first)


@pytest.mark.parametrize("sampler", ["sandwich", "best_up", "worst_up"])
def test_where_each_learns_from_the_one_before_the_smallest_comes_last(sampler: str) -> None:
    supernet = build_choice_supernet()
    ends = (supernet.space.largest, supernet.space.smallest)
    recipe = Recipe(sampler=sampler, distill="previous")
    orders = []
    for changed in (recipe, recipe.replace({"distill": "inplace"})):
        method = compose(supernet, make_toy_data(), changed, 10)
        orders.append([method.sampler.draw(step, lambda some: [0.0 for _ in some])
                       for step in range(12)])  # fmt: skip
    for last, second in zip(*orders, strict=True):
        assert (last[0], last[-1]) == ends == second[:2]
        assert last[1:-1] == second[2:]
    assert max(map(len, orders[0])) == 4


def test_dropout_can_act_in_the_largest_alone() -> None:
    def losses(regularise: str, seed: int) -> list[float]:
        supernet, (inputs, targets) = build_toy_supernet().train(), batch()
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


# -- several architectures in one batch --------------------------------------------------------


def test_groups_of_a_batch_have_the_mean_of_their_gradients() -> None:
    inputs, targets = make_toy_data().train.batch(slice(0, 12), torch.device("cpu"))

    class First:
        def draw(self, step: int, score: object) -> tuple[Architecture, ...]:
            return drawn

    supernet, apart = build_choice_supernet(), build_choice_supernet()
    drawn = Fair(supernet.space).draw(0, lambda _: [])
    TrainingMethod(supernet, First(), split=True).backward(0, inputs, targets)
    total = {name: torch.zeros_like(p) for name, p in apart.named_parameters()}
    used: set[str] = set()
    for index, architecture in enumerate(drawn):
        apart.zero_grad(set_to_none=True)
        rows = slice(4 * index, 4 * index + 4)
        torch.nn.functional.cross_entropy(
            apart(inputs[rows], architecture), targets[rows]
        ).backward()
        for name, parameter in apart.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad / len(drawn)
                used.add(name)
    assert len(drawn) == 3
    for name, parameter in supernet.named_parameters():
        assert (parameter.grad is not None) == (name in used)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, total[name])
    assert sum(tensor.abs().sum() for tensor in total.values()) > 0.1


def test_several_architectures_per_batch_steady_the_gradient() -> None:
    """At fixed weights and equal cost: one batch of 96 shared by four, or all of it for one."""
    data = make_toy_data(120)

    def spread(count: int) -> float:
        supernet = build_choice_supernet()
        weights = [*supernet.parameters()]
        method = TrainingMethod(supernet, Uniform(supernet.space, count=count), split=count > 1)
        gradients = []
        for step in range(60):
            rows = np.random.default_rng([step, 9]).choice(120, 96, replace=False)
            batch = data.train.batch(torch.from_numpy(rows), torch.device("cpu"))
            supernet.zero_grad(set_to_none=True)
            method.backward(step, *batch)
            flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
            gradients.append(torch.cat([tensor.flatten() for tensor in flat]))
        return float(torch.stack(gradients).var(0).sum())

    assert spread(4) < 0.8 * spread(1)


# -- ranks --------------------------------------------------------------------------------------


def test_ranks_that_draw_other_architectures_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    space, sent = build_toy_supernet().space, list[torch.Tensor]()

    def gather(every: list[torch.Tensor], ours: torch.Tensor) -> None:
        sent.append(ours.clone())
        for slot, value in zip(every, (sent[0], sent[-1]), strict=True):
            slot.copy_(value)

    monkeypatch.setattr(distributed, "get_world", lambda: (1, 2))
    monkeypatch.setattr(distributed.dist, "all_gather", gather)
    device = torch.device("cpu")
    distributed.check_same_architectures((space.largest, space.smallest), device)
    distributed.check_same_architectures((space.largest, space.smallest), device)
    with pytest.raises(RuntimeError, match="rank 1 drew other architectures than rank 0"):
        distributed.check_same_architectures((space.smallest, space.largest), device)
