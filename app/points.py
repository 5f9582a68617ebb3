"""Fronts as values: their points and objectives, and the choice of one point within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supernet.space import Value

FORMAT_VERSION = 1
LATENCY = "latency_ms"
# What points carry besides the objectives that were searched for: name -> unit.
COUNTS = {"parameters": "", "macs": "", "size_bytes": "bytes"}
EXTRAS = {LATENCY: "ms", **COUNTS}


@dataclass(frozen=True)
class Objective:
    """What an axis shows: the key in the files, its stored unit and whether more is better."""

    name: str
    unit: str
    maximize: bool

    @property
    def title(self) -> str:
        """The name in words, without the unit suffix."""
        plain = {"macs": "multiply-adds", "loss": "validation loss", "size_bytes": "size"}
        return plain.get(self.name, self.name.removesuffix("_ms").replace("_", " "))

    @property
    def scale(self) -> float:
        """Factor from the stored to the shown unit."""
        if self.unit == "fraction":
            return 100.0
        return {"size_bytes": 1e-3, "macs": 1e-6, "parameters": 1e-3}.get(self.name, 1.0)

    @property
    def shown_unit(self) -> str:
        """Unit on screen: percent, kilobytes, millions."""
        if self.unit == "fraction":
            return "%"
        plain = {"size_bytes": "KB", "macs": "M", "parameters": "thousand"}
        return plain.get(self.name, self.unit)


@dataclass(frozen=True)
class Estimate:
    """One objective of one point, in the objective's stored unit; ``None`` is "not known".

    ``value`` is what was evaluated or measured (or, with source ``table``, looked up); ``test``
    is the same on the test split, which no search has seen.
    """

    predicted: float | None
    value: float | None
    source: str
    low: float | None
    high: float | None
    test: float | None

    @property
    def best(self) -> float | None:
        """The value, or the prediction while there is no value."""
        return self.predicted if self.value is None else self.value

    def interval_around(self, centre: float | None) -> tuple[float, float] | None:
        """Lengths of the error bar below and above ``centre`` if the interval contains it."""
        if centre is None or self.low is None or self.high is None:
            return None
        return (centre - self.low, self.high - centre) if self.low <= centre <= self.high else None


@dataclass(frozen=True)
class Point:
    """One architecture of a search with everything known about it."""

    digest: str
    choices: Mapping[str, Value]
    on_front: bool
    verified: bool
    estimates: Mapping[str, Estimate]
    breakdown: tuple[tuple[str, float], ...]

    def estimate(self, name: str) -> Estimate:
        """The estimate of an objective or count; all ``None`` when the file has none."""
        return self.estimates.get(name, Estimate(None, None, "", None, None, None))

    def best(self, name: str) -> float | None:
        """The value of an objective or count, else its prediction, else ``None``."""
        return self.estimate(name).best


@dataclass(frozen=True)
class Hypervolume:
    """Hypervolume of the front found after so many evaluations."""

    evaluations: int
    value: float


@dataclass(frozen=True)
class Front:
    """What one search found; points on the front and the evaluated ones behind it."""

    search: str
    device: str
    strategy: str
    seed: int | None
    evaluations: int | None
    space_digest: str
    objectives: tuple[Objective, ...]
    limits: Mapping[str, float]
    points: tuple[Point, ...]
    hypervolume: Mapping[str, float]
    reports: Mapping[str, Mapping[str, Any]]
    latency_method: str

    @property
    def quality(self) -> Objective:
        """What a budget is spent on: the first objective that is not a cost."""
        costs = (LATENCY, *COUNTS)
        return next((o for o in self.objectives if o.name not in costs), self.objectives[0])

    @property
    def cost(self) -> Objective:
        """What a budget limits: the latency, searched for or not, or else the next objective."""
        others = [o for o in self.axes if o.name != self.quality.name]
        found = next((o for o in others if o.name == LATENCY), None)
        return found or (others or [self.quality])[0]

    @property
    def axes(self) -> tuple[Objective, ...]:
        """Everything a point can be placed by: the objectives, then what else is known."""
        named = {o.name for o in self.objectives}
        extras = [Objective(n, u, False) for n, u in EXTRAS.items() if n not in named]
        known = [o for o in extras if any(p.best(o.name) is not None for p in self.points)]
        return (*self.objectives, *known)

    def named(self, name: str) -> Objective:
        """The axis called ``name``; a plain one without a unit when the front has none."""
        return next((o for o in self.axes if o.name == name), Objective(name, "", True))

    def point(self, digest: str) -> Point:
        """The point of an architecture; KeyError when the front does not hold it."""
        found = next((p for p in self.points if p.digest == digest), None)
        if found is None:
            raise KeyError(f"no architecture {digest} among the points of search {self.search}")
        return found

    def on_front(self) -> tuple[Point, ...]:
        """Front points by rising cost (those of unknown cost last)."""
        members = [p for p in self.points if p.on_front]
        return tuple(sorted(members, key=lambda p: _or_infinity(p.best(self.cost.name))))


@dataclass(frozen=True)
class Pick:
    """The answer to a budget: a point within it, or the nearest feasible one outside."""

    point: Point | None
    nearest: Point | None


def measured(front: Front) -> tuple[Point, ...]:
    """Verified points whose quality and cost are both known for real, by rising cost."""
    name, found = front.cost.name, []
    for point in front.points:
        quality, cost = point.estimate(front.quality.name), point.estimate(name)
        # A latency that was only looked up is no measurement, whatever else was verified.
        real = cost.value is not None and cost.source != "table"
        if point.verified and quality.value is not None and real:
            found.append(point)
    return tuple(sorted(found, key=lambda p: (_or_infinity(p.estimate(name).value), p.digest)))


def pick(front: Front, budget: float) -> Pick:
    """The best verified point whose measured cost is at most ``budget`` (stored unit).

    Equal quality goes to the cheaper point. When nothing fits, ``nearest`` is the cheapest
    verified point; both are ``None`` when nothing was verified.
    """
    points = measured(front)
    sign = 1.0 if front.quality.maximize else -1.0
    fits = [p for p in points if (p.estimate(front.cost.name).value or 0.0) <= budget]
    if not fits:
        return Pick(None, points[0] if points else None)
    # max keeps the first of equals, and the points come by rising cost.
    return Pick(max(fits, key=lambda p: sign * (p.estimate(front.quality.name).value or 0.0)), None)


def knee(front: Front) -> Point | None:
    """The verified front point farthest from the line between the two ends of the front.

    Both axes are scaled to their range first. ``None`` with fewer than three such points.
    """
    points = [p for p in measured(front) if p.on_front]
    if len(points) < 3:
        return None
    sign = 1.0 if front.quality.maximize else -1.0
    xs = _unit([p.estimate(front.cost.name).value or 0.0 for p in points])
    ys = _unit([sign * (p.estimate(front.quality.name).value or 0.0) for p in points])
    slope = ys[-1] - ys[0]
    gains = [y - ys[0] - slope * x for x, y in zip(xs, ys, strict=True)]
    return points[max(range(len(points)), key=gains.__getitem__)]


def _unit(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 0.0 for v in values]


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None else value


# -- reading front.json ----------------------------------------------------------------------------


def front_from_json(payload: Mapping[str, Any], where: str, search: str) -> Front:
    """Read the content of a ``front.json``.

    Args:
        payload: The decoded file.
        where: Its path, for messages.
        search: Name of the search, from its folder.

    Raises:
        ValueError: Unknown version, or something that every front has is missing.
    """
    if not isinstance(payload, Mapping):
        raise ValueError(f"{where} is not a front; it was damaged or edited")
    if payload.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{where} has version {payload.get('version')!r}; "
            f"this release reads version {FORMAT_VERSION}"
        )
    try:
        objectives = tuple(
            Objective(str(o["name"]), str(o.get("unit", "")), o["direction"] == "maximize")
            for o in payload["objectives"]
        )
        points = tuple(_point(row) for row in payload["points"])
        limits = {
            str(c["objective"]): float(c["at_most"])
            for c in payload.get("constraints") or ()
            if c.get("at_most") is not None
        }
    except KeyError as error:
        raise ValueError(f"{where} is incomplete: an entry lacks {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} is not a front: {error}") from None
    if not objectives:
        raise ValueError(f"{where} names no objectives, so its points cannot be compared")
    return Front(
        search=search,
        device=str(payload.get("device") or ""),
        strategy=str(payload.get("strategy", "")),
        seed=payload.get("seed"),
        evaluations=payload.get("evaluations"),
        space_digest=str(payload.get("space", "")),
        objectives=objectives,
        limits=limits,
        points=points,
        hypervolume={
            name: value
            for name, value in (payload.get("hypervolume") or {}).items()
            if isinstance(value, (int, float))
        },
        reports=dict(_reports(payload.get("report"), objectives)),
        latency_method=str(payload.get("latency_method") or ""),
    )


def _point(row: Mapping[str, Any]) -> Point:
    estimates = {str(name): _estimate(entry) for name, entry in row["objectives"].items()}
    for name in COUNTS:
        count = _number(row.get(name))
        if name not in estimates and count is not None:
            estimates[name] = Estimate(None, count, "analytic", None, None, None)
    return Point(
        digest=str(row["digest"]),
        choices=dict(row["architecture"]),
        on_front=bool(row.get("on_front")),
        verified=bool(row.get("verified")),
        estimates=estimates,
        breakdown=tuple(
            (str(part["unit"]), float(part[LATENCY])) for part in row.get("breakdown") or ()
        ),
    )


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    figures = {
        key: _number(entry.get(key)) for key in ("predicted", "value", "low", "high", "test")
    }
    return Estimate(
        figures["predicted"],
        figures["value"],
        str(entry.get("source", "")),
        figures["low"],
        figures["high"],
        figures["test"],
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _reports(
    report: object, objectives: Sequence[Objective]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Predictor report cards by objective: the file holds one card, or one per objective."""
    if not isinstance(report, Mapping) or not report:
        return
    nested = {str(k): v for k, v in report.items() if isinstance(v, Mapping)}
    if nested:
        yield from nested.items()
    else:
        yield objectives[0].name, report
