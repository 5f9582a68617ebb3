"""What cascades of two subnetworks add to the front of a search, on the test split.

    supernet quickstart --out RUN
    python benchmarks/cascades.py --run RUN

The verified networks of a search answer the validation and the test split. Cascades and single
networks that are on the front of validation accuracy against mean latency are then judged on test:
the area under accuracy over latency, from the latency of the fastest network to that of the
slowest, as the mean accuracy that a budget drawn evenly from there buys, and the accuracy within
three budgets. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.jobs.pick import find_front
from app.runs.directory import open_run
from app.runs.trained import open_trained
from search.cascades import (
    OperatingPoints,
    answer_together,
    choose_within,
    list_best,
    list_operating_points,
)
from supernet.quality.confidence import answer_samples
from supernet.quality.evaluate import BatchCache

BUDGETS = 200


def judge(
    points: OperatingPoints, right: NDArray[np.bool_], confidence: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Accuracy and mean latency of each point on other answers, ``(k, 2)``."""
    found = []
    for i in range(len(points)):
        pair = [points.small[i], points.large[i]]
        hits, share = answer_together(right[pair], confidence[pair[0]], float(points.threshold[i]))
        latency = points.first[i] + share * (points.both[i] - points.first[i])
        found.append((hits.mean(), latency))
    return np.array(found)


def buy(
    points: OperatingPoints, judged: NDArray[np.float64], budgets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Test accuracy of what is chosen on validation within each budget, ``(budgets,)``."""
    places = [choose_within(points, budget) for budget in budgets]
    return np.array([judged[place, 0] for place in places if place is not None])


def main() -> int:
    """Print one JSON object; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="trained, profiled and searched")
    parser.add_argument("--search", default="default")
    options = parser.parse_args()
    run = open_run(options.run)
    front = find_front(run, options.search)
    trained = open_trained(run, lambda _: None)
    names, latencies, answers = [], [], []
    cache = BatchCache()
    for point in front.points:
        latency = point.estimate(front.cost.name).value
        if not point.verified or latency is None:
            continue
        architecture = trained.supernet.space.architecture(point.choices)
        names.append(point.digest)
        latencies.append(latency)
        answers.append(
            [
                answer_samples(
                    trained.supernet, architecture, trained.data, split, cache=cache,
                    estimator=trained.estimator,
                )
                for split in ("val", "test")
            ]
        )  # fmt: skip
    times = np.array(latencies)
    (val_right, val_sure), (right, sure) = (
        [np.array([one[split][part] for one in answers]) for part in range(2)] for split in range(2)
    )
    every = list_operating_points(val_right, val_sure, times)
    kinds = {
        "cascades": list_best(every),
        "single": list_best(every.take(np.flatnonzero(every.small == every.large))),
    }
    budgets = np.linspace(times.min(), times.max(), BUDGETS)
    found: dict[str, Any] = {"networks": len(names), "test_samples": right.shape[1]}
    for kind, points in kinds.items():
        judged = judge(points, right, sure)
        bought = buy(points, judged, budgets)
        found[kind] = {
            "points": len(points),
            "mean_accuracy_over_budgets": round(float(bought.mean()), 4),
            "accuracy_within": {
                f"{budget:.4f} ms": round(float(buy(points, judged, np.array([budget]))[0]), 4)
                for budget in np.quantile(budgets, (0.25, 0.5, 0.75))
            },
            "latency_on_test_over_val": round(float((judged[:, 1] / points.mean).mean()), 4),
        }
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
