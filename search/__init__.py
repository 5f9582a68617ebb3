"""Multi-objective search: problems, histories, Pareto fronts and strategies."""

from __future__ import annotations

from search.front import ParetoFront, pareto_front, pick_by_weights, pick_knee, pick_within
from search.history import Evaluation, History
from search.noise import indistinguishable, probable_front
from search.problem import Constraint, Objective, SearchProblem
from search.run import Progress, SearchResult, search
from search.sampling.feasibility import InfeasibleError, check_feasible
from search.stops import Stops
from search.strategy import FitPredictor, Strategy

__all__ = [
    "Constraint",
    "Evaluation",
    "FitPredictor",
    "History",
    "InfeasibleError",
    "Objective",
    "ParetoFront",
    "Progress",
    "SearchProblem",
    "SearchResult",
    "Stops",
    "Strategy",
    "check_feasible",
    "indistinguishable",
    "pareto_front",
    "pick_by_weights",
    "pick_knee",
    "pick_within",
    "probable_front",
    "search",
]
