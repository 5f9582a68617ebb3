"""A search that is ready to begin: everything it needs, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass

from app.evaluation.log import EvaluationLog
from app.records.search import SearchRecord
from app.runs.directory import Run
from app.runs.latency_table import DeviceTable, open_table
from app.runs.plugins import is_own
from app.runs.trained import Say, Trained
from app.searching.checks import check_space, require_feasible
from app.searching.choice import Choice, find_choice
from app.searching.earlier_run import Prior, open_prior
from app.searching.informed_fit import InformedFit
from app.searching.objectives import Sources, build_statistics, load_quantity
from app.searching.problem import build_problem, resolve_objectives, resolve_quantity
from app.searching.proxy_start import CANDIDATES, WarmStart, proxy_scores
from app.searching.request import AUTO, SearchRequest, plan_search, read_plan
from predictors.predictor import Fit
from predictors.transfer import transfer
from search import SearchProblem, Strategy


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
    """

    run: Run
    request: SearchRequest
    sources: Sources
    problem: SearchProblem
    strategy: Strategy
    fit: Fit
    plan: SearchRecord


def prepare(
    request: SearchRequest, run: Run, trained: Trained, say: Say, chosen: Choice | None = None
) -> Setting:
    """Open what a search needs and refuse what cannot work, before anything is spent.

    Args:
        request: What to search for.
        run: The run.
        trained: Its network.
        say: Told about progress.
        chosen: What the request names, when it was looked up before.

    Raises:
        ValueError: As for :func:`app.jobs.search.search_job`.
    """
    chosen = chosen or find_choice(request)
    names = resolve_objectives(request.objectives, trained.quality, request.devices)
    check_space(run, trained)
    log = EvaluationLog(trained)
    sources = Sources(trained, log, _open_tables(request, run, trained, names, say))
    problem = build_problem(names, request.all_limits, sources)
    require_feasible(problem)
    prior = _open_prior(request, run, trained)
    fit: Fit = InformedFit(build_statistics(sources), chosen.method)
    if prior is not None:
        say(f"search {request.name}: {len(prior.values)} evaluations of {prior.run} may help")
        fit = transfer(fit, prior.positions, prior.values)
    strategy = _build_strategy(request, trained, chosen, fit, say)
    if problem.expensive:
        request.check_first_sample(strategy)
    tables = sources.tables
    if len(tables) == 1:
        table = next(iter(tables.values()))
        table.table.check_device(table.device)
    digests = {name: table.digest for name, table in tables.items()}
    space = trained.supernet.space.digest
    plan = plan_search(
        request,
        names,
        space=space,
        checkpoint=trained.checkpoint.digest,
        tables=digests,
        prior=None if prior is None else prior.record,
    )
    return Setting(run, request, sources, problem, strategy, fit, plan)


def _open_prior(request: SearchRequest, run: Run, trained: Trained) -> Prior | None:
    if request.prior is None:
        return None
    stored = None if request.replace else read_plan(run.search(request.name))
    return open_prior(request.prior, trained, None if stored is None else stored.config.prior)


def _build_strategy(
    request: SearchRequest, trained: Trained, chosen: Choice, fit: Fit, say: Say
) -> Strategy:
    strategy = chosen.build(fit)
    # Whether a strategy of the user's own makes use of a fit shows in no attribute.
    if not is_own(request.strategy) and not hasattr(strategy, "fit"):
        _refuse_fit(request)
    if not request.proxies:
        return strategy
    if not getattr(strategy, "has_first_sample", True):
        raise ValueError(
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
    """ValueError where something is asked for that only helps to predict."""
    if request.prior is not None:
        raise ValueError(
            f"strategy {request.strategy!r} fits no predictor that a prior could help; leave out "
            "--prior, or use another strategy"
        )
    if request.predictor != AUTO:
        raise ValueError(
            f"strategy {request.strategy!r} fits no predictor; leave out --predictor, or use "
            "another strategy"
        )


def _open_tables(
    request: SearchRequest, run: Run, trained: Trained, names: tuple[str, ...], say: Say
) -> dict[str, DeviceTable]:
    devices = request.devices
    limited = [
        full
        for limit in request.all_limits
        for full in resolve_quantity(limit.quantity, trained.quality, devices)
    ]
    needed = any(load_quantity(name).of_tables for name in (*names, *limited))
    if not needed and len(devices) == 1 and devices[0] not in run.devices:
        say(f"search: device {devices[0]!r} is not profiled; latency is left out")
        return {}
    return {name: open_table(run, name, trained.cost_model, say) for name in devices}
