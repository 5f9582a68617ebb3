"""Picking as a job: the best verified subnetwork within a latency budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.points import Front, front_from_json, pick
from app.runs import Run, open_run
from supernet import files
from supernet.space import nearest


@dataclass(frozen=True)
class PickOutcome:
    """The best verified subnetwork within a budget; latencies in milliseconds."""

    run: Path
    search: str
    device: str
    budget_ms: float
    digest: str
    latency_ms: float
    latency_predicted_ms: float | None
    objective: str
    value: float
    predicted: float | None
    test: float | None
    parameters: int
    macs: int
    size_bytes: int
    architecture: Mapping[str, Any]


def pick_job(run: Path, latency_ms: float, search: str = "default") -> PickOutcome:
    """The verified point of best validation quality whose measured latency is within the budget.

    Args:
        run: The run directory.
        latency_ms: Budget in milliseconds.
        search: Whose front.

    Raises:
        ValueError: Unknown search, a budget that is no latency, or one that nothing meets (the
            nearest latency is named).
    """
    if not (math.isfinite(latency_ms) and latency_ms > 0):
        raise ValueError(f"a latency budget of {latency_ms:g} ms cannot work; it must be above 0")
    opened = open_run(run)
    front, payload = read_front(opened, search)
    if front.cost.name != "latency_ms":
        raise ValueError(
            f"search {search!r} has no latency to pick by; profile a device and search again"
        )
    found = pick(front, latency_ms)
    if found.point is None:
        if found.nearest is None:
            raise ValueError(f"search {search!r} has no verified subnetwork; run it again")
        fastest = found.nearest.estimate("latency_ms").value
        raise ValueError(
            f"no verified subnetwork of search {search!r} takes at most {latency_ms:g} ms on "
            f"{front.device}; the nearest takes {fastest:.4g} ms ({found.nearest.digest})"
        )
    point = next(p for p in payload["points"] if p["digest"] == found.point.digest)
    latency, quality = point["objectives"]["latency_ms"], point["objectives"][front.quality.name]
    return PickOutcome(
        run=opened.path,
        search=search,
        device=front.device,
        budget_ms=latency_ms,
        digest=point["digest"],
        latency_ms=latency["value"],
        latency_predicted_ms=latency["predicted"],
        objective=front.quality.name,
        value=quality["value"],
        predicted=quality["predicted"],
        test=quality.get("test"),
        parameters=point["parameters"],
        macs=point["macs"],
        size_bytes=point["size_bytes"],
        architecture=point["architecture"],
    )


def read_front(run: Run, search: str) -> tuple[Front, Mapping[str, Any]]:
    """A front as a value and as JSON.

    Raises:
        ValueError: There is no such finished search, or its file is damaged.
    """
    path = run.search(search) / "front.json"
    if not path.is_file():
        known = run.searches
        have = f"finished searches are {', '.join(known)}" if known else "none has finished yet"
        raise ValueError(
            f"there is no front of a search {search!r} in {run.path}{nearest(search, known)}; "
            f"{have}; run: supernet search --run {run.path}"
        )
    payload = files.read_json(path)
    return front_from_json(payload, str(path), search), payload
