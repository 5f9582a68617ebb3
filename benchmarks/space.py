"""Time to sample, canonicalise and encode architectures of the full OFA-MobileNetV3 space.

python benchmarks/space.py --count 100000
"""

from __future__ import annotations

import json
import time

import numpy as np
from _options import read_options

from supernet.families import ofa_mobilenetv3


def main() -> None:
    args = read_options(__doc__, count=100_000)
    space = ofa_mobilenetv3.make_space(ofa_mobilenetv3.PRESETS["imagenet"])
    seconds = []
    for seed in range(5):
        start = time.process_time()
        positions = space.canonical(space.sample(np.random.default_rng(seed), args.count))
        seconds.append(time.process_time() - start)
    start = time.process_time()
    architectures = space.decode(positions[:1000])
    space.encode(architectures)
    print(
        json.dumps(
            {
                "choices": len(space),
                "size": space.size,
                "seconds_for_positions": round(float(np.median(seconds)), 4),
                "seconds_for_1000_objects_and_back": round(time.process_time() - start, 4),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
