"""Does the saturation proof agree with an emulated processor on random layers?

Run it: python benchmarks/saturation.py

Every layer is proved safe or not, then multiplied pair by pair as VPMADDUBSW does, by the
activations that take each pair to its extremes and by random ones. A layer disagrees if it was
proved safe and some result differs from the exact one, or the other way round, or if the channels
that differ are not those the proof named. Exit code 1 says that one did.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from _options import read_options

from supernet.testing.saturation_layers import compare_proof_with_emulation, draw_layer


def main() -> int:
    """Print how many layers there were, how many are safe and how many disagree."""
    options = read_options(__doc__, layers=10_000, seed=0)
    rng = np.random.default_rng(options.seed)
    start = time.perf_counter()
    safe = disagreeing = 0
    for _ in range(options.layers):
        weight, layout = draw_layer(rng)
        comparison = compare_proof_with_emulation(weight, layout, rng)
        safe += comparison.proved
        disagreeing += not comparison.agrees
    report = {
        "layers": options.layers,
        "proved_safe": safe,
        "disagreeing": disagreeing,
        "seconds": round(time.perf_counter() - start, 2),
    }
    print(json.dumps(report, indent=2))
    return int(disagreeing > 0)


if __name__ == "__main__":
    sys.exit(main())
