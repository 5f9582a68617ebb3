"""Peak memory of a sandwich step, against training the largest network alone.

Each runs in processes of its own. ``process`` is by how much the peak of the process grew over what
it held before a network was built, with what the allocator wastes between tensors of many sizes;
``tensors`` is the peak of all tensors alone, as torch's profiler counts them.

    python benchmarks/training_memory.py --resolution 64 --batch 64
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from supernet.data import lay_channels_last
from supernet.families import ofa_mobilenetv3
from supernet.training.guides import InPlace
from supernet.training.method import TrainingMethod
from supernet.training.samplers.sandwich import Sandwich

BAR = 1.15
MEBIBYTE = 2**20
STEPS = 4


def peak_bytes() -> int:
    """The most memory this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def train(kind: str, resolution: int, batch: int) -> None:
    """Some steps of the largest network alone, or of the sandwich rule."""
    torch.set_num_threads(1)
    config = replace(ofa_mobilenetv3.PRESETS["imagenet"], resolutions=(resolution,))
    supernet = ofa_mobilenetv3.build(config)
    generator = torch.Generator().manual_seed(0)
    inputs = lay_channels_last(torch.rand((batch, *supernet.inputs.shape), generator=generator))
    targets = torch.randint(0, config.classes, (batch,), generator=generator)
    network = supernet.model if kind == "alone" else supernet
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, foreach=True)
    method = TrainingMethod(supernet, Sandwich(supernet.space, seed=0), InPlace())
    for step in range(STEPS):
        if kind == "alone":
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(inputs), targets).backward()
        else:
            method.begin(step, optimizer)
            method.backward(step, inputs, targets)
        optimizer.step()


def measure(counted: str, kind: str, resolution: int, batch: int) -> float:
    """Peak of the steps in MiB, by one of the two counts."""
    if counted == "process":
        before = peak_bytes()
        train(kind, resolution, batch)
        return (peak_bytes() - before) / MEBIBYTE
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        train(kind, resolution, batch)
    held = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / MEBIBYTE


def main() -> int:
    """Print one JSON object; exit code 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(measure(*options.only, options.resolution, options.batch))
        return 0
    result: dict[str, dict[str, float]] = {}
    for counted in ("process", "tensors"):
        found = {}
        for kind in ("alone", "sandwich"):
            command = [sys.executable, __file__, "--only", counted, kind,
                       "--resolution", str(options.resolution),
                       "--batch", str(options.batch)]  # fmt: skip
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found[f"{kind}_mb"] = round(float(run.stdout.split()[-1]), 1)
        result[counted] = {**found, "ratio": round(found["sandwich_mb"] / found["alone_mb"], 3)}
    met = all(counts["ratio"] <= BAR for counts in result.values())
    print(json.dumps({**result, "bar": BAR, "met": met}, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
