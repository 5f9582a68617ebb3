"""``front.json``: what a search found, its points and everything known about each of them."""

from __future__ import annotations

import hashlib
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from app.records.class_balance import LargestClass
from app.records.columns.choice_columns import ChoiceColumns, tabulate_choices
from app.records.columns.front_columns import Column, make_column
from app.records.columns.point_columns import find_columns
from app.records.quantities import Quantity, find_stored_quantity, list_counted
from app.records.searches.alone import CalibrationRecord
from app.records.searches.front_extras import BaselineRecord, FailureRecord, FinalistsRecord
from app.records.searches.search import FILE as SEARCH_FILE
from app.records.searches.search import REMEDY as SEARCH_REMEDY
from app.records.searches.search import SearchRecord
from app.records.searches.trace import TraceDigests
from app.records.typed_json.record import Choices, Count, Digest, FileRecord, Record, Seed
from app.records.typed_json.record_files import parse_record, read_record
from supernet.errors import InputError

FILE = "front.json"
REMEDY = "restore the file, or search again with --replace"
# Counts are stored as whole numbers or, where a unit asks for it, as fractions.
_LARGEST_COUNT = 2.0**63


class Estimate(Record):
    """One objective of one point, in the objective's stored unit; ``None`` is "not known".

    Args:
        predicted: By the model or table of the search.
        predicted_low: Lower end of the model's interval.
        predicted_high: Upper end.
        value: What was evaluated or measured; with source ``table``, what was looked up.
        source: Where the value comes from: ``"evaluated"``, ``"stopped early"``, ``"measured"``,
            ``"table"`` or ``"analytic"``.
        low: Lower end of the 95 % interval of the value.
        high: Upper end.
        posterior: What value, further evaluations and all other evaluations of the search together
            say of a quality that is evaluated on samples.
        posterior_low: Lower end of the 95 % interval of the quality on new data.
        posterior_high: Upper end.
        posterior_error: Standard deviation of the posterior without what the evaluations of all
            points have in common: what may turn the order of two points round.
        samples: Validation samples behind the posterior.
        alone: What the quality is expected to be once the network is trained alone from scratch, on
            average over trainings, where the search was calibrated by such trainings.
        alone_low: Lower end of the 95 % interval of the quality after one such training.
        alone_high: Upper end.
        alone_error: Standard deviation of :attr:`alone` without what all points have in common.
        test: The same quantity on the test split, which no search has seen.
        test_low: Lower end of its 95 % interval.
        test_high: Upper end.
        test_balanced: Accuracy on the test split as a mean over the classes.
    """

    predicted: float | None = None
    predicted_low: float | None = None
    predicted_high: float | None = None
    value: float | None = None
    source: str = ""
    low: float | None = None
    high: float | None = None
    posterior: float | None = None
    posterior_low: float | None = None
    posterior_high: float | None = None
    posterior_error: float | None = None
    samples: Count | None = None
    alone: float | None = None
    alone_low: float | None = None
    alone_high: float | None = None
    alone_error: float | None = None
    test: float | None = None
    test_low: float | None = None
    test_high: float | None = None
    test_balanced: float | None = None

    @property
    def best(self) -> float | None:
        """What it is worth alone, else the posterior, else the value, else the prediction."""
        if self.alone is not None:
            return self.alone
        if self.posterior is not None:
            return self.posterior
        return self.predicted if self.value is None else self.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval around :attr:`best`, if there is one that contains it."""
        if self.alone is not None:
            return self.alone_interval
        if self.posterior is not None:
            return self.posterior_interval
        return _enclose(self.value, self.low, self.high)

    @property
    def posterior_interval(self) -> tuple[float, float] | None:
        """The 95 % interval around the posterior, likewise."""
        return _enclose(self.posterior, self.posterior_low, self.posterior_high)

    @property
    def alone_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the quality after one training alone, likewise."""
        return _enclose(self.alone, self.alone_low, self.alone_high)


def _enclose(
    centre: float | None, low: float | None, high: float | None
) -> tuple[float, float] | None:
    if centre is None or low is None or high is None:
        return None
    return (low, high) if low <= centre <= high else None


_UNKNOWN = Estimate()


class UnitLatency(Record):
    """What one unit of a network adds to its predicted latency, in milliseconds."""

    unit: str
    latency_ms: float


class Point(Record):
    """One architecture of a search; the file has its counts beside these keys.

    Args:
        digest: Digest of the architecture.
        choices: The architecture; ``architecture`` in the file.
        on_front: Whether no evaluated point dominates it, by qualities alone where the search was
            calibrated, else by posterior ones where there are some.
        indistinguishable: Whether it is off the front and may belong there as far as is known.
        verified: Whether it was evaluated on the test split and measured.
        within_limits: Whether the limits of the search hold for its measured values.
        estimates: What is known about each quantity searched for, and about every latency;
            ``objectives`` in the file.
        unit_latencies: Predicted latency of each unit on the first device, where it is known;
            ``breakdown`` in the file.
    """

    digest: Digest
    choices: Annotated[Choices, Field(alias="architecture")]
    on_front: bool = False
    indistinguishable: bool = False
    verified: bool = False
    within_limits: bool | None = None
    estimates: Annotated[dict[str, Estimate], Field(alias="objectives")]
    unit_latencies: Annotated[tuple[UnitLatency, ...], Field(alias="breakdown")] = ()

    @property
    def breakdown(self) -> tuple[tuple[str, float], ...]:
        """Predicted latency of each unit on the first device, in milliseconds."""
        return tuple((part.unit, part.latency_ms) for part in self.unit_latencies)

    @model_validator(mode="after")
    def _check_counts(self) -> Point:
        known = self.model_extra or {}
        for quantity in list_counted():
            value = known.get(quantity.name)
            usable = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (usable and 0 <= value < _LARGEST_COUNT):
                raise InputError(f"{quantity.name} must be a number from 0 on")
        return self

    @cached_property
    def counts(self) -> dict[str, int | float]:
        """What the architecture alone decides, by the name of the quantity."""
        known = self.model_extra or {}
        names = (quantity.name for quantity in list_counted())
        return {name: known[name] for name in names if known.get(name) is not None}

    def estimate(self, name: str) -> Estimate:
        """The estimate of an objective or count; all ``None`` when the file has none."""
        if name in self.estimates:
            return self.estimates[name]
        if name in self.counts:
            return Estimate(value=self.counts[name], source="analytic")
        return _UNKNOWN

    def best(self, name: str) -> float | None:
        """What is known best of an objective (:attr:`Estimate.best`) or count, else ``None``."""
        return self.estimate(name).best


class ObjectiveRecord(Record):
    """What was searched for: the name of a quantity, its unit and the wanted direction."""

    name: str
    unit: str = ""
    direction: str


class ConstraintRecord(Record):
    """A limit of a search, in the stored unit of its quantity."""

    objective: str
    at_most: float | None = None
    at_least: float | None = None


class HypervolumeRecord(Record):
    """Hypervolumes of a front against one reference.

    Args:
        predicted: Hypervolume of the predicted values.
        searched: Hypervolume of the values that the search went by.
        verified: Hypervolume of what is known best of every point: the quality alone or the
            posterior, else what was found for real.
        reference: The reference, by objective.
    """

    predicted: float | None = None
    searched: float | None = None
    verified: float | None = None
    reference: dict[str, float | None] = Field(default_factory=dict)


class CardRecord(Record):
    """How well a predictor did on values it had not seen; ``None`` is undefined.

    As :class:`predictors.ReportCard`, which explains each figure.
    """

    model: str
    samples: Count | None = None
    tau: float | None = None
    spearman: float | None = None
    rmse: float | None = None
    level: float | None = None
    coverage: float | None = None
    half_width: float | None = None
    widening: float | None = None
    regret: float | None = None
    curve: tuple[tuple[Count, float | None], ...] = ()
    needed: Count | None = None
    aim: float | None = None
    best: str | None = None
    widest: float | None = None


class FrontHeader(Record):
    """Which search a front is of.

    Args:
        search: Its name.
        device: The first device.
        devices: All of them.
        unmeasured: Those that are not the machine of the search; ``unmeasured_devices`` in the
            file.
        space_digest: Digest of the space; ``space`` in the file.
        checkpoint: Digest of the weights.
        seed: Seed of every random decision.
        strategy: Module name or dotted path.
        largest_class: The most frequent class of the split searched on, where it has classes.
    """

    search: str = ""
    device: str = ""
    devices: tuple[str, ...] = ()
    unmeasured: Annotated[tuple[str, ...], Field(alias="unmeasured_devices")] = ()
    space_digest: Annotated[str, Field(alias="space")] = ""
    checkpoint: str = ""
    seed: Seed = 0
    strategy: str = ""
    largest_class: LargestClass | None = None


class Front(FileRecord, FrontHeader):
    """The content of ``front.json``: points on the front and the evaluated ones behind it.

    Args:
        latency_method: How latencies were measured, as a sentence.
        evaluations: Architectures evaluated.
        failed: Of them.
        failures: Which failed, as far as a search said; an earlier one did not.
        finalists: What was spent on finalists; ``None`` where the data has no further samples, and
            in older files.
        calibration: By which networks trained alone the quality was calibrated; ``None`` where it
            was not.
        stopped: What ended the search.
        searched_for: The objectives as the file describes them; ``objectives`` there.
        constraints: Limits of the search.
        latency_ratio: Median of measured over predicted latency on the first device.
        latency_ratios: The same by device.
        points: The front first.
        hypervolume: Hypervolume of the front.
        cards: Report cards of predictors by quantity; of an older file, one card. ``report`` in
            the file.
        baseline: Random search with as many evaluations, where it was asked for.
        trace: Digest of the progress in ``hypervolume.csv``.
    """

    latency_method: str | None = None
    evaluations: Count = 0
    failed: Count = 0
    failures: tuple[FailureRecord, ...] = ()
    finalists: FinalistsRecord | None = None
    calibration: CalibrationRecord | None = None
    stopped: str = ""
    searched_for: Annotated[tuple[ObjectiveRecord, ...], Field(alias="objectives")]
    constraints: tuple[ConstraintRecord, ...] = ()
    latency_ratio: float | None = None
    latency_ratios: dict[str, float] = Field(default_factory=dict)
    points: tuple[Point, ...]
    hypervolume: HypervolumeRecord = HypervolumeRecord()
    cards: Annotated[dict[str, CardRecord] | CardRecord, Field(alias="report")] = Field(
        default_factory=dict
    )
    baseline: BaselineRecord | None = None
    trace: str | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of which points these are, in order."""
        return hashlib.sha256(",".join(self.digests.tolist()).encode()).hexdigest()[:16]

    @cached_property
    def digests(self) -> NDArray[np.str_]:
        """Which architectures the points are, ``(n,)`` in the order of ``points``."""
        stored = find_columns(self.points)
        if stored is not None:
            return stored.digest
        return np.array([point.digest for point in self.points], dtype=np.str_)

    @cached_property
    def choices(self) -> ChoiceColumns:
        """The architectures of all points as columns, in the order of ``points``."""
        stored = find_columns(self.points)
        if stored is not None:
            return stored.choices
        return tabulate_choices([point.choices for point in self.points])

    @property
    def trace_digests(self) -> TraceDigests:
        """What ``hypervolume.csv`` must hold."""
        return TraceDigests(self.trace, None if self.baseline is None else self.baseline.trace)

    @field_validator("searched_for")
    @classmethod
    def _check_objectives(cls, found: tuple[ObjectiveRecord, ...]) -> tuple[ObjectiveRecord, ...]:
        if not found:
            raise InputError("no objectives, so that points cannot be compared")
        return found

    @cached_property
    def objectives(self) -> tuple[Quantity, ...]:
        """What was searched for."""
        return tuple(find_stored_quantity(o.name, o.unit, o.direction) for o in self.searched_for)

    @property
    def reports(self) -> dict[str, CardRecord]:
        """Report cards of predictors by quantity."""
        cards = self.cards
        return {self.objectives[0].name: cards} if isinstance(cards, CardRecord) else cards

    @property
    def limits(self) -> dict[str, float]:
        """Upper limits of the search by quantity."""
        return {c.objective: c.at_most for c in self.constraints if c.at_most is not None}

    @cached_property
    def quality(self) -> Quantity:
        """What a budget is spent on: the first objective that is not a cost, or among costs only
        the first that is no latency."""
        gained = [o for o in self.objectives if o.is_quality]
        costs = [o for o in self.objectives if not o.per_device]
        return (gained or costs or list(self.objectives))[0]

    @cached_property
    def cost(self) -> Quantity:
        """What a budget limits: the latency (of the first device), searched for or not, or else
        the next objective."""
        others = [o for o in self.axes if o.name != self.quality.name]
        latencies = [o for o in others if o.per_device]
        found = next((o for o in latencies if o.device in ("", self.device)), None)
        return found or (latencies or others or [self.quality])[0]

    @cached_property
    def axes(self) -> tuple[Quantity, ...]:
        """Everything a point can be placed by: the objectives, then what else is known."""
        named = {o.name for o in self.objectives}
        stored = find_columns(self.points)
        carried = (p.estimates for p in self.points) if stored is None else [stored.carried]
        found = map(find_stored_quantity, dict.fromkeys(chain.from_iterable(carried)))
        extras = [*(q for q in found if q.per_device), *list_counted()]
        known = [
            q
            for q in extras
            if q.name not in named and not np.isnan(self.column(q.name).best).all()
        ]
        return (*self.objectives, *known)

    @cached_property
    def _columns(self) -> dict[str, Column]:
        return {}

    def column(self, name: str) -> Column:
        """One quantity of every point, ``(n,)`` in the order of ``points``; made once."""
        if name not in self._columns:
            stored = find_columns(self.points)
            self._columns[name] = (
                make_column([p.estimate(name) for p in self.points])
                if stored is None
                else stored.column(name, _UNKNOWN)
            )
        return self._columns[name]

    def find_axis(self, name: str) -> Quantity:
        """The axis called ``name``; a plain one without a unit when the front has none."""
        plain = find_stored_quantity(name, "", "maximize")
        return next((o for o in self.axes if o.name == name), plain)

    def find_point(self, digest: str) -> Point:
        """The point of an architecture; KeyError when the front does not hold it."""
        places = self.find_places(digest)
        if not places:
            raise KeyError(f"no architecture {digest} among the points of search {self.search}")
        return self.points[places[0]]

    def find_places(self, digest: str | None) -> tuple[int, ...]:
        """Where in ``points`` an architecture is; nowhere, or in one place."""
        found = self._places.get(digest or "")
        return () if found is None else (found,)

    @cached_property
    def _places(self) -> dict[str, int]:
        # Of points with one digest, which no search writes, the first one counts.
        found = self.digests.tolist()
        return dict(zip(reversed(found), reversed(range(len(found))), strict=True))

    @cached_property
    def on_front(self) -> NDArray[np.bool_]:
        """Which points are on the front, ``(n,)``."""
        stored = find_columns(self.points)
        if stored is not None:
            return stored.on_front
        return np.array([p.on_front for p in self.points], dtype=np.bool_)

    @cached_property
    def verified(self) -> NDArray[np.bool_]:
        """Which points are verified, ``(n,)``."""
        stored = find_columns(self.points)
        if stored is not None:
            return stored.verified
        return np.array([p.verified for p in self.points], dtype=np.bool_)

    @cached_property
    def indistinguishable(self) -> NDArray[np.bool_]:
        """Which points are behind the front only within noise, ``(n,)``."""
        stored = find_columns(self.points)
        if stored is not None:
            return stored.indistinguishable
        return np.array([p.indistinguishable for p in self.points], dtype=np.bool_)

    @cached_property
    def out_of_limits(self) -> NDArray[np.bool_]:
        """Of which points a measured value is beyond a limit of the search, ``(n,)``."""
        stored = find_columns(self.points)
        if stored is not None:
            return stored.out_of_limits
        return np.array([p.within_limits is False for p in self.points], dtype=np.bool_)

    def list_front(self) -> tuple[Point, ...]:
        """Front points by rising cost (those of unknown cost last)."""
        return self._by_cost

    @cached_property
    def _by_cost(self) -> tuple[Point, ...]:
        members = np.flatnonzero(self.on_front)
        # NaN, which stands for an unknown cost, is sorted last.
        order = np.argsort(self.column(self.cost.name).best[members], kind="stable")
        return tuple(self.points[i] for i in members[order])

    @cached_property
    def labels(self) -> dict[str, str]:
        """Every point by its digest, in a line with its quality and cost; by rising cost."""
        quality, cost = self.quality, self.cost
        known = self.column(quality.name).best, self.column(cost.name).best
        order = np.argsort(np.nan_to_num(known[1]), kind="stable")
        shown = (self.digests, *known)
        return {
            digest: f"{digest} · {_show(quality, gained)} · {_show(cost, spent)}"
            for digest, gained, spent in zip(*(x[order].tolist() for x in shown), strict=True)
        }

    @cached_property
    def measured(self) -> NDArray[np.intp]:
        """Places of the verified points whose quality and cost are both known for real, ``(k,)``
        by rising cost.

        A latency on a device that is not the machine of the search cannot be measured there, and
        the prediction of its table has to do.
        """
        quality, cost = self.column(self.quality.name), self.column(self.cost.name)
        # A latency that was only looked up is no measurement, whatever else was verified.
        real = ~cost.looked_up | (self.cost.device in self.unmeasured)
        known = ~np.isnan(quality.value) & ~np.isnan(cost.value) & real
        places = np.flatnonzero(known & self.verified)
        return places[np.lexsort((self.digests[places], cost.value[places]))]


def read_front(folder: Path) -> Front:
    """What a search found; it is called as its folder is.

    Args:
        folder: Folder of the search.

    Raises:
        FileNotFoundError: The search has not finished.
        InputError: The file is damaged, of another format or of another search than the
            ``search.json`` beside it.
    """
    return check_front(read_record(folder / FILE, Front, REMEDY), folder)


def check_front(front: Front, folder: Path) -> Front:
    """A front as it was read, called as its folder is.

    Raises:
        InputError: It is of another search than the ``search.json`` beside it.
    """
    expected = _find_digest(folder)
    if expected not in (None, front.digest):
        raise InputError(
            f"{folder / FILE} is not what the search of {folder / SEARCH_FILE} found; {REMEDY}"
        )
    return front.replace(search=folder.resolve().name)


def _find_digest(folder: Path) -> str | None:
    """What ``search.json`` says of the front; ``None`` where it says nothing or is damaged."""
    try:
        plan = read_record(folder / SEARCH_FILE, SearchRecord, SEARCH_REMEDY)
    except (OSError, InputError):
        # A front can do without; whoever needs the plan is told.
        return None
    return plan.front if plan.status == "complete" else None


def parse_front(payload: object, where: str, search: str) -> Front:
    """A front from decoded JSON.

    Args:
        payload: The content of a ``front.json``.
        where: Its path, for messages.
        search: Name of the search.

    Raises:
        InputError: It is damaged or of another format.
    """
    return parse_record(payload, Front, where, REMEDY).replace(search=search)


def _show(quantity: Quantity, value: float) -> str:
    return quantity.show(None if np.isnan(value) else value)


def value_or(fallback: float, value: float | None) -> float:
    """A value, or what stands for an unknown one."""
    return fallback if value is None else value
