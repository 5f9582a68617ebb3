"""Cascades as a job: which two networks of a front answer best together within a latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.jobs.export_nested import export_nested_job
from app.jobs.outcomes import CascadeOutcome, CascadePoint, JudgedCascade
from app.jobs.pick import choose_device, find_front
from app.progress import Say, Step
from app.records.cascade import CascadeRecord
from app.records.numbers import format_items
from app.records.searches.front import Front
from app.records.typed_json.record import Choices
from app.runs.command_lines import write_command
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained
from search.cascades import (
    PERCENTILES,
    OperatingPoints,
    answer_together,
    check_percentile,
    choose_within,
    list_operating_points,
)
from search.cascades import (
    find_front as find_best,
)
from supernet.data import IMAGES
from supernet.errors import InputError
from supernet.quality.confidence import answer_samples
from supernet.quality.evaluate import BatchCache
from supernet.quality.sampling_error import compute_wilson_interval, count_independent_answers


@dataclass(frozen=True)
class CascadeRequest:
    """What to look for.

    Args:
        run: The run directory.
        latency_ms: Budget in milliseconds.
        search: The search whose verified networks are put together.
        device: Whose latency counts; by default the first of the search.
        percentile: Of the samples that must keep the budget; by default the mean must.
        out: A folder to export both networks to, with one file of weights.
        data: Where the data of the run are now, if they moved.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    latency_ms: float
    search: str = "default"
    device: str | None = None
    percentile: float | None = None
    out: Path | None = None
    data: str | None = None
    trust: Sequence[str] = ()


def cascade_job(request: CascadeRequest, say: Say) -> CascadeOutcome:
    """Choose two networks and a threshold on the validation split, and judge them on test.

    The latency of a cascade is made of those that the search has of its networks: that of the first
    one, and for samples that the second one is asked about the sum of both.

    Args:
        request: What to look for.
        say: Told about progress.

    Raises:
        InputError: No images, a search without latencies, a budget that nothing meets, an
            impossible percentile, or a single network is best and was to be exported.
    """
    budget, percentile = request.latency_ms, request.percentile
    if not (math.isfinite(budget) and budget > 0):
        raise InputError(f"a latency budget of {budget:g} ms cannot work; it must be above 0")
    if percentile is not None:
        check_percentile(percentile)
    opened = open_run(request.run, request.trust)
    task = opened.record.data.shape.task
    if task != IMAGES:
        raise InputError(
            f"{opened.path} is a run for {task}; a cascade needs classes to be sure of, so a run "
            f"for {IMAGES}"
        )
    front = choose_device(find_front(opened, request.search), request.device)
    members = _list_members(front)
    trained = open_trained(opened, say, request.data)
    latencies = np.array([member.latency_ms for member in members])
    points = list_operating_points(*_answer(trained, members, "val", say), latencies)
    place = choose_within(points, budget, percentile)
    if place is None:
        raise InputError(
            f"no network answers within {budget:g} ms; the fastest takes {latencies.min():.4g} ms"
        )
    alone = points.take(np.flatnonzero(points.small == points.large))
    best_alone = choose_within(alone, budget, percentile)
    assert best_alone is not None, "what answers first in a cascade does so alone, too"
    chosen, single = (
        _judge(trained, some.take(np.array([at])), members, say)
        for some, at in ((points, place), (alone, best_alone))
    )
    if request.out is not None:
        _export(request, chosen, front, say)
    best = find_best(points)
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
    )


@dataclass(frozen=True)
class _Member:
    """A verified network of a front."""

    digest: str
    choices: Choices
    latency_ms: float


def _list_members(front: Front) -> list[_Member]:
    """The verified networks of a front that have a latency."""
    if not front.cost.per_device:
        raise InputError(
            f"search {front.search!r} knows no latency of its networks; profile a device and "
            "search with it"
        )
    found = []
    for point in front.points:
        latency = point.estimate(front.cost.name).value
        if point.verified and latency is not None:
            found.append(_Member(point.digest, point.choices, latency))
    if len(found) < 2:
        raise InputError(
            f"search {front.search!r} has {format_items(len(found), 'verified network')} with a "
            "latency; a cascade needs two"
        )
    return found


def _answer(
    trained: Trained, members: Sequence[_Member], split: str, say: Say
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


def _describe(points: OperatingPoints, place: int, members: Sequence[_Member]) -> CascadePoint:
    small, large = int(points.small[place]), int(points.large[place])
    return CascadePoint(
        small=members[small].digest,
        large=None if small == large else members[large].digest,
        threshold=float(points.threshold[place]),
        continued=float(points.continued[place]),
        accuracy=float(points.accuracy[place]),
        mean_ms=float(points.mean[place]),
        percentiles_ms={p: float(points.find_percentile(p)[place]) for p in PERCENTILES},
    )


def _judge(
    trained: Trained, point: OperatingPoints, members: Sequence[_Member], say: Say
) -> JudgedCascade:
    """What one operating point does on the test split, which did not choose it."""
    pair = [members[int(point.small[0])], members[int(point.large[0])]]
    right, confidence = _answer(trained, pair, "test", say)
    hits, share = answer_together(right, confidence[0], float(point.threshold[0]))
    accuracy = float(hits.mean())
    count = count_independent_answers(hits.astype(np.float64), trained.data.split("test").groups)
    first, both = float(point.first[0]), float(point.both[0])
    return JudgedCascade(
        _describe(point, 0, members),
        accuracy,
        compute_wilson_interval(accuracy, count),
        share,
        first + share * (both - first),
    )


def _export(request: CascadeRequest, chosen: JudgedCascade, front: Front, say: Say) -> None:
    point = chosen.point
    if point.large is None:
        own = write_command(
            "export", "--run", request.run, "--arch", point.small, trust=request.trust
        )
        raise InputError(
            f"the best within {request.latency_ms:g} ms is one network and no cascade; run: {own}"
        )
    record = CascadeRecord(
        small=point.small,
        large=point.large,
        threshold=point.threshold,
        continued=chosen.continued,
        accuracy=chosen.accuracy,
        mean_latency_ms=chosen.mean_ms,
        device=front.device,
    )
    export_nested_job(
        request.run,
        (point.small, point.large),
        request.out,
        say,
        data=request.data,
        trust=request.trust,
        cascade=record,
    )
