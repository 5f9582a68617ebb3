"""Cost of elasticity: a subnetwork inside the supernet against the extracted static network.

Both run the same batch in turn, A B A B ..., and the ratio is taken pair by pair, so that a
machine that speeds up or slows down does not decide the result. Times are CPU time of the
process with one thread.

    python benchmarks/elastic_overhead.py --family ofa_resnet50 --resolution 64 --batch 32
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import numpy as np
import torch
from torch import nn

from supernet.space import Architecture
from supernet.supernet import Supernet


def paired_ratio(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> dict[str, float]:
    """Median ratio of CPU times over interleaved rounds, and the quartiles of the ratio."""
    times = np.empty((rounds, 2))
    for step in range(-2, rounds):
        order = ((0, first), (1, second)) if step % 2 else ((1, second), (0, first))
        for column, function in order:
            start = time.process_time()
            function()
            if step >= 0:
                times[step, column] = time.process_time() - start
    ratios = times[:, 0] / times[:, 1]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {
        "ratio": round(float(middle), 4),
        "ratio_p25": round(float(low), 4),
        "ratio_p75": round(float(high), 4),
        "ratio_of_medians": round(float(np.median(times[:, 0]) / np.median(times[:, 1])), 4),
        "static_ms": round(float(np.median(times[:, 1]) * 1e3), 3),
    }


def compare(
    supernet: Supernet, architecture: Architecture, batch: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Ratios for a training step (forward and backward) and for an inference forward."""
    static = supernet.extract(architecture)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((batch, *supernet.input_shape(architecture)), generator=generator)
    y = torch.randint(0, 10, (batch,), generator=generator)

    def train(run: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def step() -> None:
            nn.functional.cross_entropy(run(x), y).backward()

        return step

    def infer(run: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def step() -> None:
            with torch.inference_mode():
                run(x)

        return step

    def elastic(inputs: torch.Tensor) -> torch.Tensor:
        return supernet(inputs, architecture)

    result = {}
    for name, mode, make in (("train", True, train), ("forward", False, infer)):
        supernet.train(mode)
        static.train(mode)
        result[name] = paired_ratio(make(elastic), make(static), rounds)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="ofa_mobilenetv3")
    parser.add_argument("--preset", default="imagenet")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    family = import_module(f"supernet.families.{args.family}")
    config = replace(family.PRESETS[args.preset], resolutions=(args.resolution,))
    supernet = family.build(config)
    space = supernet.space
    # The smallest network is some ten times faster: more rounds for the same time.
    result = {
        "smallest": compare(supernet, space.smallest, args.batch, 4 * args.rounds),
        "largest": compare(supernet, space.largest, args.batch, args.rounds),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
