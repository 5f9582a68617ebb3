"""Published strategies keep their published structure, and do what makes them what they are."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from predictors import fit
from search import Constraint, History, InfeasibleError, Objective, SearchProblem, search
from search.arrays.additive import AdditiveTerms
from search.arrays.pareto import hypervolume, nondominated
from search.engines.gradient_descent import Relaxation, private_generator
from search.engines.surrogates import front_neighbours
from search.integer.additive_fit import design, fit_additive
from search.strategies import (
    boshnas,
    coarse_to_fine,
    early_exit,
    integer_program,
    linas,
    mix_and_match,
    ofa_evolution,
    random_search,
    weaknas,
)
from supernet.space import Choice, SearchSpace
from tests.toys.problems import line_space, nested_space, tradeoff, true_front


def share(problem, strategy, evaluations, seed=0):
    """Hypervolume of a search on :func:`tradeoff`, relative to the exact front's."""
    result = search(problem, strategy, evaluations=evaluations, seed=seed)
    exact = problem.minimised(true_front(problem))
    reference = exact.max(0) + 0.1
    return hypervolume(result.front.minimised, reference) / hypervolume(exact, reference)


def evaluated(problem, count, seed=0):
    """A history of random rows."""
    result = search(problem, random_search.build(), evaluations=count, seed=seed)
    return result.history


@pytest.mark.parametrize(
    "strategy",
    [
        linas.Linas(fit, population=25, inner_evaluations=2500),
        ofa_evolution.OfaEvolution(fit, sample=50, budgets=25, population=40, generations=20),
        weaknas.WeakNas(fit, initial=50, batch=25, pool=2000, top=100, least_top=50),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_strategies_with_a_predictor_are_far_ahead_of_random_search(strategy):
    problem = tradeoff()
    floor = share(problem, random_search.build(), 125)
    assert share(problem, strategy, 125) > floor + 0.5 * (1 - floor)


def test_the_published_settings_are_the_defaults():
    published = linas.build(fit)
    assert (published.population, published.inner_evaluations) == (50, 20_000)
    finder = ofa_evolution.build(fit)
    assert (finder.population, finder.parents, finder.mutants) == (100, 0.25, 0.5)
    assert finder.mutation == 0.1
    eeea = early_exit.build()
    assert (eeea.population, eeea.retained, eeea.mutation, eeea.inversion) == (40, 0.1, 0.1, 0.1)
    weak = weaknas.build(fit)
    assert (weak.initial, weak.batch, weak.least_top) == (100, 10, 100)
    shares = boshnas.build()
    assert (shares.starts, shares.caution, shares.uncertain, shares.diverse) == (10, 0.5, 0.1, 0.1)


@pytest.mark.parametrize("module", [linas, ofa_evolution, weaknas])
def test_strategies_that_need_a_predictor_say_so(module):
    with pytest.raises(ValueError, match="needs a fit function"):
        module.build()


class Counting:
    """A predictor that counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def mean(self, positions):
        self.asked += len(positions)
        return np.sqrt(1.0 + np.asarray(positions, dtype=float)).sum(1)

    def predict(self, positions):
        return self.mean(positions), np.ones(len(positions))


@pytest.mark.parametrize("third", [False, True])
def test_linas_spends_its_inner_evaluations_from_a_fresh_population(third):
    problem = tradeoff(third=third)
    strategy = linas.Linas(fit, population=20, inner_evaluations=600)
    assert strategy.generations == 30
    model = Counting()
    visited = strategy.evolve(problem, {"accuracy": model}, np.random.default_rng(0))
    # One row more tells the engine how many numbers there are.
    assert 500 <= model.asked <= 601
    assert len(visited.positions) >= 500
    assert linas.build(fit).generations == 400


def test_budgets_of_the_evolution_finder_are_kept_and_spread():
    problem = tradeoff(constraints=(Constraint("latency_ms", at_most=60.0),))
    history = evaluated(problem, 60)
    strategy = ofa_evolution.OfaEvolution(fit, sample=50, population=40, generations=30)
    rng = np.random.default_rng(0)
    models = strategy.models(problem, history, 0)
    task = ofa_evolution.budgeted(problem, models, history, 6, rng)
    assert task.limits[-1] == 60.0
    populations = strategy.evolve(task, rng)
    assert populations.shape == (6, 40, 12)
    best = [problem.objectives[0].evaluate(rows[:1])[0] for rows in populations]
    front = true_front(problem)
    for rows, limit, found in zip(populations, task.limits, best, strict=True):
        assert (problem.objectives[1].evaluate(rows) <= limit).all()
        exact = front[front[:, 1] <= limit, 0].max()
        assert found >= 0.97 * exact


def test_the_weak_predictors_top_set_shrinks_to_the_published_size():
    strategy = weaknas.build(fit)
    sizes = [strategy.top_size(100 + 10 * i) for i in range(15)]
    assert sizes[0] == 1000
    assert all(b < a for a, b in pairwise(sizes) if a > 100)
    assert sizes[-1] == strategy.top_size(10_000) == 100


def test_weaknas_samples_only_from_the_predicted_top():
    problem = tradeoff()
    history = evaluated(problem, 110)
    strategy = weaknas.WeakNas(lambda *a, **k: Counting(), top=30, least_top=20, pool=400)
    rows = strategy.propose(problem, history, 10, np.random.default_rng(0))
    objectives, violations = weaknas.make_score(problem, {"accuracy": Counting()})(
        strategy.candidates(problem, history, np.random.default_rng(1))
    )
    bar = weaknas.best_first(objectives, violations, len(objectives))
    middle = objectives[bar[: len(bar) // 2], 1].mean()
    assert len(rows) == 10
    found, _ = weaknas.make_score(problem, {"accuracy": Counting()})(rows)
    # Nothing of the sample is dominated by more than the few fronts that make up the top.
    dominated = [(objectives <= point).all(axis=1).sum() for point in found]
    assert max(dominated) < 0.1 * len(objectives)
    assert np.isfinite(middle)


def test_weaknas_ranks_only_what_a_limit_admits_of_a_pool():
    problem = tradeoff(constraints=(Constraint("latency_ms", at_most=70.0),))
    pool = np.unique(problem.space.sample(np.random.default_rng(0), 200), axis=0)
    confined = replace(problem, pool=pool)
    admitted = int(problem.admits(pool).sum())
    assert 30 < admitted < 150
    strategy = weaknas.WeakNas(fit, initial=20, batch=10)
    result = search(confined, strategy, evaluations=200, seed=0)
    assert len(result.history) == admitted
    assert confined.admits(result.history.positions).all()


def test_neighbours_are_those_of_the_front_within_the_limits():
    problem = tradeoff(cheap=False, constraints=(Constraint("accuracy", at_least=20.0),))
    history = evaluated(problem, 80)
    inside = (problem.violations(history.values) <= 0).all(axis=1)
    assert 5 < inside.sum() < 75
    points = problem.minimised(history.values)
    front = np.flatnonzero(inside)[nondominated(points[inside])]
    near = front_neighbours(problem, history, np.random.default_rng(0))
    apart = (near[:, None] != history.positions[front][None]).sum(2).min(1)
    assert (apart == 1).all()
    # Where nothing meets the limits, what exceeds them least.
    hopeless = replace(problem, constraints=(Constraint("accuracy", at_least=1e3),))
    near = front_neighbours(hopeless, history, np.random.default_rng(0))
    best = np.argsort(-history.values[:, 0])[:10]
    apart = (near[:, None] != history.positions[best][None]).sum(2).min(1)
    assert (apart == 1).all()


@pytest.mark.parametrize("quantile", [0.5, 0.1])
def test_the_first_population_is_below_the_threshold_and_complete(quantile):
    problem = tradeoff()
    strategy = early_exit.EarlyExit(quantile=quantile)
    empty = History.empty(problem.names, 12)
    rows = strategy.propose(problem, empty, 40, np.random.default_rng(0))
    costs = problem.objectives[1].evaluate(rows)
    assert len(np.unique(rows, axis=0)) == 40
    sample = problem.objectives[1].evaluate(problem.space.sample(np.random.default_rng(1), 2000))
    assert costs.max() < np.quantile(sample, 0.6)
    given = early_exit.EarlyExit(beta=50.0)
    rows = given.propose(problem, empty, 40, np.random.default_rng(0))
    assert len(rows) == 40
    assert problem.objectives[1].evaluate(rows).max() <= 50.0


def test_a_threshold_that_nothing_is_below_names_the_nearest_cost():
    problem = tradeoff()
    empty = History.empty(problem.names, 12)
    with pytest.raises(InfeasibleError, match="at most 4; the nearest feasible value is 5 ms"):
        early_exit.EarlyExit(beta=4.0).propose(problem, empty, 40, np.random.default_rng(0))


def test_inversion_exchanges_two_choices():
    problem = tradeoff()
    strategy = early_exit.EarlyExit(mutation=0.0, inversion=1.0)
    parent = np.zeros((1, 12), dtype=np.int16)
    parent[0, 4] = 2
    children = strategy.children(problem, parent, 300, np.random.default_rng(0))
    assert (np.sort(children, axis=1) == np.sort(parent, axis=1)).all()
    assert set(np.flatnonzero((children == 2).any(axis=0))) == {3, 4, 5}


def test_generations_after_the_first_come_from_the_retained_tenth():
    strategy = early_exit.build()
    assert strategy.batch_size(0) == 40
    assert strategy.batch_size(25) == 15
    assert strategy.survivors == 4
    assert strategy.batch_size(40) == 36


def test_the_grid_moves_kinds_together_and_holds_both_ends_and_the_middle():
    space = SearchSpace(
        (*nested_space().choices, *(Choice(f"k{i}", (3, 5, 7), "kernel") for i in range(4)))
    )
    grid = coarse_to_fine.coarse_grid(space, 27)
    assert len(grid) == 27
    assert (grid[0] == 0).all()
    assert (grid[1] == space.canonical(np.ones_like(grid[:1]))).all()
    assert (grid[2] == space.cardinalities - 1).all()
    assert (np.ptp(grid[:, -4:], axis=1) == 0).all()
    assert len(coarse_to_fine.coarse_grid(space, 8)) <= 8 + 1


def test_fine_steps_stay_in_their_bin_and_do_not_lower_its_best():
    problem = tradeoff()
    strategy = coarse_to_fine.CoarseToFine(coarse=3, batch=24, bins=6)
    coarse = search(problem, strategy, evaluations=24, seed=0).history
    edges = coarse_to_fine.bin_edges(coarse.values[:, 1], 6)
    rows = strategy.fine(problem, coarse, 24, np.random.default_rng(0))
    new = np.digitize(problem.objectives[1].evaluate(rows), edges)
    old = np.digitize(coarse.values[:, 1], edges)
    assert set(new) <= set(old)
    floor = share(problem, random_search.build(), 240)
    assert share(problem, strategy, 240) > floor


def layered_space(layers=6, levels=4):
    return SearchSpace(
        (
            Choice("depth", (2, 4, 6), "depth"),
            *(
                Choice(f"l{i}.ffn", tuple(range(levels)), "ffn",
                       None if i < 2 else ("depth", 4 if i < 4 else 6))
                for i in range(layers)
            ),
            Choice("heads", (2, 4), "heads"),
        )
    )  # fmt: skip


def test_bins_that_hold_nothing_within_the_limits_are_not_refined():
    problem = tradeoff(choices=16, constraints=(Constraint("accuracy", at_least=45.0),))
    history = evaluated(problem, 60)
    inside = (problem.violations(history.values) <= 0).all(axis=1)
    assert 5 < inside.sum() < 50
    rows = coarse_to_fine.CoarseToFine().fine(problem, history, 40, np.random.default_rng(0))
    latency = problem.objectives[1].evaluate(rows)
    edges = coarse_to_fine.bin_edges(history.values[:, 1], 12)
    usable = set(np.digitize(history.values[inside, 1], edges))
    assert len(usable) < len(set(np.digitize(history.values[:, 1], edges)))
    assert set(np.digitize(latency, edges)) <= usable


def test_mixes_use_two_adjacent_levels_small_ones_first():
    space = layered_space()
    columns = mix_and_match.layer_columns(space)
    assert columns == (1, 2, 3, 4, 5, 6)
    rows = mix_and_match.schedule(space, columns, 1.0)
    assert len(rows) == 6 * 3 + 1
    sizes = rows[:, 1:7]
    assert (np.diff(sizes, axis=1) >= 0).all()
    assert (np.ptp(sizes, axis=1) <= 1).all()
    assert sizes.sum(1).tolist() == list(range(19))
    assert (rows[:, [0, 7]] == [2, 1]).all()
    middle = mix_and_match.schedule(space, columns, 0.5)
    assert (middle[:, 5:7] == 0).all()
    assert len(middle) == 4 * 3 + 1


def test_a_mix_is_within_one_step_of_its_budget_and_better_than_most_mixes():
    space = layered_space()
    rng = np.random.default_rng(0)

    def cost(rows):
        return (rows[:, 1:7] + 1.0).sum(1)

    def quality(rows):
        # Later layers use their width better, and every layer has diminishing returns.
        return np.sqrt(rows[:, 1:7] + 1.0) @ np.linspace(1.0, 1.3, 6)

    problem = SearchProblem(
        space,
        (
            Objective("accuracy", "fraction", "maximize", quality, "evaluated"),
            Objective("parameters", "weights", "minimize", cost, "analytic"),
        ),
    )
    for budget in (8.0, 11.5, 17.0, 23.2):
        row = mix_and_match.match(problem, "parameters", budget)
        assert budget - 1 < cost(row[None])[0] <= budget
        mixes = space.sample(rng, 4000)
        mixes[:, 0] = 2
        equal = mixes[np.abs(cost(mixes) - cost(row[None])) < 0.5]
        assert quality(row[None])[0] > np.median(quality(equal))


def test_the_plan_spreads_and_then_continues_with_neighbours_of_the_front():
    space = layered_space()
    strategy = mix_and_match.MixAndMatch(others=(1.0,))
    plan = strategy.plan(space)
    assert plan[:3, 1:7].sum(1).tolist() == [0, 18, 9]
    problem = SearchProblem(space, tuple(
        Objective(n, "", d, f, s) for n, d, f, s in (
            ("accuracy", "maximize", lambda x: np.sqrt(1.0 + x).sum(1), "evaluated"),
            ("macs", "minimize", lambda x: 1.0 + x.sum(1), "analytic"))))  # fmt: skip
    history = evaluated(problem, 1).append(plan[1:], np.ones((len(plan) - 1, 2)), 1)
    rows = strategy.propose(problem, history, 5, np.random.default_rng(0))
    front = history.positions
    assert min(int((front != row).sum(1).min()) for row in rows) == 1


def test_a_space_without_sizes_of_layers_is_refused():
    space = SearchSpace(tuple(Choice(f"op{i}", ("a", "b"), "operation") for i in range(3)))
    with pytest.raises(ValueError, match=r"two or more layers .* the space has kinds operation"):
        mix_and_match.MixAndMatch().plan(space)


def test_an_additive_surrogate_finds_an_additive_truth_again():
    space = nested_space()
    rng = np.random.default_rng(0)
    groups = ((0, 2, 3), (1, 5, 6), (4,))
    tables = [rng.normal(size=[int(space.cardinalities[i]) for i in group]) for group in groups]
    truth = AdditiveTerms(groups, tuple(tables), 3.0)
    rows = space.sample(rng, 300)
    shape = design(space, [truth])
    assert set(groups[:2]) <= set(shape.groups)
    found = fit_additive(shape, rows, truth(rows))
    unseen = space.sample(rng, 200)
    residual = found.terms(unseen) - truth(unseen)
    assert residual.std() < 0.1 * truth(unseen).std()
    few = fit_additive(shape, rows[:20], truth(rows[:20]))
    assert few.error > 2 * found.error
    draws = np.stack([few.draw(np.random.default_rng(i))(unseen) for i in range(20)])
    assert draws.std(0).mean() > 0.1 * truth(unseen).std()


def test_integer_programs_use_sums_that_objectives_come_with():
    problem = tradeoff()
    cost_of = 1.0 + np.arange(12)
    sums = AdditiveTerms(
        tuple((i,) for i in range(12)), tuple(np.arange(3) * c for c in cost_of), 5.0
    )
    first, second = problem.objectives
    with_sum = Objective(second.name, "ms", "minimize", second.evaluate, "table", additive=sums)
    problem = SearchProblem(problem.space, (first, with_sum))
    history = evaluated(problem, 40)
    found = integer_program.surrogates(problem, history, np.random.default_rng(0))
    assert found["latency_ms"] is sums
    assert share(problem, integer_program.IntegerProgram(initial=20), 70) > 0.97


def test_the_solver_prints_nothing(capfd):
    problem = tradeoff(choices=10, cheap=False, fail_every=6, third=True)
    search(problem, integer_program.build(), evaluations=140, seed=0)
    assert capfd.readouterr() == ("", "")


def test_relaxed_corners_are_masked_one_hot_codes():
    import torch

    space = nested_space()
    rows = space.sample(np.random.default_rng(0), 30)
    relaxation = Relaxation(space)
    sharp = relaxation.features(relaxation.logits(rows, 50.0))
    assert torch.allclose(sharp, relaxation.corners(rows), atol=1e-5)
    assert (relaxation.rounded(relaxation.logits(rows, 3.0)) == rows).all()
    even = relaxation.features(torch.zeros(1, len(space), 3)).reshape(len(space), 3)
    # The third block of a stage is there when its depth is the last of three values.
    assert torch.allclose(even[4], torch.full((3,), 1 / 9))


def test_the_scale_of_gradient_search_is_that_of_the_front_within_the_limits():
    problem = tradeoff(cheap=False, constraints=(Constraint("latency_ms", at_most=70.0),))
    history = evaluated(problem, 60)
    inside = history.values[:, 1] <= 70
    assert 3 < inside.sum() < 57
    view = boshnas._Scaled.of(problem, history)
    scaled = view.scaled(history.values)
    assert view.front_low[0] == pytest.approx(scaled[inside, 0].min())
    assert view.front_low[0] > scaled[:, 0].min()


def test_gradient_search_leaves_the_global_generator_of_torch_alone():
    import torch

    problem = tradeoff()
    history = evaluated(problem, 40)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    strategy = boshnas.Boshnas(epochs=5, steps=4)
    first = strategy.propose(problem, history, 20, np.random.default_rng(0))
    assert torch.equal(torch.rand(3), expected)
    assert (strategy.propose(problem, history, 20, np.random.default_rng(0)) == first).all()
    with private_generator(3):
        inside = torch.rand(2)
    with private_generator(3):
        assert torch.equal(torch.rand(2), inside)


def test_a_pool_confines_every_strategy():
    problem = tradeoff(choices=8)
    pool = line_space(8).sample(np.random.default_rng(0), 400)
    pool = np.unique(pool, axis=0)
    inside = {row.tobytes() for row in pool}
    confined = SearchProblem(problem.space, problem.objectives, pool=pool)
    strategies = [
        linas.Linas(fit, population=20, inner_evaluations=400),
        ofa_evolution.OfaEvolution(fit, sample=20, budgets=10),
        weaknas.WeakNas(fit, initial=20),
        integer_program.IntegerProgram(initial=20, batch=10),
        boshnas.Boshnas(initial=20, batch=10, epochs=5, steps=4),
        coarse_to_fine.build(),
        early_exit.build(),
        mix_and_match.build(),
    ]
    for strategy in strategies:
        found = search(confined, strategy, evaluations=45, seed=0).history
        assert {row.tobytes() for row in found.positions} <= inside, type(strategy).__name__
