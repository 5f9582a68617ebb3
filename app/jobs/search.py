"""Searching as a job: weights, latency tables, predictors and strategy meet here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

from app.evaluation.choose_pool import open_pool
from app.evaluation.log import EvaluationLog
from app.evaluation.race_bounds import RaceRule
from app.evaluation.scheduler import WHOLE_ROUND, Evaluator
from app.jobs.outcomes import SearchOutcome
from app.progress import Say, Step
from app.records.columns.evaluation_columns import keep_evaluation_columns
from app.records.numbers import format_items
from app.records.searches.front import FILE as FRONT
from app.records.searches.front import Front, FrontHeader, read_front
from app.records.searches.front_files import write_front
from app.records.searches.search import EMPTY, FILE, SearchRecord
from app.records.typed_json.record_files import write_record
from app.runs.addresses import show_storage
from app.runs.class_balance import describe_largest_class
from app.runs.command_lines import write_command
from app.runs.directory import Run, now, open_run
from app.runs.latency_table import DeviceTable, open_table
from app.runs.offer_precision import offer_precision
from app.runs.trained import Trained, open_trained
from app.searching.checks import check_space, require_feasible
from app.searching.choice import Choice, find_choice
from app.searching.informed_fit import InformedFit
from app.searching.objectives import Sources, build_statistics, load_quantity
from app.searching.optuna_mirror import Study, is_mirrored, open_study
from app.searching.problem import build_problem, resolve_objectives, resolve_quantity
from app.searching.progress import Narrator
from app.searching.request import SearchRequest, is_complete, plan_search
from app.searching.results.calibrate import AlonePlan, calibrate_front, make_alone_recipe
from app.searching.results.front_builder import Findings, build_front
from app.searching.results.nearest import describe_nearest
from app.searching.results.random_baseline import add_baseline
from app.searching.results.report_cards import make_report_cards
from app.searching.results.settled import Settled, put_in, settle_front
from app.searching.results.verify import measurable, verify
from app.searching.setting import Setting, build_strategy, reopen_prior
from predictors.predictor import Fit
from predictors.transfer import transfer
from search import Evaluation, History, SearchProblem, SearchResult, search
from search.stops import STAGNATION, TIME
from supernet import proxies
from supernet.errors import InputError
from supernet.training import Recipe

DRIFT = 0.10
__all__ = ["SearchOutcome", "SearchRequest", "prepare", "search_job"]


def search_job(request: SearchRequest, say: Say) -> SearchOutcome:
    """Search, verify the front for real and store it; a killed command continues.

    Args:
        request: What to search for.
        say: Told about progress.

    Raises:
        InputError: Unknown names, limits that contradict each other or that nothing meets (the
            nearest feasible architecture is named), too few evaluations for the strategy, stored
            evaluations of another space, or another search of this name.
        OSError: The disk is full; evaluations made so far are kept.
    """
    run = open_run(request.run, request.trust)
    # Read before minutes are spent on opening the network.
    request.devices  # noqa: B018
    if request.storage is not None:
        show_storage(request.storage)
    chosen = find_choice(request)
    for name in request.proxies:
        proxies.load_proxy(name)
    offer_precision(run, request.precision, say)
    trained = open_trained(run, say, request.data)
    known = _find_complete(request, run, trained, say, chosen)
    if known is not None:
        _mend_note(run, request.name)
        return _summarise(run, known, 0)
    with run.writing():
        setting = prepare(request, run, trained, say, chosen)
        folder = run.search(request.name)
        reused = 0
        if is_complete(folder, setting.plan, replace=request.replace):
            say(f"search {request.name}: already complete")
            front = read_front(folder)
            study = _open_study(setting, folder, say)
            study.restore(front)
            study.mirror_verified(front)
        else:
            front, reused = _run_search(setting, folder, say)
        if request.baseline and front.baseline is None:
            pool = open_pool(setting.sources.log, workers=request.workers, ray=request.ray)
            front = add_baseline(setting.problem, setting.sources, folder, front, say, pool)
    _mend_note(run, request.name)
    return _summarise(run, front, reused)


def _mend_note(run: Run, name: str) -> None:
    """Note that a search is complete that was killed before it could."""
    stage = run.stage("search")
    if stage is not None and stage.name == name:
        run.mend_stage("search", name=name)


def _find_complete(
    request: SearchRequest, run: Run, trained: Trained, say: Say, chosen: Choice
) -> Front | None:
    """The front of a search that has nothing left to do; one that has must be locked first.

    What is only read needs no lock, and may lie on a read-only disk.
    """
    folder = run.search(request.name)
    if request.replace or request.storage is not None or not (folder / FRONT).exists():
        return None
    said: list[str | Step] = []
    setting = prepare(request, run, trained, said.append, chosen)
    if not is_complete(folder, setting.plan, replace=False):
        return None
    front = read_front(folder)
    if request.baseline and front.baseline is None:
        return None
    identity = setting.plan.config.identity
    if not is_mirrored(folder, request.name, front, setting.sources.log, identity):
        return None
    for line in said:
        say(line)
    say(f"search {request.name}: already complete")
    return front


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
        InputError: As for :func:`search_job`.
    """
    say(Step(f"search {request.name}: preparing", passing=True))
    chosen = chosen or find_choice(request)
    names = resolve_objectives(request.objectives, trained.quality, request.devices)
    check_space(run, trained, say)
    log = EvaluationLog(trained, say)
    sources = Sources(trained, log, _open_tables(request, run, trained, names, say))
    problem = build_problem(names, request.all_limits, sources)
    require_feasible(problem)
    prior = reopen_prior(request, run, trained, say)
    fit: Fit = InformedFit(build_statistics(sources), chosen.method)
    if prior is not None:
        known = format_items(len(prior.values), "evaluation")
        say(f"search {request.name}: {known} of {prior.run} may help")
        fit = transfer(fit, prior.positions, prior.values)
    strategy = build_strategy(request, trained, chosen, fit, say)
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
    alone = _plan_alone(request, trained, problem)
    return Setting(run, request, sources, problem, strategy, fit, plan, alone)


def _plan_alone(request: SearchRequest, trained: Trained, problem: SearchProblem) -> Recipe | None:
    """How networks are trained alone, where any are.

    Raises:
        InputError: Nothing is evaluated that could be calibrated, or the run has no usable recipe.
    """
    if not request.calibrate_alone:
        return None
    if trained.quality not in (objective.name for objective in problem.objectives):
        named = ", ".join(objective.name for objective in problem.objectives)
        raise InputError(
            f"--calibrate-alone calibrates {trained.quality}, which is none of the objectives "
            f"{named}; leave it out, or add {trained.quality} to --objectives"
        )
    return make_alone_recipe(trained)


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
    return {name: open_table(run, name, trained.find_costs, say) for name in devices}


def _run_search(setting: Setting, folder: Path, say: Say) -> tuple[Front, int]:
    request, run = setting.request, setting.run
    study = _open_study(setting, folder, say)
    _write_plan(setting.plan, folder, "running")
    run.set_stage("search", "running", name=request.name)
    problem, log = setting.problem, setting.sources.log
    pool = open_pool(log, workers=request.workers, ray=request.ray)
    rule = RaceRule() if request.early_stop else None
    with Evaluator(problem, log, pool=pool, rule=rule) as evaluator:
        seconds, began = request.stops.seconds, time.monotonic()
        result, reused = _explore(setting, study, evaluator, say)
        if not len(result.front):
            _refuse_empty(setting, folder, result.history)
        settled = settle_front(
            problem,
            result,
            setting.sources,
            build_statistics(setting.sources),
            request.seed,
            say,
            pool=pool,
            is_late=lambda: seconds is not None and time.monotonic() - began >= seconds,
        )
    if settled.result.stopped == TIME != result.stopped:
        assert settled.confirmed is not None
        done = format_items(settled.confirmed.evaluations, "evaluation")
        _say_late(request, f"{done} of finalists", say)
    if setting.alone is not None and len(settled.result.front):
        settled = _calibrate(setting, setting.alone, settled, folder, say)
    if not len(settled.result.front):
        (quality,) = settled.qualities.values()
        stated = quality if settled.alone is None else settled.alone.quality
        _refuse_empty(setting, folder, put_in(result.history, problem, stated))
    front = _verify_front(setting, settled, say)
    write_front(folder, front, result.trace)
    keep_evaluation_columns(run.evaluations)
    study.mirror_verified(front)
    _write_plan(setting.plan.replace(front=front.digest), folder, "complete")
    run.set_stage("search", "complete", name=request.name)
    return front, reused


def _calibrate(
    setting: Setting, recipe: Recipe, settled: Settled, folder: Path, say: Say
) -> Settled:
    request = setting.request
    plan = AlonePlan(
        trained=setting.sources.trained,
        recipe=recipe,
        count=request.calibrate_alone,
        seed=request.seed,
        folder=folder,
        title=f"search {request.name}",
    )
    return calibrate_front(setting.problem, settled, plan, say)


def _refuse_empty(setting: Setting, folder: Path, history: History) -> NoReturn:
    """Note that nothing in a history is within the limits, and say what came nearest."""
    name = setting.request.name
    _write_plan(setting.plan, folder, EMPTY)
    setting.run.set_stage("search", EMPTY, name=name)
    nearest = describe_nearest(setting.problem, history, setting.sources.log)
    raise InputError(f"search {name!r} found nothing: {nearest}")


def _write_plan(plan: SearchRecord, folder: Path, status: str) -> None:
    write_record(folder / FILE, plan.replace(status=status, updated=now()))


def _open_study(setting: Setting, folder: Path, say: Say) -> Study:
    request = setting.request
    return open_study(
        folder,
        request.name,
        setting.problem,
        setting.sources.log,
        say,
        identity=setting.plan.config.identity,
        storage=request.storage,
    )


def _explore(
    setting: Setting, study: Study, evaluator: Evaluator, say: Say
) -> tuple[SearchResult, int]:
    request, problem = setting.request, setting.problem
    narrator = Narrator(request.name, problem, setting.strategy, request.seed, setting.fit, say)
    reused = [0]

    def evaluated(evaluation: Evaluation) -> None:
        reused[0] += evaluation.reused
        study.add(evaluation)
        narrator.count_evaluation(request.evaluations)

    result = search(
        problem,
        setting.strategy,
        stops=request.stops,
        seed=request.seed,
        known=evaluator.list_known(),
        evaluate_batch=evaluator.evaluate_batch,
        chunk=1 if evaluator.pool.width == 1 else WHOLE_ROUND,
        on_evaluated=evaluated,
        progress=narrator,
    )
    result = evaluator.settle(result)
    if request.early_stop:
        stopped = format_items(
            len(evaluator.stopped),
            "hopeless candidate was stopped",
            "hopeless candidates were stopped",
        )
        say(
            f"search {request.name}: {stopped} early; {evaluator.saved_share:.0%} of the "
            "validation samples were not looked at"
        )
    done = format_items(len(result.history), "evaluation")
    if result.stopped == STAGNATION:
        say(
            f"search {request.name}: stopped after {done}; the "
            f"hypervolume grew by less than 0.1 % in the last {request.stagnation}"
        )
    if result.stopped == TIME:
        _say_late(request, done, say)
    return result, reused[0] + evaluator.reused


def _say_late(request: SearchRequest, done: str, say: Say) -> None:
    say(
        f"search {request.name}: stopped after {done} and "
        f"{request.max_minutes:g} min; a larger --max-minutes goes on from here"
    )


def _verify_front(setting: Setting, settled: Settled, say: Say) -> Front:
    request, sources, problem = setting.request, setting.sources, setting.problem
    result = settled.result
    here = measurable(sources.tables, say)
    architectures = problem.space.decode(result.front.positions)
    verified = verify(architectures, sources.log, here, say)
    header = FrontHeader(
        search=request.name,
        device=request.devices[0],
        devices=request.devices,
        unmeasured=tuple(name for name in sources.tables if name not in here),
        space_digest=setting.plan.space,
        checkpoint=setting.plan.checkpoint,
        seed=request.seed,
        strategy=request.strategy,
        largest_class=describe_largest_class(sources.trained.data, "val"),
    )
    say(Step(f"search {request.name}: judging predictors", passing=True))
    cards = make_report_cards(
        problem, result.history, result.models, seed=request.seed, fit=setting.fit
    )
    front = build_front(Findings(problem, settled, verified, sources, cards), header)
    for device, ratio in front.latency_ratios.items():
        if abs(ratio - 1) > DRIFT:
            word = "slower" if ratio > 1 else "faster"
            again = write_command(
                *("profile", "--run", request.run, "--device", device, "--replace"),
                trust=request.trust,
            )
            say(
                f"warning: networks now run {abs(ratio - 1):.0%} {word} on {device} than its "
                "table predicts; measured values are kept beside the predictions, and "
                f"`{again}` renews it"
            )
    return front


def _summarise(run: Run, front: Front, reused: int) -> SearchOutcome:
    quality = front.objectives[0].name
    card = front.reports.get(quality)
    return SearchOutcome(
        run=run.path,
        search=front.search,
        device=front.device,
        evaluations=front.evaluations,
        reused=reused,
        failed=front.failed,
        stopped=front.stopped,
        objectives=tuple(o.name for o in front.objectives),
        units={o.name: o.unit for o in front.objectives},
        front=tuple(point for point in front.points if point.on_front),
        indistinguishable=sum(point.indistinguishable for point in front.points),
        hypervolume=front.hypervolume.verified,
        searched_hypervolume=front.hypervolume.searched,
        baseline_hypervolume=None if front.baseline is None else front.baseline.hypervolume,
        predictor_tau=None if card is None else card.tau,
        unmeasured_devices=front.unmeasured,
        largest_class=front.largest_class,
        finalists=front.finalists,
        calibration=front.calibration,
    )
