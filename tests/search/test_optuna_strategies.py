"""Optuna's samplers as strategies: rebuilt studies, failures, limits, silence."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.samplers import NSGAIISampler, RandomSampler
from optuna.trial import TrialState

from search import Constraint, History, search
from search.arrays.pareto import hypervolume
from search.engines.optuna_logging import quiet_optuna
from search.engines.optuna_replay import OptunaSearch, Round, inside
from search.engines.pymoo_replay import evaluated
from search.strategies import (
    optuna_cmaes,
    optuna_gp,
    optuna_nsga2,
    optuna_random,
    optuna_tpe,
    random_search,
)
from supernet.space import Choice, SearchSpace
from tests.toys.problems import (
    assert_processes_agree,
    measure_volume,
    measure_volumes,
    nested_space,
    tradeoff,
    true_front,
)

MODULES = [optuna_tpe, optuna_nsga2, optuna_cmaes, optuna_random, optuna_gp]
FAST = MODULES[:-1]


def named(modules):
    return [pytest.param(m, id=m.__name__.split(".")[-1]) for m in modules]


def random_history(problem, sizes, seed=0):
    rng = np.random.default_rng(seed)
    history = History.empty(problem.names, len(problem.space))
    for batch, size in enumerate(sizes):
        rows = history.new(problem.space.sample(rng, 20 * size))[:size]
        values = problem.cheap_values(rows)
        for column, quantity in enumerate(problem.quantities):
            values[:, column] = quantity.evaluate(rows)
        history = history.append(rows, values, batch)
    return history


@pytest.mark.parametrize("ordinal", [True, False])
def test_the_study_holds_what_the_history_holds(ordinal):
    problem = tradeoff(fail_every=5, constraints=(Constraint("latency_ms", at_most=70.0),))
    history = random_history(problem, [20, 13])
    strategy = OptunaSearch(lambda r: RandomSampler(seed=r.seed), ordinal=ordinal)
    with quiet_optuna():
        trials = strategy._study(problem, history, 0).trials
    seen = evaluated(problem, history)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(complete) == len(seen)
    assert len(failed) == history.failed.sum() > 0
    names = list(problem.space.names)
    told = np.array([[trial.params[name] for name in names] for trial in complete])
    assert (told == seen.positions).all()
    assert np.array([trial.values for trial in complete]) == pytest.approx(seen.points)
    limits = np.array([list(trial.constraints.values()) for trial in complete])
    assert limits == pytest.approx(seen.violations)
    gone = np.array([[trial.params[name] for name in names] for trial in failed])
    assert (gone == history.positions[history.failed]).all()


@pytest.mark.parametrize("module", named(MODULES))
def test_proposals_are_new_admissible_and_the_same_again(module):
    problem = tradeoff(
        choices=6, fail_every=7, constraints=(Constraint("latency_ms", at_most=30.0),)
    )
    history = random_history(problem, [22, 5])
    count = 1 if module is optuna_gp else 5
    rows, again = (
        module.build().propose(problem, history, count, np.random.default_rng(4)) for _ in range(2)
    )
    assert (rows == again).all()
    assert rows.shape == (count, 6)
    assert rows.dtype == np.int16
    assert len(history.new(rows)) == count
    assert problem.admits(rows).all()


@pytest.mark.parametrize("module", named(MODULES))
def test_nothing_but_failures_is_no_reason_to_stop(module):
    problem = tradeoff(fail_every=1)
    history = random_history(problem, [30])
    assert history.failed.all()
    rows = module.build().propose(problem, history, 6, np.random.default_rng(0))
    assert len(history.new(rows)) == 6


@pytest.mark.parametrize("module", named(FAST))
def test_choices_of_one_value_are_no_parameters(module):
    values = (1, 3, 1, 4, 1, 5, 3)
    space = SearchSpace(
        tuple(Choice(f"c{i}", tuple(range(n)), "width") for i, n in enumerate(values))
    )
    problem = replace(tradeoff(choices=len(values)), space=space)
    result = search(problem, module.build(), evaluations=70, seed=0)
    assert len(result.history.keys) == 70
    assert (result.history.positions[:, [0, 2, 4]] == 0).all()


@pytest.mark.parametrize("module", named(FAST))
def test_inert_choices_stay_canonical_and_small_spaces_end(module):
    space = nested_space()
    problem = tradeoff(choices=len(space))
    problem = type(problem)(space, problem.objectives)
    result = search(problem, module.build(), evaluations=90, seed=0)
    assert (space.canonical(result.history.positions) == result.history.positions).all()
    assert len(result.history.keys) == 90
    tiny = search(tradeoff(choices=3), module.build(), evaluations=60, seed=0)
    assert len(tiny.history) == 27


@pytest.mark.parametrize("module", named([optuna_tpe, optuna_nsga2, optuna_cmaes]))
def test_it_beats_random_search(module):
    problem = tradeoff(choices=16, cheap=False)
    ours = measure_volumes(problem, module.build(), evaluations=150, seeds=2)
    random = measure_volumes(problem, optuna_random.build(), evaluations=150, seeds=2)
    assert max(random) < min(ours)
    assert max(ours) <= measure_volume(problem, true_front(problem))


def test_the_gaussian_process_finds_the_front_of_a_small_problem():
    problem = tradeoff(choices=5, cheap=False)
    strategy = OptunaSearch(optuna_gp.sampler, initial=12, batch=2)
    history = search(problem, strategy, evaluations=16, seed=0).history
    bound = problem.minimised(np.array([[0.0, 40.0]]))[0]
    found = hypervolume(problem.minimised(history.values), bound)
    random = search(problem, random_search.build(), evaluations=16, seed=0).history
    assert found > hypervolume(problem.minimised(random.values), bound)


def test_generations_of_nsga2_continue_as_in_an_uninterrupted_study():
    problem = tradeoff(cheap=False)
    strategy = optuna_nsga2.having(10)
    sampler = NSGAIISampler(population_size=10, seed=0)
    with quiet_optuna():
        live = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    history = History.empty(problem.names, len(problem.space))
    for number in range(60):
        trial = live.ask(strategy.distributions(problem))
        row = np.array([[trial.params[name] for name in problem.space.names]], dtype=np.int16)
        values = np.stack([o.evaluate(row) for o in problem.objectives], 1)
        live.tell(trial, problem.minimised(values)[0].tolist())
        history = history.append(row, values, number)

    with quiet_optuna():
        study = strategy._study(problem, history, 0)
    key = next(iter(strategy.attributes(evaluated(problem, history))[0]))
    for ours, theirs in zip(study.trials, live.trials, strict=True):
        assert ours.params == theirs.params
        assert ours.system_attrs[key] == theirs.system_attrs[key]
    for a_study in (study, live):
        trial = a_study.ask(strategy.distributions(problem))
        assert a_study.trials[trial.number].system_attrs[key] == 6
    parents = [s.sampler.get_parent_population(s, 6) for s in (study, live)]
    assert len(parents[0]) == 10
    assert [t.params for t in parents[0]] == [t.params for t in parents[1]]


def test_a_failure_does_not_repeat_a_generation():
    problem = tradeoff(fail_every=5, cheap=False)
    history = random_history(problem, [10, 10, 10])
    strategy = optuna_nsga2.having(10)
    seen = evaluated(problem, history)
    assert len(seen) % 10
    key = next(iter(strategy.attributes(seen)[0]))
    numbers = [attributes[key] for attributes in strategy.attributes(seen)]
    assert numbers == sorted(numbers)
    assert numbers.count(max(numbers)) == 10
    with quiet_optuna():
        study = strategy._study(problem, history, 0)
    trial = study.ask(strategy.distributions(problem))
    now = study.sampler.get_trial_generation(study, study.trials[trial.number])
    assert now == max(numbers) + 1


def test_weights_of_cmaes_cover_the_simplex():
    for objectives in (2, 3):
        weights = np.array([optuna_cmaes.weights(objectives, n) for n in range(60)])
        assert weights.sum(1) == pytest.approx(1)
        assert (weights >= 0).all()
        assert weights.mean(0) == pytest.approx(1 / objectives, abs=0.03)
        assert weights.max() > 0.85


def test_cmaes_minimises_limits_before_anything_else():
    problem = tradeoff(cheap=False, constraints=(Constraint("latency_ms", at_most=60.0),))
    seen = evaluated(problem, random_history(problem, [60]))
    values = optuna_cmaes.scalar(seen, 3)[:, 0]
    assert values[seen.excess > 0].min() > values[seen.excess == 0].max()


def test_rows_beyond_a_cheap_limit_are_pulled_inside():
    problem = tradeoff(constraints=(Constraint("latency_ms", at_most=40.0),))
    history = random_history(problem, [300])
    outside = problem.space.sample(np.random.default_rng(9), 40)
    outside = outside[~problem.admits(outside)]
    pulled = inside(problem, history, outside, np.random.default_rng(0))
    assert len(pulled) == len(outside)
    assert problem.admits(pulled).all()


def test_nothing_is_printed_and_settings_are_put_back(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    filters = list(warnings.filters)
    for module in FAST:
        search(tradeoff(), module.build(), evaluations=40, seed=0)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert warnings.filters == filters


def test_a_round_hands_the_sampler_a_seed_from_the_generator():
    seeds = []

    def sampler(made_for: Round):
        seeds.append(made_for.seed)
        return RandomSampler(seed=made_for.seed)

    problem = tradeoff()
    history = random_history(problem, [20])
    for seed in (1, 1, 2):
        OptunaSearch(sampler).propose(problem, history, 3, np.random.default_rng(seed))
    assert seeds[0] == seeds[1] != seeds[2]


def test_proposals_do_not_depend_on_the_process_and_others_do_without_optuna():
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import importlib, numpy as np\n"
        "from search import search\n"
        "from tests.toys.problems import tradeoff\n"
        "importlib.import_module('search.strategies.nsga3')\n"
        "assert 'optuna' not in sys.modules and 'torch' not in sys.modules\n"
        "for name in sys.argv[1:]:\n"
        "    module = importlib.import_module('search.strategies.' + name)\n"
        "    rows = search(tradeoff(), module.build(), evaluations=50, seed=0).history.positions\n"
        "    print(name, int((rows * np.arange(1, rows.size + 1).reshape(rows.shape)).sum()))\n"
        "assert 'torch' not in sys.modules\n"
    )
    names = [module.__name__.split(".")[-1] for module in FAST]
    assert_processes_agree(code, names)
