"""Rows drawn by importance: scores, unbiased weights, less variance, exact continuation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Recipe, TrainingMethod, Uniform, compose
from supernet.training.batches.importance import HIGHEST, ImportanceRows

ARCHITECTURE = build_toy_supernet().space.largest


def see(rows: ImportanceRows, step: int, which: np.ndarray, logits: Tensor, y: Tensor) -> None:
    rows.observe(step, which, ARCHITECTURE, logits, y)
    rows.learn(step, {})


def test_scores_are_the_distance_of_the_prediction_from_the_label() -> None:
    rows = ImportanceRows(4, steps=100)
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    see(rows, 0, np.array([1, 2]), logits, torch.tensor([0, 1]))
    # The second sample again, by another architecture in the same epoch: the mean of both.
    see(rows, 1, np.array([2]), torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    rows.choose(50, batch_size=1)
    half, wrong = math.sqrt(0.5), math.sqrt(2) * 0.75
    assert rows.scores == pytest.approx([HIGHEST, half, (wrong + half) / 2, HIGHEST])
    expected = 0.5 * rows.scores / rows.scores.sum() + 0.5 / 4
    assert rows.probabilities == pytest.approx(expected)
    # What is seen later does not change the epoch.
    see(rows, 51, np.array([0]), torch.tensor([[9.0, 0.0]]), torch.tensor([0]))
    rows.choose(51, batch_size=1)
    assert rows.probabilities == pytest.approx(expected)


def test_tokens_count_by_their_mean() -> None:
    rows = ImportanceRows(2, steps=10)
    logits = torch.tensor([[[0.0, 0.0], [100.0, 0.0]]])
    see(rows, 0, np.array([0]), logits, torch.tensor([[0, 0]]))
    rows.choose(5, batch_size=2)
    assert rows.scores == pytest.approx([math.sqrt(0.5) / 2, HIGHEST])


def test_draws_follow_the_probabilities_and_begin_even() -> None:
    rows = ImportanceRows(3, steps=10, seed=1)
    first = np.bincount(rows.choose(0, 3000), minlength=3)
    assert np.abs(first / 3000 - 1 / 3).max() < 0.03
    rows.probabilities = np.array([0.7, 0.1, 0.2])
    rows.load_state_dict(rows.state_dict())
    second = np.bincount(rows.choose(0, 3000), minlength=3)
    assert np.abs(second / 3000 - rows.probabilities).max() < 0.03
    assert np.array_equal(rows.choose(0, 8), rows.choose(0, 8))
    assert not np.array_equal(rows.choose(0, 8), ImportanceRows(3, 10, seed=2).choose(0, 8))


def per_sample_gradients() -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a linear classifier that is sure about most samples, its logits and labels."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    inputs = torch.randn(60, 5, generator=generator) * 0.3
    inputs[torch.arange(60), targets] += 4.0
    inputs[:6, 3:] += 3.0
    inputs[torch.arange(6), targets[:6]] -= 4.0  # a tenth is not recognised
    layer = nn.Linear(5, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3, 5) * 2)
        layer.bias.zero_()
    logits = layer(inputs)
    rows = []
    for logit, target in zip(logits, targets, strict=True):
        loss = nn.functional.cross_entropy(logit[None], target[None])
        gradients = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(rows).double(), logits.detach(), targets


def test_weighted_draws_are_unbiased_and_vary_less_than_even_ones() -> None:
    gradients, logits, targets = per_sample_gradients()
    mean = gradients.mean(0)
    rows = ImportanceRows(60, steps=2)
    see(rows, 0, np.arange(60), logits, targets)
    batches = 4000

    def estimates(step: int) -> Tensor:
        rows.choose(step, 60)  # begins the epoch
        generator = np.random.default_rng(step)
        drawn = generator.choice(60, size=(batches, 8), p=rows.probabilities)
        weights = torch.from_numpy(rows.compute_weights(drawn, most=math.inf))
        return (gradients[drawn] * weights[..., None]).mean(1)

    even = estimates(0)
    assert rows.probabilities == pytest.approx(np.full(60, 1 / 60))
    important = estimates(1)  # half way: half of the draw is by score
    for values in (even, important):
        # The mean of the batches is off by no more than chance allows.
        assert (values.mean(0) - mean).square().sum() < 4 * values.var(0).sum() / batches
    variance = [float(values.var(0).sum()) for values in (even, important)]
    assert variance[1] < 0.5 * variance[0]


def test_weights_are_bounded() -> None:
    rows = ImportanceRows(2, steps=1)
    rows.probabilities = np.array([0.999, 0.001])
    assert rows.compute_weights(np.array([0, 1]), most=10) == pytest.approx([1 / 1.998, 10])


def test_a_continued_run_draws_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(20, 3, generator=generator), torch.arange(20) % 3

    def feed(rows: ImportanceRows, steps: range) -> list[list[int]]:
        drawn = []
        for step in steps:
            batch = rows.choose(step, 6)
            see(rows, step, batch, logits[batch], targets[batch])
            drawn.append(batch.tolist())
        return drawn

    whole, first, second = (ImportanceRows(20, steps=20, seed=3) for _ in range(3))
    expected = feed(whole, range(20))
    assert feed(first, range(6)) == expected[:6]  # in the middle of the second epoch
    state = first.state_dict()
    feed(first, range(6, 20))  # what was saved is a copy
    second.load_state_dict(state)
    assert feed(second, range(6, 20)) == expected[6:]
    assert np.array_equal(whole.probabilities, second.probabilities)


def test_a_strategy_tells_it_what_was_seen() -> None:
    supernet, data = build_toy_supernet(), make_toy_data()
    rows = ImportanceRows(len(data.train), steps=100)
    method = TrainingMethod(supernet, Uniform(supernet.space, count=2), rows=rows, micro_batches=2)
    batch = np.array([3, 1, 4, 15])
    inputs, targets = data.train.batch(torch.from_numpy(batch), torch.device("cpu"))
    losses = method.backward(0, inputs, targets, batch)
    assert np.flatnonzero(rows.times).tolist() == [1, 3, 4, 15]
    assert set(rows.times[batch]) == {len(losses)}
    composed = compose(supernet, data, Recipe(rows="importance", distill="none"), 10)
    assert isinstance(composed.rows, ImportanceRows)
    assert {"rows.scores", "rows.probabilities", "rows.epoch"} <= set(composed.state_dict())


def rank_of_two(rank: int, folder: str) -> None:
    """One of two processes that each see their half of a batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    supernet, data = build_toy_supernet(), make_toy_data()
    rows = ImportanceRows(len(data.train), steps=4, seed=1)
    method = TrainingMethod(supernet, Uniform(supernet.space, count=2), rows=rows)
    for step in range(4):
        half = rows.choose(step, 30).reshape(2, 15)[rank]
        inputs, targets = data.train.batch(torch.from_numpy(half), torch.device("cpu"))
        method.backward(step, inputs, targets, half)
    torch.save(rows.state_dict(), f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_ranks_remember_what_any_of_them_saw(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert int(first["epoch"]) == 1
    assert first["probabilities"].std() > 0
    # The second epoch so far: two steps, 30 samples, by both architectures of a step.
    assert int(first["times"].sum()) in (60, 90, 120)
