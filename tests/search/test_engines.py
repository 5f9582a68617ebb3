"""Engines: evolution on predictions by name, by dotted path, and what every one has to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from predictors import fit
from search import Constraint, Objective, SearchProblem, search
from search.arrays.pareto import hypervolume
from search.engines.array_nsga2 import evolve
from search.engines.choice import ENGINES, find_engine
from search.engines.contract import Visited
from search.strategies import linas, predictor_guided
from tests.toys.problems import nested_space, tradeoff

OWN = "pymoo.algorithms.moo.spea2.SPEA2"
OPERATORS = ["crossover", "eliminate_duplicates", "mutation", "sampling"]
STEADY = "pymoo.algorithms.moo.moead.MOEAD"
# The first use of AGE-MOEA-II in a process compiles for ten seconds.
MARKED = [
    pytest.param(name, marks=pytest.mark.slow if name == "agemoea2" else ())
    for name in (*ENGINES, OWN)
]


def scoring(problem):
    """What an engine is given: exact values of the toy in the place of predictions."""

    def score(rows):
        values = np.stack([q.evaluate(rows) for q in problem.quantities], axis=1)
        return problem.minimised(values), problem.violations(values)

    return score


def run(engine, problem, seed=0, population=20, generations=15):
    rng = np.random.default_rng(seed)
    seeds = np.unique(problem.space.sample(rng, population), axis=0)
    return engine(
        problem.space,
        scoring(problem),
        seeds,
        population=population,
        generations=generations,
        rng=rng,
    )


@pytest.fixture(params=MARKED)
def engine(request):
    if request.param == "agemoea2":
        pytest.importorskip("numba")
    return find_engine(request.param)


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize("limits", [(), (Constraint("latency_ms", at_most=60.0),)])
def test_it_returns_what_it_scored_once_each_within_its_budget(engine, third, limits):
    problem = tradeoff(cheap=False, constraints=limits, third=third)
    visited = run(engine, problem)
    rows = visited.positions
    assert rows.dtype == np.int16
    assert (rows == problem.space.canonical(rows)).all()
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert 20 * 8 < len(rows) <= 20 * 16
    objectives, violations = scoring(problem)(rows)
    assert visited.objectives == pytest.approx(objectives)
    assert visited.violations == pytest.approx(violations)


def test_it_is_a_function_of_the_seed(engine):
    problem = tradeoff(cheap=False, third=True, constraints=(Constraint("latency_ms", at_most=60),))
    first, again, other = (run(engine, problem, seed) for seed in (1, 1, 2))
    # A run between two others leaves nothing behind, with another number of objectives either.
    run(engine, tradeoff(cheap=False))
    later = run(engine, problem, 1)
    assert np.array_equal(first.positions, again.positions)
    assert np.array_equal(first.positions, later.positions)
    assert not np.array_equal(first.positions[:200], other.positions[:200])


def share_of_random(engine, problem):
    """Hypervolume, mean of three seeds, as a share of that of as many random rows."""
    rows = problem.space.sample(np.random.default_rng(5), 320)
    random = Visited(rows, *scoring(problem)(rows))
    bound = random.objectives.max(axis=0) + 1
    found = [
        hypervolume(visited.objectives[visited.feasible], bound)
        for visited in (random, *(run(engine, problem, seed) for seed in range(3)))
    ]
    return np.mean(found[1:]) / found[0]


@pytest.mark.parametrize("third", [False, True])
def test_it_beats_as_many_random_rows(engine, third):
    assert share_of_random(engine, tradeoff(cheap=False, third=third)) > 1.03


@pytest.mark.parametrize("third", [False, True])
def test_it_beats_as_many_random_rows_within_limits(request, engine, third):
    if "ctaea" in request.node.name:
        # Most of its parents come from the archive that explores beyond the limits.
        pytest.skip("C-TAEA is as good as random rows where a limit cuts the front")
    problem = tradeoff(
        cheap=False, third=third, constraints=(Constraint("latency_ms", at_most=60.0),)
    )
    assert share_of_random(engine, problem) > 1.03


def test_limits_that_few_rows_meet_are_met(engine):
    problem = tradeoff(cheap=False, constraints=(Constraint("latency_ms", at_most=25.0),))
    visited = run(engine, problem, population=50, generations=40)
    assert not visited.feasible[:50].any()
    assert visited.feasible.sum() > 10


@pytest.mark.parametrize("generations", [0, 60])
def test_small_spaces_are_used_up_and_that_is_all(engine, generations):
    problem = tradeoff(choices=3, cheap=False)
    assert problem.space.size == 27
    visited = run(engine, problem, population=8, generations=generations)
    assert 6 <= len(visited.positions) <= (27 if generations else 8)
    everything = run(engine, problem, population=50, generations=5)
    assert 20 < len(everything.positions) <= 27


def test_inert_choices_stay_canonical_within_strategies(engine):
    space = nested_space()
    problem = SearchProblem(
        space,
        (
            Objective("accuracy", "fraction", "maximize", lambda x: np.sqrt(x).sum(1), "evaluated"),
            Objective("latency_ms", "ms", "minimize", lambda x: 1.0 + x.sum(1), "table"),
        ),
    )
    strategy = predictor_guided.PredictorGuided(fit, engine, initial=12, generations=3)
    first, second = (search(problem, strategy, evaluations=30, seed=1).history for _ in range(2))
    assert np.array_equal(first.positions, second.positions)
    assert len(first.keys) == 30


def test_an_engine_that_makes_one_child_at_a_time_has_the_same_budget():
    limits = (Constraint("latency_ms", at_most=60.0),)
    visited = run(find_engine(STEADY), tradeoff(cheap=False, constraints=limits), generations=5)
    assert 20 < len(visited.positions) <= 120
    assert visited.feasible.any()


@pytest.mark.parametrize("third", [False, True])
def test_strategies_evolve_with_the_engine_they_are_given(third):
    problem = tradeoff(cheap=False, third=third)
    calls = []

    def counting(space, score, seeds, **settings):
        calls.append(settings["population"])
        return evolve(space, score, seeds, **settings)

    guided = predictor_guided.build(fit, engine=counting)
    search(problem, guided, evaluations=45, seed=0)
    assert calls == [100] * 3
    search(problem, linas.build(fit, engine=counting), evaluations=100, seed=0)
    assert calls[3:] == [50]


def test_the_array_engine_is_the_default():
    assert ENGINES[0] == "array"
    assert find_engine("array") is evolve
    # A few more than what each evaluates before it predicts anything.
    for module, evaluations in ((predictor_guided, 36), (linas, 54)):
        problem = tradeoff(cheap=False, third=True)
        default, named = (
            search(problem, strategy, evaluations=evaluations, seed=0).history.positions
            for strategy in (module.build(fit), module.build(fit, engine=find_engine("array")))
        )
        assert np.array_equal(default, named)


def test_the_promised_names_are_there():
    named = "array nsga2 nsga3 unsga3 agemoea2 smsemoa ctaea moead rnsga3"
    assert set(ENGINES) == set(named.split())


def test_listing_engines_loads_no_library():
    code = (
        "import sys; from search.engines.choice import ENGINES\n"
        "assert not {'pymoo', 'numba', 'torch', 'scipy'} & set(sys.modules), sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    package = tmp_path / "own"
    package.mkdir()
    (package / "engines.py").write_text(
        "from pymoo.algorithms.moo.nsga2 import NSGA2\n"
        "from pymoo.algorithms.moo.rnsga2 import RNSGA2\n"
        "SIZES = []\n"
        "class Mine(NSGA2):\n"
        "    def __init__(self, pop_size=100, **others):\n"
        "        SIZES.append(pop_size)\n"
        "        super().__init__(pop_size=pop_size, **others)\n"
        "def crowded(population, objectives, **operators):\n"
        "    SIZES.append((population, objectives, sorted(operators)))\n"
        "    return NSGA2(pop_size=population, **operators)\n"
        "class Other: pass\n"
    )
    (package / "builder.py").write_text("from own.engines import crowded as build_algorithm\n")
    (package / "evolution.py").write_text(
        "from search.engines.contract import Visited\n"
        "def evolve(space, score, seeds, *, population, generations, rng):\n"
        "    return Visited(seeds, *score(seeds))\n"
    )
    (package / "broken.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "own"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("own.engines.Mine", 20),
        ("own.engines.crowded", (20, 2, OPERATORS)),
        ("own.builder", (20, 2, OPERATORS)),
    ],
)
def test_a_dotted_path_names_a_class_a_function_or_a_module(own_modules, path, told):
    visited = run(find_engine(path), tradeoff(cheap=False))
    assert 20 * 8 < len(visited.positions) <= 20 * 16
    assert [told] == sys.modules["own.engines"].SIZES


def test_the_example_of_the_documentation_is_an_engine(own_modules, tmp_path):
    text = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (code,) = [example for example in examples if "def build_algorithm" in example]
    (tmp_path / "own" / "example.py").write_text(code)
    visited = run(find_engine("own.example"), tradeoff(cheap=False))
    assert 20 * 8 < len(visited.positions) <= 20 * 16


def test_a_module_of_ones_own_does_without_pymoo(own_modules):
    visited = run(find_engine("own.evolution"), tradeoff(cheap=False))
    assert len(visited.positions) <= 20


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nsga4", "unknown engine 'nsga4' (did you mean 'nsga3'?)"),
        ("aray", "did you mean 'array'?); engines are array, agemoea2"),
        ("no such", "unknown engine 'no such'"),
        ("own", "unknown engine 'own'"),
        ("own.engines", "'own.engines' is no engine; it must be a subclass of"),
        ("own.engines.Other", "'own.engines.Other' is no engine; it must be a subclass of"),
        ("own.engines.nothing", "module 'own.engines' has no 'nothing'"),
        ("not_there.at.all", "there is no module 'not_there.at.all' for the engine"),
        (
            "pymoo.algorithms.moo.rnsga2.RNSGA2",
            "cannot be constructed without ref_points; give the dotted path of a function",
        ),
    ],
)
def test_what_is_no_engine_is_refused_in_one_sentence(own_modules, name, words):
    with pytest.raises(ValueError) as caught:
        find_engine(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, own_modules):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "search.engines.algorithms.agemoea2", raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        find_engine("agemoea2")
    assert str(caught.value) == (
        "engine 'agemoea2' needs numba, which is not installed; "
        "run: pip install 'supernet[evolution]'"
    )
    # What a user's own module lacks is its own affair, and not taken for a wrong path.
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        find_engine("own.broken.Engine")
