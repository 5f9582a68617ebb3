"""What a search is asked for, and whether the one on disk is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.records.numbers import format_items
from app.records.searches.search import (
    EMPTY,
    FILE,
    LENGTH,
    REMEDY,
    EarlierRunRecord,
    SearchRecord,
    SearchSettings,
)
from app.records.typed_json.record_files import read_record
from app.searching.written_limits import find_devices, parse_latency_limit
from search import Stops, Strategy
from search.limits import Limit, parse_bound, parse_limit
from supernet import files
from supernet.errors import InputError

AUTO = "auto"
DEFAULT_ENGINE = "array"


# More evaluations than any search has time for, and than arrays of them have room for.
_MOST = 1_000_000_000
# Fewer networks trained alone do not tell a bias from the luck of trainings.
FEWEST_ALONE = 4


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What to search for.

    Args:
        run: The run directory.
        device: Profiled devices, separated by commas; empty for those that objectives and limits
            name, and without any for ``cpu``.
        latency_ms: Upper limit of the predicted latency in milliseconds, or as a share of the
            largest network's such as ``"60%"``, if any.
        limits: Further limits, such as ``"size<=50%"`` or ``"accuracy>=0.9"``.
        objectives: Names; empty for the task's quality and the latency.
        precision: Number formats of the units, such as ``"fp32,int8"``; ``None`` for those that
            the run offers.
        evaluations: Architectures to evaluate; those of earlier searches cost nothing again.
        max_minutes: End after the round in which so much time has passed, of evaluations of the
            search or of its finalists; a search that is continued counts the time of the present
            process only.
        stagnation: End when the hypervolume grew by less than 0.1 % in so many evaluations.
        baseline: Evaluate as many random architectures, too, and store their trace beside.
        early_stop: Stop candidates that are surely dominated before they have seen the whole
            validation split.
        workers: Architectures evaluated at once, in processes of their own or on Ray.
        ray: Address of a Ray cluster that evaluates; ``None`` for this machine.
        storage: Where the Optuna study is kept; by default a journal file beside the front.
        strategy: Module name in ``search/strategies`` or a dotted path.
        predictor: Module name in ``predictors/models`` or a dotted path, ``"auto"`` for the method
            that ranks unseen architectures best.
        engine: What evolves on predictions: one of ``search.engines.choice.ENGINES`` or a dotted
            path.
        calibrate_alone: How many networks are trained alone to calibrate the front, at least 4; 0
            for none. It takes as long as it takes, whatever ``max_minutes``.
        proxies: Zero-cost proxies that choose the first round; none for the strategy's own.
        prior: An earlier run of the same space whose evaluations help the predictors, if any.
        name: Name of the search.
        seed: Seed of every random decision.
        replace: Search anew where another search has this name.
        data: Where the data of the run are now, if they moved; recorded in the run.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    device: str = ""
    latency_ms: float | str | None = None
    limits: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    precision: str | None = None
    evaluations: int = 200
    max_minutes: float | None = None
    stagnation: int | None = None
    baseline: bool = False
    early_stop: bool = False
    workers: int = 1
    ray: str | None = None
    storage: str | None = None
    strategy: str = "predictor_guided"
    predictor: str = AUTO
    engine: str = DEFAULT_ENGINE
    calibrate_alone: int = 0
    proxies: tuple[str, ...] = ()
    prior: Path | None = None
    name: str = "default"
    seed: int = 0
    replace: bool = False
    data: str | None = None
    trust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, count in (("evaluations", self.evaluations), ("stagnation", self.stagnation)):
            if count is not None and count > _MOST:
                raise InputError(f"{name} = {count} is impossible; it must be at most {_MOST:,}")
        if self.evaluations < 5:
            raise InputError(f"evaluations = {self.evaluations} is too few; use 5 or more")
        if self.calibrate_alone and not FEWEST_ALONE <= self.calibrate_alone <= self.evaluations:
            raise InputError(
                f"calibrate-alone = {self.calibrate_alone} cannot work; it is a number of the "
                f"{format_items(self.evaluations, 'evaluated network')}, at least {FEWEST_ALONE}, "
                "or 0 for none"
            )
        if self.seed < 0:
            raise InputError(f"seed = {self.seed} is impossible; it must be at least 0")
        files.check_new_name("search", self.name)
        minutes = self.max_minutes
        if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
            raise InputError(f"max-minutes = {minutes:g} cannot work; it must be above 0")
        if self.stagnation is not None and self.stagnation < 1:
            raise InputError(
                f"stagnation = {self.stagnation} is impossible; it is a number of evaluations, "
                "at least 1"
            )
        if self.workers < 1:
            raise InputError(f"workers = {self.workers} is impossible; use at least 1")
        if len(set(self.proxies)) < len(self.proxies):
            raise InputError(f"proxies {','.join(self.proxies)!r} must be different names")
        names = [part.strip() for part in self.device.split(",")]
        if self.device and (not all(names) or len(set(names)) < len(names)):
            raise InputError(f"devices {self.device!r} must be different names separated by commas")
        for name in filter(None, names):
            files.check_name("device", name)

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """Every limit, the latency budget first.

        Raises:
            InputError: One of them cannot be read.
        """
        budget = () if self.latency_ms is None else (parse_latency_limit(self.latency_ms),)
        return (*budget, *(parse_limit(text) for text in self.limits))

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices asked for, then those that objectives or limits name besides."""
        asked = [part.strip() for part in self.device.split(",") if part.strip()]
        named = find_devices([*self.objectives, *(limit.quantity for limit in self.all_limits)])
        return tuple(dict.fromkeys((*asked, *named))) or ("cpu",)

    @property
    def stops(self) -> Stops:
        """What ends the search."""
        seconds = None if self.max_minutes is None else 60 * self.max_minutes
        return Stops(self.evaluations, seconds, self.stagnation)

    def check_first_sample(self, strategy: Strategy) -> None:
        """Refuse a budget that ends before the strategy has anything to go by.

        Raises:
            InputError: ``evaluations`` is below the first sample of the strategy.
        """
        first = strategy.batch_size(0)
        # Strategies of users' own from before there was the attribute lack it.
        if getattr(strategy, "has_first_sample", True) and self.evaluations < first:
            raise InputError(
                f"evaluations = {self.evaluations} is fewer than the {first} of the first sample "
                f"of {self.strategy}; use {first} or more, or another strategy"
            )


def plan_search(
    request: SearchRequest,
    names: tuple[str, ...],
    *,
    space: str,
    checkpoint: str,
    tables: Mapping[str, str],
    prior: EarlierRunRecord | None = None,
) -> SearchRecord:
    """What decides the result of a search; stored as ``search.json``.

    Args:
        request: What to search for.
        names: Canonical objectives.
        space: Digest of the space.
        checkpoint: Digest of the weights.
        tables: Digests of the latency tables by device.
        prior: The evaluations of an earlier run that are used, if any.
    """
    budget = request.latency_ms
    if isinstance(budget, str):
        # The same number written in two ways is one search.
        amount = parse_bound(budget)
        budget = budget.strip() if amount.relative or amount.suffix else amount.value
    settings = SearchSettings(
        device=",".join(request.devices),
        latency_ms=budget,
        limits=request.limits,
        objectives=names,
        strategy=request.strategy,
        seed=request.seed,
        evaluations=request.evaluations,
        max_minutes=request.max_minutes,
        stagnation=request.stagnation,
        early_stop=request.early_stop,
        proxies=request.proxies,
        prior=prior,
        predictor=request.predictor,
        engine=request.engine,
        calibrate_alone=request.calibrate_alone,
    )
    only = next(iter(tables.values()), None)
    return SearchRecord(
        config=settings,
        space=space,
        checkpoint=checkpoint,
        table=only if len(tables) < 2 else dict(tables),
    )


def rebuild_request(run: Path, name: str, settings: SearchSettings) -> SearchRequest:
    """The request that led to a stored search.

    Raises:
        InputError: The stored settings are impossible.
    """
    try:
        return SearchRequest(
            run=run,
            name=name,
            device=settings.device,
            latency_ms=settings.latency_ms,
            limits=settings.limits,
            objectives=settings.objectives,
            evaluations=settings.evaluations,
            max_minutes=settings.max_minutes,
            stagnation=settings.stagnation,
            early_stop=settings.early_stop,
            strategy=settings.strategy,
            seed=settings.seed,
            proxies=settings.proxies,
            prior=None if settings.prior is None else Path(settings.prior.run),
            predictor=settings.predictor,
            engine=settings.engine,
            calibrate_alone=settings.calibrate_alone,
        )
    except InputError as error:
        path = run / "searches" / name / FILE
        raise InputError(f"{path} was damaged or edited: {error}; {REMEDY}") from None


def read_plan(folder: Path) -> SearchRecord | None:
    """The plan of the search in a folder, if there is one.

    Raises:
        InputError: Damaged.
    """
    path = folder / FILE
    return read_record(path, SearchRecord, REMEDY) if path.exists() else None


def is_complete(folder: Path, plan: SearchRecord, *, replace: bool) -> bool:
    """Whether the front of exactly this search is there.

    Raises:
        InputError: The folder holds a search with other settings, or a longer one.
    """
    old = None if replace else read_plan(folder)
    if old is None or (old.status == EMPTY and not (folder / "front.json").exists()):
        # One that found nothing gives way: there is no front to lose, and what was evaluated stays.
        return False
    before, now = (record.config.model_dump(mode="json") for record in (old, plan))
    changed = [key for key, value in now.items() if before[key] != value]
    # What was evaluated or trained for a front is not given up by the way.
    shorter = [key for key in ("evaluations", "calibrate_alone") if now[key] < before[key]]
    if shorter or any(key not in LENGTH for key in changed):
        shown = [
            f"{key}: {before[key]} -> {now[key]}"
            for key in changed
            if key not in LENGTH or key in shorter
        ]
        raise InputError(
            f"search {folder.name!r} has other settings ({', '.join(shown)}); choose another "
            "--name, or --replace it"
        )
    same = not changed and not plan.find_changes(old)
    return same and old.status == "complete" and (folder / "front.json").exists()
