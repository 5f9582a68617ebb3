"""Optuna's samplers as pure functions of a history: a study in memory, rebuilt for every round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.random import Generator
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.engines.optuna_logging import quiet_optuna
from search.engines.pymoo_replay import Evaluated, evaluated
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import fresh_rows, initial_rows
from search.strategy import predict_nothing

Rows = NDArray[np.int16]

_REPEATS = 2
_PULLS = 6


class _Numbers(IntDistribution):
    """Positions as numbers; one object for all trials of a round.

    Copying and comparing the distributions of every trial is most of the time of a round
    otherwise.
    """

    def __deepcopy__(self, memo: object) -> _Numbers:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    __hash__ = IntDistribution.__hash__


class _Categories(CategoricalDistribution):
    """Positions as categories; one object for all trials of a round."""

    def __deepcopy__(self, memo: object) -> _Categories:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    __hash__ = CategoricalDistribution.__hash__


@dataclass(frozen=True)
class Round:
    """What a sampler is made for.

    Args:
        problem: The problem.
        seen: The successful evaluations.
        values: What the study is told to minimise, ``(len(seen), k)``.
        trials: The successful evaluations as trials.
        seed: Seed of every random decision of the sampler.
    """

    problem: SearchProblem
    seen: Evaluated
    values: NDArray[np.float64]
    trials: tuple[FrozenTrial, ...]
    seed: int


@dataclass(frozen=True)
class OptunaSearch:
    """A sampler of Optuna that is asked for a round at a time.

    Args:
        sampler: Makes the sampler of a round.
        values: Given the successful evaluations and the number of the round, what to minimise,
            ``(n, k)``; by default the scaled objectives.
        ordinal: Whether choices are numbers to the sampler, with small and large values, or
            categories.
        initial: Size of the first sample, from the smallest to the largest networks; 0 leaves
            the first rounds to the sampler.
        batch: Architectures per round; those of a round do not know each other's values.
        attributes: System attributes of the trial of each successful evaluation, if any.
        recalled: How many of the last evaluations the study holds, where the sampler does not
            look at more; all by default.
    """

    sampler: Callable[[Round], BaseSampler]
    values: Callable[[Evaluated, int], NDArray[np.float64]] | None = None
    ordinal: bool = True
    initial: int = 30
    batch: int = 25
    attributes: Callable[[Evaluated], list[dict[str, int]]] | None = None
    recalled: int | None = None

    # A sampler's models do not leave it.
    models = predict_nothing

    @property
    def has_first_sample(self) -> bool:
        """Whether the sampler waits for a first sample."""
        return self.initial > 0

    def batch_size(self, evaluated: int) -> int:
        """``initial`` at first, where there is one, then ``batch``."""
        return self.initial if evaluated == 0 and self.initial else self.batch

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if not len(history) and self.initial:
            return initial_rows(problem, count, rng)
        with quiet_optuna():
            study = self._study(problem, history, int(rng.integers(2**31 - 1)))
            return asked(study, problem, history, self.distributions(problem), count, rng)

    def distributions(self, problem: SearchProblem) -> dict[str, BaseDistribution]:
        """Every choice of two values or more as a parameter of its positions.

        Samplers leave parameters of one value aside, and then miss them in what they were told.
        """
        open_ = [choice for choice in problem.space.choices if len(choice.values) > 1]
        if self.ordinal:
            return {c.name: _Numbers(0, len(c.values) - 1) for c in open_}
        return {c.name: _Categories(tuple(range(len(c.values)))) for c in open_}

    def _study(self, problem: SearchProblem, history: History, seed: int) -> Study:
        seen = evaluated(problem, history)
        number = int(history.batches[-1]) + 1 if len(history) else 0
        values = seen.points if self.values is None else self.values(seen, number)
        attributes = None if self.attributes is None else self.attributes(seen)
        distributions = self.distributions(problem)
        names = list(distributions)
        columns = [problem.space.index(name) for name in names]
        told = [
            create_trial(
                params=dict(zip(names, row, strict=True)),
                distributions=distributions,
                values=numbers,
                constraints=dict(zip(_limits(problem), limits, strict=True)),
                system_attrs=None if attributes is None else attributes[i],
            )
            for i, (row, numbers, limits) in enumerate(
                zip(
                    seen.positions[:, columns].tolist(),
                    values.tolist(),
                    seen.violations.tolist(),
                    strict=True,
                )
            )
        ]
        failed = [
            create_trial(
                params=dict(zip(names, row, strict=True)),
                distributions=distributions,
                state=TrialState.FAIL,
            )
            for row in history.positions[history.failed][:, columns].tolist()
        ]
        made = self.sampler(Round(problem, seen, values, tuple(told), seed))
        study = optuna.create_study(
            sampler=made, directions=["minimize"] * (values.shape[1] if len(seen) else 1)
        )
        trials = [*failed, *told]
        start = 0 if self.recalled is None else max(len(trials) - self.recalled, 0)
        study.add_trials(trials[start:])
        return study


def asked(
    study: Study,
    problem: SearchProblem,
    history: History,
    distributions: Mapping[str, BaseDistribution],
    count: int,
    rng: Generator,
) -> Rows:
    """Up to ``count`` distinct admissible rows that the study suggests and the history lacks.

    What is beyond a cheap limit is mixed with evaluated rows that are not; what is known already
    is mutated; what is still missing is random.
    """
    names = problem.space.names
    rows = np.zeros((0, len(names)), dtype=np.int16)
    spare = rows
    for _ in range(_REPEATS):
        trials = [study.ask(dict(distributions)) for _ in range(count - len(rows))]
        params = [trial.params for trial in trials]
        made = np.array([[each.get(name, 0) for name in names] for each in params], dtype=np.int16)
        made = inside(problem, history, problem.project(made), rng)
        spare = np.concatenate((spare, made))
        rows = history.new(np.concatenate((rows, made)))
        if len(rows) >= count:
            return rows[:count]
    near = problem.project(problem.space.mutate(spare, rng, 2 / len(names)))
    rows = history.new(np.concatenate((rows, near[problem.admits(near)])))[:count]
    if len(rows) < count:
        rows = history.new(np.concatenate((rows, fresh_rows(problem, history, count, rng))))
    return rows[:count]


def inside(problem: SearchProblem, history: History, rows: Rows, rng: Generator) -> Rows:
    """The rows, those beyond a cheap limit pulled towards evaluated ones within; or left out."""
    fits = problem.admits(rows)
    if fits.all():
        return rows
    anchors = history.positions[problem.admits(history.positions)]
    kept, outside = [rows[fits]], rows[~fits]
    for attempt in range(_PULLS if len(anchors) else 0):
        towards = anchors[rng.integers(len(anchors), size=len(outside))]
        taken = rng.random(outside.shape) < (attempt + 1) / _PULLS
        outside = problem.project(np.where(taken, towards, outside))
        fits = problem.admits(outside)
        kept.append(outside[fits])
        outside = outside[~fits]
    return np.concatenate(kept)


def _limits(problem: SearchProblem) -> list[str]:
    return [f"{i} {limit.objective}" for i, limit in enumerate(problem.constraints)]
