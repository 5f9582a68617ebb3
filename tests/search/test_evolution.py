"""Algorithms of pymoo rebuilt from a history, and the operators they are run with."""

from __future__ import annotations

import importlib
from functools import partial

import numpy as np
import pytest
from pymoo.core.duplicate import NoDuplicateElimination
from pymoo.core.infill import InfillCriterion
from pymoo.core.population import Population
from pymoo.core.termination import NoTermination

from search import Constraint, History, search
from search.engines import algorithms
from search.engines.array_nsga2 import make_offspring
from search.engines.pymoo_replay import (
    evaluated,
    generations,
    individuals,
    replay,
    view,
    weighted,
)
from search.engines.reference_directions import spread_directions
from search.strategies import (
    aging_evolution,
    ctaea,
    moead,
    nsga3,
    random_search,
    rnsga3,
    smsemoa,
    unsga3,
)
from tests.timing import least_seconds
from tests.toys.problems import (
    assert_processes_agree,
    line_space,
    measure_volume,
    measure_volumes,
    nested_space,
    tradeoff,
    true_front,
)

MODULES = [nsga3, unsga3, smsemoa, ctaea, moead, rnsga3, aging_evolution]
# The first use of AGE-MOEA-II in a process compiles for ten seconds.
SLOW = pytest.mark.slow
NAMES = [module.__name__.split(".")[-1] for module in MODULES]
POPULATION = 16


def agemoea2():
    pytest.importorskip("numba")
    return importlib.import_module("search.engines.algorithms.agemoea2")


def values_of(problem, rows):
    values = problem.cheap_values(rows)
    for column, quantity in enumerate(problem.quantities):
        values[:, column] = quantity.evaluate(rows)
    return values


def random_history(problem, sizes, seed=0):
    rng = np.random.default_rng(seed)
    history = History.empty(problem.names, len(problem.space))
    for batch, size in enumerate(sizes):
        rows = history.new(problem.space.sample(rng, 20 * size))[:size]
        history = history.append(rows, values_of(problem, rows), batch)
    return history


class Children(InfillCriterion):
    """Children made with our operators and a generator of their own."""

    def __init__(self, space, rng):
        super().__init__()
        self.space, self.rng = space, rng

    def do(self, problem, pop, n_offsprings, **kwargs):
        parents = np.stack([each.X for each in pop]).astype(np.int16)
        rows = make_offspring(self.space, parents, lambda a, b: a < b, n_offsprings, self.rng)
        return Population.new("X", rows)


@pytest.mark.parametrize(
    "make",
    [
        partial(algorithms.nsga3.build_algorithm, POPULATION, 2),
        partial(algorithms.unsga3.build_algorithm, POPULATION, 2),
        partial(algorithms.smsemoa.build_algorithm, POPULATION, 2),
        pytest.param(lambda **k: agemoea2().build_algorithm(POPULATION, 2, **k), marks=SLOW),
    ],
)
@pytest.mark.parametrize("limits", [(), (Constraint("latency_ms", at_most=60.0),)])
def test_a_replay_reaches_the_survivors_of_an_uninterrupted_run(make, limits):
    problem = tradeoff(cheap=False, constraints=limits)
    space, rng = problem.space, np.random.default_rng(3)
    first = space.sample(rng, POPULATION)
    scale = evaluated(problem, random_history(problem, [POPULATION]))
    algorithm = make(
        sampling=first.astype(float),
        mating=Children(space, rng),
        eliminate_duplicates=NoDuplicateElimination(),
    )
    algorithm.setup(view(scale), termination=NoTermination(), seed=0, verbose=False)
    told = []
    for batch in range(8):
        asked = algorithm.ask()
        rows = np.stack([each.X for each in asked]).astype(np.int16)
        values = values_of(problem, rows)
        told.append((rows, values, batch))
        asked.set("F", (problem.minimised(values) - scale.low) / scale.span)
        if limits:
            asked.set("G", problem.violations(values))
        algorithm.tell(infills=asked)

    history = History.empty(problem.names, len(space))
    for rows, values, batch in told:
        history = history.append(rows, values, batch)
    rebuilt = replay(make(), evaluated(problem, history), POPULATION)
    expected = np.stack([each.X for each in algorithm.pop]).astype(np.int16)
    assert (rebuilt.pop.get("X") == expected).all()
    assert len(np.unique(expected, axis=0)) > POPULATION // 2


def test_generations_cover_every_row_once_in_order():
    history = random_history(tradeoff(), [5, 7, 40, 3, 16])
    seen = evaluated(tradeoff(), history)
    parts = list(generations(seen, 16))
    assert [len(part) for part in parts] == [16, 16, 16, 4, 3, 16]
    assert (np.concatenate(parts) == np.arange(71)).all()


def test_scaling_puts_the_front_between_zero_and_one_and_leaves_failures_out():
    problem = tradeoff(fail_every=5)
    history = random_history(problem, [80])
    seen = evaluated(problem, history)
    assert len(seen) == (~history.failed).sum() < 80
    assert np.isfinite(seen.points).all()
    assert seen.points.min() == 0
    front = seen.points[(seen.points <= 1).all(axis=1)]
    assert (front.min(0) == 0).all()
    assert (front.max(0) == 1).all()
    natural = problem.natural(seen.points * seen.span + seen.low)
    assert natural == pytest.approx(history.values[~history.failed])


@pytest.mark.parametrize("objectives", [2, 3, 5])
@pytest.mark.parametrize("most", [1, 7, 20])
def test_directions_are_weights_and_not_too_many(objectives, most):
    weights = spread_directions(objectives, most)
    assert weights.shape[1] == objectives
    assert objectives <= len(weights) <= max(most, objectives)
    assert weights.sum(1) == pytest.approx(1)


def test_mutation_changes_each_choice_at_the_stated_rate():
    space = line_space(20)
    parents = np.ones((1, 20), dtype=np.int16)
    rng = np.random.default_rng(0)
    children = make_offspring(space, parents, lambda a, b: a < b, 5000, rng)
    changed = (children != 1).mean()
    assert changed == pytest.approx(1 / 20, rel=0.05)
    assert (children == 0).sum() == pytest.approx((children == 2).sum(), rel=0.1)


@pytest.mark.parametrize("name", [*NAMES, pytest.param("agemoea2", marks=SLOW)])
def test_it_beats_random_search(name):
    if name == "agemoea2":
        pytest.importorskip("numba")
    module = importlib.import_module(f"search.strategies.{name}")
    problem = tradeoff(choices=16, cheap=False)
    ours = measure_volumes(problem, module.build(), evaluations=200, seeds=3)
    random = measure_volumes(problem, random_search.build(), evaluations=200, seeds=3)
    best = measure_volume(problem, true_front(problem))
    assert min(ours) > max(random)
    # Mutation alone and a few preferred points cover a front less well than the others do.
    least = 0.05 if module in (aging_evolution, rnsga3) else 0.15
    assert np.mean(ours) > np.mean(random) + least * (best - np.mean(random))


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.split(".")[-1])
def test_rounds_of_any_size_failures_and_limits_that_nothing_meets_are_survived(module):
    limits = (Constraint("accuracy", at_least=1e9), Constraint("latency_ms", at_most=70.0))
    problem = tradeoff(fail_every=4, constraints=limits, third=True)
    history = random_history(problem, [3, 61, 1, 25])
    for size in (1, 3, 40, len(history)):
        part = History(
            history.names, history.positions[:size], history.values[:size], history.batches[:size]
        )
        rows = module.build().propose(problem, part, 8, np.random.default_rng(0))
        assert rows.shape == (8, 12)
        assert len(part.new(rows)) == 8
        assert problem.admits(rows).all()


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.split(".")[-1])
def test_a_small_space_is_exhausted_and_the_search_ends(module):
    problem = tradeoff(choices=4)
    result = search(problem, module.build(), evaluations=200, seed=0)
    assert len(result.history) == 81


def test_a_front_of_copies_has_no_shape_and_is_no_reason_to_stop():
    survival = agemoea2().Survival()
    front = np.tile([0.25, 0.5], (6, 1))
    scores, exponent, scale = survival.survival_score(front, front[0])
    assert (scores == 0).all()
    assert exponent == 1.0
    assert (scale == 1.0).all()


def test_limits_decide_before_objectives():
    limit = (Constraint("latency_ms", at_most=40.0),)
    problem = tradeoff(cheap=False, constraints=limit)
    # C-TAEA explores beyond the limits on purpose; its archives are tested below.
    for module in (m for m in MODULES if m is not ctaea):
        history = search(problem, module.build(), evaluations=160, seed=1).history
        inside = (problem.violations(history.values) <= 0).all(axis=1)
        first = inside[history.batches == 0].mean()
        assert inside[-60:].mean() > max(1.5 * first, 0.5), module.__name__


def test_infeasible_rows_of_moead_are_worse_than_all_feasible_ones():
    problem = tradeoff(cheap=False, constraints=(Constraint("latency_ms", at_most=70.0),))
    seen = evaluated(problem, random_history(problem, [60]))
    points = moead.penalised(seen).points
    feasible = seen.excess <= 0
    assert 0 < feasible.sum() < 60
    assert points[~feasible].min() > points[feasible].max()
    order = np.argsort(seen.excess[~feasible])
    assert (np.diff(points[~feasible][order][:, 0]) >= 0).all()


def test_every_weight_of_moead_is_held_by_a_row_that_suits_it():
    problem = tradeoff(cheap=False)
    history = search(problem, moead.build(), evaluations=200, seed=0).history
    seen = evaluated(problem, history)
    weights = spread_directions(2, 20)
    holders, neighbours = moead.assignment(seen, 20)
    assert neighbours.shape == (20, 5)
    held = weighted(seen.points[holders], weights)
    best = weighted(seen.points[:, None], weights[None]).min(0)
    assert np.median(held - best) < 0.05


def test_the_diversity_archive_of_ctaea_has_no_row_twice():
    problem = tradeoff(cheap=False, constraints=(Constraint("latency_ms", at_most=50.0),))
    seen = evaluated(problem, random_history(problem, [12, 7, 16, 3, 9, 30]))
    convergent, diverse = ctaea.archives(seen, 16)
    assert len(convergent) == len(diverse) == 16
    assert len(set(convergent.get("row"))) == 16
    assert len(set(diverse.get("row"))) == 16
    inside = seen.excess[convergent.get("row").astype(int)] <= 0
    assert inside.sum() == min(16, (seen.excess <= 0).sum())


def test_rnsga3_gathers_around_what_a_user_prefers():
    problem = tradeoff(choices=16, cheap=False)
    cheap, dear = (10.0, 45.0), (45.0, 200.0)

    def median_latency(point):
        strategy = rnsga3.preferring(point)
        history = search(problem, strategy, evaluations=300, seed=0).history
        return np.median(history.values[-150:, 1])

    assert median_latency(cheap) < 110 < median_latency(dear)


def test_rnsga3_says_what_is_wrong_with_a_preference():
    history = random_history(tradeoff(), [30])
    strategy = rnsga3.preferring((1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="has 3 values; it needs one each for accuracy, latency"):
        strategy.propose(tradeoff(), history, 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="width is 0"):
        rnsga3.preferring((1.0, 2.0), width=0)


def test_aging_forgets_the_oldest_however_good():
    problem = tradeoff(cheap=False)
    history = random_history(problem, [60])
    best = problem.space.encode([problem.space.largest, problem.space.smallest])
    empty = History.empty(problem.names, len(problem.space))
    old = empty.append(best, values_of(problem, best), 0)
    old = old.append(history.positions, history.values, 1)
    strategy = aging_evolution.AgingEvolution(population=60, sample=60)
    seen = evaluated(problem, old)
    winners = strategy.winners(seen, 500, np.random.default_rng(0))
    assert winners.min() >= 2
    longer = aging_evolution.AgingEvolution(population=62, sample=60)
    assert {0, 1} <= set(longer.winners(seen, 500, np.random.default_rng(0)))


def test_aging_changes_exactly_one_active_choice():
    problem = tradeoff()
    space = nested_space()
    rng = np.random.default_rng(0)
    parents = space.sample(rng, 400)
    children = aging_evolution.change_one(space, parents, rng)
    for parent, child in zip(parents, children, strict=True):
        assert (space.neighbours(parent) == child).all(axis=1).sum() == 1
    history = random_history(problem, [40])
    rows = aging_evolution.build().propose(problem, history, 20, rng)
    apart = (rows[:, None] != history.positions[None]).sum(2).min(1)
    assert (apart == 1).all()


def test_proposals_do_not_depend_on_the_process():
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import importlib, numpy as np\n"
        "from search import search\n"
        "from tests.toys.problems import tradeoff\n"
        "for name in sys.argv[1:]:\n"
        "    module = importlib.import_module('search.strategies.' + name)\n"
        "    rows = search(tradeoff(), module.build(), evaluations=70, seed=0).history.positions\n"
        "    print(name, int((rows * np.arange(1, rows.size + 1).reshape(rows.shape)).sum()))\n"
    )
    assert_processes_agree(code, NAMES)


def test_a_late_round_takes_no_longer_than_its_history_is_longer():
    problem = tradeoff(choices=40, cheap=False)
    early, late = (random_history(problem, [20] * rounds) for rounds in (5, 25))
    for name in ("nsga3", "unsga3", "smsemoa", "ctaea", "moead", "rnsga3", "aging_evolution"):
        strategy = importlib.import_module(f"search.strategies.{name}").build()

        def propose(history, build=strategy):
            rows = build.propose(problem, history, 50, np.random.default_rng(0))
            assert len(rows) == 50

        propose(early)
        first, last = (least_seconds(partial(propose, h), 3) for h in (early, late))
        assert last < 15 * first, name  # measured at most 4.4; squares would take 25


def test_individuals_know_their_row_and_their_limits():
    problem = tradeoff(cheap=False, constraints=(Constraint("latency_ms", at_most=70.0),))
    seen = evaluated(problem, random_history(problem, [20]))
    some = individuals(seen, np.array([3, 11]))
    assert list(some.get("row")) == [3, 11]
    assert some.get("CV")[:, 0] == pytest.approx(seen.excess[[3, 11]])
