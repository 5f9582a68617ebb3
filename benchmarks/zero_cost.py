"""What zero-cost proxies say about GLUE scores beyond the size and depth of an encoder.

    python benchmarks/zero_cost.py --seeds 10

On the 500 published FlexiBERT encoders: rank correlation of each published proxy, beside
parameters and depth; what is left of it among encoders of one size and depth (partial tau); and
whether proxies, as features, lower the number of labels a predictor needs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _flexibert import FlexiBert, load
from _options import read_options, report_missing

import predictors
from predictors.models import random_forest, ridge
from predictors.scores import kendall_tau

LABELS = (20, 50, 100, 200)
TARGET = "glue"
PARAMETERS = "Number of Parameters"
# The two that rank best alone and are no normalisation of another.
FEATURES = ("Head Confidence", "Activation Distance")


def partial_tau(a: NDArray, b: NDArray, given: NDArray) -> float:
    """Kendall's partial tau of ``a`` and ``b`` with ``given`` held fixed (Kendall 1942)."""
    ab, ac, bc = kendall_tau(a, b), kendall_tau(a, given), kendall_tau(b, given)
    return float((ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2)))


def within_groups(a: NDArray, b: NDArray, groups: NDArray) -> float:
    """Tau over pairs inside a group only: nothing that tells groups apart can help."""
    agreement = pairs = 0.0
    for group in np.unique(groups):
        inside = groups == group
        first = np.sign(a[inside][:, None] - a[inside][None])
        second = np.sign(b[inside][:, None] - b[inside][None])
        agreement += float((first * second).sum())
        pairs += float((first * second != 0).sum())
    return agreement / pairs if pairs else float("nan")


def correlations(data: FlexiBert) -> dict[str, dict[str, float]]:
    """Of every proxy and of depth: tau with GLUE, given parameters, and at one depth and width."""
    truth, size = data.task(TARGET), data.proxy(PARAMETERS)
    hidden = data.rows[:, data.space.index("hidden")]
    groups = data.depth * 10 + hidden
    found = {}
    for name, values in (("Depth", data.depth), *((n, data.proxy(n)) for n in data.names)):
        row = {"tau": kendall_tau(values, truth)}
        if name != PARAMETERS:
            row["partial_tau_given_parameters"] = partial_tau(values, truth, size)
        if name != "Depth":
            row["partial_tau_given_depth"] = partial_tau(values, truth, data.depth)
            row["tau_at_one_depth_and_width"] = within_groups(values, truth, groups)
        found[name] = {key: round(value, 3) for key, value in row.items()}
    return found


def columns(data: FlexiBert, numbers: list[NDArray]) -> Callable[[NDArray], NDArray] | None:
    """Columns of the table as statistics of its rows; encoders listed twice are averaged."""
    if not numbers:
        return None
    keys: dict[bytes, list[int]] = {}
    for i, row in enumerate(data.rows):
        keys.setdefault(row.tobytes(), []).append(i)
    table = np.stack(numbers, 1)
    return lambda rows: np.stack([table[keys[row.tobytes()]].mean(0) for row in rows])


def features(data: FlexiBert, seeds: int) -> dict[str, Any]:
    """Tau of predictors on unseen encoders, by method, features and number of labels."""
    size, truth = np.log(data.proxy(PARAMETERS)), data.task(TARGET)
    every = [data.proxy(name) for name in data.names if name != PARAMETERS]
    sets = {
        "choices": [],
        "choices, size, depth": [size, data.depth],
        "choices, size, depth, 2 proxies": [size, data.depth, *(data.proxy(n) for n in FEATURES)],
        "choices, size, depth, 14 proxies": [size, data.depth, *every],
    }
    methods = {
        "automatic": predictors.fit,
        "ridge": ridge.fit,
        "random_forest": random_forest.fit,
    }
    output: dict[str, Any] = {}
    for method, fit in methods.items():
        for name, numbers in sets.items():
            statistics = columns(data, numbers)
            for labels in LABELS:
                taus = []
                for seed in range(seeds):
                    order = np.random.default_rng(seed).permutation(len(truth))
                    known, unseen = order[:labels], order[labels:]
                    model = fit(
                        data.space, data.rows[known], truth[known], seed=seed, statistics=statistics
                    )
                    taus.append(kendall_tau(model.mean(data.rows[unseen]), truth[unseen]))
                output.setdefault(method, {}).setdefault(name, {})[str(labels)] = [
                    round(float(np.mean(taus)), 3),
                    round(float(np.std(taus)), 3),
                ]
    return output


def gains(table: dict[str, Any]) -> dict[str, Any]:
    """Mean tau with proxies less mean tau with size and depth alone, same labels and seeds."""
    base = "choices, size, depth"
    return {
        method: {
            name.removeprefix(base + ", "): {
                labels: round(rows[name][labels][0] - rows[base][labels][0], 3)
                for labels in rows[name]
            }
            for name in rows
            if name.startswith(base + ", ")
        }
        for method, rows in table.items()
    }


def main() -> int:
    """Print one JSON object."""
    arguments = read_options(__doc__, seeds=10)
    data = load()
    if data is None:
        return report_missing("flexibert_glue.npz not found")
    start = time.process_time()
    table = features(data, arguments.seeds)
    output = {
        "encoders": len(data.rows),
        "target": TARGET,
        "seeds": arguments.seeds,
        "alone": correlations(data),
        "as_features_mean_and_std_of_tau": table,
        "gain_over_size_and_depth": gains(table),
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    print(json.dumps(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
