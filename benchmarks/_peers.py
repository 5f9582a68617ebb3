"""Other optimisers on the same problems: Optuna's samplers and pymoo's documented settings."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from search import SearchProblem

Values = NDArray[np.float64]


def optuna_search(problem: SearchProblem, evaluations: int, seed: int, sampler: str) -> Values:
    """Objectives ``(n, m)``, to be minimised, of an Optuna search; every quantity is evaluated.

    Args:
        problem: Its choices become categorical parameters, as Optuna's users write them.
        evaluations: Number of trials.
        seed: Of the sampler.
        sampler: ``tpe`` (multivariate), ``nsga2`` or ``random``.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
            "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }[sampler]()
        study = optuna.create_study(directions=["minimize"] * len(problem.objectives), sampler=made)
        found = []
        for _ in range(evaluations):
            trial = study.ask()
            row = [
                trial.suggest_categorical(choice.name, list(range(len(choice.values))))
                for choice in problem.space.choices
            ]
            rows = problem.project(np.array([row], np.int16))
            values = [float(o.evaluate(rows)[0]) * o.sign for o in problem.objectives]
            study.tell(trial, values)
            found.append(values)
    return np.array(found)


def pymoo_nsga2(problem: SearchProblem, evaluations: int, seed: int) -> Values:
    """Objectives ``(n, m)``, to be minimised, of pymoo's NSGA-II at the best operators measured.

    Population 50, uniform crossover, and polynomial mutation of the strength that did best among
    five settings on a 45-choice space.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    found: list[Values] = []

    class Table(Problem):
        def __init__(self) -> None:
            space = problem.space
            super().__init__(
                n_var=len(space),
                n_obj=len(problem.objectives),
                xl=0,
                xu=space.cardinalities.astype(int) - 1,
                vtype=int,
            )

        def _evaluate(self, X, out, *args, **kwargs):  # type: ignore[no-untyped-def]
            rows = problem.project(np.asarray(X, np.int16))
            values = [o.evaluate(rows) * o.sign for o in problem.objectives]
            out["F"] = np.stack(values, 1)
            found.append(out["F"])

    algorithm = NSGA2(
        pop_size=50,
        sampling=IntegerRandomSampling(),
        crossover=UX(),
        mutation=PM(prob=1.0, eta=3, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Table(), algorithm, ("n_eval", evaluations), seed=seed, verbose=False)
    return np.concatenate(found)[:evaluations]
