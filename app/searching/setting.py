"""A search that is ready to begin, and how its strategy is made."""

from __future__ import annotations

from dataclasses import dataclass

from app.progress import Say
from app.records.searches.search import SearchRecord
from app.runs.directory import Run
from app.runs.plugins import is_own
from app.runs.trained import Trained
from app.searching.choice import Choice
from app.searching.earlier_run import Prior, open_prior
from app.searching.objectives import Sources
from app.searching.proxy_start import CANDIDATES, WarmStart, proxy_scores
from app.searching.request import AUTO, SearchRequest, read_plan
from predictors.predictor import Fit
from search import SearchProblem, Strategy
from supernet.errors import InputError
from supernet.training import Recipe


@dataclass(frozen=True)
class Setting:
    """A search that is ready to begin: everything it needs, opened and checked.

    Args:
        run: The run.
        request: What was asked for.
        sources: Network, evaluations and latency tables.
        problem: What is searched for.
        strategy: How.
        fit: How its predictors are fitted.
        plan: What decides the result.
        alone: How networks are trained alone; ``None`` where none is.
    """

    run: Run
    request: SearchRequest
    sources: Sources
    problem: SearchProblem
    strategy: Strategy
    fit: Fit
    plan: SearchRecord
    alone: Recipe | None = None


def reopen_prior(request: SearchRequest, run: Run, trained: Trained, say: Say) -> Prior | None:
    """Open the earlier run that helps, as far as a search that is continued used it.

    Raises:
        InputError: As for :func:`app.searching.earlier_run.open_prior`.
    """
    if request.prior is None:
        return None
    stored = None if request.replace else read_plan(run.search(request.name))
    before = None if stored is None else stored.config.prior
    return open_prior(request.prior, trained, say, before)


def build_strategy(
    request: SearchRequest, trained: Trained, chosen: Choice, fit: Fit, say: Say
) -> Strategy:
    """Build the strategy of a search, with a first round by proxies where it is asked for.

    Args:
        request: What to search for.
        trained: The network that proxies look at.
        chosen: What the request names.
        fit: How predictors are fitted.
        say: Told about the first round.

    Raises:
        InputError: The strategy makes no use of what is asked for.
    """
    strategy = chosen.build(fit)
    # Whether a strategy of the user's own makes use of a fit shows in no attribute.
    if not is_own(request.strategy) and not hasattr(strategy, "fit"):
        _refuse_fit(request)
    if not request.proxies:
        return strategy
    if not getattr(strategy, "has_first_sample", True):
        raise InputError(
            f"strategy {request.strategy!r} has no first sample that proxies could choose; leave "
            "out --proxies, or use another strategy"
        )
    scores = proxy_scores(trained, request.proxies)
    first = strategy.batch_size(0)
    say(
        f"search {request.name}: the first {first} architectures are chosen from "
        f"{CANDIDATES * first} by {' and '.join(request.proxies)}"
    )
    return WarmStart(strategy, scores)


def _refuse_fit(request: SearchRequest) -> None:
    """InputError where something is asked for that only helps to predict."""
    if request.prior is not None:
        raise InputError(
            f"strategy {request.strategy!r} fits no predictor that a prior could help; leave out "
            "--prior, or use another strategy"
        )
    if request.predictor != AUTO:
        raise InputError(
            f"strategy {request.strategy!r} fits no predictor; leave out --predictor, or use "
            "another strategy"
        )
