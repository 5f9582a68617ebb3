"""Evolution on predictions by any algorithm of pymoo, with operators for discrete choices.

An algorithm is given by a function ``build_algorithm(population, objectives, **operators)`` that
returns a new pymoo ``Algorithm``; the modules of ``search/engines/algorithms`` each have one.
``operators`` are keyword arguments as pymoo's constructors take them:

- ``sampling``: the rows to start from, filled up with random ones;
- ``crossover``: uniform, of two parents, a tenth of the children being one of them;
- ``mutation``: every choice at a rate of one in the number of choices;
- ``eliminate_duplicates``: rows that were scored before, in any generation, are repeats.

Individuals are rows of positions. Whatever the algorithm makes is rounded, clipped and brought to
canonical form before it is scored. Objectives are scaled so that the front of the first generation
reaches from 0 to 1; limits are inequality constraints, or, for an algorithm that refuses them, a
penalty by which every row beyond a limit is worse than all within. An algorithm draws its own
decisions from the seed that it is set up with; it ends when its budget is spent or when it finds
nothing new.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.termination.max_gen import MaximumGenerationTermination

from search.arrays.neighbourhood import row_keys, unique_rows
from search.arrays.scaling import front_range, penalise
from search.engines.contract import Rows, Score, Visited
from search.engines.pymoo_warnings import quiet_pymoo
from supernet.space import SearchSpace

_ATTEMPTS = 8
_MOST_EXCESS = 1e6
_PARENT_ALONE = 0.1


class BuildAlgorithm(Protocol):
    """Makes a new algorithm of pymoo."""

    def __call__(self, population: int, objectives: int, **operators: object) -> Algorithm:
        """An unused algorithm with so many survivors and children, for so many objectives."""
        ...


def evolve(
    space: SearchSpace,
    score: Score,
    seeds: Rows,
    *,
    build: BuildAlgorithm,
    population: int,
    generations: int,
    rng: np.random.Generator,
) -> Visited:
    """Run an algorithm of pymoo on cheap or predicted values.

    Args:
        space: Where to search.
        score: Rows ``(n, len(space))`` in; objectives to minimise ``(n, m)`` and violations
            ``(n, c)`` out.
        seeds: Distinct canonical rows to start from, at least one.
        build: Makes the algorithm.
        population: Survivors of a generation, and its children.
        generations: Number of generations after the first.
        rng: Source of randomness.

    Returns:
        Every distinct row that was scored: ``population * (generations + 1)`` at most, and only
        the first generation where the space has no more rows than that.
    """
    first = _filled(space, np.asarray(seeds[:population], dtype=np.int16), population, rng)
    scored = _Scored(score, first)
    if len(first) < population:
        return scored.visited
    algorithm, knows_limits = _set_up(space, scored, first, build, population, generations, rng)
    left = population * generations
    with quiet_pymoo():
        while (asked := algorithm.ask()) is not None:
            # Some algorithms make one child at a time, which is no population to pymoo.
            made = asked if isinstance(asked, Population) else Population.create(asked)
            left -= len(made) if algorithm.is_initialized else 0
            if not len(made) or left < 0:
                break
            rows = _canonical(space, made.get("X"))
            made.set("X", rows, "row", scored.places(rows))
            for individuals in (made,) if knows_limits else (algorithm.pop, made):
                scored.judge(individuals, knows_limits)
            algorithm.tell(infills=asked)
    return scored.visited


class _Scored:
    """Every row that was scored, once each, on a scale that the first of them set."""

    def __init__(self, score: Score, first: Rows) -> None:
        self._score = score
        self._places = {key: i for i, key in enumerate(row_keys(first).tolist())}
        self.visited = Visited(first, *score(first))
        self._low, self._span = front_range(self.visited.objectives, self.visited.feasible)

    def knows(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows ``(n, d)`` were scored, ``(n,)``."""
        return np.array([key in self._places for key in row_keys(rows).tolist()], dtype=bool)

    def places(self, rows: Rows) -> NDArray[np.intp]:
        """Where rows ``(n, d)`` stand in ``visited``, ``(n,)``; new ones are scored for that."""
        keys = row_keys(rows).tolist()
        found = np.array([self._places.setdefault(k, len(self._places)) for k in keys], np.intp)
        known = len(self.visited.positions)
        new, first = np.unique(found, return_index=True)
        fresh = rows[first[new >= known]]
        if len(fresh):
            objectives, violations = self._score(fresh)
            self.visited = Visited(
                np.concatenate((self.visited.positions, fresh)),
                np.concatenate((self.visited.objectives, objectives)),
                np.concatenate((self.visited.violations, violations)),
            )
        return found

    def judge(self, individuals: Population, knows_limits: bool) -> None:
        """Tell individuals, which know their place as ``row``, objectives and violations."""
        if not len(individuals):
            return
        at = individuals.get("row").astype(np.intp)
        points = (self.visited.objectives - self._low) / self._span
        violations = np.clip(self.visited.violations, None, _MOST_EXCESS)
        if not knows_limits:
            points = penalise(points, np.maximum(violations, 0).sum(axis=1))
        elif violations.shape[1]:
            individuals.set("G", violations[at])
        individuals.set("F", points[at])


class RowSampling(Sampling):  # type: ignore[misc]
    """The rows that an evolution starts from."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows

    def _do(self, problem: Problem, n_samples: int, *args: object, **kwargs: object) -> Rows:
        return self.rows[:n_samples]


class RowCrossover(Crossover):  # type: ignore[misc]
    """One child of two parents by uniform crossover; a tenth of the children is one of them."""

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(n_parents=2, n_offsprings=1, prob=1 - _PARENT_ALONE)
        self.space, self.rng = space, rng

    def _do(self, problem: Problem, X: Rows, *args: object, **kwargs: object) -> Rows:
        return self.space.crossover(X[0], X[1], self.rng)[None]


class RowMutation(Mutation):  # type: ignore[misc]
    """Reset mutation of each choice at a rate of one in the number of choices."""

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(prob=1.0)
        self.space, self.rng = space, rng

    def _do(self, problem: Problem, X: Rows, *args: object, **kwargs: object) -> Rows:
        return self.space.mutate(X, self.rng)


class NewRows(DuplicateElimination):  # type: ignore[misc]
    """Leaves out children that repeat each other or any row that was ever scored."""

    def __init__(self, scored: _Scored) -> None:
        super().__init__()
        self.scored = scored

    def _do(
        self, pop: Population, other: Population | None, is_duplicate: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        rows = pop.get("X")
        if other is None:
            is_duplicate[:] = True
            is_duplicate[np.unique(row_keys(rows), return_index=True)[1]] = False
            return is_duplicate
        return np.isin(row_keys(rows), row_keys(other.get("X"))) | self.scored.knows(rows)


def _set_up(
    space: SearchSpace,
    scored: _Scored,
    first: Rows,
    build: BuildAlgorithm,
    population: int,
    generations: int,
    rng: np.random.Generator,
) -> tuple[Algorithm, bool]:
    """An algorithm ready to be asked, and whether it takes limits."""
    seed = int(rng.integers(2**31))
    objectives, limits = (
        part.shape[1] for part in (scored.visited.objectives, scored.visited.violations)
    )

    def made(constraints: int) -> Algorithm:
        built = build(
            population,
            objectives,
            sampling=RowSampling(first),
            crossover=RowCrossover(space, rng),
            mutation=RowMutation(space, rng),
            eliminate_duplicates=NewRows(scored),
        )
        # Constructors share their default survivals among all instances, state included.
        algorithm = deepcopy(built, {id(kept): kept for kept in (space, rng, scored)})
        problem = Problem(
            n_var=len(space),
            n_obj=objectives,
            n_ieq_constr=constraints,
            xl=np.zeros(len(space)),
            xu=space.cardinalities - 1.0,
        )
        termination = MaximumGenerationTermination(generations + 1)
        algorithm.setup(problem, termination=termination, seed=seed, verbose=False)
        return algorithm

    try:
        return made(limits), True
    except AssertionError:
        # This is how algorithms of pymoo refuse limits.
        if not limits:
            raise
        return made(0), False


def _filled(space: SearchSpace, rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """``count`` distinct rows, or fewer where chance finds no more: the given ones come first."""
    for _ in range(_ATTEMPTS):
        if len(rows) >= count:
            break
        rows = unique_rows(np.concatenate((rows, space.sample(rng, count))))
    return rows[:count]


def _canonical(space: SearchSpace, positions: NDArray[np.generic]) -> Rows:
    """Canonical rows of whatever numbers an algorithm came up with."""
    whole = np.rint(positions.astype(np.float64))
    return space.canonical(np.clip(whole, 0, space.cardinalities - 1).astype(np.int16))
