"""Samplers do what their papers promise: counts, histograms and probabilities with real numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from math import lcm

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from supernet.costs.mac_bins import MacBins, cut_into_mac_bins
from supernet.families import nas_bench_macro
from supernet.space import Architecture, Choice, SearchSpace
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import build_choice_supernet, build_toy_supernet, make_toy_data
from supernet.training import find_recipe
from supernet.training.method import TrainingMethod
from supernet.training.samplers._attentive import Attentive
from supernet.training.samplers.budget import Budget
from supernet.training.samplers.fair import Fair
from supernet.training.samplers.panda import FLOOR, Panda
from supernet.training.samplers.shift import Shift
from supernet.training.samplers.uniform import Uniform


@cache
def macro() -> Supernet:
    """Three operations in each of five layers: 243 architectures."""
    return nas_bench_macro.build(nas_bench_macro.PRESETS["tiny"])


@cache
def bins(count: int = 10) -> MacBins:
    return cut_into_mac_bins(macro().cost_model(), count)


def no_score(architectures: Sequence[Architecture]) -> list[float]:
    raise AssertionError("this sampler compares nothing")


# -- bins --------------------------------------------------------------------------------------


def test_bins_hold_the_share_of_the_space_they_claim() -> None:
    space = macro().space
    grid = np.stack(np.meshgrid(*[np.arange(3)] * len(space), indexing="ij"), -1)
    everyone = grid.reshape(-1, len(space)).astype(np.int16)
    places = bins().find_bins(everyone)
    assert places.min() == 0
    assert places.max() == len(bins()) - 1
    exact = np.bincount(places) / len(everyone)
    assert np.abs(bins().prior - exact).max() < 0.015
    # A table is the share of an option among the architectures of a bin.
    members = everyone[places == 4]
    for column in range(len(space)):
        share = np.bincount(members[:, column], minlength=3) / len(members)
        assert np.abs(bins().tables[4, column] - share).max() < 0.05


def test_tables_speak_of_choices_where_they_matter() -> None:
    depth = Choice("depth", (1, 2), "depth")
    inner = Choice("inner", (1, 2), "width", needs=("depth", 2))
    supernet = build_choice_supernet()
    space = SearchSpace((depth, inner))
    positions = np.array([[0, 0]] * 90 + [[1, 0]] * 5 + [[1, 1]] * 5, dtype=np.int16)
    from supernet.costs.mac_bins import _count_tables

    tables = _count_tables(space, positions, np.zeros(100, dtype=np.intp), 1)
    assert tables[0].tolist() == [[0.9, 0.1], [0.5, 0.5]]
    assert len(cut_into_mac_bins(supernet.cost_model())) > 1


def test_draws_lie_in_their_bin_and_differ() -> None:
    rng = np.random.default_rng(0)
    for index in range(len(bins())):
        for draw in (bins().draw, bins().draw_uniform):
            positions = draw(rng, index, 4)
            assert (bins().find_bins(positions) == index).all()
            assert len(np.unique(positions, axis=0)) == len(positions) == 4


def test_a_bin_nothing_falls_into_gives_the_nearest() -> None:
    costs = bins().macs(macro().space.encode([macro().space.largest]))
    edges = np.array([costs[0] + 1, costs[0] + 2])
    empty = replace(bins(), edges=edges, prior=np.ones(1), tables=bins().tables[-1:])
    drawn = empty.draw(np.random.default_rng(0), 0, 3)
    assert macro().space.decode(drawn) == [macro().space.largest]


def test_bounds_are_kept_and_impossible_ones_explained() -> None:
    everyone = bins().macs(macro().space.sample(np.random.default_rng(0), 500))
    low, high = np.quantile(everyone, [0.3, 0.6])
    some = cut_into_mac_bins(macro().cost_model(), 5, least=low, most=high)
    sampler = Budget(some)
    for step in range(50):
        (architecture,) = sampler.draw(step, no_score)
        assert low <= macro().macs(architecture) <= high
    with pytest.raises(ValueError, match=r"no architecture was found between 1 and 2 MACs"):
        cut_into_mac_bins(macro().cost_model(), least=1, most=2)
    with pytest.raises(ValueError, match="most = 1 MACs is below least = 2 MACs"):
        cut_into_mac_bins(macro().cost_model(), least=2, most=1)
    with pytest.raises(ValueError, match="bins = 0 is impossible"):
        cut_into_mac_bins(macro().cost_model(), 0)
    flat = build_toy_supernet()
    flat.space = SearchSpace((Choice("width", (8,), "width"),))
    flat.forget_shells()
    with pytest.raises(ValueError, match="cannot tell them apart by cost"):
        cut_into_mac_bins(flat.cost_model())


# -- budget ------------------------------------------------------------------------------------


def test_every_cost_is_drawn_equally_often() -> None:
    sampler, draws = Budget(bins(), seed=1), 600
    drawn = [sampler.draw(step, no_score)[0] for step in range(draws)]
    places = bins().find_bins(macro().space.encode(drawn))
    counts = np.bincount(places, minlength=len(bins()))
    assert counts.sum() == draws
    assert chisquare(counts).pvalue > 0.01
    # An even draw of choices does not pass: middling costs are five times as frequent.
    plain = bins().find_bins(macro().space.sample(np.random.default_rng(1), draws))
    assert chisquare(np.bincount(plain, minlength=len(bins()))).pvalue < 1e-20


# -- strict fairness ---------------------------------------------------------------------------


def options_used(sampler: Fair, steps: int) -> list[Counter[int]]:
    rows = np.concatenate([sampler.list_positions(step) for step in range(steps)])
    return [Counter(rows[:, column].tolist()) for column in range(rows.shape[1])]


def test_every_operation_trains_once_in_every_step() -> None:
    space, steps = macro().space, 40
    sampler = Fair(space, seed=2)
    counts: Counter[tuple[str, object]] = Counter()
    for step in range(steps):
        drawn = sampler.draw(step, no_score)
        assert len(drawn) == 3
        counts.update(item for architecture in drawn for item in architecture.to_dict().items())
        assert set(counts.values()) == {step + 1}
    assert len(counts) == 3 * len(space)
    # The combinations change from step to step.
    assert len({sampler.draw(step, no_score) for step in range(steps)}) == steps


def test_other_numbers_of_options_are_level_again_after_a_common_multiple() -> None:
    sizes = (4, 2, 3)
    choices = [Choice(f"c{n}", tuple(range(n)), "operation") for n in sizes]
    inner = Choice("inner", (0, 1, 2, 3, 4), "kernel", needs=("c4", 2))
    space = SearchSpace((*choices, inner))
    sampler = Fair(space)
    assert sampler.paths == 4  # the choice with five options does not always matter
    for steps in range(1, 16):
        four, two, three, five = options_used(sampler, steps)
        assert set(four.values()) == {steps}
        assert set(two.values()) == {2 * steps}
        for counts, options in ((three, 3), (five, 5)):
            used = [counts[option] for option in range(options)]
            level = steps % (lcm(options, 4) // 4) == 0
            assert max(used) - min(used) == (0 if level else 1)
        assert len(sampler.draw(steps, no_score)) == 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_strict_fairness_steadies_the_gradient(seed: int) -> None:
    """At fixed weights and on one batch, against as many architectures drawn independently."""
    inputs, targets = make_toy_data(120).train.batch(slice(0, 96), torch.device("cpu"))

    def spread(make: Callable[[SearchSpace], Fair | Uniform]) -> float:
        supernet = build_choice_supernet(seed)
        method, gradients = TrainingMethod(supernet, make(supernet.space)), []
        for step in range(60):
            supernet.zero_grad(set_to_none=True)
            method.backward(step, inputs, targets)
            parameters = [*supernet.parameters()]
            flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            gradients.append(torch.cat([tensor.flatten() for tensor in flat]))
        return float(torch.stack(gradients).var(0).sum())

    fair = spread(lambda space: Fair(space, seed))
    assert 0 < fair < 0.8 * spread(lambda space: Uniform(space, seed, 3))


# -- best-up and worst-up ----------------------------------------------------------------------


def loss_of(architecture: Architecture) -> float:
    return int(architecture.digest, 16) / 16**12


def test_costs_are_drawn_as_often_as_the_space_has_them() -> None:
    sampler = Attentive(bins(), seed=3, random=40, candidates=1, predict=lambda p: np.zeros(len(p)))
    counts = np.zeros(len(bins()))
    for step in range(30):
        # Of the 40 some coincide and are dropped, so they are counted before.
        rows: list[np.ndarray] = []
        replace(sampler, predict=lambda p, r=rows: (r.append(p), np.zeros(len(p)))[1]).draw(
            step, no_score
        )
        counts += np.bincount(bins().find_bins(rows[0]), minlength=len(bins()))
    assert counts.sum() == 1200
    assert chisquare(counts, 1200 * bins().prior).pvalue > 0.01


@pytest.mark.parametrize("best", [True, False])
def test_the_best_or_worst_candidate_of_a_cost_trains(best: bool) -> None:
    space = macro().space
    asked: list[list[Architecture]] = []

    def score(architectures: Sequence[Architecture]) -> list[float]:
        asked.append([*architectures])
        return [loss_of(a) for a in architectures]

    sampler = Attentive(bins(), random=1, candidates=5, best=best)
    for step in range(20):
        largest, smallest, *chosen = sampler.draw(step, score)
        assert (largest, smallest) == (space.largest, space.smallest)
        candidates = asked[-1]
        assert len(candidates) == 5
        assert len(set(bins().find_bins(space.encode(candidates)).tolist())) == 1
        wanted = (min if best else max)(candidates, key=loss_of)
        assert chosen == [a for a in (wanted,) if a not in (largest, smallest)]


def test_a_predictor_decides_instead_of_the_batch() -> None:
    space = macro().space

    def predict(positions: np.ndarray) -> np.ndarray:
        return np.array([-loss_of(a) for a in space.decode(positions)])

    by_loss = Attentive(bins(), candidates=10)
    by_prediction = replace(by_loss, predict=predict)
    for step in range(10):
        expected = by_loss.draw(step, lambda some: [loss_of(a) for a in some])
        assert by_prediction.draw(step, no_score) == expected


# -- probability shift -------------------------------------------------------------------------


def shift_after(improving: int | None, steps: int) -> tuple[Shift, np.ndarray]:
    """A run in which one bucket's loss falls by 2 % a step, and how often each was drawn."""
    sampler = Shift(bins(), seed=4)
    counts = np.zeros(len(bins()))
    for step in range(steps):
        (architecture,) = sampler.draw(step, no_score)
        bucket = int(bins().find_bins(macro().space.encode([architecture]))[0])
        counts[bucket] += 1
        sampler.learn(step, {architecture: 0.98**step if bucket == improving else 1.0})
    return sampler, counts


def test_costs_that_improve_are_drawn_more_often() -> None:
    sampler, counts = shift_after(improving=7, steps=300)
    probabilities = sampler.compute_probabilities()
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities.argmax() == counts.argmax() == 7
    assert counts[7] > 3 * np.delete(counts, 7).max()
    # The floor: everyone keeps a fifth of an even share.
    assert probabilities.min() >= 0.2 / len(bins())


def test_without_improvement_all_costs_stay_equally_likely() -> None:
    sampler, counts = shift_after(improving=None, steps=600)
    assert sampler.compute_probabilities() == pytest.approx(np.full(len(bins()), 1 / len(bins())))
    assert chisquare(counts).pvalue > 0.01


def test_gains_are_those_of_the_formula() -> None:
    sampler = Shift(bins(), smoothing=0.5)
    (architecture,) = sampler.draw(0, no_score)
    bucket = int(bins().find_bins(macro().space.encode([architecture]))[0])
    for step, loss in enumerate((2.0, 1.0, 3.0)):
        sampler.learn(step, {architecture: loss})
    # Smoothed losses 2, 1.5, 2.25: gains 0.5 / 1.5 and 0, each half of the new mean.
    assert sampler.losses[bucket] == pytest.approx(2.25)
    assert sampler.gains[bucket] == pytest.approx((0.5 / 1.5) / 2 / 2)


# -- path importance ---------------------------------------------------------------------------


def gradients(supernet: Supernet, norms: dict[str, float]) -> None:
    """Give every parameter of a module a gradient, so that the module's norm is the given one."""
    supernet.zero_grad(set_to_none=True)
    for path, norm in norms.items():
        parameters = list(supernet.model.get_submodule(path).parameters())
        total = sum(p.numel() for p in parameters)
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, norm / total**0.5)


def test_operations_with_larger_gradients_are_drawn_more_often() -> None:
    supernet = build_choice_supernet()
    space = supernet.space
    sampler = Panda(supernet, steps=4, period=2)
    assert sampler.probabilities[0] == pytest.approx([1 / 3] * 3)
    drawn = [
        space.architecture({"first": op, "second": "conv", "width": 6})
        for op in ("skip", "point", "conv", "conv")
    ]
    gradients(supernet, {"first.point": 1.0, "first.conv": 2.0, "second.conv": 5.0})
    sampler.learn(0, dict.fromkeys(drawn[:2], 1.0))
    gradients(supernet, {"first.conv": 3.0})
    sampler.learn(1, {drawn[2]: 1.0})
    # Half way tau is 1/2; norms are 0, 1 and 3, and a tenth stays even.
    norms, even = np.array([0.0, 1.0, 3.0]), np.full(3, 1 / 3)
    assert sampler.norms[0] == pytest.approx(norms)
    expected = FLOOR * even + (1 - FLOOR) * (0.5 * norms / 4 + 0.5 * even)
    assert sampler.probabilities[0] == pytest.approx(expected)
    # Options that were never drawn count as the largest: everything is even still.
    assert sampler.probabilities[1] == pytest.approx(even)
    # The width cuts shared weights: it stays even for good.
    assert sampler.probabilities[2, :2] == pytest.approx([0.5, 0.5])
    gradients(supernet, {"first.conv": 1.0})
    sampler.learn(2, {drawn[2]: 1.0})
    sampler.learn(3, {drawn[2]: 1.0})
    # The mean of old and new; at the end tau is 1, and what has no weights keeps its floor.
    assert sampler.norms[0] == pytest.approx([0.0, 1.0, 2.0])
    assert sampler.probabilities[0] == pytest.approx(
        FLOOR / 3 + (1 - FLOOR) * np.array([0, 1, 2]) / 3
    )
    counts = Counter(sampler.draw(step, no_score)[0]["first"] for step in range(900))
    observed = [counts[op] for op in ("skip", "point", "conv")]
    assert chisquare(observed, 900 * sampler.probabilities[0]).pvalue > 0.01


def test_gradients_of_a_layer_vary_less_than_of_even_draws() -> None:
    """At fixed weights, each option's gradient weighted by 1 / p so that no draw is biased."""
    supernet = build_choice_supernet()
    space = supernet.space
    inputs, targets = make_toy_data().train.batch(slice(0, 60), torch.device("cpu"))
    sampler = Panda(supernet, steps=3, period=3)
    parameters = [*supernet.model.first.parameters()]
    rows = []
    for step, operation in enumerate(("skip", "point", "conv")):
        architecture = space.architecture({"first": operation, "second": "conv", "width": 6})
        supernet.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(supernet(inputs, architecture), targets).backward()
        sampler.learn(step, {architecture: 1.0})
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        rows.append(torch.cat([tensor.flatten() for tensor in flat]).double().numpy())
    gradients = np.stack(rows)

    def variance(chances: np.ndarray) -> float:
        rng = np.random.default_rng(0)
        drawn = rng.choice(3, size=4000, p=chances)
        estimates = gradients[drawn] / (3 * chances[drawn])[:, None]
        error = ((estimates.mean(0) - gradients.mean(0)) ** 2).sum()
        spread = estimates.var(0).sum()
        assert error < 4 * spread / len(drawn)
        return float(spread)

    assert sampler.probabilities[0, 0] == pytest.approx(FLOOR / 3)  # "skip" has no weights
    assert variance(sampler.probabilities[0]) < 0.8 * variance(np.full(3, 1 / 3))


def test_spaces_of_shared_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="cut weights that their options share"):
        Panda(build_toy_supernet(), steps=10)


def test_a_recipe_takes_a_sampler_by_its_name_or_path() -> None:
    assert find_recipe("digits+budget").sampler == "budget"
    taught = find_recipe("digits+inplace+my_package.ends")
    assert (taught.sampler, taught.distill) == ("my_package.ends", "inplace")
    with pytest.raises(ValueError, match=r"two samplers, budget and my\.own"):
        find_recipe("digits+budget+my.own")
    with pytest.raises(ValueError, match="unknown recipe 'unifrom'"):
        find_recipe("digits+unifrom")
