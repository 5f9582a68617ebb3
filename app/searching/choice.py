"""What a search names: strategy, predictor and engine, found and fitted to each other."""

from __future__ import annotations

import inspect
import os
import sys
from dataclasses import dataclass
from types import ModuleType

from app.runs.plugins import is_own, load_predictor, load_strategy
from app.searching.request import AUTO, DEFAULT_ENGINE, SearchRequest
from predictors import fit
from predictors.predictor import Fit
from search import Strategy
from search.engines.choice import find_engine
from search.engines.contract import Engine
from supernet.errors import InputError


@dataclass(frozen=True)
class Choice:
    """Strategy, predictor and engine of a search.

    Args:
        module: Module of the strategy.
        method: Fits predictors.
        engine: Evolves on predictions; ``None`` for the strategy's own way.
    """

    module: ModuleType
    method: Fit
    engine: Engine | None

    def build(self, fit: Fit) -> Strategy:
        """Build the strategy.

        Args:
            fit: What it fits predictors with.
        """
        options = {} if self.engine is None else {"engine": self.engine}
        strategy: Strategy = self.module.build(fit, **options)
        return strategy


def find_choice(request: SearchRequest) -> Choice:
    """Find what a request names, before minutes are spent on opening the network.

    Raises:
        InputError: A name is unknown, or the strategy evolves nothing on predictions.
        ModuleNotFoundError: One of them needs an optional package that is not installed.
    """
    module = load_strategy(request.strategy)
    method: Fit = fit if request.predictor == AUTO else load_predictor(request.predictor).fit
    engine = None
    if request.engine != DEFAULT_ENGINE:
        if is_own(request.engine) and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        engine = find_engine(request.engine)
        if "engine" not in inspect.signature(module.build).parameters:
            raise InputError(
                f"strategy {request.strategy!r} has no engine that evolves on predictions; leave "
                "out --engine, or use another strategy, such as predictor_guided"
            )
    return Choice(module, method, engine)
