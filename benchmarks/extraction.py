"""Time and exactness of extraction over random architectures.

The largest difference is in float32 and the kernels' affair: in the reproducible mode of the
commands, or with MKL_CBWR set to nothing without it. That in double precision, relative to the
largest output, says whether it is one function.

python benchmarks/extraction.py --family ofa_mobilenetv3 --preset imagenet --networks 100
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from supernet.reproducible import VARIABLE, use_reproducible_kernels
from supernet.space import Architecture
from supernet.supernet import Supernet


def example(
    supernet: Supernet, architecture: Architecture, side: int | None, generator: torch.Generator
) -> Tensor:
    """Two random images, of another size if asked, or two random texts."""
    shape = supernet.input_shape(architecture)
    if supernet.inputs.dtype.is_floating_point:
        side = side or shape[-1]
        return torch.rand((2, shape[0], side, side), generator=generator)
    return torch.randint(0, 20, (2, *shape), generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="ofa_mobilenetv3")
    parser.add_argument("--preset", default="imagenet")
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--resolution", type=int, default=None, help="of the test images")
    args = parser.parse_args()
    use_reproducible_kernels()
    torch.set_num_threads(1)
    family = import_module(f"supernet.families.{args.family}")
    supernet = family.build(family.PRESETS[args.preset])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    supernet.eval()
    double = copy.deepcopy(supernet).double()
    positions = supernet.space.sample(np.random.default_rng(0), args.networks)
    milliseconds, of_processor, difference, relative, spread = [], [], 0.0, 0.0, np.inf
    for architecture in supernet.space.decode(positions):
        start, busy = time.perf_counter(), time.process_time()
        network = supernet.extract(architecture)
        milliseconds.append((time.perf_counter() - start) * 1e3)
        of_processor.append((time.process_time() - busy) * 1e3)
        inputs = example(supernet, architecture, args.resolution, generator)
        with torch.inference_mode():
            inside, alone = supernet(inputs, architecture), network(inputs)
            exactly = inputs.double() if inputs.is_floating_point() else inputs
            exact = double(exactly, architecture)
            copied = double.extract(architecture)(exactly)
        relative = max(relative, float((exact - copied).abs().max() / exact.abs().max()))
        difference = max(difference, float((inside - alone).abs().max()))
        spread = min(spread, float(inside.flatten(0, -2).std(dim=0).max()))
    print(
        json.dumps(
            {
                "networks": args.networks,
                "median_ms": round(float(np.median(milliseconds)), 3),
                "median_cpu_ms": round(float(np.median(of_processor)), 3),
                "p90_ms": round(float(np.percentile(milliseconds, 90)), 3),
                "mode": os.environ.get(VARIABLE, ""),
                "largest_difference": difference,
                "relative_in_double": relative,
                "least_spread_over_inputs": spread,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
