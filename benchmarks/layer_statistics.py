"""What a learned combination of single layers is worth beside the plain choices and plain sums.

    python benchmarks/layer_statistics.py --seeds 5

Kendall tau on unseen Once-for-All subnetworks. Of each block its multiply-accumulates, kernel and
expansion are known for free: a mixer over blocks and boosted trees on the same matrix (ParZC), the
boosted trees and the Gaussian process that see choices, and the process with the sums beside them.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _options import read_options, report_missing
from _published import OfaTable, ofa_macs, ofa_table
from pretraining import scores

from predictors.models import gaussian_process, gradient_boosting
from predictors.predictor import Fit
from predictors.research.nodewise import LayerStatistics, fit_mixer, fit_trees

BLOCKS = 20
KERNELS, EXPANSIONS = np.array([3.0, 5.0, 7.0]), np.array([3.0, 4.0, 6.0])


def describe_blocks(data: OfaTable) -> LayerStatistics:
    """Millions of MACs, kernel and expansion of every block, all zero where it is absent."""
    terms = ofa_macs(data)

    def layers(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        macs = [t[tuple(rows[:, g].T)] for g, t in zip(terms.groups, terms.tables, strict=True)]
        kernels, expansions = KERNELS[rows[:, :BLOCKS]], EXPANSIONS[rows[:, BLOCKS : 2 * BLOCKS]]
        there = data.space.active(rows)[:, :BLOCKS, None]
        return np.stack((np.stack(macs, axis=1), kernels, expansions), axis=2) * there

    return layers


def main() -> int:
    """Print one JSON object."""
    arguments = read_options(__doc__, seeds=5, labels="50,100,250")
    data = ofa_table()
    if data is None:
        return report_missing()
    start = time.process_time()
    layers = describe_blocks(data)
    rows, accuracy, _ = data.distinct()
    fits: dict[str, Fit] = {
        "mixer of blocks": functools.partial(fit_mixer, layers=layers),
        "trees on blocks": functools.partial(fit_trees, layers=layers),
        "trees on choices": gradient_boosting.fit,
        "process on choices": gaussian_process.fit,
        "process on choices and sums": functools.partial(
            gaussian_process.fit, statistics=lambda found: layers(found).sum(axis=1)
        ),
    }
    output: dict[str, Any] = {"seeds": arguments.seeds, "tau": "mean, standard deviation"}
    for labels in map(int, arguments.labels.split(",")):
        output[str(labels)] = scores(data.space, rows, accuracy, fits, labels, arguments.seeds)
    output["cpu_seconds"] = round(time.process_time() - start, 1)
    print(json.dumps(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
