"""Images per second of a sandwich step, against the modules of the ``ofa`` package from PyPI.

A step trains the largest, the smallest and two random subnetworks of the OFA-MobileNetV3 space on
one batch: forward and backward pass of each, then one step of SGD. Both supernets train the same
architectures on the same images, with the loss on labels, each in the memory layout it has by
itself. Steps alternate, A B B A ..., and the ratio is taken pair by pair, so that a machine that
speeds up or slows down does not decide the result.

    python benchmarks/sandwich_throughput.py --resolution 64 --batch 32
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._ofa_package import MISSING, Peer, open_peer
from benchmarks._options import read_options
from supernet.data import lay_channels_last
from supernet.families import ofa_mobilenetv3
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training.guides import Labels
from supernet.training.method import TrainingMethod
from supernet.training.samplers.sandwich import Sandwich

BAR = 1.5
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 3e-5, "nesterov": True}

Step = Callable[[int], None]


def ours(supernet: Supernet, inputs: Tensor, targets: Tensor) -> Step:
    """A step of this package, as its own training loop does it."""
    supernet.train()
    method = TrainingMethod(supernet, Sandwich(supernet.space, seed=0), Labels())
    optimizer = torch.optim.SGD(supernet.parameters(), foreach=True, **SGD)
    batch = lay_channels_last(inputs)

    def step(number: int) -> None:
        method.begin(number, optimizer)
        method.backward(number, batch, targets)
        optimizer.step()

    return step


def theirs(
    peer: Peer, draw: Callable[[int], tuple[Architecture, ...]], inputs: Tensor, targets: Tensor
) -> Step:
    """The same step with the modules of the package."""
    peer.network.train()
    optimizer = torch.optim.SGD(peer.network.parameters(), **SGD)

    def step(number: int) -> None:
        optimizer.zero_grad()
        architectures = draw(number)
        for architecture in architectures:
            loss = F.cross_entropy(peer.choose(architecture)(inputs), targets)
            (loss / len(architectures)).backward()
        optimizer.step()

    return step


def compare(first: Step, second: Step, rounds: int) -> np.ndarray:
    """Seconds of interleaved steps, shape ``(rounds, 2)``; both run the same step numbers."""
    times = np.empty((rounds, 2))
    for number in range(-2, rounds):
        order = ((0, first), (1, second)) if number % 2 else ((1, second), (0, first))
        for column, step in order:
            start = time.process_time()
            step(abs(number))
            if number >= 0:
                times[number, column] = time.process_time() - start
    return times


def main() -> int:
    """Print one JSON object; exit code 1 when the bar is missed."""
    options = read_options(__doc__, resolution=64, batch=32, rounds=15, threads=1)
    torch.set_num_threads(options.threads)
    config = replace(ofa_mobilenetv3.PRESETS["imagenet"], resolutions=(options.resolution,))
    peer = open_peer(config)
    if peer is None:
        print(json.dumps({"skipped": MISSING}))
        return 0
    supernet = ofa_mobilenetv3.build(config)
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, *supernet.inputs.shape)
    inputs = torch.rand(shape, generator=generator)
    targets = torch.randint(0, config.classes, (options.batch,), generator=generator)
    sampler = Sandwich(supernet.space, seed=0)
    times = compare(
        ours(supernet, inputs, targets),
        theirs(peer, lambda step: sampler.draw(step, lambda _: []), inputs, targets),
        options.rounds,
    )
    low, middle, high = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75])
    rates = options.batch / np.median(times, axis=0)
    result = {
        "speedup": round(float(middle), 3),
        "speedup_p25": round(float(low), 3),
        "speedup_p75": round(float(high), 3),
        "bar": BAR,
        "met": bool(middle >= BAR),
        "images_per_second": round(float(rates[0]), 2),
        "images_per_second_ofa": round(float(rates[1]), 2),
        "resolution": options.resolution,
        "batch": options.batch,
        "rounds": options.rounds,
        "threads": options.threads,
    }
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
