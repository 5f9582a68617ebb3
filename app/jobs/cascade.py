"""Cascades as a job: which two networks of a front answer best together within a latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import find_architecture
from app.jobs.export_nested import check_folder, export_nested
from app.jobs.outcomes import CascadeOutcome, CascadePoint, JudgedCascade
from app.jobs.pick import choose_device, find_front
from app.progress import Say, Step
from app.records.cascade import CascadeRecord
from app.records.numbers import format_items
from app.records.searches.front import Front
from app.records.typed_json.record import Choices
from app.runs.command_lines import write_command
from app.runs.directory import open_run
from app.runs.latency_table import open_table
from app.runs.trained import Trained, open_trained
from search.cascades import (
    PERCENTILES,
    OperatingPoints,
    answer_together,
    check_percentile,
    check_threshold,
    choose_within,
    list_best,
    list_operating_points,
)
from supernet.cascades import list_exits
from supernet.data import IMAGES
from supernet.errors import InputError
from supernet.quality.confidence import answer_samples
from supernet.quality.evaluate import BatchCache
from supernet.quality.sampling_error import (
    Z_TWO_SIDED_95,
    compute_standard_error,
    compute_wilson_interval,
    count_independent_answers,
)
from supernet.space import Architecture


@dataclass(frozen=True)
class CascadeRequest:
    """What to look for.

    Args:
        run: The run directory.
        latency_ms: Budget in milliseconds.
        search: The search whose verified networks are put together.
        device: Whose latency counts; by default the first of the search.
        percentile: Of the samples that must keep the budget; by default the mean must.
        small: With ``large`` and ``threshold`` instead of a budget, an operating point to judge:
            the network that answers first, one that the search verified.
        large: The network that is asked where the first is not sure.
        threshold: Confidence from which on the first answer stands.
        early_exit: Let networks go on from where their own first layers stopped, which answer with
            the head that all depths share.
        out: A folder to export both networks to, with one file of weights.
        data: Where the data of the run are now, if they moved.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    latency_ms: float | None = None
    search: str = "default"
    device: str | None = None
    percentile: float | None = None
    small: str | None = None
    large: str | None = None
    threshold: float | None = None
    early_exit: bool = False
    out: Path | None = None
    data: str | None = None
    trust: Sequence[str] = ()


def cascade_job(request: CascadeRequest, say: Say) -> CascadeOutcome:
    """Choose two networks and a threshold on the validation split, and judge them on test.

    The latency of a cascade is made of those that the search has of its networks: that of the first
    one, and for samples that the second one is asked about the sum of both. An early exit takes the
    share of the measured latency that the latency table gives its units, and going on the rest.

    Args:
        request: What to look for.
        say: Told about progress.

    Raises:
        InputError: No images, a search without latencies, neither a budget nor a whole operating
            point or one with the same network twice, a budget that nothing meets, an impossible
            percentile or threshold, early exits where there are none, or a single network is best
            and was to be exported.
    """
    _check_request(request)
    if request.out is not None:
        check_folder(request.out)
    opened = open_run(request.run, request.trust)
    task = opened.record.data.shape.task
    if task != IMAGES:
        raise InputError(
            f"{opened.path} is a run for {task}; a cascade needs classes to be sure of, so a run "
            f"for {IMAGES}"
        )
    front = choose_device(find_front(opened, request.search), request.device)
    members = list_members(front)
    trained = open_trained(opened, say, request.data)
    given = None if request.small is None else _find_pair(request, trained, members)
    if request.early_exit:
        members = add_exits(trained, members, front, say)
    answers = answer_split(trained, members, "val", say)
    points = list_points(answers, members)
    percentile = request.percentile
    alone = points.take(np.flatnonzero(points.small == points.large))
    if given is None:
        assert request.latency_ms is not None
        budget = request.latency_ms
        place = choose_within(points, budget, percentile)
        if place is None:
            # Of points, not of members: an early exit alone, which is faster, is no answer.
            taken = points.mean if percentile is None else points.find_percentile(percentile)
            least = taken.min()
            raise InputError(
                f"no network answers within {budget:g} ms; the fastest takes {least:.4g} ms"
            )
        point = points.take(np.array([place]))
    else:
        assert request.threshold is not None
        point = _operate(answers, members, given, request.threshold)
        budget = float(point.mean[0])
    best_alone = choose_within(alone, budget, percentile)
    if best_alone is None:
        # Early exits answer within it, and no network that was measured does.
        best_alone = int(alone.mean.argmin())
    both = (point, alone.take(np.array([best_alone])))
    (chosen, hits), (single, others) = _judge(trained, both, members, say)
    difference = interval = None
    if chosen.point != single.point:
        gained = hits.astype(np.float64) - others
        difference = float(gained.mean())
        groups = trained.data.split("test").groups
        half = Z_TWO_SIDED_95 * compute_standard_error(gained, groups)
        interval = (difference - half, difference + half)
    if request.out is not None:
        _export(trained, request.out, chosen, front, say)
    best = list_best(points)
    return CascadeOutcome(
        opened.path,
        request.search,
        front.device,
        budget,
        percentile,
        chosen,
        single,
        tuple(_describe(best, i, members) for i in range(len(best))),
        request.out,
        given is not None,
        difference,
        interval,
    )


def _check_request(request: CascadeRequest) -> None:
    """InputError unless there is one budget or one operating point, and both are possible."""
    parts = (request.small, request.large, request.threshold)
    given = [part is not None for part in parts]
    if any(given) and not all(given):
        raise InputError("an operating point needs all of --small, --large and --threshold")
    if any(given) == (request.latency_ms is not None):
        raise InputError(
            "cascade needs exactly one of a budget (--latency-ms) and an operating point (--small, "
            "--large, --threshold)"
        )
    if request.percentile is not None:
        if request.latency_ms is None:
            raise InputError("--percentile needs --latency-ms, the limit that samples must keep")
        check_percentile(request.percentile)
    if request.threshold is not None:
        check_threshold(request.threshold)
        if request.early_exit:
            raise InputError("--early-exit chooses networks by itself; leave out --small, --large")
    budget = request.latency_ms
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise InputError(f"a latency budget of {budget:g} ms cannot work; it must be above 0")
    if request.early_exit and request.out is not None:
        raise InputError(
            "exported networks start at the input, so that none goes on from an early exit; leave "
            "out --early-exit or --out"
        )


def _find_pair(
    request: CascadeRequest, trained: Trained, members: Sequence[Member]
) -> tuple[int, int]:
    """Where among the members the two networks of a given operating point are."""
    digests = [member.digest for member in members]
    places = []
    for name in (request.small, request.large):
        assert name is not None
        digest = find_architecture(trained.run, trained.supernet.space, name).digest
        if digest not in digests:
            raise InputError(
                f"{digest} is no verified network of search {request.search!r}, which knows no "
                f"latency of it; verified are {', '.join(digests[:4])}"
                + (" and others" if len(digests) > 4 else "")
            )
        places.append(digests.index(digest))
    if places[0] == places[1]:
        raise InputError(f"{digests[places[0]]} is both --small and --large; give two networks")
    return places[0], places[1]


def list_points(
    answers: tuple[NDArray[np.bool_], NDArray[np.float64]], members: Sequence[Member]
) -> OperatingPoints:
    """Every operating point of the members; an exit only in front of its own network."""
    latencies = np.array([member.latency_ms for member in members])
    continuing = np.tile(latencies, (len(members), 1))
    parents = np.array([-1 if m.parent is None else m.parent for m in members])
    for place, member in enumerate(members):
        if member.parent is not None:
            continuing[place, member.parent] = member.rest_ms
    points = list_operating_points(*answers, latencies, continuing)
    exits = parents >= 0
    kept = ~exits[points.large] & (~exits[points.small] | (parents[points.small] == points.large))
    return points.take(np.flatnonzero(kept))


def _operate(
    answers: tuple[NDArray[np.bool_], NDArray[np.float64]],
    members: Sequence[Member],
    pair: tuple[int, int],
    threshold: float,
) -> OperatingPoints:
    """One operating point, given by its networks and its threshold."""
    small, large = pair
    hits, share = answer_together(answers[0][list(pair)], answers[1][small], threshold)
    first = members[small].latency_ms
    values = (threshold, share, hits.mean(), first, first + members[large].latency_ms)
    return OperatingPoints(
        np.array([small]), np.array([large]), *(np.array([value]) for value in values)
    )


@dataclass(frozen=True)
class Member:
    """A verified network of a front, or an early exit of one, which has a parent.

    Args:
        digest: Of the architecture.
        choices: The architecture.
        latency_ms: Of an exit, by the latency table.
        parent: Place of the network that goes on from it.
        rest_ms: What that takes.
        shared: How many layers it then need not run.
    """

    digest: str
    choices: Choices
    latency_ms: float
    parent: int | None = None
    rest_ms: float = 0.0
    shared: int = 0


def list_members(front: Front) -> list[Member]:
    """The verified networks of a front that have a latency.

    Raises:
        InputError: There are fewer than two, or the search knows no latencies.
    """
    if not front.cost.per_device:
        raise InputError(
            f"search {front.search!r} knows no latency of its networks; profile a device and "
            "search with it"
        )
    found = []
    for point in front.points:
        latency = point.estimate(front.cost.name).value
        if point.verified and latency is not None:
            found.append(Member(point.digest, point.choices, latency))
    if len(found) < 2:
        raise InputError(
            f"search {front.search!r} has {format_items(len(found), 'verified network')} with a "
            "latency; a cascade needs two"
        )
    return found


def add_exits(trained: Trained, members: Sequence[Member], front: Front, say: Say) -> list[Member]:
    """The members, and behind them the early exits of each.

    Raises:
        InputError: None has any, or the device has no table that fits.
    """
    supernet, found = trained.supernet, list(members)
    table = open_table(trained.run, front.device, trained.find_costs, say)

    def price(architecture: Architecture) -> dict[str, float]:
        return {part.unit: part.latency_ms for part in table.breakdown(architecture)}

    for place, member in enumerate(members):
        whole = supernet.space.architecture(member.choices)
        parts = price(whole)
        for exit, shared in list_exits(supernet, whole).items():
            first = price(exit)
            # What the table says is of the scale of the table; the member was measured.
            scale = member.latency_ms / sum(parts.values())
            # Both have a head, and a session that is started.
            done = [unit for unit in supernet.units[:-1] if unit in first]
            latency = scale * sum(first.values())
            rest = scale * sum(value for unit, value in parts.items() if unit not in done)
            # Both parts take no less than the whole.
            rest = max(rest, member.latency_ms - latency)
            found.append(Member(exit.digest, exit.to_dict(), latency, place, rest, shared))
    if len(found) == len(members):
        raise InputError(
            f"no network of search {front.search!r} has early exits: that takes a vision "
            "transformer whose depth is a choice, and float32; leave out --early-exit"
        )
    return found


def answer_split(
    trained: Trained, members: Sequence[Member], split: str, say: Say
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether networks are right, and how sure they are, each ``(networks, samples)``."""
    right, confidence, cache = [], [], BatchCache()
    for done, member in enumerate(members):
        say(Step(f"answers on {split}", done, len(members), "network"))
        architecture = trained.supernet.space.architecture(member.choices)
        answers = answer_samples(
            trained.supernet,
            architecture,
            trained.data,
            split,
            cache=cache,
            estimator=trained.estimator,
        )
        right.append(answers[0])
        confidence.append(answers[1])
    say(Step(f"answers on {split}", len(members), len(members), "network"))
    return np.array(right), np.array(confidence)


def _describe(points: OperatingPoints, place: int, members: Sequence[Member]) -> CascadePoint:
    small, large = int(points.small[place]), int(points.large[place])
    return CascadePoint(
        small=members[small].digest,
        large=None if small == large else members[large].digest,
        threshold=float(points.threshold[place]),
        continued=float(points.continued[place]),
        accuracy=float(points.accuracy[place]),
        mean_ms=float(points.mean[place]),
        percentiles_ms={p: float(points.find_percentile(p)[place]) for p in PERCENTILES},
        shared=0 if small == large else members[small].shared,
    )


def _judge(
    trained: Trained, points: Sequence[OperatingPoints], members: Sequence[Member], say: Say
) -> list[tuple[JudgedCascade, NDArray[np.bool_]]]:
    """What single points do on the test split, which did not choose them, and on which samples."""
    needed = sorted({int(place) for point in points for place in (*point.small, *point.large)})
    answers = answer_split(trained, [members[place] for place in needed], "test", say)
    return [_judge_one(trained, point, members, needed, answers) for point in points]


def _judge_one(
    trained: Trained,
    point: OperatingPoints,
    members: Sequence[Member],
    answered: Sequence[int],
    answers: tuple[NDArray[np.bool_], NDArray[np.float64]],
) -> tuple[JudgedCascade, NDArray[np.bool_]]:
    right, confidence = answers
    pair = [answered.index(int(place)) for place in (point.small[0], point.large[0])]
    hits, share = answer_together(right[pair], confidence[pair[0]], float(point.threshold[0]))
    accuracy = float(hits.mean())
    count = count_independent_answers(hits.astype(np.float64), trained.data.split("test").groups)
    tested = replace(point, continued=np.array([share]))
    judged = JudgedCascade(
        _describe(point, 0, members),
        accuracy,
        compute_wilson_interval(accuracy, count),
        share,
        float(tested.mean[0]),
        {p: float(tested.find_percentile(p)[0]) for p in PERCENTILES},
    )
    return judged, hits


def _export(trained: Trained, out: Path, chosen: JudgedCascade, front: Front, say: Say) -> None:
    point, run = chosen.point, trained.run
    if point.large is None:
        own = write_command("export", "--run", run.path, "--arch", point.small, trust=run.trusted)
        raise InputError(f"the best within the budget is one network and no cascade; run: {own}")
    record = CascadeRecord(
        small=point.small,
        large=point.large,
        threshold=point.threshold,
        continued=chosen.continued,
        accuracy=chosen.accuracy,
        mean_latency_ms=chosen.mean_ms,
        device=front.device,
    )
    export_nested(trained, (point.small, point.large), out, say, cascade=record)
