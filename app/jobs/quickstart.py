"""The whole path as a job: train, profile, search, verify, pick and export on the built-in data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.jobs.evaluate import evaluate_job
from app.jobs.export import export_job
from app.jobs.outcomes import QuickstartOutcome
from app.jobs.pick import pick_job
from app.jobs.profile import ProfileRequest, profile_job
from app.jobs.search import SearchRequest, search_job
from app.jobs.train import TrainRequest, train_job
from app.records.quantities import LATENCY
from app.records.searches.front import Point
from app.runs.command_lines import write_command
from app.runs.trained import Say
from app.searching.choice import find_choice
from predictors import fit


@dataclass(frozen=True, kw_only=True)
class QuickstartRequest:
    """The built-in path.

    Args:
        out: The run directory.
        seed: Seed of every random decision of every stage.
        steps: Training steps; ``None`` for the recipe's.
        evaluations: Architectures that the search evaluates.
        passes: Sessions of every profiled unit; ``None`` for what suits the space.
        networks: Networks that judge the latency table; likewise.
    """

    out: Path
    seed: int = 0
    steps: int | None = None
    evaluations: int = 150
    passes: int | None = None
    networks: int | None = None

    def __post_init__(self) -> None:
        # What a later stage would refuse is refused before minutes of training.
        ProfileRequest(run=self.out, seed=self.seed, passes=self.passes, networks=self.networks)
        self.request_search()

    def request_search(self) -> SearchRequest:
        """Write the request of the third stage."""
        return SearchRequest(run=self.out, seed=self.seed, evaluations=self.evaluations)


def quickstart_job(request: QuickstartRequest, say: Say) -> QuickstartOutcome:
    """Do everything from nothing to an exported subnetwork; stages that are done are not redone.

    Args:
        request: The run directory, and how long each stage takes.
        say: Told about progress.

    Raises:
        InputError: ``out`` holds another run, a setting is impossible, or ``evaluations`` end
            before the search has anything to go by.
        OSError: The disk is full; what is finished stays.
    """
    # Refused before minutes of training, like what the request itself refuses.
    searched = request.request_search()
    searched.check_first_sample(find_choice(searched).build(fit))
    say("1/5 training a supernet on the built-in cluttered digits")
    train = train_job(
        TrainRequest(
            out=request.out,
            family="ofa_mobilenetv3",
            preset="clutter",
            data="clutter",
            seed=request.seed,
            steps=request.steps,
        ),
        say,
    )
    say("2/5 profiling this processor")
    profile = profile_job(
        ProfileRequest(
            run=request.out, seed=request.seed, passes=request.passes, networks=request.networks
        ),
        say,
    )
    say("3/5 searching, then verifying the front by real measurements")
    search = search_job(searched, say)
    say("4/5 picking a subnetwork")
    budget = choose_budget(search.front)
    pick = pick_job(request.out, budget)
    ends = {
        name: evaluate_job(request.out, name, say, split="test") for name in ("smallest", "largest")
    }
    say("5/5 exporting it")
    export = export_job(request.out, pick.digest, None, say)
    return QuickstartOutcome(
        run=request.out,
        train=train,
        profile=profile,
        search=search,
        ends=ends,
        budget_ms=budget,
        pick=pick,
        export=export,
        next_command=write_command("explore", request.out),
    )


def choose_budget(front: Sequence[Point]) -> float:
    """Choose a latency budget in milliseconds in the middle of a measured front."""
    known = (point.estimate(LATENCY.name).value for point in front)
    return _round_up(statistics.median_high([latency for latency in known if latency is not None]))


def _round_up(latency_ms: float) -> float:
    """Three significant digits, never below the value: a budget a person would write."""
    step = 10.0 ** (math.floor(math.log10(latency_ms)) - 2)
    return float(f"{math.ceil(latency_ms / step) * step:.3g}")
